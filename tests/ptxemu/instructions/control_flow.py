"""Control flow, and what ends a thread."""

from ptxemu.body import Body, label
from ptxemu.instructions.table import instruction
from ptxemu.program import Instruction, Unsupported


@instruction("bra")
def _branch(i: Instruction, body: Body, pc: int) -> str:
    return f"goto {label(i.operands[0])};"


@instruction("ret", "exit")
def _return(i: Instruction, body: Body, pc: int) -> str:
    return "return;"


@instruction("trap")
def _trap(i: Instruction, body: Body, pc: int) -> str:
    return f"trap(t, {pc});"


@instruction("call")
def _call(i: Instruction, body: Body, pc: int) -> str:
    if "__assertfail" not in i.text:
        raise Unsupported("call of a function")
    return f"trap(t, {pc});"
