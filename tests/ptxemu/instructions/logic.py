"""Logic and shifts."""

from ptxemu.body import Body
from ptxemu.instructions.table import instruction, simple
from ptxemu.program import TYPES, Instruction, Unsupported

_OPERATORS = {"and": "&", "or": "|", "xor": "^"}


@instruction("and", "or", "xor")
def _bitwise(i: Instruction, body: Body, pc: int) -> str:
    return simple(i, body, f"{{0}} {_OPERATORS[i.opcode]} {{1}}")


@instruction("not")
def _not(i: Instruction, body: Body, pc: int) -> str:
    return simple(i, body, "!{0}" if i.type.kind == "pred" else "~{0}")


@instruction("lop3")
def _any_of_three(i: Instruction, body: Body, pc: int) -> str:
    if i.modifiers != ("b32",):
        raise Unsupported(i.name)
    return simple(i, body, "any_of_three({0}, {1}, {2}, {3})")


@instruction("shl", "shr")
def _shift(i: Instruction, body: Body, pc: int) -> str:
    function = "shifted_left" if i.opcode == "shl" else "shifted_right"
    x, by = body.read(i.operands[1], i.type), body.read(i.operands[2], TYPES["u32"])
    return body.write(i.operands[0], i.type, f"{function}({x}, {by})")


@instruction("shf")
def _funnel(i: Instruction, body: Body, pc: int) -> str:
    direction, mode = i.modifiers[:2]
    by = "{2} & 31" if mode == "wrap" else "std::min({2}, 32u)"
    return simple(i, body, f"funnel_{'left' if direction == 'l' else 'right'}({{0}}, {{1}}, {by})")


@instruction("prmt")
def _permute(i: Instruction, body: Body, pc: int) -> str:
    if i.modifiers != ("b32",):
        raise Unsupported(i.name)
    return simple(i, body, "permuted_bytes({0}, {1}, {2})")
