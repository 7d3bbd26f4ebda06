"""A launch of a PTX kernel on buffers of the host."""

import ctypes
import time
from collections.abc import Callable, Sequence
from ctypes import POINTER, Structure, c_int64, c_uint8, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from ptxemu.compiler import compiled
from ptxemu.findings import Finding, Kind
from ptxemu.program import Program, parse
from ptxemu.translate import Translated, translate

SCHEDULES = ("forward", "reverse", "random", "warp")  # enum Schedule of state.h
MOST_FINDINGS = 64  # different ones of a launch
_BUFFER_SHIFT, _BUFFER_BASE = 40, 1 << 20  # interface.h: buffer i lies at (i + 1) << shift, and some more
_NOBODY = 2**32 - 1


class EmulatorError(RuntimeError):
    """A launch had findings, or could not run."""


@dataclass(frozen=True)
class Options:
    """How launches run.

    Attributes:
        schedule: in which order threads run: "forward", "reverse", "random", or "warp": one warp far ahead.
        seed: of the random choices.
        preempt: n > 0: at each access to memory a thread is interrupted with probability 1 / n.
        resident: programs of a launch whose threads run in turns; the next begins where one has ended.
        uninitialised: buffers in which reads before writes are findings.
        most_idle: rounds in which threads spin and nothing is written, before that is a deadlock.
        mutate: changes the PTX before it is translated, to plant slips.
        trace: whether all accesses are kept.
        raise_findings: whether a launch with a finding that is not benign raises.
    """

    schedule: str = "forward"
    seed: int = 0
    preempt: int = 0
    resident: int = 1
    uninitialised: Sequence[Any] = ()
    most_idle: int = 200_000
    mutate: Callable[[str], str] | None = None
    trace: bool = False
    raise_findings: bool = True

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}: it must be one of {', '.join(SCHEDULES)}")
        if self.resident < 1 or self.preempt < 0:
            raise ValueError(
                f"resident is {self.resident} and preempt {self.preempt}: at least 1 and 0 are what they can be"
            )


class HostBuffer(NamedTuple):
    """Memory of the host that a parameter points into."""

    host: int  # where it begins
    bytes: int
    offset: int = 0  # of the pointer
    initialised: bool = True


class Access(NamedTuple):
    """One of a thread to a buffer or to shared memory (buffer None).

    Attributes:
        pc: index of the instruction in `Program.instructions`.
        barriers: how many of the CTA the thread has passed.
    """

    cta: int
    thread: int
    pc: int
    barriers: int
    bytes: int
    write: bool
    buffer: int | None
    offset: int


class Launched(NamedTuple):
    """What came of a launch."""

    kernel: str
    findings: list[Finding]
    seconds: float
    counts: dict[str, int]  # of switches, collectives, barriers, loads and stores
    trace: list[Access]  # empty unless it was asked for


_CELL, _OTHERS = 16, 24  # bytes of Cell and OtherReads of clocks.h


class _Buffer(Structure):
    _fields_ = [
        ("host", c_void_p),
        ("bytes", c_uint64),
        ("address", c_uint64),
        ("cells", c_void_p),
        ("others", c_void_p),
        ("initialised", c_uint32),
        ("cell_log2", c_uint32),
    ]


class _Finding(Structure):
    _fields_ = [
        *(
            (name, c_uint32)
            for name in ["kind", "pc", "other_pc", "thread", "other_thread", "cta", "other_cta", "bytes"]
        ),
        ("buffer", c_int64),
        ("offset", c_int64),
        ("count", c_uint64),
    ]


class _Traced(Structure):
    _fields_ = [
        *((name, c_uint32) for name in ["cta", "thread", "pc", "barriers", "bytes", "write"]),
        ("buffer", c_int64),
        ("offset", c_int64),
    ]


_COUNTS = ("switches", "collectives", "barriers", "loads", "stores")


class _Launch(Structure):
    _fields_ = [
        ("grid", c_uint32 * 3),
        *((name, c_uint32) for name in ["threads", "resident", "schedule", "preempt", "most_findings"]),
        *((name, c_uint32) for name in ["buffers", "shared_bytes", "shared_cell_log2", "local_bytes"]),
        ("seed", c_uint64),
        ("most_idle", c_uint64),
        ("buffer", POINTER(_Buffer)),
        ("parameters", c_void_p),
        ("finding", POINTER(_Finding)),
        ("findings", c_uint32),
        ("tracing", c_uint32),
        *((name, c_uint64) for name in _COUNTS),
    ]


class Kernel:
    """A translated and compiled program."""

    def __init__(self, ptx: str) -> None:
        self.program: Program = parse(ptx)
        self.data = [m for m in self.program.memory if m.space in ("global", "const")]
        addresses = {m.name: _address(i) for i, m in enumerate(self.data)}
        self.translated: Translated = translate(self.program, addresses)
        self.library = compiled(self.translated.source, self.program.name)
        sizes = (c_uint32 * 6)()
        self.library.layout(sizes)
        self.library.traced.restype = POINTER(_Traced)
        if list(sizes) != [*(ctypes.sizeof(x) for x in (_Launch, _Finding, _Buffer, _Traced)), _CELL, _OTHERS]:
            raise EmulatorError(f"launch.py and runtime/state.h differ in what a launch is: {list(sizes)}")


kernel_of = lru_cache(maxsize=256)(Kernel)


def _address(number: int, host: int = 0) -> int:
    return (number + 1 << _BUFFER_SHIFT) + _BUFFER_BASE + host % 256


class _Memory:
    """The buffers and parameters of a launch; what they lie in is kept as long as this is."""

    def __init__(self, kernel: Kernel, arguments: Sequence[HostBuffer | bytes]) -> None:
        self.kept: list[Any] = []
        self.buffers: list[_Buffer] = []
        self.numbers: dict[tuple[int, int], int] = {}
        self.grain = kernel.translated.narrowest["global"].bit_length() - 1
        for memory in kernel.data:
            data = ctypes.create_string_buffer(memory.value, max(1, memory.bytes))
            self.kept.append(data)
            self._add(HostBuffer(ctypes.addressof(data), memory.bytes), _address(len(self.buffers)))
        parameters = kernel.program.parameters
        if len(arguments) != len(parameters):
            raise EmulatorError(
                f"{kernel.program.name} has {len(parameters)} parameters, and {len(arguments)} arguments came"
            )
        end = max((p.offset + p.bytes for p in parameters), default=0)
        values = bytearray(end + 16)
        for parameter, argument in zip(parameters, arguments, strict=True):
            value = argument if isinstance(argument, bytes) else self._pointer(argument).to_bytes(8, "little")
            values[parameter.offset : parameter.offset + parameter.bytes] = value[: parameter.bytes].ljust(
                parameter.bytes, b"\0"
            )
        self.parameters = (c_uint8 * len(values)).from_buffer(values)

    def _pointer(self, b: HostBuffer) -> int:
        key = (b.host, b.bytes)
        if key not in self.numbers:
            self.numbers[key] = len(self.buffers)
            self._add(b, _address(len(self.buffers), b.host))
        return int(self.buffers[self.numbers[key]].address) + b.offset

    def _add(self, b: HostBuffer, address: int) -> None:
        count = (b.bytes >> self.grain) + 2
        shadow = [(c_uint8 * (count * size))() for size in (_CELL, _OTHERS)]  # zeros that take no memory until used
        self.kept += shadow
        cells, others = map(ctypes.addressof, shadow)
        self.buffers.append(_Buffer(b.host, b.bytes, address, cells, others, int(b.initialised), self.grain))


def run(
    ptx: str,
    grid: Sequence[int],
    threads: int,
    arguments: Sequence[HostBuffer | bytes],
    *,
    shared_bytes: int = 0,
    options: Options | None = None,
) -> Launched:
    """Runs a kernel.

    Args:
        ptx: a module; its first kernel runs.
        grid: CTAs in up to three directions.
        threads: of a CTA.
        arguments: of the kernel, in order: a buffer for a pointer, bytes for another value.
        shared_bytes: of shared memory beyond what the kernel declares.
        options: default: `Options()`.

    Raises:
        EmulatorError: there are findings that are not benign, and options.raise_findings.
        Unsupported: an instruction is not known.
        CompilerError: there is no compiler.
    """
    options = options or Options()
    kernel = kernel_of(options.mutate(ptx) if options.mutate else ptx)
    memory = _Memory(kernel, arguments)
    launch = _launch(kernel, memory, grid, threads, shared_bytes, options)
    began = time.perf_counter()
    if kernel.library.emulate(ctypes.byref(launch)):
        raise EmulatorError(f"{kernel.program.name}: no memory for the stacks of {threads} threads")
    seconds = time.perf_counter() - began
    found = [_finding(f, kernel) for f in launch.finding[: launch.findings]]
    counts = {name: getattr(launch, name) for name in _COUNTS}
    bad = [f for f in found if not f.benign]
    if bad and options.raise_findings:
        lines = "\n".join(f"- {f}" for f in bad[:8])
        raise EmulatorError(f"{kernel.program.name}: {len(bad)} finding(s)\n{lines}")
    return Launched(kernel.program.name, found, seconds, counts, _trace(kernel))


def _launch(
    kernel: Kernel, memory: _Memory, grid: Sequence[int], threads: int, shared_bytes: int, options: Options
) -> _Launch:
    translated = kernel.translated
    return _Launch(
        grid=(c_uint32 * 3)(*(*grid, 1, 1)[:3]),
        threads=threads,
        resident=options.resident,
        schedule=SCHEDULES.index(options.schedule),
        preempt=options.preempt,
        most_findings=MOST_FINDINGS,
        buffers=len(memory.buffers),
        shared_bytes=translated.shared_end + shared_bytes if shared_bytes else translated.shared_bytes,
        shared_cell_log2=translated.narrowest["shared"].bit_length() - 1,
        local_bytes=translated.local_bytes,
        seed=options.seed + 1,
        most_idle=options.most_idle,
        buffer=(_Buffer * len(memory.buffers))(*memory.buffers),
        parameters=ctypes.addressof(memory.parameters),
        finding=(_Finding * MOST_FINDINGS)(),
        tracing=options.trace,
    )


def _trace(kernel: Kernel) -> list[Access]:
    count = c_uint64()
    first = kernel.library.traced(ctypes.byref(count))
    return [
        Access(a.cta, a.thread, a.pc, a.barriers, a.bytes, bool(a.write), _argument(a.buffer, kernel), a.offset)
        for a in first[: count.value]
    ]


def _argument(buffer: int, kernel: Kernel) -> int | None:
    """Which of the buffers that came with the launch."""
    return buffer - len(kernel.data) if buffer >= len(kernel.data) else None


def _finding(f: Any, kernel: Kernel) -> Finding:
    instructions = kernel.program.instructions
    alone = f.other_thread == _NOBODY
    return Finding(
        list(Kind)[f.kind],
        instructions[f.pc],
        None if alone else instructions[f.other_pc],
        f.thread,
        None if alone else f.other_thread,
        f.cta,
        None if alone else f.other_cta,
        _argument(f.buffer, kernel),
        f.offset,
        f.bytes,
        f.count,
    )
