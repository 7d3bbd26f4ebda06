# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005, SIM102
"""The sweep downwards and to the right: the forward kernels', and the backward kernel's where steps are not kept.

A program does a group of strips at a time, one strip per warp, each LAG steps behind the one above it: at step t a
thread is at column t - lane - warp LAG.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.columns import (
    border_state,
    cells_of,
    delay_of,
    forward_column,
    from_above,
    give,
    link_down,
    load_cells,
    strip_of,
    take,
)
from lac_kernels.triton.gate import enter, gate_of, leave
from lac_kernels.triton.layout import edges_at, kept_slots, lane_and_warp, state_at, steps_of, strips_of
from lac_kernels.triton.memory import is_inside, put_slot, put_state
from lac_kernels.triton.results import add_column, end_strip, no_results
from lac_kernels.triton.values import MAXIMUM


@triton.jit
def loaded_forward(pair, strip, link, t, LAYOUT: tl.constexpr):
    """What the steps from t on use, of as many as are loaded ahead."""
    U: tl.constexpr = LAYOUT.ahead
    column = t - delay_of(LAYOUT)
    loaded = ()
    for u in tl.static_range(U):
        record = take(link, column + u, LAYOUT.handed, LAYOUT)
        loaded = loaded + ((load_cells(pair, strip, column + u, LAYOUT), record),)
    return loaded


@triton.jit
def slot_mask(t, n_kept, LAYOUT: tl.constexpr):
    """Where a thread's step t is kept. A warp that is alone keeps all of its steps."""
    if LAYOUT.keep and LAYOUT.warps > 1:
        _lane, warp = lane_and_warp(LAYOUT)
        return is_inside(t - warp * LAYOUT.lag, n_kept)
    else:
        return tl.full((LAYOUT.threads,), True, tl.int1)


@triton.jit
def forward_steps(
    state, results, loaded, start, end, pair, strip, link, slots, n_kept, choices, M,
    RESULTS: tl.constexpr, SLOTS: tl.constexpr, LAYOUT: tl.constexpr,
):  # fmt: skip
    """The steps from start to end. RESULTS: they are gathered, and edges handed on; SLOTS: they are kept."""
    U: tl.constexpr = LAYOUT.ahead
    delay = delay_of(LAYOUT)
    for first in range(start, end, U):
        ahead = ()
        for u in tl.static_range(U):
            column = first + u - delay
            # Before anything is stored: a load does not pass a store that may be to the same place.
            next_record = take(link, column + U, LAYOUT.handed, LAYOUT)
            ahead = ahead + ((load_cells(pair, strip, column + U, LAYOUT), next_record),)
            raw, record = loaded[u]
            cells, most_open, most_extend = cells_of(raw, pair, LAYOUT)
            incoming, K_in = from_above(state, record, LAYOUT)
            state, terms = forward_column(cells, state, incoming, K_in, LAYOUT)
            if RESULTS:
                _d, _x, _h, last, _diagonal, K = state
                give(link, column, last, K, LAYOUT)
                _rows, _v_rows, limit = strip
                results = add_column(
                    results, state, incoming, terms, cells, most_open, most_extend, column, limit, choices, M, LAYOUT
                )
            if SLOTS:
                mask = slot_mask(first + u, n_kept, LAYOUT)
                put_slot(slots + (first + u) * LAYOUT.slot, state, terms, mask, LAYOUT)
        loaded = ahead
    return state, results, loaded


@triton.jit
def group_of(group, pair, whose, LAYOUT: tl.constexpr):
    """A group of strips: how many the pair has, which one and which row are a thread's, its `strip`, how many steps it
    keeps, the group's last warp, and its steps.
    """
    b, n, m = whose
    strips = strips_of(n, LAYOUT)
    lane, warp = lane_and_warp(LAYOUT)
    i_strip = group * LAYOUT.warps + warp
    row = (i_strip * LAYOUT.lanes + lane) * LAYOUT.rows
    n_kept = tl.where(i_strip < strips, steps_of(m, 0, LAYOUT), 0)
    last = tl.minimum(strips - group * LAYOUT.warps, LAYOUT.warps) - 1
    steps = tl.where(last >= 0, steps_of(m, last, LAYOUT), 0)
    return strips, i_strip, row, strip_of(pair, b, row, n, m, LAYOUT), n_kept, last, steps


@triton.jit
def forward_group(
    results, group, pair, whose, head, segment, choices, counters, B, N, M, LAYOUT: tl.constexpr
):  # fmt: skip
    """All steps of a group of strips."""
    b, _n, m = whose
    W: tl.constexpr = LAYOUT.warps
    strips, i_strip, row, strip, n_kept, last, steps = group_of(group, pair, whose, LAYOUT)
    link = link_down(edges_at(head), i_strip, strips, m, M, LAYOUT)
    slots = kept_slots(head, i_strip, N, M, LAYOUT)
    gate = gate_of(counters, b, B, group, group > 0, group < tl.cdiv(strips, W) - 1, LAYOUT)
    if W == 1:  # what was done before may be of other threads: the group before, or the pair in other numbers
        tl.debug_barrier()
    ready = enter(gate, tl.full((), 0, tl.int32), tl.where(steps > 0, tl.minimum(LAYOUT.ahead, m), 0), LAYOUT)
    state = border_state(LAYOUT)
    loaded = loaded_forward(pair, strip, link, 0, LAYOUT)
    span = LAYOUT.block if W > 1 or LAYOUT.waits else segment
    if LAYOUT.mode == MAXIMUM:
        choices += row.to(tl.int64) * M
    for start in range(0, steps, span):
        end = tl.minimum(start + span, steps)
        if not LAYOUT.keep:
            if (start > 0) & (start % segment == 0):
                put_state(state_at(head, group, start, segment, N, M, LAYOUT), state, LAYOUT)
        ready = enter(gate, ready, tl.minimum(end + LAYOUT.ahead, m), LAYOUT)
        state, results, loaded = forward_steps(
            state, results, loaded, start, end, pair, strip, link, slots, n_kept, choices, M, True, LAYOUT.keep, LAYOUT
        )
        leave(gate, end - (LAYOUT.lanes - 1) - last * LAYOUT.lag, LAYOUT)
    return end_strip(results, row, LAYOUT)


@triton.jit
def forward_sweep(pair, whose, head, segment, choices, B, N, M, LAYOUT: tl.constexpr):
    """All groups of a pair, one after another."""
    _b, n, _m = whose
    results = no_results(LAYOUT)
    for group in range(tl.cdiv(strips_of(n, LAYOUT), LAYOUT.warps)):
        results = forward_group(
            results, group, pair, whose, head, segment, choices, None, B, N, M, LAYOUT
        )  # fmt: skip
    return results
