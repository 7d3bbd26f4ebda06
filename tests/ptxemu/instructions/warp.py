"""Collectives of a warp, from three chapters of the ISA."""

from ptxemu.body import Body, bits_of, vector
from ptxemu.instructions.table import instruction
from ptxemu.program import TYPES, Instruction, Unsupported

_PRED = TYPES["pred"]
_SHUFFLES = {"up": "UP", "down": "DOWN", "bfly": "BUTTERFLY", "idx": "INDEX"}
_VOTES = {"ballot": "BALLOT", "all": "ALL", "any": "ANY", "uni": "UNIFORM"}

_REDUCTIONS = ("add", "min", "max", "and", "or", "xor")


def _collective(i: Instruction, body: Body, kind: str, mode: str, inputs: list[str], mask: str, pc: int) -> str:
    """Takes part, and writes what comes out: a value, and after `|` a predicate."""
    given = ", ".join((*inputs, "0", "0", "0")[:3])
    code = f"collective(t, {kind}, {mode}, {given}, {body.read(mask, bits_of(32))}, {pc}); "
    value, *predicate = i.operands[0].split("|")
    type = _PRED if mode in ("ALL", "ANY", "UNIFORM") else bits_of(32)
    code += body.write(value, type, "t->out[0]")
    return code + (" " + body.write(predicate[0], _PRED, "t->out[1]") if predicate else "")


def _mode(i: Instruction, modes: dict[str, str]) -> str:
    name = i.one_of(*modes)
    if not name or "sync" not in i.modifiers:
        raise Unsupported(i.name)
    return modes[name]


@instruction("shfl")
def _shuffle(i: Instruction, body: Body, pc: int) -> str:
    inputs = [body.read(o, bits_of(32)) for o in i.operands[1:4]]
    return _collective(i, body, "SHUFFLE", _mode(i, _SHUFFLES), inputs, i.operands[4], pc)


@instruction("vote")
def _vote(i: Instruction, body: Body, pc: int) -> str:
    return _collective(i, body, "VOTE", _mode(i, _VOTES), [body.read(i.operands[1], _PRED)], i.operands[2], pc)


@instruction("match")
def _match(i: Instruction, body: Body, pc: int) -> str:
    every = "true" if "all" in i.modifiers else "false"
    return _collective(i, body, "MATCH", every, [body.read(i.operands[1], i.type)], i.operands[2], pc)


@instruction("redux")
def _reduce(i: Instruction, body: Body, pc: int) -> str:
    operation, kind = i.modifiers[1], i.type.kind
    floats = ("min", "max")
    if i.type.bits != 32 or "abs" in i.modifiers or operation not in (floats if kind == "float" else _REDUCTIONS):
        raise Unsupported(i.name)
    mode = operation.upper() + {"signed": " | SIGNED", "float": " | FLOATS"}.get(kind, "")
    if "NaN" in i.modifiers:
        mode += " | NAN_WINS"
    return _collective(i, body, "REDUCE", mode, [body.read(i.operands[1], bits_of(32))], i.operands[2], pc)


@instruction("elect")
def _elect(i: Instruction, body: Body, pc: int) -> str:
    return _collective(i, body, "ELECT", "0", [], i.operands[1], pc)


@instruction("ldmatrix", "stmatrix")
def _matrix(i: Instruction, body: Body, pc: int) -> str:
    count = i.one_of("x1", "x2", "x4")
    if "m8n8" not in i.modifiers or not count or i.type.name != "b16":
        raise Unsupported(i.name)
    body.note_access("shared", 16)
    load = i.opcode == "ldmatrix"
    registers, address = i.operands if load else reversed(i.operands)
    code = f"t->in[0] = {body.address(address)}; "
    if not load:
        values = (body.read(r, bits_of(32)) for r in vector(registers))
        code += "".join(f"t->in[{1 + k}] = {value}; " for k, value in enumerate(values))
    mode = int(count[1]) | (8 if "trans" in i.modifiers else 0)
    code += f"collective(t, {'LOAD' if load else 'STORE'}_MATRIX, {mode}, ~0u, {pc}); "
    if load:
        code += " ".join(body.write(r, bits_of(32), f"t->out[{k}]") for k, r in enumerate(vector(registers)))
    return code
