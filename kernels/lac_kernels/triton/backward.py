# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005, SIM102
"""The backward kernel of the soft alignment: the gradients, from the steps that the forward kernel kept; or else
segment by segment, each run forward again from the state saved at its start and then swept back.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.columns import (
    backward_column,
    border_back,
    cells_of,
    delay_of,
    from_below,
    give,
    leaving,
    link_down,
    link_up,
    load_cells,
    pair_of,
    take,
    views_of,
)
from lac_kernels.triton.gate import enter, gate_of, is_last, leave, take_turn
from lac_kernels.triton.layout import (
    EXPONENT,
    FLAG,
    INVERSE,
    edges_at,
    kept_slots,
    lane_and_warp,
    state_at,
    strips_of,
)
from lac_kernels.triton.memory import get_int, get_slot, get_state, inside_rows, kernel, length
from lac_kernels.triton.sweep import forward_steps, group_of, loaded_forward, slot_mask
from lac_kernels.triton.values import POWER_MOST, SCALED, fill, fill_int, flow, plus, power, unit_of


@triton.jit
def lane_scale(scale, back, K_kept, LAYOUT: tl.constexpr):
    """`scale`, in SCALED at the exponents of the lane's forward and backward values."""
    weight, k, slope = scale
    _q, _xo, _xe, _yo, _ye, _below, _top, K = back
    lane_weight = weight + fill(0.0, LAYOUT)
    lane_k = fill_int(0, LAYOUT) + k
    if LAYOUT.mode == SCALED:
        lane_k = k + K + K_kept
        lane_weight = weight * power(tl.minimum(lane_k, POWER_MOST), LAYOUT.dtype)
    return lane_weight, lane_k, slope


@triton.jit
def store_gradients(gradients, sums, kept, place, M, inside, follows, after, scale, LAYOUT: tl.constexpr):
    """(10) and (11) in a lane's rows of one column; gradients of gaps that are the pair's are added to `sums`."""
    R: tl.constexpr = LAYOUT.rows
    weight, k, slope = scale
    d_scores, d_open, d_extend = gradients
    sum_open, sum_extend = sums
    for r in tl.static_range(R):
        d = kept[r][0]
        bd, bx, by = follows[r]
        tl.store(d_scores + (place + r * M), flow(d, bd, weight, k, slope, LAYOUT), mask=inside[r])
        if LAYOUT.gaps and LAYOUT.cell:
            open_r = fill(0.0, LAYOUT)
            extend_r = fill(0.0, LAYOUT)
            for c in tl.static_range(2):
                b = bx if c == 0 else by
                open_r -= flow(kept[r][2 * c + 1], b, weight, k, slope, LAYOUT)
                extend_r -= flow(kept[r][2 * c + 2], b, weight, k, slope, LAYOUT)
            tl.store(d_open + (place + r * M), open_r, mask=inside[r])
            tl.store(d_extend + (place + r * M), extend_r, mask=inside[r])
        elif LAYOUT.gaps:
            x = kept[r][1]
            y = kept[r][2]
            xo, yo, xe, ye = after[r]
            sum_open += flow(d, xo, weight, k, slope, LAYOUT)
            sum_open += flow(plus(d, x, LAYOUT), yo, weight, k, slope, LAYOUT)
            sum_extend += flow(x, xe, weight, k, slope, LAYOUT)
            sum_extend += flow(y, ye, weight, k, slope, LAYOUT)
    return sum_open, sum_extend


@triton.jit
def loaded_slot(slots, t, start, n_kept, LAYOUT: tl.constexpr):
    """The slot of step t, of a step before the start something."""
    mask = slot_mask(t, n_kept, LAYOUT)
    return get_slot(slots + tl.maximum(t, start) * LAYOUT.slot, mask, LAYOUT)


@triton.jit
def loaded_back(pair, strip, link, slots, n_kept, start, end, LAYOUT: tl.constexpr):
    """What the steps before `end` use, of as many as are loaded ahead."""
    U: tl.constexpr = LAYOUT.ahead_back
    delay = delay_of(LAYOUT)
    loaded = ()
    for u in tl.static_range(U):
        column = end - 1 - u - delay
        record = take(link, column, 3, LAYOUT)
        slot = ()
        if U > 1:
            slot = loaded_slot(slots, end - 1 - u, start, n_kept, LAYOUT)
        loaded = loaded + ((load_cells(pair, strip, column, LAYOUT), record, slot),)
    return loaded


@triton.jit
def backward_steps(
    back, sums, loaded, start, stop, end, slots, n_kept, pair, strip, link, place, gradients, scale, M,
    LAYOUT: tl.constexpr,
):  # fmt: skip
    """The steps from end to stop, of a segment that begins at `start`: gradients of their cells.

    `place` is where the rows begin in `gradients`; `scale` is 1 / Z's mantissa (times the score's gradient), exponent,
    and the slope of log Z.
    """
    U: tl.constexpr = LAYOUT.ahead_back
    delay = delay_of(LAYOUT)
    for first in range(0, end - stop, U):
        ahead = ()
        for u in tl.static_range(U):
            t = end - 1 - first - u
            column = t - delay
            # Before anything is stored: a load does not pass a store that may be to the same place.
            raw, record, slot = loaded[u]
            next_slot = slot
            if U > 1:  # else there are no registers to load it ahead
                next_slot = loaded_slot(slots, t - U, start, n_kept, LAYOUT)
            else:
                slot = loaded_slot(slots, t, start, n_kept, LAYOUT)
            next_record = take(link, column - U, 3, LAYOUT)
            ahead = ahead + ((load_cells(pair, strip, column - U, LAYOUT), next_record, next_slot),)
            kept, K_kept = slot
            cells, _open, _extend = cells_of(raw, pair, LAYOUT)
            incoming, K_in = from_below(back, record, LAYOUT)
            back, follows, after = backward_column(cells, back, incoming, K_in, LAYOUT)
            _q, _xo, _xe, _yo, _ye, _below, _top, K = back
            give(link, column, leaving(back), K, LAYOUT)
            _rows, _v_rows, limit = strip
            sums = store_gradients(
                gradients, sums, kept, place + column, M, inside_rows(column, limit, LAYOUT), follows, after,
                lane_scale(scale, back, K_kept, LAYOUT), LAYOUT,
            )  # fmt: skip
        loaded = ahead
    return back, sums, loaded


@triton.jit
def replay(start, end, slots, group, pair, strip, i_strip, strips, room, m, N, M, LAYOUT: tl.constexpr):
    """Run a segment forward again, and keep in `slots` what the backward steps need."""
    head, segment, _edges, _edge_rows, _scratch = room
    saved_state = state_at(head, group, start, segment, N, M, LAYOUT)
    state = get_state(saved_state, tl.arange(0, LAYOUT.threads) < start * LAYOUT.threads, LAYOUT)
    link = link_down(edges_at(head), i_strip, strips, m, M, LAYOUT)
    loaded = loaded_forward(pair, strip, link, start, LAYOUT)
    forward_steps(state, (), loaded, start, end, pair, strip, link, slots, 0, None, M, False, True, LAYOUT)


@triton.jit
def backward_group(
    sums, group, pair, whose, room, gradients, scale, counters, B, N, M, LAYOUT: tl.constexpr
):  # fmt: skip
    """All steps of a group of strips, from the last one."""
    b, _n, m = whose
    head, segment, edges, edge_rows, scratch = room
    W: tl.constexpr = LAYOUT.warps
    lane, warp = lane_and_warp(LAYOUT)
    strips, i_strip, row, strip, n_kept, last, steps = group_of(group, pair, whose, LAYOUT)
    place = (tl.cast(b, tl.int64) * N + row) * M
    link = link_up(edges, edge_rows, i_strip, strips, m, M, LAYOUT)
    most = tl.cdiv(strips_of(N, LAYOUT), W)
    waits = group < tl.cdiv(strips, W) - 1
    gate = gate_of(counters, b, B, most - 1 - group, waits, (group > 0) & (group * W < strips), LAYOUT)
    segments = tl.cdiv(steps, segment)
    span = LAYOUT.block if W > 1 or LAYOUT.waits else segment
    # The steps from a load of an edge's column to that column's own.
    hidden = LAYOUT.ahead_back + (LAYOUT.lanes - 1) + last * LAYOUT.lag
    ready = tl.full((), 0, tl.int32)
    if LAYOUT.multi and W == 1:
        tl.debug_barrier()
    back = border_back(LAYOUT)
    for i_segment in range(segments):
        start = (segments - 1 - i_segment) * segment
        end = tl.minimum(start + segment, steps)
        if LAYOUT.keep:
            slots = kept_slots(head, i_strip, N, M, LAYOUT)
        else:
            slots = scratch + (warp * segment - start) * LAYOUT.slot + lane
            replay(start, end, slots, group, pair, strip, i_strip, strips, room, m, N, M, LAYOUT)
        ready = enter(gate, ready, m - tl.maximum(end - hidden, 0), LAYOUT)
        loaded = loaded_back(pair, strip, link, slots, n_kept, start, end, LAYOUT)
        for done in range(0, end - start, span):
            stop = tl.maximum(end - done - span, start)
            ready = enter(gate, ready, m - tl.maximum(stop - hidden, 0), LAYOUT)
            back, sums, loaded = backward_steps(
                back, sums, loaded, start, stop, end - done, slots, n_kept, pair, strip, link, place, gradients, scale,
                M, LAYOUT,
            )  # fmt: skip
            leave(gate, m - stop, LAYOUT)
    return sums


@triton.jit
def scale_of(head, b, grad, grad_step, rate, T, LAYOUT: tl.constexpr):
    """What turns a product of weights into a gradient: see `backward_steps`."""
    weight = tl.load(head + INVERSE) * tl.load(grad + tl.cast(b, tl.int64) * grad_step)
    k = -get_int(head + EXPONENT, True)
    slope = weight
    if LAYOUT.dual:
        weight = weight / T
        slope = tl.load(rate + b)
    return weight, k, slope


@triton.jit
def put_gap_gradients(gradients, b, sum_open, sum_extend):
    _d_scores, d_open, d_extend = gradients
    tl.store(d_open + b, -sum_open)
    tl.store(d_extend + b, -sum_extend)


@triton.jit
def add_gap_parts(part, programs):
    """The sums of all programs of a pair, in their order."""
    sum_open = tl.load(part)
    sum_extend = tl.load(part + 1)
    for i in range(1, programs):
        sum_open += tl.load(part + 2 * i)
        sum_extend += tl.load(part + 2 * i + 1)
    return sum_open, sum_extend


@triton.jit
def backward_pair(
    views, v_views, T, whose, room, gradients, scale, parts, counters, turn, B, N, M, LAYOUT: tl.constexpr
):
    """All groups of strips of a pair, from the last one; or where programs wait one of them."""
    b, n, _m = whose
    pair, _open, _extend = pair_of(views, v_views, b, unit_of(T, LAYOUT), LAYOUT)
    sums = (fill(0.0, LAYOUT), fill(0.0, LAYOUT))
    if LAYOUT.waits:
        programs = tl.num_programs(0) // B
        sums = backward_group(
            sums, programs - 1 - turn, pair, whose, room, gradients, scale, counters, B, N, M, LAYOUT
        )  # fmt: skip
    else:
        groups = tl.cdiv(strips_of(n, LAYOUT), LAYOUT.warps)
        for i_group in range(groups):
            sums = backward_group(
                sums, groups - 1 - i_group, pair, whose, room, gradients, scale, counters, B, N, M, LAYOUT
            )  # fmt: skip
    if LAYOUT.gaps and not LAYOUT.cell:
        sum_open = tl.sum(sums[0], 0)
        sum_extend = tl.sum(sums[1], 0)
        if LAYOUT.waits:
            part = parts + 2 * tl.cast(b, tl.int64) * programs
            tl.store(part + 2 * turn, sum_open)
            tl.store(part + 2 * turn + 1, sum_extend)
            if is_last(counters, b, B):
                sum_open, sum_extend = add_gap_parts(part, programs)
                put_gap_gradients(gradients, b, sum_open, sum_extend)
        else:
            put_gap_gradients(gradients, b, sum_open, sum_extend)


@kernel
def backward_kernel(
    scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, temperature, lengths1, lengths2,
    grad, grad_step, rate, gradients, saved, saved_step, segment, segment_extended, edges, edges_step, edge_rows,
    scratch, scratch_step, parts, counters, B, N, M, LAYOUT: tl.constexpr, EXTENDED_LAYOUT: tl.constexpr,
):  # fmt: skip
    """Gradients of one pair after another, or of a group of strips of one pair."""
    first = tl.program_id(0)
    end = B
    turn = first * 0
    scratch += first.to(tl.int64) * scratch_step
    if LAYOUT.waits:
        first, turn = take_turn(counters, B)
        end = first + 1
    edges += first.to(tl.int64) * edges_step
    T = tl.load(temperature)
    views, v_views = views_of(
        scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, LAYOUT
    )  # fmt: skip
    for b in range(first, end, tl.num_programs(0)):
        whose = (b, length(lengths1, b, N), length(lengths2, b, M))
        head = saved + tl.cast(b, tl.int64) * saved_step
        scale = scale_of(head, b, grad, grad_step, rate, T, LAYOUT)
        extended = get_int(head + FLAG, True) != 0
        if (EXTENDED_LAYOUT is None) | (extended == 0):
            room = (head, segment, edges, edge_rows, scratch)
            backward_pair(
                views, v_views, T, whose, room, gradients, scale, parts, counters, turn, B, N, M, LAYOUT
            )  # fmt: skip
        if EXTENDED_LAYOUT is not None:
            if (extended != 0) & (turn == 0):
                room_extended = (head, segment_extended, edges, edge_rows, scratch)
                backward_pair(
                    views, v_views, T, whose, room_extended, gradients, scale, parts, counters, turn, B, N, M,
                    EXTENDED_LAYOUT,
                )  # fmt: skip
