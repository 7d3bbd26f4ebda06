"""What the emulator finds, and how it is told."""

from enum import Enum
from pathlib import Path
from typing import NamedTuple

from ptxemu.program import Instruction


class Kind(Enum):
    """Kinds of findings, and what they mean; the runtime's `kinds.h` is written from their names, in this order."""

    OUT_OF_BOUNDS = "access beyond a buffer"
    OUT_OF_BOUNDS_SHARED = "access beyond shared memory"
    OUT_OF_BOUNDS_LOCAL = "access beyond the thread's own memory"
    NO_BUFFER = "address in no buffer"
    MISALIGNED = "misaligned access"
    UNINITIALISED = "read of an uninitialised buffer"
    UNINITIALISED_SHARED = "read of uninitialised shared memory"
    CONSTANT_WRITTEN = "ld.global.nc of memory that the kernel writes"
    RACE_IN_WARP = "data race inside a warp"
    RACE_BETWEEN_WARPS = "data race between warps"
    RACE_BETWEEN_CTAS = "data race between CTAs"
    SAME_VALUE_RACE = "race of writes of one value (harmless)"
    REPLICAS_DIFFER = (
        13,
        "one store writes different values to one shared address (replicas, to the last bit)",
    )
    DIVERGENT_BARRIER = "threads of a CTA wait at different barriers"
    DIVERGENT_COLLECTIVE = "lanes of a warp are in different collectives"
    LANE_NOT_THERE = "lane outside of the member mask, or value of a lane that is not there"
    DEADLOCK = "deadlock"
    TRAP = "device assert or trap"


BENIGN = frozenset({Kind.SAME_VALUE_RACE, Kind.REPLICAS_DIFFER})


class Finding(NamedTuple):
    """One thing that is wrong, at one instruction (or two), however often.

    Attributes:
        kind: what.
        instruction: where.
        other: the other access of a conflict, or the other collective; else None.
        thread: number in its CTA; `other_thread` likewise, or None.
        cta: number in the launch; `other_cta` likewise, or None.
        buffer: which argument that is a buffer, from 0; None for other memory.
        offset: byte in the buffer or in shared memory.
        bytes: of the access.
        times: how often it was found.
    """

    kind: Kind
    instruction: Instruction
    other: Instruction | None
    thread: int
    other_thread: int | None
    cta: int
    other_cta: int | None
    buffer: int | None
    offset: int
    bytes: int
    times: int

    @property
    def benign(self) -> bool:
        """Whether it is no fault of a kernel."""
        return self.kind in BENIGN

    def __str__(self) -> str:
        text = f"{self.kind.value}, {self.times} times, first by {_who(self.instruction, self.thread, self.cta)}"
        if self.other:
            text += f"\n    against {_who(self.other, self.other_thread, self.other_cta)}"
        if self.bytes:
            where = "other memory" if self.buffer is None else f"buffer {self.buffer}"
            text += f"\n    {self.bytes} bytes at byte {self.offset} of {where}"
        return text


def _who(i: Instruction, thread: int | None, cta: int | None) -> str:
    source = f"{Path(i.source.file).name}:{i.source.line}" if i.source else "no source line"
    return f"thread {thread} of CTA {cta} at {source}, PTX line {i.line}: {i.text}"


def kinds_header() -> str:
    """C++ of the kinds."""
    names = ", ".join(kind.name for kind in Kind)
    return f"#pragma once\nenum Kind {{ {names} }};\n"
