"""Data movement and conversion; `shfl` is in warp.py, `cp.async` in synchronization.py."""

from ptxemu.body import Body, bits_of, cpp_type, storage, vector
from ptxemu.instructions.table import instruction
from ptxemu.program import TYPES, Instruction, Type, Unsupported

_SPACES = {"global": "GLOBAL", "const": "GLOBAL", "shared": "SHARED", "local": "LOCAL", None: "GENERIC"}
_ROUND = {"rni": "nearbyint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}


@instruction("mov")
def _move(i: Instruction, body: Body, pc: int) -> str:
    to, source = i.operands
    type = i.type if i.type.kind == "pred" else bits_of(i.type.bits)
    if to.startswith("{"):
        parts = vector(to)
        part = bits_of(type.bits // len(parts))
        code = f"const {cpp_type(type)} whole = {body.read(source, type)}; "
        return code + " ".join(body.write(r, part, f"whole >> {k * part.bits}") for k, r in enumerate(parts))
    if source.startswith("{"):
        parts = vector(source)
        part = bits_of(type.bits // len(parts))
        whole = " | ".join(f"{cpp_type(type)}({body.read(r, part)}) << {k * part.bits}" for k, r in enumerate(parts))
        return body.write(to, type, whole)
    return body.write(to, type, body.read(source, type))


@instruction("cvt")
def _convert(i: Instruction, body: Body, pc: int) -> str:
    *how, to_name, from_name = i.modifiers
    if to_name not in TYPES or from_name not in TYPES:
        raise Unsupported(i.name)
    to, source = TYPES[to_name], TYPES[from_name]
    if unknown := set(how) - {*_ROUND, "rn", "ftz", "sat"}:
        raise Unsupported(f"cvt.{unknown.pop()}")
    value = body.read(i.operands[1], source)
    if source.kind == "float":
        value = _rounded(value, source, how)
    if to.kind == "float":
        value = f"{cpp_type(to)}({value})"
        if "sat" in how:
            value = f"saturated({value})"
        if "ftz" in how and to.name == "f32":
            value = f"flushed({value})"
    elif source.kind == "float":
        value = f"to_integer<{cpp_type(to)}>({value})"
    elif "sat" in how:
        value = f"clamped<{cpp_type(to)}>({value})"
    return body.write(i.operands[0], to, value)


def _rounded(value: str, source: Type, how: list[str]) -> str:
    if "ftz" in how and source.name == "f32":
        value = f"flushed({value})"
    for name, function in _ROUND.items():
        if name in how:
            return f"{function}(double({value}))"
    return value


@instruction("cvta")
def _convert_address(i: Instruction, body: Body, pc: int) -> str:
    space, type = _space(i), i.type
    value = body.read(i.operands[1], type)
    if space in ("shared", "local"):
        value = f"u32({value})" if "to" in i.modifiers else f"(u32({value}) | {space.upper()}_WINDOW)"
    return body.write(i.operands[0], type, value)


def _space(i: Instruction) -> str | None:
    """The state space of an access; .shared::cta is .shared."""
    names = ("global", "const", "shared", "shared_cta", "local", "param")
    found = i.one_of(*names)
    return "shared" if found == "shared_cta" else found


def order_of(i: Instruction, *, atomic: bool = False) -> str:
    """The memory order of an access, as C++ of interface.h; "WEAK" if it has none. Atomics are relaxed at least."""
    parts = []
    if atomic or i.one_of("relaxed", "volatile", "acquire", "release", "acq_rel"):
        parts.append("RELAXED")
    if i.one_of("acquire", "acq_rel"):
        parts.append("ACQUIRE")
    if i.one_of("release", "acq_rel"):
        parts.append("RELEASE")
    if parts and "cta" in i.modifiers:
        parts.append("SCOPE_CTA")
    return " | ".join(parts) or "WEAK"


def space_of(i: Instruction) -> str:
    """The state space of an access, as C++ of interface.h."""
    space = _space(i)
    if space not in _SPACES:
        raise Unsupported(i.name)
    return _SPACES[space]


def _elements(i: Instruction) -> int:
    """How many a load or store moves."""
    return int((i.one_of("v2", "v4", "v8") or "v1")[1:])


@instruction("ld")
def _load(i: Instruction, body: Body, pc: int) -> str:
    type = i.type
    code = f"{storage(type.bits)} value[{_elements(i)}]; "
    if _space(i) == "param":
        code += f"memcpy(value, {body.parameter(i.operands[1])}, sizeof value);"
    else:
        body.note_access(_space(i), type.bits)
        order, address = order_of(i), body.address(i.operands[1])
        constant = "true" if "nc" in i.modifiers else "false"
        if order == "WEAK":
            code += f"load(t, {space_of(i)}, {address}, {pc}, {constant}, value, sizeof value);"
        else:
            code += f"load_ordered(t, {space_of(i)}, {address}, {pc}, {order}, value, sizeof value);"
    loaded = type if type.kind == "signed" else bits_of(type.bits)
    writes = (body.write(r, loaded, f"value[{k}]") for k, r in enumerate(vector(i.operands[0])))
    return f"{code} {' '.join(writes)}"


@instruction("st")
def _store(i: Instruction, body: Body, pc: int) -> str:
    type = i.type
    body.note_access(_space(i), type.bits)
    values = ", ".join(body.read(r, bits_of(type.bits)) for r in vector(i.operands[1]))
    code = f"const {storage(type.bits)} value[{_elements(i)}] = {{{values}}}; "
    order, address = order_of(i), body.address(i.operands[0])
    if order == "WEAK":
        return code + f"store(t, {space_of(i)}, {address}, {pc}, value, sizeof value);"
    return code + f"store_ordered(t, {space_of(i)}, {address}, {pc}, {order}, value, sizeof value);"


@instruction("prefetch")
def _prefetch(i: Instruction, body: Body, pc: int) -> str:
    return ""  # no effect that a program could see
