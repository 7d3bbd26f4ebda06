"""What a thread may not do is found where it does it; what it may do has the right result."""

from typing import Any

import numpy as np
import ptxemu
import pytest
from ptxemu import HostBuffer, Kind, Options
from ptxemu_cases import buffer, needs_compiler, play, snippet

pytestmark = needs_compiler

FIRST = "setp.eq.s32 %p, %t, 0; @!%p bra $end;"  # the first thread alone goes on to $end


def words(n: int = 64) -> np.ndarray:
    return np.arange(n, dtype=np.uint32)


@pytest.mark.parametrize(
    ("access", "found"),
    [
        ("ld.global.b32 %x, [%a+124];", set()),
        ("ld.global.b32 %x, [%a+128];", {Kind.OUT_OF_BOUNDS}),
        ("ld.global.v4.b32 {%x, %y, %z, %w}, [%a+112];", set()),
        ("ld.global.v4.b32 {%x, %y, %z, %w}, [%a+116];", {Kind.OUT_OF_BOUNDS}),
        ("st.global.b8 [%a+127], %x;", set()),
        ("st.global.b8 [%a+128], %x;", {Kind.OUT_OF_BOUNDS}),
        ("st.global.b8 [%a+-1], %x;", {Kind.OUT_OF_BOUNDS}),
        ("ld.global.b32 %x, [%a+2];", {Kind.MISALIGNED}),
        ("ld.global.v2.b32 {%x, %y}, [%a+8];", set()),
        ("ld.global.v2.b32 {%x, %y}, [%a+4];", {Kind.MISALIGNED}),
        ("mov.b64 %g, 0; ld.global.b32 %x, [%g];", {Kind.NO_BUFFER}),
        ("st.shared.b32 [tile+1020], %x;", set()),
        ("st.shared.b32 [tile+1024], %x;", {Kind.OUT_OF_BOUNDS_SHARED}),
        ("ld.shared.b32 %x, [tile];", {Kind.UNINITIALISED_SHARED}),
        ("st.local.b32 [own+12], %x; ld.local.b32 %y, [own+12];", set()),
        ("st.local.b32 [own+16], %x;", {Kind.OUT_OF_BOUNDS_LOCAL}),
        ("st.global.b32 [%a], %x; ld.global.nc.b32 %y, [%a];", {Kind.CONSTANT_WRITTEN}),
        ("trap;", {Kind.TRAP}),
    ],
)
def test_an_access_that_is_not_allowed_is_found(access, found):
    a = np.zeros(32 + 4, np.uint32)
    a = a[-(a.ctypes.data // 4) % 4 :][:32]  # at a multiple of 16 bytes
    findings = play(f"{FIRST} {access} $end:", a, words())
    assert {f.kind for f in findings} == found
    for f in findings:
        assert f.instruction.text in access
        assert f.thread == 0


def test_a_finding_says_who_where_and_how_often():
    (finding,) = play("add.s64 %at, %at, 4; st.global.b32 [%at], %t;", words(32), words(), threads=64)
    assert (finding.kind, finding.buffer, finding.offset, finding.bytes, finding.times) == (
        Kind.OUT_OF_BOUNDS, 0, 128, 4, 33,
    )  # fmt: skip
    assert "33 times, first by thread 31 of CTA 0" in str(finding)
    assert "4 bytes at byte 128 of buffer 0" in str(finding)
    with pytest.raises(ptxemu.EmulatorError, match="snippet: 1 finding"):
        ptxemu.run(snippet("st.global.b32 [%a+-4], %t;"), (1,), 1, [buffer(words()), buffer(words())])


def test_reads_before_writes_of_an_uninitialised_buffer():
    a, b = words(32), words(32)
    text = snippet("ld.global.b32 %x, [%at]; st.global.b32 [%bt], %x; ld.global.b32 %x, [%bt];")
    for which, expected in ((0, {Kind.UNINITIALISED}), (1, set())):
        arguments = [HostBuffer(x.ctypes.data, x.nbytes, initialised=k != which) for k, x in enumerate((a, b))]
        found = ptxemu.run(text, (1,), 32, arguments, options=Options(raise_findings=False)).findings
        assert {f.kind for f in found} == expected


def test_generic_addresses_lead_to_their_spaces():
    b = words(32)
    body = """
    mov.b64 %g, tile; cvta.shared.u64 %g, %g; mul.wide.u32 %l, %t, 4; add.s64 %g, %g, %l;
    st.b32 [%g], %t;
    mov.b64 %l, own; cvta.local.u64 %l, %l; st.b32 [%l+4], %t;
    ld.shared.b32 %x, [%s]; ld.b32 %y, [%l+4]; ld.local.b32 %z, [own+4];
    cvta.to.shared.u64 %g, %g; cvta.to.global.u64 %bt, %bt;
    add.s32 %x, %x, %y; add.s32 %x, %x, %z;
    st.b32 [%bt], %x;
    """
    assert not play(body, words(), b)
    assert (b == 3 * np.arange(32)).all()


def test_narrow_and_wide_accesses():
    a, b = np.full(64, 0xFFFE_80FD, np.uint32), np.zeros(32, np.uint32)
    body = """
    ld.global.s8 %x, [%at]; ld.global.u8 %y, [%at]; ld.global.s16 %z, [%at+2];
    add.s32 %x, %x, %y; add.s32 %x, %x, %z; st.global.b32 [%bt], %x;
    """
    assert not play(body, a, b)
    assert (b.view(np.int32) == -3 + 0xFD - 2).all()
    b = np.zeros(36, np.uint32)
    b = b[-(b.ctypes.data // 4) % 4 :][:32]
    vectors = f"{FIRST} ld.global.v4.b32 {{%x, %y, %z, %w}}, [%b]; st.global.v2.b32 [%b+16], {{%z, %y}}; $end:"
    b[:4] = 1, 2, 3, 4
    assert not play(vectors, a, b)
    assert b[4:6].tolist() == [3, 2]


LANES = np.arange(32)


@pytest.mark.parametrize(
    ("mode", "b", "c", "source"),
    [
        ("bfly", 5, 31, LANES ^ 5),
        ("down", 3, 31, LANES + 3),
        ("up", 3, 0, LANES - 3),
        ("idx", 7, 31, np.full(32, 7)),
        ("bfly", 8, 0x1807, LANES),  # beyond a segment of 8 lanes: the own value
        ("down", 3, 0x1807 | 24 << 8, LANES + 3),
        ("idx", 9, 0x181F, LANES // 8 * 8 + 1),
    ],
)
def test_shuffles(mode, b, c, source):
    out = np.zeros(32, np.uint32)
    body = f"add.s32 %x, %t, 100; shfl.sync.{mode}.b32 %y|%p, %x, {b}, {c}, -1; @!%p mov.b32 %y, 0;"
    body += "st.global.b32 [%bt], %y;"
    assert not play(body, words(), out)
    segment = 32 - ((c >> 8) & 31)
    first, last = LANES // segment * segment, LANES // segment * segment + segment - 1
    if mode == "bfly" and c == 0x1807:
        source = np.where((LANES ^ 8) <= (LANES & 24 | 7), LANES ^ 8, -1)
    within = (source >= (first if mode == "up" else 0)) & (source <= np.where(mode == "up", 31, last))
    if mode == "idx" and c == 0x181F:
        within = np.ones(32, bool)
    assert (out == np.where(within, source + 100, 0)).all()


def test_votes_matches_and_reductions():
    numbers = np.array([(7 * k) % 5 for k in range(32)], np.uint32)
    signed = np.arange(32, dtype=np.int32) - 16
    singles = np.random.default_rng(0).standard_normal(32).astype(np.float32)

    def lanes(body: str, values: np.ndarray) -> np.ndarray:
        out = np.zeros(32, np.uint32)
        assert not play(f"ld.global.b32 %x, [%at]; {body} st.global.b32 [%bt], %y;", values.view(np.uint32), out)
        return out

    even = int(((numbers % 2 == 0) << LANES).sum())
    is_even = "and.b32 %y, %x, 1; setp.eq.s32 %p, %y, 0;"
    assert (lanes(f"{is_even} vote.sync.ballot.b32 %y, %p, -1;", numbers) == even).all()
    for name, expected in (("all", False), ("any", True), ("uni", False)):
        assert (lanes(f"{is_even} vote.sync.{name}.pred %q, %p, -1; selp.b32 %y, 1, 0, %q;", numbers) == expected).all()
    masks = np.array([((numbers == x) << LANES).sum() for x in numbers], np.uint32)
    assert (lanes("match.any.sync.b32 %y, %x, -1;", numbers) == masks).all()
    assert (lanes("match.all.sync.b32 %y|%p, %x, -1; selp.b32 %y, 1, 0, %p;", numbers) == 0).all()
    assert (lanes("match.all.sync.b32 %y|%p, 3, -1;", numbers) == 2**32 - 1).all()
    assert (lanes("elect.sync %y|%p, -1; selp.b32 %y, 1, 0, %p;", numbers) == (LANES == 0)).all()
    for name, function in (("add", np.sum), ("min", np.min), ("max", np.max)):
        assert (lanes(f"redux.sync.{name}.u32 %y, %x, -1;", numbers) == function(numbers)).all()
        assert (lanes(f"redux.sync.{name}.s32 %y, %x, -1;", signed).view(np.int32) == function(signed)).all()
    for name, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
        assert (lanes(f"redux.sync.{name}.b32 %y, %x, -1;", numbers + 8) == function.reduce(numbers + 8)).all()
    assert (lanes("redux.sync.max.f32 %y, %x, -1;", singles).view(np.float32) == singles.max()).all()
    assert (lanes("redux.sync.min.f32 %y, %x, -1;", singles).view(np.float32) == singles.min()).all()
    singles[5] = np.nan
    assert (lanes("redux.sync.max.f32 %y, %x, -1;", singles).view(np.float32) == np.nanmax(singles)).all()
    assert np.isnan(lanes("redux.sync.max.NaN.f32 %y, %x, -1;", singles).view(np.float32)).all()


ATOMICS: dict[str, tuple[Any, Any]] = {
    "add.u32": (np.uint32, sum), "min.u32": (np.uint32, min), "max.u32": (np.uint32, max),
    "min.s32": (np.int32, min), "max.s32": (np.int32, max), "add.u64": (np.uint64, sum), "add.f32": (np.float32, sum),
    "add.f64": (np.float64, sum), "and.b32": (np.uint32, np.bitwise_and.reduce),
    "or.b32": (np.uint32, np.bitwise_or.reduce), "xor.b32": (np.uint32, np.bitwise_xor.reduce),
}  # fmt: skip


@pytest.mark.parametrize("name", ATOMICS)
def test_atomics(name):
    dtype, function = ATOMICS[name]
    wide = np.dtype(dtype).itemsize == 8
    values = np.random.default_rng(0).integers(-90 if dtype in (np.int32, np.float32) else 0, 90, 32).astype(dtype)
    total = np.array([values[0]])
    register, shift = ("%g", 8) if wide else ("%x", 4)
    load = f"mul.wide.u32 %l, %t, {shift}; add.s64 %l, %l, %a; ld.global.b{8 * shift} {register}, [%l];"
    space = (
        "setp.gt.s32 %p, %t, 0; @%p red.global.gpu.relaxed."
        if name == "add.u32"
        else "setp.gt.s32 %p, %t, 0; @%p atom.global."
    )
    old = "" if name == "add.u32" else f"{'%l' if wide else '%y'}, "
    assert not play(f"{load} {space}{name} {old}[%b], {register};", values, total)
    assert total[0] == np.array(function(values.tolist()), dtype)


def test_exchange_compare_and_swap_and_counters():
    total, out = np.array([5, 7, 3, 3], np.uint32), np.zeros(4, np.uint32)
    body = f"""{FIRST}
    atom.global.exch.b32 %x, [%a], 9; atom.global.cas.b32 %y, [%a+4], 7, 8; atom.global.cas.b32 %y, [%a+4], 7, 1;
    atom.global.inc.u32 %z, [%a+8], 3; atom.global.dec.u32 %w, [%a+12], 2;
    st.global.b32 [%b], %x; st.global.b32 [%b+4], %y; st.global.b32 [%b+8], %z; st.global.b32 [%b+12], %w;
    $end:"""
    assert not play(body, total, out)
    assert total.tolist() == [9, 8, 0, 2]
    assert out.tolist() == [5, 8, 3, 3]


def test_asynchronous_copies_happen_when_they_are_waited_for():
    a, out = words(256), np.zeros(64, np.uint32)
    copy = """
    shl.b32 %w, %t, 4; mov.u32 %s, tile; add.s32 %s, %s, %w; mul.wide.u32 %l, %t, 16; add.s64 %l, %l, %a;
    cp.async.cg.shared.global [%s], [%l], 16, 12; cp.async.commit_group;
    """
    read = "ld.shared.b32 %x, [%s+4]; ld.shared.b32 %y, [%s+12]; add.s32 %x, %x, %y; st.global.b32 [%bt], %x;"
    assert {f.kind for f in play(copy + read, a, out)} == {Kind.UNINITIALISED_SHARED}
    for wait in ("cp.async.wait_group 0;", "cp.async.wait_all;"):
        assert not play(copy + wait + read, a, out)
        assert (out[:32] == 4 * LANES + 1).all()  # what is beyond 12 bytes is zero


@pytest.mark.parametrize("transposed", ["", ".trans"])
def test_matrices_are_stored_and_loaded_by_the_whole_warp(transposed):
    """Each lane holds two neighbours of a row of an 8 x 8 matrix."""
    out, again = np.zeros(64, np.uint32), np.zeros(64, np.uint32)
    body = """
    shl.b32 %w, %t, 4; mov.u32 %z, tile; add.s32 %w, %w, %z;
    shl.b32 %x, %t, 1; add.s32 %y, %x, 1; shl.b32 %y, %y, 16; or.b32 %x, %x, %y;
    stmatrix.sync.aligned.m8n8.x1TRANS.shared.b16 [%w], {%x};
    bar.warp.sync -1;
    ld.shared.b32 %y, [%s]; st.global.b32 [%bt], %y;
    ldmatrix.sync.aligned.m8n8.x1TRANS.shared.b16 {%y}, [%w];
    st.global.b32 [%at], %y;
    """
    assert not play(body.replace("TRANS", transposed), again, out)
    matrix = np.arange(64, dtype=np.uint16).reshape(8, 8)
    assert (out[:32].view(np.uint16).reshape(8, 8) == (matrix.T if transposed else matrix)).all()
    assert (again[:32].view(np.uint16).reshape(8, 8) == matrix).all()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("shfl.sync.idx.b32 %y, %x, 9, 31, 255;", {Kind.LANE_NOT_THERE, Kind.DEADLOCK}),
        ("setp.lt.s32 %p, %t, 8; @!%p bra $end; shfl.sync.idx.b32 %y, %x, 9, 31, 255; $end:", {Kind.LANE_NOT_THERE}),
        ("setp.lt.s32 %p, %t, 8; @!%p bra $end; shfl.sync.idx.b32 %y, %x, 5, 31, 255; $end:", set()),
        (
            "setp.lt.s32 %p, %t, 8; @%p bra $a; bar.warp.sync -1; bra $end; $a: vote.sync.ballot.b32 %y, %p, -1; $end:",
            {Kind.DIVERGENT_COLLECTIVE},
        ),
    ],
)
def test_lanes_that_do_not_meet(body, found):
    assert {f.kind for f in play(body, words(), words())} == found


def test_barriers_that_do_not_meet():
    apart = "setp.lt.s32 %p, %t, 32; @%p bra $low; bar.sync 0; bra $end; $low: bar.sync 0; $end:"
    assert {f.kind for f in play(apart, words(), words(), threads=64)} == {Kind.DIVERGENT_BARRIER}
    never = "setp.lt.s32 %p, %t, 32; @%p bra $low; bar.sync 0; bra $end; $low: bar.sync 1, 64; $end:"
    assert {f.kind for f in play(never, words(), words(), threads=64)} == {Kind.DEADLOCK}
    ended = "setp.lt.s32 %p, %t, 32; @!%p exit; bar.sync 0; st.global.b32 [%bt], %t;"
    assert not play(ended, words(), words(), threads=64)
    some = "setp.lt.s32 %p, %t, 32; @!%p bra $end; bar.sync 1, 32; $end:"
    assert not play(some, words(), words(), threads=64)


LOCK = """
$spin: atom.global.cas.b32 %x, [%a], 0, 1; setp.ne.s32 %p, %x, 0; @%p bra $spin;
fence.acq_rel.gpu;
ld.global.b32 %y, [%b]; add.s32 %y, %y, 1; st.global.b32 [%b], %y;
RELEASE
"""


@pytest.mark.parametrize("schedule", ["forward", "reverse", "random", "warp"])
def test_a_spin_lock_orders_what_it_holds(schedule):
    """Every thread but one of each warp is out of the way: a lock among the lanes of one warp may never be given up."""
    one = "and.b32 %w, %t, 31; setp.ne.s32 %p, %w, 0; @%p bra $end;"
    for release, found in (
        ("fence.acq_rel.gpu; atom.global.exch.b32 %x, [%a], 0;", set()),
        ("atom.global.release.gpu.exch.b32 %x, [%a], 0;", set()),
        ("membar.gl; st.volatile.global.b32 [%a], 0;", set()),
        ("st.release.gpu.global.b32 [%a], 0;", set()),
        ("atom.global.exch.b32 %x, [%a], 0;", {Kind.RACE_BETWEEN_WARPS}),
        ("mov.b32 %x, 0;", {Kind.DEADLOCK}),  # never given up
    ):
        lock, count = np.zeros(1, np.uint32), np.zeros(1, np.uint32)
        body = one + LOCK.replace("RELEASE", release) + "$end:"
        findings = play(body, lock, count, threads=128, schedule=schedule, seed=1, most_idle=3000)
        assert {f.kind for f in findings} == found, release
        assert count[0] == (1 if Kind.DEADLOCK in found else 4)


def test_acquire_without_a_fence():
    message = """
    and.b32 %w, %t, 31; setp.ne.s32 %p, %w, 0; @%p bra $end;
    setp.ne.s32 %p, %t, 0; @%p bra $wait;
    mov.b32 %x, 41; st.global.b32 [%b], %x; mov.b32 %y, 1; st.release.gpu.global.b32 [%a], %y; bra $end;
    $wait: ld.ACQUIRE.gpu.global.b32 %y, [%a]; setp.eq.s32 %p, %y, 0; @%p bra $wait;
    ld.global.b32 %x, [%b]; add.s32 %x, %x, 1; st.global.b32 [%b+4], %x;
    $end:"""
    for order, found in (("acquire", set()), ("relaxed", {Kind.RACE_BETWEEN_WARPS})):
        out = np.zeros(2, np.uint32)
        findings = play(message.replace("ACQUIRE", order), np.zeros(1, np.uint32), out, threads=64)
        assert {f.kind for f in findings} == found
        assert out.tolist() == [41, 42]
