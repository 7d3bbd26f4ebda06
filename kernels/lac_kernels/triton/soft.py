# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005
"""The soft alignment: the forward kernel (score, states) and the backward kernel (gradients, by recomputation).

One warp does one pair, strip after strip of rows; a strip's steps are done in segments. SCALED and EXTENDED kernels
are launched one behind the other: SCALED decides whether it was safe, by (12), and leaves a flag; EXTENDED, launched
with FLAGGED, then does the pairs that have it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.columns import (
    backward_column,
    begin_step,
    border_back,
    border_state,
    cells_at,
    edge_below,
    forward_column,
    from_below,
    lane_below,
    leaving_back,
    load_scores,
    loaded_forward,
    pair_of,
    rotate,
    strip_of,
    views_of,
)
from lac_kernels.triton.memory import (
    EXPONENT,
    FLAG,
    HEADER,
    INVERSE,
    checkpoint_at,
    get_int,
    get_slot,
    get_state,
    is_inside,
    kernel,
    length,
    put_edge,
    put_int,
    put_slot,
    put_state,
    steps_of,
)
from lac_kernels.triton.values import (
    EXTENDED,
    LEAST_TOTAL,
    LN2,
    MINUS_INFINITY,
    MOST_EXPONENT,
    POWER_MOST,
    SCALED,
    exponent,
    fill,
    fill_int,
    flow,
    largest,
    mantissa,
    plus,
    power,
    rescale,
    unit_of,
    zero,
)

# The bound (12) within which SCALED loses nothing that counts; kernels/README.md has the argument.
MOST_BRIDGE = tl.constexpr(30.0)  # o + e, per T: a gap in both sequences bridges where exp(S / T) underflows
MOST_DETOUR = tl.constexpr(70.0)  # o + R (e + max S), per T: what is lost is 2^126 / exp(70) > 2^25 below what is kept
LEAST_LOG2_Z = tl.constexpr(-60.0)  # Z itself is far above the least float32


# forward


@triton.jit
def watch(seen, cells, most_open, most_extend, LAYOUT: tl.constexpr):
    """The largest score and gaps so far, of each lane; NaN if there was one."""
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
def add_column(sums, state, LAYOUT: tl.constexpr):
    """Each lane's part of Z (5), with its exponent, and one more column."""
    R: tl.constexpr = LAYOUT.rows
    z, K_z = sums
    d, _x, _h, _y, _diagonal, K = state
    total = d[0]
    for r in tl.static_range(1, R):
        total = plus(total, d[r], LAYOUT)
    if LAYOUT.mode == SCALED:
        K_new = tl.maximum(K_z, K)
        z = rescale(z, power(K_z - K_new, LAYOUT.dtype), LAYOUT)
        total = rescale(total, power(K - K_new, LAYOUT.dtype), LAYOUT)
        return plus(z, total, LAYOUT), K_new
    else:
        return plus(z, total, LAYOUT), K_z


@triton.jit
def forward_segment(
    state, sums, seen, start, end, pair, strip, i_strip, strips, head, edge_step, m, M, LAYOUT: tl.constexpr
):
    """The steps from start to end of one strip; its last row goes to its edge unless it is the last strip."""
    L: tl.constexpr = LAYOUT.lanes
    U: tl.constexpr = LAYOUT.ahead
    lane = tl.arange(0, L)
    edge_out = head + HEADER + i_strip * edge_step
    edge_in = edge_out - edge_step
    loaded = loaded_forward(pair, strip, edge_in, start, i_strip, m, M, LAYOUT)
    for first in range(start, end, U):
        ahead = ()
        for u in tl.static_range(U):
            column = first + u - lane
            cells, most_open, most_extend, incoming, K_in, rotated, K_rotated, next_loaded = begin_step(
                state, loaded[u], column, pair, strip, edge_in, i_strip, m, M, LAYOUT
            )
            ahead = ahead + (next_loaded,)
            if LAYOUT.multi:
                done = column - L
                leaves = (lane == 0) & (done >= 0) & (done < m) & (lane < (strips - 1 - i_strip) * L)
                put_edge(rotated, K_rotated, edge_out + done, M, leaves, LAYOUT)
            state, _terms = forward_column(cells, state, incoming, K_in, LAYOUT)
            seen = watch(seen, cells, most_open, most_extend, LAYOUT)
            sums = add_column(sums, state, LAYOUT)
        loaded = ahead
    return state, sums, seen


@triton.jit
def sum_lanes(sums, LAYOUT: tl.constexpr):
    """Z as mantissa and exponent, and its tangent over Z."""
    z, K_z = sums
    if LAYOUT.mode == EXTENDED:
        K_z = z[1]
    k = tl.max(K_z, 0)
    weight = power(K_z - k, LAYOUT.dtype)
    Z = tl.sum(z[0] * weight, 0)
    slope = Z
    if LAYOUT.dual:
        slope = tl.sum(z[2] * weight, 0) / Z
    return mantissa(Z), k + exponent(Z), slope


@triton.jit
def most_and_nan(seen, gap_open, gap_extend, T, LAYOUT: tl.constexpr):
    """The pair's largest score, gap_open, gap_extend, and whether a NaN was among them."""
    top, top_open, top_extend = seen
    most = tl.max(top, 0)
    if LAYOUT.cell:
        gap_open = tl.max(top_open, 0)
        gap_extend = tl.max(top_extend, 0)
    nan = (tl.max((top != top).to(tl.int32), 0) != 0) | (gap_open != gap_open) | (gap_extend != gap_extend) | (T != T)
    if LAYOUT.cell:
        nan = nan | (tl.max(((top_open != top_open) | (top_extend != top_extend)).to(tl.int32), 0) != 0)
    return most, gap_open, gap_extend, nan


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


@kernel
def forward_kernel(
    scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, temperature, lengths1, lengths2,
    score, rate, saved, saved_step, edge_step, segment, N, M, LAYOUT: tl.constexpr, FLAGGED: tl.constexpr,
):  # fmt: skip
    """Score of one pair, and the state of every lane at the start of each segment of steps but the first."""
    R: tl.constexpr = LAYOUT.rows
    L: tl.constexpr = LAYOUT.lanes
    b = tl.program_id(0)
    T = tl.load(temperature)
    unit = unit_of(T, LAYOUT)
    n = length(lengths1, b, N)
    m = length(lengths2, b, M)
    head = saved + tl.cast(b, tl.int64) * saved_step
    strips = tl.cdiv(n, R * L)
    active = True
    if FLAGGED:
        active = get_int(head + FLAG, True) != 0
        strips = tl.where(active, strips, 0)
    views, v_views = views_of(
        scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, LAYOUT
    )  # fmt: skip
    pair, pair_open, pair_extend = pair_of(views, v_views, b, unit, LAYOUT)
    seen = (fill(-float("inf"), LAYOUT), fill(0.0, LAYOUT), fill(0.0, LAYOUT))
    sums = (zero(LAYOUT), fill_int(0, LAYOUT))
    steps = steps_of(m, LAYOUT)
    for i_strip in range(strips):
        strip = strip_of(pair, b, i_strip * (R * L) + tl.arange(0, L) * R, n, m, LAYOUT)
        state = border_state(LAYOUT)
        for start in range(0, steps, segment):
            if start > 0:
                put_state(checkpoint_at(head, i_strip, start, edge_step, segment, N, M, LAYOUT), state, LAYOUT)
            end = tl.minimum(start + segment, steps)
            state, sums, seen = forward_segment(
                state, sums, seen, start, end, pair, strip, i_strip, strips, head, edge_step, m, M, LAYOUT
            )
    Z, k, slope = sum_lanes(sums, LAYOUT)
    most, most_open, most_extend, nan = most_and_nan(seen, pair_open, pair_extend, T, LAYOUT)
    value, inverse, slope, log2_Z = finish(Z, k, slope, most, nan, T, unit, tl.minimum(n, m), LAYOUT)
    tl.store(score + b, value, mask=active)
    tl.store(head + INVERSE, inverse, mask=active)
    put_int(head + EXPONENT, k, active)
    if LAYOUT.dual:
        tl.store(rate + b, slope, mask=active)
    if LAYOUT.mode == SCALED:
        safe = is_safe(most, most_open, most_extend, T, log2_Z, LAYOUT)
        put_int(head + FLAG, tl.where(safe, 0, 1), active)
    elif not FLAGGED:
        put_int(head + FLAG, k * 0, active)


# backward


@triton.jit
def replay(state, start, end, slots, pair, strip, i_strip, edge_in, m, M, LAYOUT: tl.constexpr):
    """Run one segment forward again, and keep in `slots` what the backward steps need."""
    U: tl.constexpr = LAYOUT.ahead
    lane = tl.arange(0, LAYOUT.lanes)
    loaded = loaded_forward(pair, strip, edge_in, start, i_strip, m, M, LAYOUT)
    for first in range(start, end, U):
        ahead = ()
        for u in tl.static_range(U):
            column = first + u - lane
            cells, _open, _extend, incoming, K_in, _rotated, _K, next_loaded = begin_step(
                state, loaded[u], column, pair, strip, edge_in, i_strip, m, M, LAYOUT
            )
            ahead = ahead + (next_loaded,)
            state, terms = forward_column(cells, state, incoming, K_in, LAYOUT)
            put_slot(slots + (first + u - start) * LAYOUT.slot, state, terms, LAYOUT)
        loaded = ahead


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
def inside_rows(column, strip, LAYOUT: tl.constexpr):
    """Which of a lane's rows have this column."""
    R: tl.constexpr = LAYOUT.rows
    _rows, _v_rows, limit = strip
    inside = ()
    for r in tl.static_range(R):
        inside = inside + (is_inside(column, limit[r]),)
    return inside


@triton.jit
def slot_ahead(slots, step, LAYOUT: tl.constexpr):
    """The slot of a step of the segment, if there are registers for it; of a step below 0, something."""
    if LAYOUT.ahead_back > 1:
        return get_slot(slots + tl.maximum(step, 0) * LAYOUT.slot, LAYOUT)
    else:
        return ()


@triton.jit
def loaded_back(pair, strip, edge, slots, start, end, i_back, m, M, LAYOUT: tl.constexpr):
    """Scores, edges and slots of the last steps, as many as are loaded ahead."""
    U: tl.constexpr = LAYOUT.ahead_back
    lane = tl.arange(0, LAYOUT.lanes)
    loaded = ()
    for u in tl.static_range(U):
        t = end - 1 - u
        scores = load_scores(pair, strip, t - lane, LAYOUT)
        slot = slot_ahead(slots, t - start, LAYOUT)
        loaded = loaded + ((scores, edge_below(edge, t - lane, i_back, m, M, LAYOUT), slot),)
    return loaded


@triton.jit
def sweep_back(
    back, sums, start, end, slots, pair, strip, i_back, edge, place, gradients, scale, m, M, LAYOUT: tl.constexpr
):
    """The steps from end to start of one strip, the i_back-th from the bottom: gradients of all its cells.

    `place` is where the rows begin in `gradients`; `scale` is 1 / Z's mantissa (times the score's gradient), exponent,
    and the slope of log Z.
    """
    L: tl.constexpr = LAYOUT.lanes
    U: tl.constexpr = LAYOUT.ahead_back
    lane = tl.arange(0, L)
    loaded = loaded_back(pair, strip, edge, slots, start, end, i_back, m, M, LAYOUT)
    for first in range(0, end - start, U):
        ahead = ()
        for u in tl.static_range(U):
            t = end - 1 - first - u
            column = t - lane
            scores, at_edge, slot = loaded[u]
            # Before anything is stored: a load does not pass a store that may be to the same place.
            if U == 1:
                slot = get_slot(slots + (t - start) * LAYOUT.slot, LAYOUT)
            kept, K_kept = slot
            scores_ahead = load_scores(pair, strip, column - U, LAYOUT)
            cells, _open, _extend = cells_at(scores, column, pair, strip, LAYOUT)
            incoming, K_in, rotated, K_rotated = from_below(back, at_edge, column, i_back, m, LAYOUT)
            at_edge = edge_below(edge, column - U, i_back, m, M, LAYOUT)
            ahead = ahead + ((scores_ahead, at_edge, slot_ahead(slots, t - U - start, LAYOUT)),)
            if LAYOUT.multi:
                done = t + 1 + lane * 0
                put_edge(rotated, K_rotated, edge + done, M, (lane == L - 1) & (done < m), LAYOUT)
            back, follows, after = backward_column(cells, back, incoming, K_in, LAYOUT)
            sums = store_gradients(
                gradients, sums, kept, place + column, M, inside_rows(column, strip, LAYOUT), follows, after,
                lane_scale(scale, back, K_kept, LAYOUT), LAYOUT,
            )  # fmt: skip
        loaded = ahead
    return back, sums


@triton.jit
def put_last_edge(back, edge, m, M, LAYOUT: tl.constexpr):
    """Column 0 of the strip's first row, which no further step hands on."""
    lane = tl.arange(0, LAYOUT.lanes)
    rotated, K = rotate(leaving_back(back), lane_below(LAYOUT), LAYOUT)
    put_edge(rotated, K, edge + lane * 0, M, (lane == LAYOUT.lanes - 1) & (lane * 0 < m), LAYOUT)


@triton.jit
def scale_of(head, b, grad, grad_step, rate, T, LAYOUT: tl.constexpr):
    """What turns a product of weights into a gradient: see `sweep_back`."""
    weight = tl.load(head + INVERSE) * tl.load(grad + tl.cast(b, tl.int64) * grad_step)
    k = -get_int(head + EXPONENT, True)
    slope = weight
    if LAYOUT.dual:
        weight = weight / T
        slope = tl.load(rate + b)
    return weight, k, slope


@kernel
def backward_kernel(
    scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, temperature, lengths1, lengths2,
    grad, grad_step, rate, gradients, saved, saved_step, edge_step, segment, scratch, scratch_step, B, N, M,
    LAYOUT: tl.constexpr, FLAGGED: tl.constexpr,
):  # fmt: skip
    """Gradients of one pair after another: every segment of steps is run forward again into the program's scratch
    memory, from the state saved at its start, and then swept back.
    """
    R: tl.constexpr = LAYOUT.rows
    L: tl.constexpr = LAYOUT.lanes
    lane = tl.arange(0, L)
    T = tl.load(temperature)
    unit = unit_of(T, LAYOUT)
    edge = scratch + tl.program_id(0).to(tl.int64) * scratch_step
    slots = edge + LAYOUT.edge * M + lane
    views, v_views = views_of(
        scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, LAYOUT
    )  # fmt: skip
    for b in range(tl.program_id(0), B, tl.num_programs(0)):
        n = length(lengths1, b, N)
        m = length(lengths2, b, M)
        head = saved + tl.cast(b, tl.int64) * saved_step
        strips = tl.cdiv(n, R * L)
        active = get_int(head + FLAG, True) == (1 if FLAGGED else 0)
        strips = tl.where(active, strips, 0)
        scale = scale_of(head, b, grad, grad_step, rate, T, LAYOUT)
        pair, _open, _extend = pair_of(views, v_views, b, unit, LAYOUT)
        sums = (fill(0.0, LAYOUT), fill(0.0, LAYOUT))
        steps = steps_of(m, LAYOUT)
        segments = tl.cdiv(steps, segment)
        for i_back in range(strips):
            i_strip = strips - 1 - i_back
            row = i_strip * (R * L) + lane * R
            strip = strip_of(pair, b, row, n, m, LAYOUT)
            place = (tl.cast(b, tl.int64) * N + row) * M
            edge_in = head + HEADER + (i_strip - 1) * edge_step
            back = border_back(LAYOUT)
            for i_segment in range(segments):
                start = (segments - 1 - i_segment) * segment
                end = tl.minimum(start + segment, steps)
                saved_state = checkpoint_at(head, i_strip, start, edge_step, segment, N, M, LAYOUT)
                state = get_state(saved_state, lane < start * L, LAYOUT)
                replay(state, start, end, slots, pair, strip, i_strip, edge_in, m, M, LAYOUT)
                back, sums = sweep_back(
                    back, sums, start, end, slots, pair, strip, i_back, edge, place, gradients, scale, m, M, LAYOUT
                )
            if LAYOUT.multi:
                put_last_edge(back, edge, m, M, LAYOUT)
        if LAYOUT.gaps and not LAYOUT.cell:
            _d_scores, d_open, d_extend = gradients
            sum_open, sum_extend = sums
            tl.store(d_open + b, -tl.sum(sum_open, 0), mask=active)
            tl.store(d_extend + b, -tl.sum(sum_extend, 0), mask=active)
