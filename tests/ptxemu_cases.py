"""Instructions with what they should give: one thread for each set of operands, one kernel for many instructions."""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import ptxemu
import pytest

needs_compiler = pytest.mark.skipif(ptxemu.unavailable() is not None, reason=str(ptxemu.unavailable()))
THREADS = 512
_CORNERS = [
    0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1,
    2**63 - 1, 2**63, 2**64 - 1,
]  # fmt: skip
_FLOATS = [
    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e-45, -1e-39, 1.1754943e-38, 3.4028235e38, 65504.0, 65519.0, 65520.0,
    6.1e-5, 5.9e-8, 2.0**-25, 2147483520.0, 2147483648.0, -2147483904.0, 4294967296.0, 9.3e18, 1.8446745e19, np.inf,
    -np.inf, np.nan,
]  # fmt: skip
NUMPY: dict[str, Any] = {
    "u8": np.uint8, "s8": np.int8, "u16": np.uint16, "s16": np.int16, "u32": np.uint32, "s32": np.int32,
    "u64": np.uint64, "s64": np.int64, "b16": np.uint16, "b32": np.uint32, "b64": np.uint64, "f16": np.float16,
    "bf16": np.uint16, "f32": np.float32, "f64": np.float64, "f32x2": np.uint64,
}  # fmt: skip


class Case(NamedTuple):
    """An instruction on registers {d}, {a}, {b}, {c}.

    Attributes:
        text: with the names of the registers in braces.
        result: type of {d}; "pred" is stored as 0 or 1.
        sources: types of {a}, {b}, {c}.
        expected: from the operands as NumPy arrays to the result as one.
        units: by how many units in the last place the result may be off.
    """

    text: str
    result: str
    sources: tuple[str, ...]
    expected: Callable[..., Any]
    units: int = 0


def operands(seed: int, type: str) -> np.ndarray:
    """Random bits with all corners among them, as unsigned 64-bit numbers."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**64, THREADS, dtype=np.uint64)
    if type in ("f32", "f64", "f16", "bf16", "f32x2"):
        numbers = np.concatenate([rng.choice(_FLOATS, THREADS // 2), rng.standard_normal(THREADS // 4) * 100])
        with np.errstate(all="ignore"):
            bits[: len(numbers)] = _as_bits(numbers, type)
    else:
        bits[: THREADS // 2] = rng.choice(np.array(_CORNERS, np.uint64), THREADS // 2)
    return bits


def _as_bits(numbers: np.ndarray, type: str) -> np.ndarray:
    if type == "f64":
        return numbers.view(np.uint64)
    single = numbers.astype(np.float32).view(np.uint32).astype(np.uint64)
    if type == "f16":
        return numbers.astype(np.float16).view(np.uint16).astype(np.uint64)
    if type == "bf16":
        return single >> np.uint64(16)
    return single | np.roll(single, 1) << np.uint64(32) if type == "f32x2" else single


def values(bits: np.ndarray, type: str) -> np.ndarray:
    """Of a type, from unsigned 64-bit numbers."""
    if type == "pred":
        return bits & np.uint64(1) == 1
    narrow = bits.view(np.uint8).reshape(len(bits), 8)[:, : np.dtype(NUMPY[type]).itemsize]
    return np.ascontiguousarray(narrow).view(NUMPY[type])[:, 0]


def _width(type: str) -> int:
    return 16 if type == "pred" else 8 * np.dtype(NUMPY[type]).itemsize


def _load(register: str, type: str, index: int) -> str:
    if type == "pred":
        return f"ld.global.b16 %h0, [%in{index}]; and.b16 %h0, %h0, 1; setp.ne.b16 {register}, %h0, 0;"
    return f"ld.global.b{_width(type)} {register}, [%in{index}];"


def _register(type: str) -> str:
    return ".reg .pred" if type == "pred" else f".reg .b{_width(type)}"


def kernel(cases: Sequence[Case]) -> str:
    """PTX: each case in a scope of its own."""
    lines = []
    for case in cases:
        names = {letter: f"%{letter}" for letter in "dabc"}
        lines.append("{")
        lines += [f"{_register(t)} {names[n]};" for n, t in zip("dabc", (case.result, *case.sources), strict=False)]
        lines += [_load(names[n], t, index) for index, (n, t) in enumerate(zip("abc", case.sources, strict=False))]
        lines.append(case.text.format(**names) + ";")
        if case.result == "pred":
            lines.append("selp.b16 %h0, 1, 0, %d; st.global.b16 [%out+0], %h0;")
        else:
            lines.append(f"st.global.b{_width(case.result)} [%out+0], %d;")
        lines.append(f"add.s64 %out, %out, {8 * THREADS};")
        lines.append("}")
        for index in range(3):
            lines.append(f"add.s64 %in{index}, %in{index}, {8 * THREADS};")
    body = "\n".join(lines)
    return f"""
.version 8.0
.target sm_90
.address_size 64
.visible .entry cases(.param .u64 in0, .param .u64 in1, .param .u64 in2, .param .u64 out)
{{
.reg .b16 %h<1>; .reg .b32 %r<1>; .reg .b64 %rd<1>, %in<3>, %out;
mov.u32 %r0, %tid.x;
mul.wide.u32 %rd0, %r0, 8;
ld.param.b64 %in0, [in0]; add.s64 %in0, %in0, %rd0;
ld.param.b64 %in1, [in1]; add.s64 %in1, %in1, %rd0;
ld.param.b64 %in2, [in2]; add.s64 %in2, %in2, %rd0;
ld.param.b64 %out, [out]; add.s64 %out, %out, %rd0;
{body}
ret;
}}
"""


def buffer(array: np.ndarray) -> ptxemu.HostBuffer:
    """An array as an argument of a kernel."""
    return ptxemu.HostBuffer(array.ctypes.data, array.nbytes)


def check(cases: Sequence[Case], seed: int) -> None:
    """Runs all cases on random operands, and compares."""
    inputs = np.zeros((3, len(cases), THREADS), np.uint64)
    for k, case in enumerate(cases):
        for index, type in enumerate(case.sources):
            inputs[index, k] = operands(seed * 10_000 + 3 * k + index, type)
    out = np.zeros((len(cases), THREADS), np.uint64)
    ptxemu.run(kernel(cases), (1,), THREADS, [*map(buffer, inputs), buffer(out)])
    for k, case in enumerate(cases):
        given = [values(inputs[index, k], type) for index, type in enumerate(case.sources)]
        with np.errstate(all="ignore"):
            expected = np.asarray(case.expected(*given))
        found = values(out[k], case.result)
        wrong = ~_equal(found, expected, case.units)
        if case.result == "f32x2":  # whose halves may be NaN
            halves = _equal(found.view(np.float32), expected.view(np.float32), case.units)
            wrong = ~halves.reshape(-1, 2).all(1)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise AssertionError(
                f"{case.text} of {[x[at] for x in given]} is {found[at]!r}, not {expected[at]!r} ({wrong.sum()} wrong)"
            )


def _equal(found: np.ndarray, expected: np.ndarray, units: int) -> np.ndarray:
    assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
    if found.dtype.kind != "f":
        return found == expected
    integer = {2: np.int16, 4: np.int32, 8: np.int64}[found.dtype.itemsize]
    near = np.abs(found.view(integer).astype(object) - expected.view(integer).astype(object)) <= units
    return (near & (np.signbit(found) == np.signbit(expected))) | (np.isnan(found) & np.isnan(expected))


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Rounded once, by the C library."""
    libm, kind = ctypes.CDLL("libm.so.6"), ctypes.c_float if a.dtype == np.float32 else ctypes.c_double
    function = libm.fmaf if a.dtype == np.float32 else libm.fma
    function.restype, function.argtypes = kind, [kind] * 3
    return np.array([function(*x) for x in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)], a.dtype)


def exact(function: Callable[..., int], dtype: type) -> Callable[..., Any]:
    """A function of Python's integers, kept to a dtype as the machine does: the lowest bits."""
    bits = 8 * np.dtype(dtype).itemsize
    unsigned = np.dtype(f"u{bits // 8}")

    def apply(*arrays: np.ndarray) -> np.ndarray:
        results = [function(*(int(x) for x in row)) % 2**bits for row in zip(*arrays, strict=True)]
        return np.array(results, unsigned).view(dtype)

    return apply


def integer_cases() -> Iterator[Case]:
    for name in ("u16", "s16", "u32", "s32", "u64", "s64"):
        dtype, bits, signed = NUMPY[name], int(name[1:]), name[0] == "s"
        two, three = (name,) * 2, (name,) * 3
        if signed or bits < 64:
            yield Case(f"add.{name} {{d}}, {{a}}, {{b}}", name, two, exact(lambda a, b: a + b, dtype))
            yield Case(f"sub.{name} {{d}}, {{a}}, {{b}}", name, two, exact(lambda a, b: a - b, dtype))
        yield Case(f"mul.lo.{name} {{d}}, {{a}}, {{b}}", name, two, exact(lambda a, b: a * b, dtype))
        yield Case(f"mul.hi.{name} {{d}}, {{a}}, {{b}}", name, two, exact(lambda a, b, n=bits: a * b >> n, dtype))
        yield Case(f"mad.lo.{name} {{d}}, {{a}}, {{b}}, {{c}}", name, three, exact(lambda a, b, c: a * b + c, dtype))
        yield Case(
            f"mad.hi.{name} {{d}}, {{a}}, {{b}}, {{c}}",
            name,
            three,
            exact(lambda a, b, c, n=bits: (a * b >> n) + c, dtype),
        )
        if bits < 64:
            wide = f"{name[0]}{2 * bits}"
            yield Case(f"mul.wide.{name} {{d}}, {{a}}, {{b}}", wide, two, exact(lambda a, b: a * b, NUMPY[wide]))
            yield Case(
                f"mad.wide.{name} {{d}}, {{a}}, {{b}}, {{c}}",
                wide,
                (name, name, wide),
                exact(lambda a, b, c: a * b + c, NUMPY[wide]),
            )
        # Divided by zero: all ones, and the dividend.
        yield Case(
            f"div.{name} {{d}}, {{a}}, {{b}}", name, two, exact(lambda a, b: _quotient(a, b) if b else -1, dtype)
        )
        yield Case(
            f"rem.{name} {{d}}, {{a}}, {{b}}", name, two, exact(lambda a, b: a - _quotient(a, b) * b if b else a, dtype)
        )
        yield Case(f"min.{name} {{d}}, {{a}}, {{b}}", name, two, exact(min, dtype))
        yield Case(f"max.{name} {{d}}, {{a}}, {{b}}", name, two, exact(max, dtype))
        if signed:
            yield Case(f"neg.{name} {{d}}, {{a}}", name, (name,), exact(lambda a: -a, dtype))
            yield Case(f"abs.{name} {{d}}, {{a}}", name, (name,), exact(abs, dtype))
    for name in ("u32", "s32", "u64", "s64"):
        text, sources = f"bfe.{name} {{d}}, {{a}}, {{b}}, {{c}}", (name, "u32", "u32")
        yield Case(text, name, sources, exact(partial(_extracted, name), NUMPY[name]))
    for name in ("b32", "b64"):
        n = int(name[1:])
        yield Case(f"popc.{name} {{d}}, {{a}}", "u32", (name,), exact(lambda a: a.bit_count(), np.uint32))
        yield Case(f"clz.{name} {{d}}, {{a}}", "u32", (name,), exact(lambda a, n=n: n - a.bit_length(), np.uint32))
        yield Case(
            f"brev.{name} {{d}}, {{a}}", name, (name,), exact(lambda a, n=n: int(f"{a:0{n}b}"[::-1], 2), NUMPY[name])
        )


def _quotient(a: int, b: int) -> int:
    """Towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _extracted(name: str, a: int, begin: int, count: int) -> int:
    """As the manual has it, bit by bit."""
    last = int(name[1:]) - 1
    begin, count = begin & 255, count & 255
    sign = _bit(a, min(begin + count - 1, last)) if name[0] == "s" and count else 0
    bits = (_bit(a, begin + k) if k < count and begin + k <= last else sign for k in range(last + 1))
    return sum(bit << k for k, bit in enumerate(bits))


def logic_cases() -> Iterator[Case]:
    for name in ("b16", "b32", "b64"):
        for opcode, function in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor)):
            yield Case(f"{opcode}.{name} {{d}}, {{a}}, {{b}}", name, (name,) * 2, function)
        yield Case(f"not.{name} {{d}}, {{a}}", name, (name,), np.invert)
        yield Case(
            f"shl.{name} {{d}}, {{a}}, {{b}}", name, (name, "u32"), exact(lambda a, b: a << min(b, 64), NUMPY[name])
        )
    for name in ("u16", "s16", "u32", "s32", "u64", "s64"):
        right = exact(lambda a, b: a >> min(b, 64), NUMPY[name])
        yield Case(f"shr.{name} {{d}}, {{a}}, {{b}}", name, (name, "u32"), right)
    for opcode, function in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        yield Case(f"{opcode}.pred {{d}}, {{a}}, {{b}}", "pred", ("pred",) * 2, function)
    yield Case("not.pred {d}, {a}", "pred", ("pred",), np.logical_not)
    for mode, limit in (("wrap", lambda n: n & 31), ("clamp", lambda n: min(n, 32))):
        three = ("b32", "b32", "u32")
        left = exact(lambda low, high, n, limit=limit: ((high << 32 | low) << limit(n)) >> 32, np.uint32)
        right = exact(lambda low, high, n, limit=limit: (high << 32 | low) >> limit(n), np.uint32)
        yield Case(f"shf.l.{mode}.b32 {{d}}, {{a}}, {{b}}, {{c}}", "b32", three, left)
        yield Case(f"shf.r.{mode}.b32 {{d}}, {{a}}, {{b}}, {{c}}", "b32", three, right)
    for table in (0x00, 0x1B, 0x80, 0xE8, 0xFE):
        yield Case(
            f"lop3.b32 {{d}}, {{a}}, {{b}}, {{c}}, {table}",
            "b32",
            ("b32",) * 3,
            exact(
                lambda a, b, c, t=table: sum(
                    (t >> (_bit(a, k) * 4 + _bit(b, k) * 2 + _bit(c, k)) & 1) << k for k in range(32)
                ),
                np.uint32,
            ),
        )
    yield Case("prmt.b32 {d}, {a}, {b}, {c}", "b32", ("b32",) * 3, exact(_permuted, np.uint32))


def _bit(a: int, k: int) -> int:
    return a >> k & 1


def _permuted(a: int, b: int, selectors: int) -> int:
    chosen = []
    for k in range(4):
        selector = selectors >> 4 * k & 15
        byte = (b << 32 | a).to_bytes(8, "little")[selector & 7]
        chosen.append((255 if byte & 128 else 0) if selector & 8 else byte)
    return int.from_bytes(bytes(chosen), "little")


_COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def selection_cases() -> Iterator[Case]:
    for name in ("s16", "u16", "s32", "u32", "s64", "u64"):
        for comparison, function in _COMPARISONS.items():
            yield Case(f"setp.{comparison}.{name} {{d}}, {{a}}, {{b}}", "pred", (name,) * 2, function)
    for alias, comparison in (("lo", "lt"), ("ls", "le"), ("hi", "gt"), ("hs", "ge")):
        yield Case(f"setp.{alias}.u32 {{d}}, {{a}}, {{b}}", "pred", ("u32",) * 2, _COMPARISONS[comparison])
    for name in ("f32", "f64"):
        for comparison, function in _COMPARISONS.items():
            ordered = lambda a, b, f=function: f(a, b) & ~np.isnan(a) & ~np.isnan(b)  # noqa: E731
            unordered = lambda a, b, f=function: f(a, b) | np.isnan(a) | np.isnan(b)  # noqa: E731
            yield Case(f"setp.{comparison}.{name} {{d}}, {{a}}, {{b}}", "pred", (name,) * 2, ordered)
            yield Case(f"setp.{comparison}u.{name} {{d}}, {{a}}, {{b}}", "pred", (name,) * 2, unordered)
        yield Case(f"setp.nan.{name} {{d}}, {{a}}, {{b}}", "pred", (name,) * 2, lambda a, b: np.isnan(a) | np.isnan(b))
        yield Case(
            f"setp.num.{name} {{d}}, {{a}}, {{b}}", "pred", (name,) * 2, lambda a, b: ~(np.isnan(a) | np.isnan(b))
        )
    yield Case("setp.lt.ftz.f32 {d}, {a}, {b}", "pred", ("f32",) * 2, lambda a, b: flushed(a) < flushed(b))
    for combine, function in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        expected = lambda a, b, c, f=function: f(a < b, c)  # noqa: E731
        yield Case(f"setp.lt.{combine}.s32 {{d}}, {{a}}, {{b}}, {{c}}", "pred", ("s32", "s32", "pred"), expected)
    second = "{{ .reg .pred %q; setp.lt.and.s32 %q|{d}, {a}, {b}, {c}; }}"
    yield Case(second, "pred", ("s32", "s32", "pred"), lambda a, b, c: ~(a < b) & c)
    for name in ("b16", "b32", "b64"):
        yield Case(
            f"selp.{name} {{d}}, {{a}}, {{b}}, {{c}}", name, (name, name, "pred"), lambda a, b, c: np.where(c, a, b)
        )
    for name in ("f32", "f64"):
        yield Case(
            f"selp.{name} {{d}}, {{a}}, {{b}}, {{c}}", name, (name, name, "pred"), lambda a, b, c: np.where(c, a, b)
        )


def flushed(x: np.ndarray) -> Any:
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


def _extreme(least: bool, nan_wins: bool = False) -> Callable[..., Any]:
    def apply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        lower = (a < b) | ((a == b) & np.signbit(a))
        result = np.where(lower == least, a, b)
        if nan_wins:
            return np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), result)
        return np.where(np.isnan(a), b, np.where(np.isnan(b), a, result))

    return apply


def _saturated(x: np.ndarray) -> Any:
    return np.where(np.isnan(x), x.dtype.type(0), np.clip(x, 0, 1) + x.dtype.type(0))


def _in_double(function: Callable[..., np.ndarray]) -> Callable[..., Any]:
    return lambda *x: function(*(y.astype(np.float64) for y in x)).astype(np.float32)


def floating_point_cases() -> Iterator[Case]:
    binary = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    for name in ("f32", "f64"):
        two, three = (name,) * 2, (name,) * 3
        for opcode, function in binary.items():
            yield Case(f"{opcode}.rn.{name} {{d}}, {{a}}, {{b}}", name, two, function)
        yield Case(f"fma.rn.{name} {{d}}, {{a}}, {{b}}, {{c}}", name, three, fma)
        yield Case(f"mad.rn.{name} {{d}}, {{a}}, {{b}}, {{c}}", name, three, fma)
        for least, opcode in ((True, "min"), (False, "max")):
            yield Case(f"{opcode}.{name} {{d}}, {{a}}, {{b}}", name, two, _extreme(least))
        yield Case(f"neg.{name} {{d}}, {{a}}", name, (name,), np.negative)
        yield Case(f"abs.{name} {{d}}, {{a}}", name, (name,), np.abs)
        yield Case(f"copysign.{name} {{d}}, {{a}}, {{b}}", name, two, lambda a, b: np.copysign(b, a))
        yield Case(f"sqrt.rn.{name} {{d}}, {{a}}", name, (name,), np.sqrt)
        yield Case(f"rcp.rn.{name} {{d}}, {{a}}", name, (name,), lambda a: 1 / a)
    one, two = ("f32",), ("f32", "f32")
    for opcode, function in binary.items():
        how = "approx.ftz" if opcode == "div" else "rn.ftz"
        expected = lambda a, b, f=function: flushed(f(flushed(a), flushed(b)))  # noqa: E731
        yield Case(f"{opcode}.{how}.f32 {{d}}, {{a}}, {{b}}", "f32", two, expected)
    yield Case("div.full.f32 {d}, {a}, {b}", "f32", two, np.divide, units=2)
    yield Case("add.sat.f32 {d}, {a}, {b}", "f32", two, lambda a, b: _saturated(a + b))
    for least, opcode in ((True, "min"), (False, "max")):
        yield Case(f"{opcode}.NaN.f32 {{d}}, {{a}}, {{b}}", "f32", two, _extreme(least, nan_wins=True))
    yield Case("ex2.approx.f32 {d}, {a}", "f32", one, _in_double(np.exp2), units=1)
    yield Case("ex2.approx.ftz.f32 {d}, {a}", "f32", one, lambda a: flushed(_in_double(np.exp2)(flushed(a))), units=1)
    yield Case("lg2.approx.f32 {d}, {a}", "f32", one, _in_double(np.log2), units=1)
    yield Case("rsqrt.approx.f32 {d}, {a}", "f32", one, _in_double(lambda a: 1 / np.sqrt(a)), units=1)
    for opcode in ("add", "mul", "fma"):
        count = 3 if opcode == "fma" else 2
        text = f"{opcode}.rn.f32x2 {{d}}, " + ", ".join(("{a}", "{b}", "{c}")[:count])
        function = {"add": np.add, "mul": np.multiply, "fma": fma}[opcode]
        yield Case(text, "f32x2", ("f32x2",) * count, _by_halves(function))


def _by_halves(function: Callable[..., np.ndarray]) -> Callable[..., Any]:
    def apply(*x: np.ndarray) -> np.ndarray:
        halves = [np.ascontiguousarray(y).view(np.float32).reshape(-1, 2) for y in x]
        results = np.stack([function(*(np.ascontiguousarray(h[:, k]) for h in halves)) for k in (0, 1)], 1)
        return np.ascontiguousarray(results).view(np.uint64)[:, 0]

    return apply


def _to_integer(dtype: Any, rounded: Callable[[float], float]) -> Callable[..., Any]:
    limits = np.iinfo(dtype)

    def one(x: float) -> int:
        if math.isnan(x):
            return 2**63 if limits.bits == 64 else 0
        if math.isinf(x):
            return limits.max if x > 0 else limits.min
        return int(min(max(int(rounded(x)), limits.min), limits.max))

    return lambda a: np.array([one(float(x)) % 2**limits.bits for x in a], f"u{limits.bits // 8}").view(dtype)


def _from_bf16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _to_bf16(x: np.ndarray) -> np.ndarray:
    def one(u: int) -> int:
        low, high = u & 0xFFFF, u >> 16
        if u & 0x7FFFFFFF > 0x7F800000:
            return 0x7FFF
        return high + (low > 0x8000 or (low == 0x8000 and high & 1))

    return np.array([one(int(u)) for u in x.view(np.uint32)], np.uint16)


def conversion_cases() -> Iterator[Case]:
    integers = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
    registers = {8: 16}  # bits that a register has for a type that has none of its own
    for to in integers:
        for source in integers:
            if to == source:
                continue
            bits = int(to[1:])
            held = f"{to[0]}{registers.get(bits, bits)}"  # extended into the register
            given = f"{source[0]}{registers.get(int(source[1:]), int(source[1:]))}"
            narrowed = lambda a, s=source, t=to, h=held: a.astype(NUMPY[s]).astype(NUMPY[t]).astype(NUMPY[h])  # noqa: E731
            yield Case(f"cvt.{to}.{source} {{d}}, {{a}}", held, (given,), narrowed)
            limits = np.iinfo(NUMPY[to])
            clamped = exact(lambda a, low=int(limits.min), high=int(limits.max): min(max(a, low), high), NUMPY[held])
            saturated = lambda a, s=source, f=clamped: f(a.astype(NUMPY[s]))  # noqa: E731
            yield Case(f"cvt.sat.{to}.{source} {{d}}, {{a}}", held, (given,), saturated)
    rounding = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}
    for source in ("f32", "f64"):
        for to in ("s32", "u32", "s64", "u64"):
            for how, function in rounding.items():
                yield Case(f"cvt.{how}.{to}.{source} {{d}}, {{a}}", to, (source,), _to_integer(NUMPY[to], function))
        for to in ("s32", "u32", "s64", "u64"):
            yield Case(f"cvt.rn.{source}.{to} {{d}}, {{a}}", source, (to,), lambda a, s=source: a.astype(NUMPY[s]))
        for how, function in {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}.items():
            yield Case(f"cvt.{how}.{source}.{source} {{d}}, {{a}}", source, (source,), function)
    yield Case("cvt.rmi.ftz.f32.f32 {d}, {a}", "f32", ("f32",), lambda a: np.floor(flushed(a)))
    yield Case("cvt.f64.f32 {d}, {a}", "f64", ("f32",), lambda a: a.astype(np.float64))
    yield Case("cvt.rn.f32.f64 {d}, {a}", "f32", ("f64",), lambda a: a.astype(np.float32))
    yield Case("cvt.sat.f32.f32 {d}, {a}", "f32", ("f32",), _saturated)
    yield Case("cvt.f32.f16 {d}, {a}", "f32", ("f16",), lambda a: a.astype(np.float32))
    yield Case("cvt.rn.f16.f32 {d}, {a}", "f16", ("f32",), lambda a: a.astype(np.float16))
    yield Case("cvt.f32.bf16 {d}, {a}", "f32", ("bf16",), _from_bf16)
    yield Case("cvt.rn.bf16.f32 {d}, {a}", "bf16", ("f32",), _to_bf16)


def movement_cases() -> Iterator[Case]:
    for name in ("b16", "b32", "b64", "f32", "f64", "pred"):
        yield Case(f"mov.{name} {{d}}, {{a}}", name, (name,), lambda a: a)
    pair = lambda wide, n: lambda a, b: a.astype(wide) | b.astype(wide) << wide(n)  # noqa: E731
    yield Case("mov.b32 {d}, {{{a}, {b}}}", "b32", ("b16", "b16"), pair(np.uint32, 16))
    yield Case("mov.b64 {d}, {{{a}, {b}}}", "b64", ("b32", "b32"), pair(np.uint64, 32))
    yield Case("mov.b32 {{_, {d}}}, {a}", "b16", ("b32",), lambda a: (a >> np.uint32(16)).astype(np.uint16))
    yield Case("mov.b64 {{{d}, _}}, {a}", "b32", ("b64",), lambda a: a.astype(np.uint32))
    yield Case("mov.b32 {d}, 0f3FC00000", "f32", (), lambda: np.full(THREADS, 1.5, np.float32))
    yield Case("mov.b64 {d}, -3", "s64", (), lambda: np.full(THREADS, -3))
    yield Case("mov.u32 {d}, %laneid", "u32", (), lambda: np.arange(THREADS, dtype=np.uint32) % np.uint32(32))
    yield Case("mov.u32 {d}, %warpid", "u32", (), lambda: np.arange(THREADS, dtype=np.uint32) // np.uint32(32))
    yield Case("mov.u32 {d}, %ntid.x", "u32", (), lambda: np.full(THREADS, THREADS, np.uint32))
    yield Case("prefetch.global.L1 [%in0]; mov.b32 {d}, {a}", "b32", ("b32",), lambda a: a)
    guarded = "{{ mov.b32 {d}, {a}; @{c} mov.b32 {d}, {b}; }}"
    yield Case(guarded, "b32", ("b32", "b32", "pred"), lambda a, b, c: np.where(c, b, a))
    otherwise = "{{ mov.b32 {d}, {a}; @!{c} bra $over; mov.b32 {d}, {b}; $over: }}"
    yield Case(otherwise, "b32", ("b32", "b32", "pred"), lambda a, b, c: np.where(c, b, a))


GROUPS = {
    "integer": integer_cases,
    "logic": logic_cases,
    "selection": selection_cases,
    "floating_point": floating_point_cases,
    "conversion": conversion_cases,
    "movement": movement_cases,
}


def snippet(body: str) -> str:
    """PTX of a kernel whose parameters, `a` and `b`, are at %a and %b; %t is the thread, %x, %y, %z are free."""
    return f"""
.version 8.0
.target sm_90
.address_size 64
.visible .entry snippet(.param .u64 .ptr .global .align 4 a, .param .u64 .ptr .global .align 4 b)
{{
.shared .align 16 .b8 tile[1024];
.local .align 8 .b8 own[16];
.reg .pred %p, %q; .reg .b16 %h; .reg .b32 %t, %w, %x, %y, %z, %s; .reg .b64 %a, %b, %at, %bt, %g, %l;
ld.param.b64 %a, [a]; ld.param.b64 %b, [b];
mov.u32 %t, %tid.x;
mul.wide.u32 %at, %t, 4; add.s64 %bt, %at, %b; add.s64 %at, %at, %a;
mov.u32 %s, tile;
shl.b32 %w, %t, 2; add.s32 %s, %s, %w;
{body}
ret;
}}
"""


def play(body: str, a: np.ndarray, b: np.ndarray, threads: int = 32, **options: object) -> list[ptxemu.Finding]:
    """Runs a snippet on two arrays; the findings."""
    chosen = ptxemu.Options(raise_findings=False, **options)
    return ptxemu.run(snippet(body), (1,), threads, [buffer(a), buffer(b)], options=chosen).findings
