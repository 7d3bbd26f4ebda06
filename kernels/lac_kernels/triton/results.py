# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005
"""What a forward sweep gathers column by column: Z and the largest score, or the choices of the hard alignment.

The soft results are `sums` (each thread's part of Z with its tangent, what rounding has left out of both, and their
exponent) and `seen` (its largest score, gap_open and gap_extend; NaN if there was one); the hard ones `nan`, `best`
(each thread's best end: d, row, column) and `tops` (that of each row of the strip).

A choice, one byte per cell, has the source of H in bits 0-1 (0 start, 1 D, 2 X, 3 Y), of X in bit 2 (0 D, 1 X), of Y
in bits 3-4 (0 D, 1 X, 2 Y); the first named wins a tie.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.memory import is_inside
from lac_kernels.triton.values import MAXIMUM, SCALED, ZERO_EXPONENT, fill, fill_int, largest, plus, power

# Where H came from; X and Y are also the states of the way back.
START = tl.constexpr(0)
D = tl.constexpr(1)
X = tl.constexpr(2)
Y = tl.constexpr(3)
X_BIT = tl.constexpr(2)  # of the source of X, which counts from D
Y_BIT = tl.constexpr(3)  # of the source of Y, likewise


@triton.jit
def no_results(LAYOUT: tl.constexpr):
    """Each tensor is one of its own: see `border_state`."""
    if LAYOUT.mode == MAXIMUM:
        best = (fill(-float("inf"), LAYOUT), fill_int(0, LAYOUT), fill_int(0, LAYOUT))
        return fill_int(0, LAYOUT), best, no_tops(LAYOUT)
    else:
        seen = (fill(-float("inf"), LAYOUT), fill(0.0, LAYOUT), fill(0.0, LAYOUT))
        K: tl.constexpr = 0 if LAYOUT.mode == SCALED else ZERO_EXPONENT
        part = (fill(0.0, LAYOUT), fill(0.0, LAYOUT))
        return (part, (fill(0.0, LAYOUT), fill(0.0, LAYOUT)), fill_int(K, LAYOUT)), seen


@triton.jit
def add_column(results, state, incoming, terms, cells, most_open, most_extend, column, limit, choices, M,
               LAYOUT: tl.constexpr):  # fmt: skip
    if LAYOUT.mode == MAXIMUM:
        nan, best, tops = results
        store_choices(choices + column, M, column, limit, state, incoming, terms, cells, LAYOUT)
        nan |= ((most_open != most_open) | (most_extend != most_extend)).to(tl.int32)
        return nan | any_nan(cells, LAYOUT), best, better_columns(tops, state, column, LAYOUT)
    else:
        sums, seen = results
        return add_matches(sums, state, LAYOUT), watch(seen, cells, most_open, most_extend, LAYOUT)


@triton.jit
def end_strip(results, row, LAYOUT: tl.constexpr):
    if LAYOUT.mode == MAXIMUM:
        nan, best, tops = results
        return nan, better_rows(best, tops, row, LAYOUT), no_tops(LAYOUT)
    else:
        return results


# soft


@triton.jit
def watch(seen, cells, most_open, most_extend, LAYOUT: tl.constexpr):
    R: tl.constexpr = LAYOUT.rows
    s, _v, _go, _ge, _unit = cells
    top, top_open, top_extend = seen
    for r in tl.static_range(R):
        top = largest(top, s[r])
    if LAYOUT.cell:
        top_open = largest(top_open, most_open)
        top_extend = largest(top_extend, most_extend)
    return top, top_open, top_extend


@triton.jit
def add_matches(sums, state, LAYOUT: tl.constexpr):
    """Z (5) and one more column, by compensated summation (W. Kahan, 1965): a row may have millions of columns."""
    R: tl.constexpr = LAYOUT.rows
    part, lost, K_z = sums
    d, _x, _h, _last, _diagonal, K = state
    total = d[0]
    for r in tl.static_range(1, R):
        total = plus(total, d[r], LAYOUT)
    if LAYOUT.mode != SCALED:
        K = total[1]
    K_new = tl.maximum(K_z, K)
    f = power(K_z - K_new, LAYOUT.dtype)
    f_total = power(K - K_new, LAYOUT.dtype)
    z, z_lost = add_exactly(part[0] * f, lost[0] * f, total[0] * f_total)
    t = part[1]
    t_lost = lost[1]
    if LAYOUT.dual:
        t, t_lost = add_exactly(t * f, t_lost * f, total[2] * f_total)
    return (z, t), (z_lost, t_lost), K_new


@triton.jit
def add_exactly(a, lost, b):
    """a + b, and what its rounding has added, `lost` being that of a."""
    missing = b - lost
    total = a + missing
    return total, (total - a) - missing


# hard


@triton.jit
def choice_of(d, x, terms, d_above, x_above, go):
    """The choice of a cell."""
    x_open, x_extend, y_open, y_extend, y = terms
    from_h = tl.where((d >= x) & (d >= y[0]), D, tl.where(x >= y[0], X, Y))
    from_h = tl.where((d > 0) | (x > 0) | (y[0] > 0), from_h, START)
    from_x = tl.where(x_open[0] >= x_extend[0], 0, (X - D) << X_BIT)
    from_y = tl.where(d_above + go >= x_above + go, 0, (X - D) << Y_BIT)
    from_y = tl.where(y_open[0] >= y_extend[0], from_y, (Y - D) << Y_BIT)
    return (from_h | from_x | from_y).to(tl.uint8)


@triton.jit
def store_choices(choices, M, column, limit, state, incoming, terms, cells, LAYOUT: tl.constexpr):
    """The choices of a lane's rows in one column; `choices` points to it in the first row."""
    R: tl.constexpr = LAYOUT.rows
    _s, _v, go, _ge, _unit = cells
    d, x, _h, _last, _diagonal, _K = state
    for r in tl.static_range(R):
        d_above = incoming[0][0] if r == 0 else d[r - 1][0]
        x_above = incoming[1][0] if r == 0 else x[r - 1][0]
        choice = choice_of(d[r][0], x[r][0], terms[r], d_above, x_above, go[r][0])
        tl.store(choices + r * M, choice, mask=is_inside(column, limit[r]))


@triton.jit
def any_nan(cells, LAYOUT: tl.constexpr):
    """1 in threads that have a NaN among their scores."""
    R: tl.constexpr = LAYOUT.rows
    s, _v, _go, _ge, _unit = cells
    nan = fill_int(0, LAYOUT)
    for r in tl.static_range(R):
        nan |= (s[r] != s[r]).to(tl.int32)
    return nan


@triton.jit
def no_tops(LAYOUT: tl.constexpr):
    """The largest d of each row, and its column."""
    R: tl.constexpr = LAYOUT.rows
    top = ()
    top_j = ()
    for _ in tl.static_range(R):
        top = top + (fill(-float("inf"), LAYOUT),)
        top_j = top_j + (fill_int(0, LAYOUT),)
    return top, top_j


@triton.jit
def better_columns(tops, state, column, LAYOUT: tl.constexpr):
    R: tl.constexpr = LAYOUT.rows
    top, top_j = tops
    d, _x, _h, _last, _diagonal, _K = state
    top_new = ()
    top_j_new = ()
    for r in tl.static_range(R):
        better = d[r][0] > top[r]
        top_new = top_new + (tl.where(better, d[r][0], top[r]),)
        top_j_new = top_j_new + (tl.where(better, column, top_j[r]),)
    return top_new, top_j_new


@triton.jit
def better_rows(best, tops, row, LAYOUT: tl.constexpr):
    R: tl.constexpr = LAYOUT.rows
    most, i, j = best
    top, top_j = tops
    for r in tl.static_range(R):
        better = top[r] > most
        most = tl.where(better, top[r], most)
        i = tl.where(better, row + r, i)
        j = tl.where(better, top_j[r], j)
    return most, i, j
