"""What the emulator does not know, or does not find, is said; what its compiler makes is kept; machine code is read."""

import re
from pathlib import Path

import numpy as np
import ptxemu
import pytest
from ptxemu import HostBuffer, Options, Unsupported
from ptxemu import compiler as compiler_module
from ptxemu.instructions.table import TABLE
from ptxemu.launch import Kernel, kernel_of
from ptxemu_cases import GROUPS, buffer, kernel, needs_compiler, play, snippet

STORE = "st.global.b32 [%bt], %t;"


def test_every_instruction_of_the_table_is_tested():
    here = Path(__file__).parent
    text = "".join(path.read_text() for path in here.glob("*ptxemu_*.py"))
    text += "".join(kernel(list(cases())) for cases in GROUPS.values())
    assert not [name for name in TABLE if not re.search(rf"(?<![\w.]){name}[.;\s]", text)]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 %x, %x, %x, %x;", "mma.sync.aligned"),
        ("add.rz.f32 %x, %x, %y;", "add.rz"),
        ("add.f16x2 %x, %x, %y;", "add.f16x2"),
        ("cvt.rz.f16.f32 %h, %x;", "cvt.rz"),
        ("prmt.b32.f4e %x, %x, %y, %z;", "prmt.b32.f4e"),
        ("barrier.cluster.arrive;", "barrier.cluster.arrive"),
        ("shfl.idx.b32 %x, %x, 0, 31;", "shfl.idx.b32"),
        ("cp.async.bulk.commit_group;", "cp.async.bulk"),
        ("atom.global.add.f16 %h, [%a], %h;", "atom.global.add.f16"),
        ("ld.global.b32 %x, [%nowhere];", "operand %nowhere"),
        ("mov.u32 %x, %clock;", "operand %clock"),
        ("call (%x), printf, (%y);", "call of a function"),
    ],
)
def test_what_is_not_known_is_named(statement, message):
    with pytest.raises(Unsupported, match=re.escape(message)) as caught:
        Kernel(snippet(statement))
    assert re.search(r"PTX line \d+", str(caught.value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "without an .entry"),
        (".visible .entry k(.param .texref a) { ret; }", "parameter '.param .texref a'"),
        (".visible .entry k() { .reg .b128 %x; ret; }", "registers of type b128"),
        (".shared .align 16 .b128 x[4]; .visible .entry k() { ret; }", "memory of type b128"),
        (".visible .entry k() { ret;", "does not end"),
        (".visible .entry k() { ?; }", "PTX line 1: '?'"),
    ],
)
def test_text_that_is_no_kernel(text, message):
    with pytest.raises(Unsupported, match=re.escape(message)):
        Kernel(text)


def test_options_and_arguments_that_make_no_sense():
    with pytest.raises(ValueError, match="schedule is 'backward': it must be one of forward"):
        Options(schedule="backward")
    with pytest.raises(ValueError, match="resident is 0"):
        Options(resident=0)
    if not ptxemu.unavailable():
        with pytest.raises(ptxemu.EmulatorError, match="snippet has 2 parameters, and 1 arguments came"):
            ptxemu.run(snippet(STORE), (1,), 32, [buffer(np.zeros(32, np.uint32))])


def test_without_a_compiler_there_is_a_remedy(monkeypatch):
    monkeypatch.setenv("PTXEMU_CXX", "no-such-compiler")
    assert "no-such-compiler is not installed: apt install g++" in compiler_module.unavailable()
    with pytest.raises(ptxemu.CompilerError, match="no-such-compiler is not installed"):
        Kernel(snippet(STORE))


def test_elsewhere_than_on_linux_on_x86_64(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "on x86-64, not on" in compiler_module.unavailable()


@needs_compiler
def test_a_library_is_made_once_and_a_damaged_one_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("PTXEMU_CACHE", str(tmp_path))

    def launch() -> list[int]:
        out = np.zeros(32, np.uint32)
        arguments = [HostBuffer(out.ctypes.data, out.nbytes)] * 2
        kernel_of.cache_clear()
        ptxemu.run(snippet(STORE), (1,), 32, arguments)
        assert (out == np.arange(32)).all()
        return [path.stat().st_mtime_ns for path in tmp_path.glob("*.so")]

    made = launch()
    assert len(made) == 1
    assert launch() == made
    (library,) = tmp_path.glob("*.so")
    library.unlink()
    library.write_bytes(b"cut short")
    assert launch() != made
    monkeypatch.setattr(compiler_module, "FLAGS", [*compiler_module.FLAGS, "-g"])  # as if the runtime had changed
    compiler_module._headers.cache_clear()
    assert len(launch()) == 2
    compiler_module._headers.cache_clear()


@needs_compiler
def test_a_compiler_that_refuses_is_quoted(monkeypatch, tmp_path):
    monkeypatch.setenv("PTXEMU_CACHE", str(tmp_path))
    monkeypatch.setattr(compiler_module, "OF_KERNELS", "-no-such-flag")
    compiler_module._headers.cache_clear()
    with pytest.raises(ptxemu.CompilerError, match="no-such-flag"):
        Kernel(snippet(STORE))
    compiler_module._headers.cache_clear()
    assert not list(tmp_path.glob("*.so"))


@needs_compiler
def test_memory_of_the_module_and_large_parameters():
    text = """
.global .align 4 .b8 table[8] = {1, 0, 0, 0, 0xFE, 255, 255, 255};
.visible .entry k(.param .align 8 .b8 pair[8], .param .u64 out) {
.reg .b32 %x, %y; .reg .b64 %o, %g;
ld.param.v2.b32 {%x, %y}, [pair]; ld.param.b64 %o, [out];
mov.b64 %g, table;
st.global.b32 [%o], %x; st.global.b32 [%o+4], %y;
ld.global.b32 %x, [%g]; ld.global.b32 %y, [%g+4];
st.global.b32 [%o+8], %x; st.global.b32 [%o+12], %y;
ret; }
"""
    out = np.zeros(4, np.int32)
    ptxemu.run(text, (1,), 1, [np.array([7, 9], np.int32).tobytes(), buffer(out)])
    assert out.tolist() == [7, 9, 1, -2]


@needs_compiler
def test_an_assertion_in_the_kernel_is_found():
    body = "setp.eq.s32 %p, %t, 3; @%p trap;" + STORE
    (finding,) = play(body, np.zeros(32, np.uint32), np.zeros(32, np.uint32))
    assert (finding.kind, finding.thread, finding.times) == (ptxemu.Kind.TRAP, 3, 1)


CODE = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;                  /* 0x00000a0000017a02 */
                                                                           /* 0x000fe40000000f00 */
.L_x_0:
        /*0010*/                   LDG.E R2, [R4.64] ;                     /* 0x0000000404027981 */
                                                                           /* 0x{load:016x} */
        /*0020*/                   FADD R6, R6, R2 ;                       /* 0x0000000206067221 */
                                                                           /* 0x{add:016x} */
        /*0030*/              @P0  BRA `(.L_x_0) ;                         /* 0xfffffffc00000947 */
                                                                           /* 0x{branch:016x} */
"""


def control(stall: int, result: int = 7, operands: int = 7, waits: int = 0) -> int:
    return (stall | result << 5 | operands << 8 | waits << 11) << 41


def test_cycles_of_a_loop_that_waits_for_its_load():
    from ptxemu import cycles

    code = cycles.instructions(CODE.format(load=control(2, result=0), add=control(4, waits=1), branch=control(5)))
    assert [i.operation for i in code] == ["MOV", "LDG", "FADD", "BRA"]
    (body,) = cycles.innermost_loops(code)
    assert [i.address for i in body] == [0x10, 0x20, 0x30]
    for load in cycles.LOADS:  # the load's latency, and the stalls of what comes after it
        estimate = cycles.estimate(body, load)
        assert estimate.cycles == load + 4 + 5
        assert list(estimate.waits.values()) == [load - 2]
    hidden = cycles.instructions(CODE.format(load=control(2, result=0), add=control(4), branch=control(5)))
    assert cycles.estimate(cycles.innermost_loops(hidden)[0], 560).cycles == 2 + 4 + 5


def test_compiled_ahead_of_time(capsys, monkeypatch):
    pytest.importorskip("triton")
    from ptxemu import ahead_of_time

    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    arguments = "x_ptr=*fp32,scratch_ptr=*fp32,out_ptr=*fp32,steps=i32,BLOCK=256,BUFFERS=2,BARRIERS=1"
    ahead_of_time.main(["ptxemu_kernels:diagonals", arguments, "--target", "cuda:80", "--target", "hip:gfx942"])
    printed = capsys.readouterr().out
    assert re.search(r"cuda:80: \d+ registers, 0 spills, 0 bytes of shared memory, 1 barriers", printed)
    assert re.search(r"a loop of \d+ instructions; estimated cycles per step: [\d.]+ \(loads of 40\)", printed)
    assert re.search(r"\d+ cycles wait at 0x", printed)
    assert "hip:gfx942: " in printed
    with pytest.raises(ValueError, match="target is 'sm_80': it must be like cuda:90"):
        ahead_of_time.main(["ptxemu_kernels:diagonals", arguments, "--target", "sm_80"])
