# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: SIM102
"""The forward kernel of the soft alignment: the score, and what the backward kernel needs.

SCALED numbers first; where by (12) they were not safe, the same program does the pair once more in EXTENDED ones, and
leaves a flag for the backward kernel.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.columns import pair_of, views_of
from lac_kernels.triton.gate import is_last, take_turn
from lac_kernels.triton.layout import EXPONENT, FLAG, INVERSE
from lac_kernels.triton.memory import get_int, kernel, length, put_int
from lac_kernels.triton.results import no_results
from lac_kernels.triton.sweep import forward_group, forward_sweep
from lac_kernels.triton.values import (
    EXTENDED,
    LEAST_TOTAL,
    LN2,
    MINUS_INFINITY,
    MOST_EXPONENT,
    exponent,
    largest,
    mantissa,
    power,
    unit_of,
)

# The bound (12) within which SCALED loses nothing that counts; kernels/README.md has the argument.
MOST_BRIDGE = tl.constexpr(30.0)  # o + e, per T: a gap in both sequences bridges where exp(S / T) underflows
MOST_DETOUR = tl.constexpr(70.0)  # o + R (e + max S), per T: what is lost is 2^126 / exp(70) > 2^25 below what is kept
LEAST_LOG2_Z = tl.constexpr(-60.0)  # Z itself is far above the least float32


@triton.jit
def largest_of(x):
    """The largest of all threads, NaN if one is."""
    return tl.where(tl.max((x != x).to(tl.int32), 0) != 0, float("nan"), tl.max(x, 0))


@triton.jit
def total_of(results, pair_open, pair_extend, LAYOUT: tl.constexpr):
    """Of all threads: Z and its tangent with their exponent; the largest score, gap_open, gap_extend."""
    sums, seen = results
    part, _lost, K_z = sums
    top, top_open, top_extend = seen
    k = tl.max(K_z, 0)
    weight = power(K_z - k, LAYOUT.dtype)
    Z = tl.sum(part[0] * weight, 0)
    slope = Z
    if LAYOUT.dual:
        slope = tl.sum(part[1] * weight, 0)
    if LAYOUT.cell:
        return Z, k, slope, largest_of(top), largest_of(top_open), largest_of(top_extend)
    else:
        return Z, k, slope, largest_of(top), pair_open.to(LAYOUT.dtype), pair_extend.to(LAYOUT.dtype)


PART = tl.constexpr(6)  # words


@triton.jit
def put_part(p, total):
    Z, k, slope, most, most_open, most_extend = total
    tl.store(p, Z)
    put_int(p + 1, k, True)
    tl.store(p + 2, slope)
    tl.store(p + 3, most)
    tl.store(p + 4, most_open)
    tl.store(p + 5, most_extend)


@triton.jit
def add_parts(p, parts, LAYOUT: tl.constexpr):
    """`total_of` for all programs of a pair, in their order."""
    k = get_int(p + 1, True)
    for i in range(1, parts):
        k = tl.maximum(k, get_int(p + i * PART + 1, True))
    Z = tl.full((), 0.0, LAYOUT.dtype)
    slope = tl.full((), 0.0, LAYOUT.dtype)
    most = tl.full((), -float("inf"), LAYOUT.dtype)
    most_open = tl.load(p + 4)
    most_extend = tl.load(p + 5)
    for i in range(parts):
        part = p + i * PART
        weight = power(get_int(part + 1, True) - k, LAYOUT.dtype)
        Z += tl.load(part) * weight
        slope += tl.load(part + 2) * weight
        most = largest(most, tl.load(part + 3))
        most_open = largest(most_open, tl.load(part + 4))
        most_extend = largest(most_extend, tl.load(part + 5))
    return Z, k, slope, most, most_open, most_extend


@triton.jit
def finish(Z, k, slope, most, nan, T, unit, extent, LAYOUT: tl.constexpr):
    """The score (5) of Z 2^k, the mantissa of 1 / Z, the score's slope, and log2 Z, with the limits of the numbers.

    `most` is the pair's largest score, `extent` the most matches that it can have.
    """
    log2_Z = k.to(LAYOUT.dtype) + tl.log2(Z)
    too_low = log2_Z < LEAST_TOTAL  # all scores are: the largest is the score to rounding, but no gradient is known
    too_large = most * unit[0] * extent.to(LAYOUT.dtype) > MOST_EXPONENT
    empty = most <= MINUS_INFINITY
    score = tl.where(too_low, most, T * (LN2 * log2_Z))
    beyond = tl.where(most == float("inf"), most, float("nan"))
    score = tl.where(nan, float("nan"), tl.where(too_large, beyond, tl.where(empty, 0.0, score)))
    inverse = tl.where(empty, 0.0, tl.where(too_low, float("nan"), 1.0 / Z))
    inverse = tl.where(nan | too_large, float("nan"), inverse)
    if LAYOUT.dual:
        slope = tl.where(empty, 0.0, tl.where(too_low, float("nan"), slope))
        slope = tl.where(nan | too_large, float("nan"), slope)
    return score, inverse, slope, log2_Z


@triton.jit
def is_safe(most, gap_open, gap_extend, T, log2_Z, LAYOUT: tl.constexpr):
    """The bound (12)."""
    gain = tl.maximum(most, 0.0)
    bridge = gap_open + gap_extend
    detour = gap_open + LAYOUT.rows * (gap_extend + gain)
    return (bridge < T * MOST_BRIDGE) & (detour < T * MOST_DETOUR) & (log2_Z > LEAST_LOG2_Z)


@triton.jit
def conclude(score, rate, head, whose, total, T, unit, LAYOUT: tl.constexpr):
    """Score and header of a pair; whether that is safe."""
    b, n, m = whose
    Z, k, slope, most, most_open, most_extend = total
    slope = slope / Z
    k += exponent(Z)
    Z = mantissa(Z)
    nan = (most != most) | (most_open != most_open) | (most_extend != most_extend) | (T != T)
    value, inverse, slope, log2_Z = finish(Z, k, slope, most, nan, T, unit, tl.minimum(n, m), LAYOUT)
    tl.store(score + b, value)
    tl.store(head + INVERSE, inverse)
    put_int(head + EXPONENT, k, True)
    put_int(head + FLAG, k * 0 + (LAYOUT.mode == EXTENDED), True)
    if LAYOUT.dual:
        tl.store(rate + b, slope)
    return is_safe(most, most_open, most_extend, T, log2_Z, LAYOUT)


@kernel
def forward_kernel(
    scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, temperature, lengths1, lengths2,
    score, rate, saved, saved_step, segment, segment_extended, parts, counters, B, N, M,
    LAYOUT: tl.constexpr, EXTENDED_LAYOUT: tl.constexpr,
):  # fmt: skip
    """Score of one pair, and `saved`, of which `layout.py` speaks. EXTENDED_LAYOUT is None where LAYOUT is extended."""
    b = tl.program_id(0)
    turn = b * 0
    if LAYOUT.waits:
        b, turn = take_turn(counters, B)
    T = tl.load(temperature)
    whose = (b, length(lengths1, b, N), length(lengths2, b, M))
    head = saved + tl.cast(b, tl.int64) * saved_step
    views, v_views = views_of(
        scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, LAYOUT
    )  # fmt: skip
    unit = unit_of(T, LAYOUT)
    pair, pair_open, pair_extend = pair_of(views, v_views, b, unit, LAYOUT)
    safe = b >= 0
    if LAYOUT.waits:
        results = forward_group(
            no_results(LAYOUT), turn, pair, whose, head, segment, None, counters, B, N, M, LAYOUT
        )  # fmt: skip
        programs = tl.num_programs(0) // B
        part = parts + tl.cast(b, tl.int64) * programs * PART
        put_part(part + turn * PART, total_of(results, pair_open, pair_extend, LAYOUT))
        if is_last(counters, b, B):
            safe = conclude(score, rate, head, whose, add_parts(part, programs, LAYOUT), T, unit, LAYOUT)
    else:
        results = forward_sweep(pair, whose, head, segment, None, B, N, M, LAYOUT)
        total = total_of(results, pair_open, pair_extend, LAYOUT)
        safe = conclude(score, rate, head, whose, total, T, unit, LAYOUT)
    if EXTENDED_LAYOUT is not None:
        if safe == 0:
            pair, pair_open, pair_extend = pair_of(views, v_views, b, unit, EXTENDED_LAYOUT)
            results = forward_sweep(pair, whose, head, segment_extended, None, B, N, M, EXTENDED_LAYOUT)
            total = total_of(results, pair_open, pair_extend, EXTENDED_LAYOUT)
            conclude(score, rate, head, whose, total, T, unit, EXTENDED_LAYOUT)
