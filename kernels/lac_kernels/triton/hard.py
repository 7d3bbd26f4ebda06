# mypy: disable-error-code="no-untyped-def, assignment"
"""The hard alignment: the forward sweep in the max semiring, noting where each maximum came from, and the way back."""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.columns import pair_of
from lac_kernels.triton.memory import kernel, length, unpack_views
from lac_kernels.triton.results import START, X_BIT, Y_BIT, D, X, Y
from lac_kernels.triton.sweep import forward_sweep
from lac_kernels.triton.values import MINUS_INFINITY


@triton.jit
def first_best(best, N, M):
    """The largest d of all lanes, and the first cell that has it."""
    lane_most, lane_i, lane_j = best
    most = tl.max(lane_most, 0)
    i = tl.min(tl.where(lane_most == most, lane_i, N), 0)
    j = tl.min(tl.where((lane_most == most) & (lane_i == i), lane_j, M), 0)
    return most, i, j


@kernel
def hard_kernel(
    scores, gap_open, gap_extend, strides, lengths1, lengths2, score, end, choices, edges, edges_step, segment, N, M,
    LAYOUT: tl.constexpr,
):  # fmt: skip
    """Best score of one pair, the cell it ends in (-1 if nothing aligns), and every cell's choice."""
    b = tl.program_id(0)
    n = length(lengths1, b, N)
    m = length(lengths2, b, M)
    unity = tl.full((), 1.0, LAYOUT.dtype)
    views = unpack_views(scores, gap_open, gap_extend, strides)
    pair, gap_o, gap_e = pair_of(views, views, b, (unity, unity, unity), LAYOUT)
    head = edges + tl.cast(b, tl.int64) * edges_step
    choices += tl.cast(b, tl.int64) * N * M
    nan, best, _tops = forward_sweep(pair, (b, n, m), head, segment, choices, 0, N, M, LAYOUT)
    most, i, j = first_best(best, N, M)
    bad = (tl.max(nan, 0) != 0) | (gap_o != gap_o) | (gap_e != gap_e)
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
