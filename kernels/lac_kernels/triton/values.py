# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: SIM300
"""The numbers of the kernels, one value per thread: the recursion is written once over `plus` and `times`.

A *value* is a triple (m, k, t). What it means is the semiring, the mode of NUMBERS:

    SCALED    m 2^K        K is one exponent per thread, not in the triple: fast, and right within the bound (12)
    EXTENDED  m 2^k        every value has its own exponent: no overflow, no underflow, whatever S / T is
    MAXIMUM   m            plus is max, times is +: the hard alignment

and t is the tangent along a direction (same scale as m), present if NUMBERS is dual: the derivative of every line by
the product rule, which makes the Hessian-vector product the same pair of sweeps. Parts that a mode does not use are
constants that the compiler removes.

NUMBERS, a constant of the compiled code, is a `layout.Layout`, of which this file reads `mode`, `dual`, `lanes`,
`warps`, `threads` and `dtype`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.reference import FORBIDDEN

SCALED = tl.constexpr(0)
EXTENDED = tl.constexpr(1)
MAXIMUM = tl.constexpr(2)

MINUS_INFINITY = tl.constexpr(FORBIDDEN)  # scores up to here forbid a match
LN2 = tl.constexpr(0.6931471805599453)

# EXTENDED keeps the exponents of scores within +-2^26 and of results within +-2^27: sums of several stay within int32.
ZERO_EXPONENT = tl.constexpr(-(1 << 27))  # zero is 2^ZERO_EXPONENT
MOST_EXPONENT = tl.constexpr(float(1 << 27))  # a pair whose log2 Z may be above has NaN
LEAST_SCORE = tl.constexpr(float(-(1 << 26)))  # log2 exp(S / T) of lower scores counts as this much, well above zero
LEAST_TOTAL = tl.constexpr(-67108000.0)  # log2 Z below it, hence near LEAST_SCORE: no score of the pair was above
POWER_MOST = tl.constexpr(127)  # the largest exponent of a float32


@triton.jit
def exponent(m):
    """floor(log2 m) for normal m > 0."""
    if m.dtype == tl.float64:
        return ((m.to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)
    else:
        return (m.to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def mantissa(m):
    """m 2^-exponent(m), in [1, 2)."""
    if m.dtype == tl.float64:
        return ((m.to(tl.int64, bitcast=True) & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    else:
        return ((m.to(tl.int32, bitcast=True) & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)


@triton.jit
def power(k, DTYPE: tl.constexpr):
    """2^k exactly, and 0 below the normal numbers; k must not exceed the largest exponent."""
    if DTYPE == tl.float64:
        return ((tl.maximum(k, -1023) + 1023).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    else:
        return ((tl.maximum(k, -127) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def fill(x, NUMBERS: tl.constexpr):
    return tl.full((NUMBERS.threads,), x, NUMBERS.dtype)


@triton.jit
def fill_int(x, NUMBERS: tl.constexpr):
    return tl.full((NUMBERS.threads,), x, tl.int32)


@triton.jit
def constant(m, k, NUMBERS: tl.constexpr):
    return fill(m, NUMBERS), fill_int(k, NUMBERS), fill(0.0, NUMBERS)


@triton.jit
def zero(NUMBERS: tl.constexpr):
    if NUMBERS.mode == MAXIMUM:
        return constant(-float("inf"), 0, NUMBERS)
    elif NUMBERS.mode == EXTENDED:
        return constant(1.0, ZERO_EXPONENT, NUMBERS)
    else:
        return constant(0.0, 0, NUMBERS)


@triton.jit
def one(K, NUMBERS: tl.constexpr):
    """1, in SCALED at exponents K."""
    if NUMBERS.mode == MAXIMUM:
        return constant(0.0, 0, NUMBERS)
    elif NUMBERS.mode == EXTENDED:
        return constant(1.0, 0, NUMBERS)
    else:
        return power(-K, NUMBERS.dtype), fill_int(0, NUMBERS), fill(0.0, NUMBERS)


@triton.jit
def times(a, b, NUMBERS: tl.constexpr):
    if NUMBERS.mode == MAXIMUM:
        return a[0] + b[0], a[1], a[2]
    else:
        k = a[1]
        if NUMBERS.mode == EXTENDED:
            k = a[1] + b[1]
        t = a[2]
        if NUMBERS.dual:
            t = a[2] * b[0] + a[0] * b[2]
        return a[0] * b[0], k, t


@triton.jit
def plus(a, b, NUMBERS: tl.constexpr):
    if NUMBERS.mode == MAXIMUM:
        return tl.maximum(a[0], b[0]), a[1], a[2]
    elif NUMBERS.mode == SCALED:
        t = a[2]
        if NUMBERS.dual:
            t = a[2] + b[2]
        return a[0] + b[0], a[1], t
    else:
        k = tl.maximum(a[1], b[1])
        fa = power(a[1] - k, NUMBERS.dtype)
        fb = power(b[1] - k, NUMBERS.dtype)
        m = a[0] * fa + b[0] * fb
        e = exponent(m)
        t = a[2]
        if NUMBERS.dual:
            t = (a[2] * fa + b[2] * fb) * power(-e, NUMBERS.dtype)
        return mantissa(m), tl.maximum(k + e, ZERO_EXPONENT), t


@triton.jit
def rescale(a, f, NUMBERS: tl.constexpr):
    """The value in a scale that is 1 / f of its own."""
    if NUMBERS.mode == SCALED:
        t = a[2]
        if NUMBERS.dual:
            t = a[2] * f
        return a[0] * f, a[1], t
    else:
        return a


@triton.jit
def exp(s, v, unit, shift, NUMBERS: tl.constexpr):
    """The value exp(s / T) 2^shift; its tangent along v is taken per 1 / T. `unit`: see `unit_of`."""
    if NUMBERS.mode == MAXIMUM:
        m = s
        k = tl.zeros_like(shift).to(tl.int32)
    elif NUMBERS.mode == SCALED:
        m = tl.exp2(tl.fma(s, unit[0] + tl.zeros_like(s), shift))
        k = tl.zeros_like(shift).to(tl.int32)
    else:
        s = tl.maximum(s, unit[2])
        whole = tl.floor(s * unit[0] + 0.5)
        m = tl.exp2(tl.fma(s, unit[0] + tl.zeros_like(s), -whole) + s * unit[1])
        k = whole.to(tl.int32)
    t = tl.zeros_like(m)
    if NUMBERS.dual:
        t = m * v
    return m, k, t.to(NUMBERS.dtype)


@triton.jit
def unit_of(T, NUMBERS: tl.constexpr):
    """(hi, lo, lowest): log2(e) / T is hi + lo, and `lowest` the lowest score that EXTENDED tells from -inf."""
    C: tl.constexpr = NUMBERS.dtype
    T = T.to(C)
    # log2(e) as the nearest number, `log2e`, and the `rest`
    if C == tl.float64:
        log2e = tl.full((), 1.4426950408889634, C)
        rest = tl.full((), 2.0355273740931033e-17, C)
        hi = log2e / T
    else:
        log2e = tl.full((), 1.44269502162933349609375, C)
        rest = tl.full((), 1.9259629911266175e-8, C)
        hi = tl.div_rn(log2e, T)
    lo = (tl.fma(-hi, T, log2e) + rest) / T
    return hi, lo, tl.full((), LEAST_SCORE, C) / hi


@triton.jit
def from_lane(x, lane, NUMBERS: tl.constexpr):
    """x of another lane of the warp: one instruction, where a gather over all threads would go through memory."""
    by_warp: tl.constexpr = (NUMBERS.warps, NUMBERS.lanes)
    return tl.reshape(tl.gather(tl.reshape(x, by_warp), tl.reshape(lane, by_warp), 1), (NUMBERS.threads,))


@triton.jit
def value_from_lane(a, lane, NUMBERS: tl.constexpr):
    m = from_lane(a[0], lane, NUMBERS)
    k = a[1]
    if NUMBERS.mode == EXTENDED:
        k = from_lane(a[1], lane, NUMBERS)
    t = a[2]
    if NUMBERS.dual:
        t = from_lane(a[2], lane, NUMBERS)
    return m, k, t


@triton.jit
def select(mask, a, b):
    return tl.where(mask, a[0], b[0]), tl.where(mask, a[1], b[1]), tl.where(mask, a[2], b[2])


@triton.jit
def flow(a, b, weight, k, rate, NUMBERS: tl.constexpr):
    """a b / Z as in (10) and (11), or its tangent; 1 / Z is `weight` (at the lanes' exponents) times 2^k."""
    if NUMBERS.mode == EXTENDED:
        weight = weight * power(tl.minimum(a[1] + b[1] + k, POWER_MOST), NUMBERS.dtype)
    p = (a[0] * weight) * b[0]
    if NUMBERS.dual:
        p = (a[2] * weight) * b[0] + (a[0] * weight) * b[2] - p * rate
    return p


@triton.jit
def largest(a, b):
    """The larger one, and NaN if either is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
