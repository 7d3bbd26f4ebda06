# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005
"""One step of a warp: what a lane reads, what comes from its neighbour, and the recursion over its rows of one column.

With d, x, y, h the exponentials of D / T, X / T, Y / T, H / T and es, go, ge those of S / T, -o / T, -e / T:

    d[i,j] = es[i,j] h[i-1,j-1]                                     bh = es[i+1,j+1] bd[i+1,j+1]
    x[i,j] = go d[i,j-1] + ge x[i,j-1]                              bx = bh + ge bx[i,j+1] + go by[i+1,j]
    y[i,j] = go (d + x)[i-1,j] + ge y[i-1,j]                        by = bh + ge by[i+1,j]
    h[i,j] = 1 + d + x + y,   Z = sum d,   score = T log Z          bd = 1 + bh + go bx[i,j+1] + go by[i+1,j]

which are (1) to (9) of kernels/README.md. These tuples go together through the kernels:

    pair      views and v_views (scores, gap_open, gap_extend; and the direction's), unit, go, ge: of one pair
    strip     rows and v_rows (pointers to column 0 of the lane's rows), limit (where each row ends): of one strip
    cells     s, v, go, ge: scores, their tangents and the gaps' values of one column, one per row; and unit
    state     d, x, h of the rows, y of the last row, diagonal, K: what the forward step takes on
    back      q, xo, xe of the rows, yo, ye of the first row, below, top, K: what the backward step takes on
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.memory import (
    column_gaps,
    convert,
    is_inside,
    limits_of,
    load_column,
    load_edge,
    load_tangent,
    pair_gap,
    receive_edge,
    rows_of_all,
    unpack_views,
)
from lac_kernels.triton.values import (
    SCALED,
    exp,
    exponent,
    fill,
    fill_int,
    gather,
    one,
    plus,
    power,
    rescale,
    times,
    zero,
)


@triton.jit
def pair_of(views, v_views, b, unit, LAYOUT: tl.constexpr):
    """The pair's tuple, and its gap_open and gap_extend (unless per cell)."""
    go, gap_open = pair_gap(views[1], v_views[1], b, unit, LAYOUT)
    ge, gap_extend = pair_gap(views[2], v_views[2], b, unit, LAYOUT)
    return (views, v_views, unit, go, ge), gap_open, gap_extend


@triton.jit
def views_of(scores, gap_open, gap_extend, strides, v_scores, v_open, v_extend, v_strides, LAYOUT: tl.constexpr):
    """Views of the problem and of the direction, which is the problem itself where there is none."""
    views = unpack_views(scores, gap_open, gap_extend, strides)
    if LAYOUT.dual:
        return views, unpack_views(v_scores, v_open, v_extend, v_strides)
    else:
        return views, views


@triton.jit
def strip_of(pair, b, row, n, m, LAYOUT: tl.constexpr):
    rows = rows_of_all(pair[0], b, row, LAYOUT)
    if LAYOUT.dual:
        return rows, rows_of_all(pair[1], b, row, LAYOUT), limits_of(row, n, m, LAYOUT)
    else:
        return rows, rows, limits_of(row, n, m, LAYOUT)


@triton.jit
def load_scores(pair, strip, column, LAYOUT: tl.constexpr):
    views, _v_views, _unit, _go, _ge = pair
    rows, _v_rows, limit = strip
    _pointer, _stride_b, _stride_n, stride_m = views[0]
    return load_column(rows[0], stride_m, column, limit, -float("inf"), LAYOUT)


@triton.jit
def cells_at(scores, column, pair, strip, LAYOUT: tl.constexpr):
    """A column's cells, of scores that were loaded before, and its largest gaps."""
    views, v_views, unit, go, ge = pair
    rows, v_rows, limit = strip
    _view, view_open, view_extend = views
    v_view, v_view_open, v_view_extend = v_views
    _rows, rows_open, rows_extend = rows
    v_rows_scores, v_rows_open, v_rows_extend = v_rows
    s = convert(scores, LAYOUT)
    v = load_tangent(v_rows_scores, v_view, column, limit, LAYOUT)
    go_rows, most_open = column_gaps(
        go, rows_open, view_open, v_rows_open, v_view_open, column, limit, unit, LAYOUT
    )  # fmt: skip
    ge_rows, most_extend = column_gaps(
        ge, rows_extend, view_extend, v_rows_extend, v_view_extend, column, limit, unit, LAYOUT
    )
    return (s, v, go_rows, ge_rows, unit), most_open, most_extend


@triton.jit
def rotate(leaving, index, LAYOUT: tl.constexpr):
    """The three values, and their exponent, that leave lane `index`: those of the neighbour, around the warp."""
    values, K = leaving
    if LAYOUT.mode == SCALED:
        K = tl.gather(K, index, 0)
    rotated = ()
    for c in tl.static_range(3):
        rotated = rotated + (gather(values[c], index, LAYOUT),)
    return rotated, K


@triton.jit
def lane_above(LAYOUT: tl.constexpr):
    """The lane that the forward sweep takes from; lane 0 gets what leaves the strip."""
    return (tl.arange(0, LAYOUT.lanes) + (LAYOUT.lanes - 1)) & (LAYOUT.lanes - 1)


@triton.jit
def lane_below(LAYOUT: tl.constexpr):
    """The lane that the backward sweep takes from; the last lane gets what leaves the strip."""
    return (tl.arange(0, LAYOUT.lanes) + 1) & (LAYOUT.lanes - 1)


@triton.jit
def border_state(LAYOUT: tl.constexpr):
    """The state before the first column.

    Each tensor is one of its own: of loop variables that start as the same tensor, Triton 3.6 to 3.9 drops all but one.
    """
    R: tl.constexpr = LAYOUT.rows
    d = ()
    x = ()
    h = ()
    for _ in tl.static_range(R):
        d = d + (zero(LAYOUT),)
        x = x + (zero(LAYOUT),)
        h = h + (one(fill_int(0, LAYOUT), LAYOUT),)
    return d, x, h, zero(LAYOUT), one(fill_int(0, LAYOUT), LAYOUT), fill_int(0, LAYOUT)


@triton.jit
def leaving(state, LAYOUT: tl.constexpr):
    """d, x, y of the last row, which the lane below goes on with, and their exponent."""
    d, x, _h, y, _diagonal, K = state
    return (d[LAYOUT.rows - 1], x[LAYOUT.rows - 1], y), K


@triton.jit
def has_above(column, i_strip, m, LAYOUT: tl.constexpr):
    """The lane that takes a column from the strip above, if there is one. (`lane < i * lanes` says that i > 0.)"""
    lane = tl.arange(0, LAYOUT.lanes)
    return (lane == 0) & (column < m) & (lane < i_strip * LAYOUT.lanes)


@triton.jit
def edge_above(edge, column, i_strip, m, M, LAYOUT: tl.constexpr):
    """What the strip above left in a column, for `from_above`; it is loaded some steps before."""
    return load_edge(edge + column, M, has_above(column, i_strip, m, LAYOUT), LAYOUT)


@triton.jit
def from_above(state, at_edge, column, i_strip, m, LAYOUT: tl.constexpr):
    """d, x, y of the row above each lane's first, with their exponent, and what `rotate` gave for it: in lane 0 the
    strip's last row, as it was one column before the last lane's. Lane 0 itself takes the strip above's, `at_edge`.
    """
    rotated, K_rotated = rotate(leaving(state, LAYOUT), lane_above(LAYOUT), LAYOUT)
    first = tl.arange(0, LAYOUT.lanes) == 0
    loaded = has_above(column, i_strip, m, LAYOUT)
    incoming, K_in = receive_edge(rotated, K_rotated, at_edge, first, loaded, LAYOUT)
    return incoming, K_in, rotated, K_rotated


@triton.jit
def loaded_forward(pair, strip, edge, start, i_strip, m, M, LAYOUT: tl.constexpr):
    """Scores and edges of the first steps, as many as are loaded ahead."""
    U: tl.constexpr = LAYOUT.ahead
    lane = tl.arange(0, LAYOUT.lanes)
    loaded = ()
    for u in tl.static_range(U):
        scores = load_scores(pair, strip, start + u - lane, LAYOUT)
        loaded = loaded + ((scores, edge_above(edge, start + u - lane, i_strip, m, M, LAYOUT)),)
    return loaded


@triton.jit
def begin_step(state, loaded, column, pair, strip, edge, i_strip, m, M, LAYOUT: tl.constexpr):
    """What a forward step goes on with, of what was `loaded` for it: the column's cells and largest gaps, what
    `from_above` gives; and what is loaded now, for a later step.
    """
    scores, at_edge = loaded
    scores_ahead = load_scores(pair, strip, column + LAYOUT.ahead, LAYOUT)
    cells, most_open, most_extend = cells_at(scores, column, pair, strip, LAYOUT)
    incoming, K_in, rotated, K_rotated = from_above(state, at_edge, column, i_strip, m, LAYOUT)
    ahead = (scores_ahead, edge_above(edge, column + LAYOUT.ahead, i_strip, m, M, LAYOUT))
    return cells, most_open, most_extend, incoming, K_in, rotated, K_rotated, ahead


@triton.jit
def forward_exponent(h, K, incoming, K_in, LAYOUT: tl.constexpr):
    """The exponent of the largest h that the step starts from, the lane's own or the incoming one."""
    R: tl.constexpr = LAYOUT.rows
    top = h[0][0]
    for r in tl.static_range(1, R):
        top = tl.maximum(top, h[r][0])
    d_in, x_in, y_in = incoming
    top_in = d_in[0] + x_in[0] + (y_in[0] + power(-K_in, LAYOUT.dtype))
    return tl.maximum(K + exponent(top), K_in + exponent(top_in))


@triton.jit
def forward_column(cells, state, incoming, K_in, LAYOUT: tl.constexpr):
    """(1) to (4) in a lane's rows of one column.

    `state` is of the column before, with `diagonal` the h above its first row; `incoming` is d, x, y of the row above
    the first, same column, at exponent K_in. Returns the next state and per row the terms (x opened, x extended,
    y opened, y extended, y).
    """
    R: tl.constexpr = LAYOUT.rows
    s, v, go, ge, unit = cells
    d, x, h, _y, diagonal, K = state
    d_in, x_in, y_in = incoming
    K_new = K
    f = fill(1.0, LAYOUT)
    if LAYOUT.mode == SCALED:
        K_new = forward_exponent(h, K, incoming, K_in, LAYOUT)
        f = power(K - K_new, LAYOUT.dtype)
        f_in = power(K_in - K_new, LAYOUT.dtype)
        d_in = rescale(d_in, f_in, LAYOUT)
        x_in = rescale(x_in, f_in, LAYOUT)
        y_in = rescale(y_in, f_in, LAYOUT)
    shift = (K - K_new).to(LAYOUT.dtype)
    start = one(K_new, LAYOUT)
    u = plus(d_in, x_in, LAYOUT)
    y = y_in
    next_diagonal = plus(plus(start, u, LAYOUT), y, LAYOUT)
    d_new = ()
    x_new = ()
    h_new = ()
    terms = ()
    for r in tl.static_range(R):
        before = diagonal if r == 0 else h[r - 1]
        d_r = times(exp(s[r], v[r], unit, shift, LAYOUT), before, LAYOUT)
        x_open = times(rescale(go[r], f, LAYOUT), d[r], LAYOUT)
        x_extend = times(rescale(ge[r], f, LAYOUT), x[r], LAYOUT)
        x_r = plus(x_open, x_extend, LAYOUT)
        y_open = times(go[r], u, LAYOUT)
        y_extend = times(ge[r], y, LAYOUT)
        y = plus(y_open, y_extend, LAYOUT)
        u = plus(d_r, x_r, LAYOUT)
        d_new = d_new + (d_r,)
        x_new = x_new + (x_r,)
        h_new = h_new + (plus(plus(start, u, LAYOUT), y, LAYOUT),)
        terms = terms + ((x_open, x_extend, y_open, y_extend, y),)
    return (d_new, x_new, h_new, y, next_diagonal, K_new), terms


@triton.jit
def border_back(LAYOUT: tl.constexpr):
    """What the backward sweep starts from, after the last column. Each tensor is one of its own."""
    R: tl.constexpr = LAYOUT.rows
    q = ()
    xo = ()
    xe = ()
    for _ in tl.static_range(R):
        q = q + (zero(LAYOUT),)
        xo = xo + (zero(LAYOUT),)
        xe = xe + (zero(LAYOUT),)
    return q, xo, xe, zero(LAYOUT), zero(LAYOUT), zero(LAYOUT), fill(1.0, LAYOUT), fill_int(0, LAYOUT)


@triton.jit
def leaving_back(back):
    """q, yo, ye of the first row, which the lane above goes on with, and their exponent."""
    q, _xo, _xe, yo, ye, _below, _top, K = back
    return (q[0], yo, ye), K


@triton.jit
def has_below(column, i_back, m, LAYOUT: tl.constexpr):
    """The mirror image of `has_above`; i_back counts strips upwards."""
    lane = tl.arange(0, LAYOUT.lanes)
    return (lane == LAYOUT.lanes - 1) & is_inside(column, m + lane * 0) & (lane < i_back * LAYOUT.lanes)


@triton.jit
def edge_below(edge, column, i_back, m, M, LAYOUT: tl.constexpr):
    """What the strip below left in a column, for `from_below`; it is loaded some steps before."""
    return load_edge(edge + column, M, has_below(column, i_back, m, LAYOUT), LAYOUT)


@triton.jit
def from_below(back, at_edge, column, i_back, m, LAYOUT: tl.constexpr):
    """The mirror image of `from_above`: q, yo, ye of the row below each lane's last."""
    rotated, K_rotated = rotate(leaving_back(back), lane_below(LAYOUT), LAYOUT)
    last = tl.arange(0, LAYOUT.lanes) == LAYOUT.lanes - 1
    loaded = has_below(column, i_back, m, LAYOUT)
    incoming, K_in = receive_edge(rotated, K_rotated, at_edge, last, loaded, LAYOUT)
    return incoming, K_in, rotated, K_rotated


@triton.jit
def backward_column(cells, back, incoming, K_in, LAYOUT: tl.constexpr):
    """(6) to (9): the mirror image, with q = es bd, xo = go bx, xe = ge bx, yo = go by, ye = ge by.

    `back` is of the column after, with `below` the q under its last row and `top` the largest value that this column
    needs; `incoming` is q, yo, ye of the row below the last, same column, at exponent K_in. Returns the next `back`,
    per row (bd, bx, by), and per row what it was reached from: xo of the column after, yo of the row below, xe, ye.
    """
    R: tl.constexpr = LAYOUT.rows
    s, v, go, ge, unit = cells
    q, xo, xe, _yo, _ye, diagonal, top, K = back
    q_in, yo_in, ye_in = incoming
    K_new = K
    f = fill(1.0, LAYOUT)
    if LAYOUT.mode == SCALED:
        top_in = tl.maximum(q_in[0], tl.maximum(yo_in[0], ye_in[0]))
        K_new = tl.maximum(K + exponent(top), K_in + exponent(top_in))
        f = power(K - K_new, LAYOUT.dtype)
        f_in = power(K_in - K_new, LAYOUT.dtype)
        q_in = rescale(q_in, f_in, LAYOUT)
        yo_in = rescale(yo_in, f_in, LAYOUT)
        ye_in = rescale(ye_in, f_in, LAYOUT)
    end = one(K_new, LAYOUT)
    no_shift = fill(0.0, LAYOUT)
    yo = yo_in
    ye = ye_in
    top = q_in[0]
    q_new = ()
    xo_new = ()
    xe_new = ()
    follows = ()
    after = ()
    for r in tl.static_range(R - 1, -1, -1):
        below = diagonal if r == R - 1 else q[r + 1]
        bh = rescale(below, f, LAYOUT)
        xo_r = rescale(xo[r], f, LAYOUT)
        xe_r = rescale(xe[r], f, LAYOUT)
        after = ((xo_r, yo, xe_r, ye),) + after
        bh_y = plus(bh, yo, LAYOUT)
        bx = plus(bh_y, xe_r, LAYOUT)
        by = plus(bh, ye, LAYOUT)
        bd = plus(plus(end, bh_y, LAYOUT), xo_r, LAYOUT)
        q_r = times(exp(s[r], v[r], unit, no_shift, LAYOUT), bd, LAYOUT)
        q_new = (q_r,) + q_new
        top = tl.maximum(top, bd[0])
        if r > 0:
            top = tl.maximum(top, q_r[0])
        xo_new = (times(go[r], bx, LAYOUT),) + xo_new
        xe_new = (times(ge[r], bx, LAYOUT),) + xe_new
        yo = times(go[r], by, LAYOUT)
        ye = times(ge[r], by, LAYOUT)
        follows = ((bd, bx, by),) + follows
    return (q_new, xo_new, xe_new, yo, ye, q_in, top, K_new), follows, after
