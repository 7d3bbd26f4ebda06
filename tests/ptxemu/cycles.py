"""Cycles of a loop of NVIDIA machine code: one warp alone plays through it. An estimate, never timed.

The compiler writes into each instruction how long to stall after it, which of six scoreboards it sets until its result
is there (or its operands are read), and for which it waits. What those do not say are latencies; the ones below are of
the order that is published for recent GPUs. So compare two versions of one loop, and expect no more.
"""

import re
from collections import Counter
from typing import NamedTuple

# Cycles of a load from global memory that is found in the first-level cache, in the second, in DRAM.
LOADS = (40, 280, 560)
# Cycles until a result is there, for instructions that set a scoreboard.
LATENCY = {
    "LDS": 29, "SHFL": 24, "MUFU": 23, "I2F": 21, "F2I": 21, "F2F": 21, "POPC": 21, "LDC": 40, "ULDC": 20, "S2R": 25,
    "S2UR": 25, "LDCU": 30, "R2UR": 12, "VOTE": 12, "REDUX": 30, "LDSM": 33, "LDL": 60, "BAR": 30, "ATOM": 700,
    "ATOMG": 700, "MEMBAR": 700,
}  # fmt: skip
_OTHER_LATENCY = 20
# The pipe that an instruction takes, and for how many cycles of a warp.
PIPE = {
    **dict.fromkeys(["MUFU", "I2F", "F2I", "F2F", "POPC"], ("special", 8)),
    **dict.fromkeys(["LDG", "STG"], ("memory", 4)),
    **dict.fromkeys(["SHFL", "LDS", "STS"], ("memory", 2)),
    **dict.fromkeys(
        [
            "IADD3",
            "LEA",
            "LOP3",
            "SHF",
            "ISETP",
            "SEL",
            "FSEL",
            "FMNMX",
            "FSETP",
            "PRMT",
            "VIMNMX",
            "VIADDMNMX",
            "VIADD",
            "PLOP3",
            "I2FP",
            "IABS",
        ],
        ("integer", 2),
    ),
    "IMAD": ("multiply", 2),
    **dict.fromkeys(["FFMA", "FMUL", "FADD"], ("float", 1)),
}
_OPERANDS_READ = 16  # cycles until a load or store has read its operands, at most


class MachineInstruction(NamedTuple):
    """An instruction with its control bits.

    Attributes:
        address: byte in the code.
        text: as disassembled.
        label: that stands before it; "" if none.
        operation: "FFMA", "LDG", ...
        target: label of a branch; "" for others.
        stall: cycles until the next may issue.
        result: scoreboard that is set until its result is there; 7: none.
        operands: scoreboard that is set until its operands are read; 7: none.
        waits: scoreboards that must be clear before it issues.
    """

    address: int
    text: str
    label: str
    operation: str
    target: str
    stall: int
    result: int
    operands: int
    waits: tuple[int, ...]


_LABEL = re.compile(r"\s*(\.L_\S+):")
_CODE = re.compile(r"\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<text>.*?);\s+/\*\s*0x[0-9a-f]{16}\s*\*/")
_CONTROL = re.compile(r"/\*\s*0x([0-9a-f]{16})\s*\*/")
_OPERATION = re.compile(r"(?:@!?U?P\w+\s+)?(?P<operation>[A-Z]\w*)")


def _only(match: re.Match[str] | None) -> re.Match[str]:
    if not match:
        raise ValueError("this is not what nvdisasm prints: is its version a new one?")
    return match


def instructions(code: str) -> list[MachineInstruction]:
    """Of what `nvdisasm -hex -c` prints: each instruction takes two lines, with the control bits in the second."""
    found = []
    label = ""
    lines = code.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if named := _LABEL.match(line):
            label = named[1]
        elif match := _CODE.match(line):
            control = int(_only(_CONTROL.search(following))[1], 16) >> 41
            text = match["text"].strip()
            operation = _only(_OPERATION.match(text))["operation"]
            branch = re.search(r"`\((\.L_\S+)\)", text) if operation == "BRA" else None
            found.append(
                MachineInstruction(
                    address=int(match["address"], 16),
                    text=text,
                    label=label,
                    operation=operation,
                    target=branch[1] if branch else "",
                    stall=max(1, control & 15),
                    result=control >> 5 & 7,
                    operands=control >> 8 & 7,
                    waits=tuple(s for s in range(6) if control >> 11 + s & 1),
                )
            )
            label = ""
    return found


def innermost(loops: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of loops from begin to end, those that hold no other."""
    return [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]


def innermost_loops(code: list[MachineInstruction]) -> list[list[MachineInstruction]]:
    """What lies between a label and a branch back to it, where no other such loop does."""
    position = {i.label: k for k, i in enumerate(code) if i.label}
    loops = [(position[i.target], k + 1) for k, i in enumerate(code) if position.get(i.target, len(code)) < k]
    return [code[begin:end] for begin, end in innermost(loops)]


class Estimate(NamedTuple):
    """Cycles per step of a loop, and how many of them each instruction waits for others' results, in a late step."""

    cycles: float
    waits: Counter[MachineInstruction]


def estimate(body: list[MachineInstruction], load: int, steps: int = 12) -> Estimate:
    """When loads from global memory take `load` cycles: the mean of the second half of so many steps."""
    clear = [0] * 6  # when each scoreboard will be
    free: Counter[str] = Counter()  # when each pipe will be
    waits: Counter[MachineInstruction] = Counter()
    now, half = 0, 0
    for step in range(steps):
        if step == steps // 2:
            half = now
        for i in body:
            ready = max([now, *(clear[s] for s in i.waits)])
            if step == steps - 1 and ready > now:
                waits[i] += ready - now
            now = ready
            if i.operation in PIPE:
                pipe, width = PIPE[i.operation]
                now = max(now, free[pipe])
                free[pipe] = now + width
            latency = load if i.operation in ("LDG", "LD") else LATENCY.get(i.operation, _OTHER_LATENCY)
            for scoreboard, until in ((i.result, latency), (i.operands, min(latency, _OPERANDS_READ))):
                if scoreboard < 6:
                    clear[scoreboard] = max(clear[scoreboard], now + until)
            now += i.stall + (latency if i.operation == "BAR" else 0)
    return Estimate((now - half) / (steps - steps // 2), waits)
