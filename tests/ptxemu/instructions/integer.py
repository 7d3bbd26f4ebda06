"""Integer arithmetic. `add`, `sub`, `mul`, ... of floats are sent on to floating_point.py."""

from ptxemu.body import Body, bits_of, cpp_type
from ptxemu.instructions import floating_point
from ptxemu.instructions.table import instruction, simple
from ptxemu.program import TYPES, Instruction, Type, Unsupported


def _only(i: Instruction, *allowed: str) -> None:
    for modifier in i.modifiers[:-1]:
        if modifier not in allowed:
            raise Unsupported(f"{i.opcode}.{modifier}")


@instruction("add", "sub")
def _add(i: Instruction, body: Body, pc: int) -> str:
    if i.type.kind in ("float", "packed"):
        return floating_point.lower(i, body)
    _only(i)
    unsigned = bits_of(i.type.bits)
    a, b = (body.read(o, unsigned) for o in i.operands[1:])
    return body.write(i.operands[0], unsigned, f"{a} {'+' if i.opcode == 'add' else '-'} {b}")


def _double(type: Type) -> str:
    return f"{'s' if type.kind == 'signed' else 'u'}{2 * type.bits}"


@instruction("mul", "mad")
def _multiply(i: Instruction, body: Body, pc: int) -> str:
    if i.type.kind in ("float", "packed"):
        return floating_point.lower(i, body)
    _only(i, "wide", "hi", "lo")
    a, b = (f"{_double(i.type)}({body.read(o, i.type)})" for o in i.operands[1:3])
    wide = "wide" in i.modifiers
    result = TYPES[_double(i.type)] if wide else i.type
    product = f"({a} * {b} >> {i.type.bits})" if "hi" in i.modifiers else f"({a} * {b})"
    if i.opcode == "mad":
        unsigned = bits_of(result.bits)
        return body.write(
            i.operands[0], unsigned, f"{cpp_type(unsigned)}{product} + {body.read(i.operands[3], unsigned)}"
        )
    return body.write(i.operands[0], result, product)


@instruction("div")
def _divide(i: Instruction, body: Body, pc: int) -> str:
    if i.type.kind == "float":
        return floating_point.lower(i, body)
    _only(i)
    return simple(i, body, "quotient({0}, {1})")


@instruction("rem")
def _remainder(i: Instruction, body: Body, pc: int) -> str:
    _only(i)
    return simple(i, body, "remainder_of({0}, {1})")


@instruction("min", "max")
def _extreme(i: Instruction, body: Body, pc: int) -> str:
    if i.type.kind == "float":
        return floating_point.lower(i, body)
    _only(i)
    return simple(i, body, f"std::{i.opcode}({{0}}, {{1}})")


@instruction("neg")
def _negate(i: Instruction, body: Body, pc: int) -> str:
    if i.type.kind in ("float", "packed"):
        return floating_point.lower(i, body)
    unsigned = bits_of(i.type.bits)
    return body.write(i.operands[0], unsigned, f"0 - {body.read(i.operands[1], unsigned)}")


@instruction("abs")
def _absolute(i: Instruction, body: Body, pc: int) -> str:
    if i.type.kind == "float":
        return floating_point.lower(i, body)
    return simple(i, body, f"({{0}} < 0 ? {cpp_type(i.type)}(0 - u{i.type.bits}({{0}})) : {{0}})")


@instruction("bfe")
def _extract(i: Instruction, body: Body, pc: int) -> str:
    source, *where = i.operands[1:]
    begin, count = (body.read(o, TYPES["u32"]) for o in where)
    return body.write(i.operands[0], i.type, f"extract_bits({body.read(source, i.type)}, {begin}, {count})")


@instruction("popc")
def _population(i: Instruction, body: Body, pc: int) -> str:
    source = body.read(i.operands[1], i.type)
    return body.write(i.operands[0], TYPES["u32"], f"__builtin_popcountll({source})")


@instruction("clz")
def _leading_zeros(i: Instruction, body: Body, pc: int) -> str:
    x, n = body.read(i.operands[1], i.type), i.type.bits
    return body.write(i.operands[0], TYPES["u32"], f"{x} ? __builtin_clzll({x}) - {64 - n} : {n}")


@instruction("brev")
def _reverse(i: Instruction, body: Body, pc: int) -> str:
    return simple(i, body, "reversed_bits({0})")
