"""Parallel synchronization and communication: barriers, fences, atomics, asynchronous copies."""

from ptxemu.body import Body, bits_of, cpp_type
from ptxemu.instructions.movement import order_of, space_of
from ptxemu.instructions.table import instruction
from ptxemu.program import TYPES, Instruction, Unsupported

# From what is there (`old`) and the operand {0} to what will be; of f32 and f64 in between as numbers.
_UPDATES = {
    "add": "old + {0}",
    "min": "std::min(old, {0})",
    "max": "std::max(old, {0})",
    "and": "old & {0}",
    "or": "old | {0}",
    "xor": "old ^ {0}",
    "exch": "{0}",
    "cas": "old == {0} ? {1} : old",
    "inc": "old >= {0} ? 0 : old + 1",
    "dec": "old == 0 || old > {0} ? {0} : old - 1",
}


@instruction("bar", "barrier")
def _barrier(i: Instruction, body: Body, pc: int) -> str:
    if "warp" in i.modifiers:
        return f"collective(t, SYNC, 0, {body.read(i.operands[0], bits_of(32))}, {pc});"
    if "sync" not in i.modifiers or "cluster" in i.modifiers:
        raise Unsupported(i.name)
    number, *expected = (body.read(o, bits_of(32)) for o in i.operands)
    return f"barrier(t, {number} & 15, {expected[0] if expected else 0}, {pc});"


@instruction("fence", "membar")
def _fence(i: Instruction, body: Body, pc: int) -> str:
    if i.one_of("proxy", "mbarrier_init"):
        raise Unsupported(i.name)
    return "fence(t);"


@instruction("atom", "red")
def _atomic(i: Instruction, body: Body, pc: int) -> str:
    operation, type = i.one_of(*_UPDATES), i.type
    floats = type.kind == "float" and (type.bits == 16 or operation != "add")
    if not operation or i.one_of("v2", "v4", "v8") or floats or type.kind == "packed":
        raise Unsupported(i.name)
    to, (address, *values) = (i.operands[0], i.operands[1:]) if i.opcode == "atom" else ("_", i.operands)
    body.note_access(i.one_of("global", "shared"), type.bits)
    store = bits_of(type.bits)
    raw, number = cpp_type(store), cpp_type(type)
    numeric = operation in ("add", "min", "max")
    update = _UPDATES[operation].format(*(body.read(v, type if numeric else store) for v in values))
    if numeric:
        as_number = f"cast<{number}>(bits_there)"
        function = (
            f"[&]({raw} bits_there) {{ const {number} old = {as_number}; return cast<{raw}>({number}({update})); }}"
        )
    else:
        function = f"[&]({raw} old) {{ return {raw}({update}); }}"
    order = order_of(i, atomic=True)
    code = f"const {raw} before = atomic<{raw}>(t, {space_of(i)}, {body.address(address)}, {pc}, {order}, {function}); "
    return code + body.write(to, store, "before")


@instruction("cp")
def _copy(i: Instruction, body: Body, pc: int) -> str:
    if i.modifiers[:1] != ("async",) or i.one_of("bulk", "mbarrier"):
        raise Unsupported(i.name)
    if "commit_group" in i.modifiers:
        return "commit_copies(t);"
    if "wait_group" in i.modifiers:
        return f"wait_for_copies(t, {i.operands[0]});"
    if "wait_all" in i.modifiers:
        return "commit_copies(t); wait_for_copies(t, 0);"
    for space in ("shared", "global"):
        body.note_access(space, 32)
    to, source, size, *given = i.operands
    whole = body.read(size, TYPES["u32"])
    some = body.read(given[0], TYPES["u32"]) if given else whole
    return f"copy_later(t, {body.address(to)}, {body.address(source)}, {whole}, {some}, {pc});"
