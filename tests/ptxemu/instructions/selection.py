"""Comparison and selection."""

from ptxemu.body import Body, bits_of
from ptxemu.instructions.table import instruction
from ptxemu.program import TYPES, Instruction, Unsupported

_ORDERED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
_COMBINED = {"and": "&&", "or": "||", "xor": "!="}


@instruction("setp")
def _set_predicate(i: Instruction, body: Body, pc: int) -> str:
    result = _comparison(i, body)
    combine = i.one_of(*_COMBINED)
    targets = i.operands[0].split("|")
    if not combine and len(targets) == 1:
        return body.write(targets[0], TYPES["pred"], result)
    third = f" {_COMBINED[combine]} {body.read(i.operands[3], TYPES['pred'])}" if combine else ""
    code = f"const bool compared = {result}, first = compared{third}, second = !compared{third}; "
    return code + " ".join(
        body.write(target, TYPES["pred"], value) for target, value in zip(targets, ("first", "second"), strict=False)
    )


def _comparison(i: Instruction, body: Body) -> str:
    name = i.modifiers[0]
    a, b = (body.read(o, i.type) for o in i.operands[1:3])
    if i.type.kind != "float":
        if operator := (_ORDERED | _UNSIGNED).get(name):
            return f"({a} {operator} {b})"
        raise Unsupported(i.name)
    if "ftz" in i.modifiers:
        a, b = f"flushed({a})", f"flushed({b})"
    unordered = f"({a} != {a} || {b} != {b})"
    if name in ("nan", "num"):
        return unordered if name == "nan" else f"(!{unordered})"
    if name == "ne":  # ordered, as all without u
        return f"({a} != {b} && !{unordered})"
    if name in _ORDERED:
        return f"({a} {_ORDERED[name]} {b})"
    if name[-1] == "u" and name[:-1] in _ORDERED:
        return f"({a} {_ORDERED[name[:-1]]} {b} || {unordered})"
    raise Unsupported(i.name)


@instruction("selp")
def _select(i: Instruction, body: Body, pc: int) -> str:
    type = bits_of(i.type.bits)
    a, b = (body.read(o, type) for o in i.operands[1:3])
    return body.write(i.operands[0], type, f"{body.read(i.operands[3], TYPES['pred'])} ? {a} : {b}")
