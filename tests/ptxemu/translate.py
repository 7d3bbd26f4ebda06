"""From a program to C++: a function `kernel` that one thread runs, calling what `runtime/interface.h` declares."""

from typing import NamedTuple

from ptxemu.body import PARAMETERS, Body, label
from ptxemu.instructions import lower
from ptxemu.program import TYPES, Instruction, Label, Memory, Program, Registers, Scope


class Translated(NamedTuple):
    """C++ of a program, and what a launch needs to know of it.

    Attributes:
        source: the C++.
        shared_bytes: of shared memory that the kernel declares itself.
        shared_end: where shared memory that the launch sizes begins.
        local_bytes: of each thread's own memory.
        narrowest: bytes of the narrowest access to "shared" and "global" memory, at most 4.
    """

    source: str
    shared_bytes: int
    shared_end: int
    local_bytes: int
    narrowest: dict[str, int]


def translate(program: Program, addresses: dict[str, int]) -> Translated:
    """A program whose global variables lie at these addresses.

    Raises:
        Unsupported: an instruction, a modifier or an operand is not known.
    """
    body = Body(program, addresses)
    lines = []
    pc = 0
    for statement in program.body:
        match statement:
            case Instruction():
                lines.append(_guarded(statement, body, pc))
                pc += 1
            case Label():
                lines.append(f"{label(statement.name)}:;")
            case Registers():
                body.declare(*statement)
            case Memory():
                body.place(statement)
            case Scope(opens=True):
                body.open_scope()
            case Scope():
                body.close_scope()
    variables = [f"{cpp} {name} = 0;" for name, cpp in body.variables.items()]
    source = "\n".join(
        ['#include "interface.h"', f"void kernel(Thread* t, const u8* {PARAMETERS}) {{", *variables, *lines, "}\n"]
    )
    return Translated(source, body.shared_bytes, body.shared_end, body.local_bytes, body.narrowest)


def _guarded(i: Instruction, body: Body, pc: int) -> str:
    guard = f"if ({body.read(i.guard, TYPES['pred'])}) " if i.guard else ""
    return f"{guard}{{ {lower(i, body, pc)} }}"
