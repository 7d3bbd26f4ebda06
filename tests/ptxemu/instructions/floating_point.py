"""Floating point: f32, f64, and f16 and bf16 as far as kernels convert them; pairs of f32.

Approximate functions are rounded correctly here; hardware may be one or two units in the last place off.
"""

from ptxemu.body import Body, bits_of
from ptxemu.instructions.table import instruction
from ptxemu.program import TYPES, Instruction, Type, Unsupported

_BINARY = {"add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}"}
# Of the sources {0}, {1}, {2}; {f} is "f" for float.
_FUNCTIONS = {
    **_BINARY,
    "fma": "__builtin_fma{f}({0}, {1}, {2})",
    "mad": "__builtin_fma{f}({0}, {1}, {2})",
    "min": "minimum({0}, {1})",
    "max": "maximum({0}, {1})",
    "neg": "-{0}",
    "abs": "__builtin_fabs{f}({0})",
    "copysign": "__builtin_copysign{f}({1}, {0})",
    "ex2": "exp2(double({0}))",
    "lg2": "log2(double({0}))",
    "sqrt": "__builtin_sqrt{f}({0})",
    "rcp": "1 / {0}",
    "rsqrt": "1 / sqrt(double({0}))",
}
_KNOWN = {"rn", "approx", "full", "ftz", "NaN", "sat"}


def lower(i: Instruction, body: Body) -> str:
    """Any of the functions above."""
    if unknown := set(i.modifiers[:-1]) - _KNOWN:
        raise Unsupported(f"{i.opcode}.{unknown.pop()}")
    type = i.type
    if type.kind == "packed":
        return _lower_pair(i, body, TYPES[type.element])
    if type.name not in ("f32", "f64"):
        raise Unsupported(i.name)
    sources = [body.read(o, type) for o in i.operands[1:]]
    return body.write(i.operands[0], type, _expression(i, type, sources))


def _expression(i: Instruction, type: Type, sources: list[str]) -> str:
    flush = "ftz" in i.modifiers
    if flush:
        sources = [f"flushed({x})" for x in sources]
    function = _FUNCTIONS[i.opcode]
    if "NaN" in i.modifiers:
        function = function.replace("mum(", "mum_or_nan(")
    value = function.format(*sources, f="f" if type.bits == 32 else "")
    value = f"float({value})" if type.bits == 32 else f"double({value})"
    if "sat" in i.modifiers:
        value = f"saturated({value})"
    return f"flushed({value})" if flush else value


def _lower_pair(i: Instruction, body: Body, element: Type) -> str:
    if element.name != "f32":
        raise Unsupported(i.name)
    pairs = [body.read(o, bits_of(64)) for o in i.operands[1:]]
    halves = [_expression(i, element, [f"as_f32(u32({p} >> {shift}))" for p in pairs]) for shift in (0, 32)]
    return body.write(i.operands[0], bits_of(64), f"u64(bits({halves[0]})) | u64(bits({halves[1]})) << 32")


# Those that integers have, too, are sent here by integer.py.
@instruction("fma", "copysign", "ex2", "lg2", "sqrt", "rcp", "rsqrt")
def _of_floats_only(i: Instruction, body: Body, pc: int) -> str:
    return lower(i, body)
