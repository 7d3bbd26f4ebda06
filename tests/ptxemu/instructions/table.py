"""The table of instructions: one function for each, found by its opcode."""

from collections.abc import Callable

from ptxemu.body import Body
from ptxemu.program import Instruction

# From an instruction, the body that it is in, and its pc, to C++ statements.
Lowering = Callable[[Instruction, Body, int], str]
TABLE: dict[str, Lowering] = {}


def instruction(*opcodes: str) -> Callable[[Lowering], Lowering]:
    """Enters a function into the table under its opcodes."""

    def enter(function: Lowering) -> Lowering:
        for opcode in opcodes:
            assert opcode not in TABLE, opcode
            TABLE[opcode] = function
        return function

    return enter


def simple(i: Instruction, body: Body, expression: str) -> str:
    """destination = expression of the sources {0}, {1}, ..., all of the instruction's type."""
    sources = [body.read(o, i.type) for o in i.operands[1:]]
    return body.write(i.operands[0], i.type, expression.format(*sources))
