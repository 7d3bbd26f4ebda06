# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005
"""The hard alignment: the forward sweep in the max semiring, noting where each maximum came from, and the way back.

A choice, one byte per cell, has the source of H in bits 0-1 (0 start, 1 D, 2 X, 3 Y), of X in bit 2 (0 D, 1 X), of Y
in bits 3-4 (0 D, 1 X, 2 Y); the first named wins a tie.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.columns import (
    begin_step,
    border_state,
    forward_column,
    loaded_forward,
    pair_of,
    strip_of,
)
from lac_kernels.triton.memory import is_inside, kernel, length, put_edge, unpack_views
from lac_kernels.triton.values import MINUS_INFINITY, fill, fill_int

# Where H came from; X and Y are also the states of the way back.
START = tl.constexpr(0)
D = tl.constexpr(1)
X = tl.constexpr(2)
Y = tl.constexpr(3)
X_BIT = tl.constexpr(2)  # of the source of X, which counts from D
Y_BIT = tl.constexpr(3)  # of the source of Y, likewise


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
def store_choices(choices, M, column, strip, state, incoming, terms, cells, LAYOUT: tl.constexpr):
    """The choices of a lane's rows in one column; `choices` points to it in the first row."""
    R: tl.constexpr = LAYOUT.rows
    _rows, _v_rows, limit = strip
    _s, _v, go, _ge, _unit = cells
    d, x, _h, _y, _diagonal, _K = state
    for r in tl.static_range(R):
        d_above = incoming[0][0] if r == 0 else d[r - 1][0]
        x_above = incoming[1][0] if r == 0 else x[r - 1][0]
        choice = choice_of(d[r][0], x[r][0], terms[r], d_above, x_above, go[r][0])
        tl.store(choices + r * M, choice, mask=is_inside(column, limit[r]))


@triton.jit
def nothing_yet(LAYOUT: tl.constexpr):
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
    d, _x, _h, _y, _diagonal, _K = state
    top_new = ()
    top_j_new = ()
    for r in tl.static_range(R):
        better = d[r][0] > top[r]
        top_new = top_new + (tl.where(better, d[r][0], top[r]),)
        top_j_new = top_j_new + (tl.where(better, column, top_j[r]),)
    return top_new, top_j_new


@triton.jit
def any_nan(cells, LAYOUT: tl.constexpr):
    """1 in lanes that have a NaN among their scores."""
    R: tl.constexpr = LAYOUT.rows
    s, _v, _go, _ge, _unit = cells
    nan = fill_int(0, LAYOUT)
    for r in tl.static_range(R):
        nan |= (s[r] != s[r]).to(tl.int32)
    return nan


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


@triton.jit
def first_best(best, N, M):
    """The largest d of all lanes, and the first cell that has it."""
    lane_most, lane_i, lane_j = best
    most = tl.max(lane_most, 0)
    i = tl.min(tl.where(lane_most == most, lane_i, N), 0)
    j = tl.min(tl.where((lane_most == most) & (lane_i == i), lane_j, M), 0)
    return most, i, j


@triton.jit
def hard_strip(nan, pair, strip, i_strip, edge, choices, m, M, LAYOUT: tl.constexpr):
    """All steps of one strip: the choices, each row's best end, and whether there was a NaN.

    One row of `edge` serves all strips: what a column of it holds is read before it is written.
    """
    L: tl.constexpr = LAYOUT.lanes
    lane = tl.arange(0, L)
    state = border_state(LAYOUT)
    tops = nothing_yet(LAYOUT)
    loaded = loaded_forward(pair, strip, edge, 0, i_strip, m, M, LAYOUT)
    for t in range(m + L):
        column = t - lane
        cells, most_open, most_extend, incoming, K_in, rotated, K_rotated, ahead = begin_step(
            state, loaded[0], column, pair, strip, edge, i_strip, m, M, LAYOUT
        )
        loaded = (ahead,)
        nan |= ((most_open != most_open) | (most_extend != most_extend)).to(tl.int32)
        if LAYOUT.multi:
            done = column - L
            put_edge(rotated, K_rotated, edge + done, M, (lane == 0) & (done >= 0) & (done < m), LAYOUT)
        state, terms = forward_column(cells, state, incoming, K_in, LAYOUT)
        store_choices(choices + column, M, column, strip, state, incoming, terms, cells, LAYOUT)
        tops = better_columns(tops, state, column, LAYOUT)
        nan |= any_nan(cells, LAYOUT)
    return nan, tops


@kernel
def hard_kernel(
    scores, gap_open, gap_extend, strides, lengths1, lengths2, score, end, choices, edges, edges_step, N, M,
    LAYOUT: tl.constexpr,
):  # fmt: skip
    """Best score of one pair, the cell it ends in (-1 if nothing aligns), and every cell's choice."""
    R: tl.constexpr = LAYOUT.rows
    L: tl.constexpr = LAYOUT.lanes
    b = tl.program_id(0)
    lane = tl.arange(0, L)
    n = length(lengths1, b, N)
    m = length(lengths2, b, M)
    unity = tl.full((), 1.0, LAYOUT.dtype)
    views = unpack_views(scores, gap_open, gap_extend, strides)
    pair, gap_o, gap_e = pair_of(views, views, b, (unity, unity, unity), LAYOUT)
    edge = edges + tl.cast(b, tl.int64) * edges_step
    nan = fill_int(0, LAYOUT) + ((gap_o != gap_o) | (gap_e != gap_e)).to(tl.int32)
    best = (fill(-float("inf"), LAYOUT), fill_int(0, LAYOUT), fill_int(0, LAYOUT))
    for i_strip in range(tl.cdiv(n, R * L)):
        row = i_strip * (R * L) + lane * R
        strip = strip_of(pair, b, row, n, m, LAYOUT)
        place = (tl.cast(b, tl.int64) * N + row) * M
        nan, tops = hard_strip(nan, pair, strip, i_strip, edge, choices + place, m, M, LAYOUT)
        best = better_rows(best, tops, row, LAYOUT)
    most, i, j = first_best(best, N, M)
    bad = tl.max(nan, 0) != 0
    aligned = (most > MINUS_INFINITY) & (bad == 0)
    tl.store(score + b, tl.where(bad, float("nan"), tl.where(aligned, most, 0.0)))
    tl.store(end + 2 * b, tl.where(aligned, i, -1))
    tl.store(end + 2 * b + 1, j)


@triton.jit
def walk(choices, i, j, path, free, M, WRITE: tl.constexpr):
    """Follow the choices back from cell (i, j); matched cells go to path[free - 1], path[free - 2] ... Their number."""
    state = tl.where(i >= 0, D, START)
    count = tl.where(i >= 0, 0, 0)
    while state > 0:
        match = state == D
        count += tl.where(match, 1, 0)
        if WRITE:
            place = path + 2 * (free - count).to(tl.int64)
            tl.store(place, i.to(tl.int64), mask=match)
            tl.store(place + 1, j.to(tl.int64), mask=match)
        before_i = tl.where(state == X, i, i - 1)
        before_j = tl.where(state == Y, j, j - 1)
        at_i = tl.where(match, before_i, i)
        at_j = tl.where(match, before_j, j)
        inside = (before_i >= 0) & (before_j >= 0)
        choice = tl.load(choices + (at_i.to(tl.int64) * M + at_j), mask=inside, other=0).to(tl.int32)
        from_gap = tl.where(state == X, D + ((choice >> X_BIT) & 1), D + (choice >> Y_BIT))
        state = tl.where(inside, tl.where(match, choice & 3, from_gap), START)
        i = before_i
        j = before_j
    return count


@kernel
def trace_kernel(choices, end, path, count, N, M):
    """The matched cells of one pair's alignment, first to last: counted by one walk, written by another."""
    b = tl.program_id(0).to(tl.int64)
    choices += b * N * M
    i = tl.load(end + 2 * b)
    j = tl.load(end + 2 * b + 1)
    path += b * 2 * tl.minimum(N, M)
    matches = walk(choices, i, j, path, 0, M, False)
    walk(choices, i, j, path, matches, M, True)
    tl.store(count + b, matches.to(tl.int64))
