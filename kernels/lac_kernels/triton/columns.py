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
    strip     rows and v_rows (pointers to column 0 of the lane's rows), limit (where each row ends): of a warp's strip
    link      takes and gives (how many columns a thread takes from another strip's edge, and gives to its own; 0 in all
              but one lane of a warp), and where column 0 of these lies
    cells     s, v, go, ge: scores, their tangents and the gaps' values of one column, one per row; and unit
    state     d, x, h of the rows, last (what the lane below needs), diagonal, K: what the forward step takes on
    back      q, xo, xe of the rows, yo, ye of the first row, below, top, K: what the backward step takes on
"""

from __future__ import annotations

import triton
import triton.language as tl

from lac_kernels.triton.layout import lane_and_warp, record_at
from lac_kernels.triton.memory import (
    cell_gaps,
    convert,
    get_record,
    in_each_row,
    is_inside,
    limits_of,
    load_column,
    pair_gap,
    put_record,
    rows_of_all,
    unpack_views,
)
from lac_kernels.triton.values import (
    MAXIMUM,
    SCALED,
    exp,
    exponent,
    fill,
    fill_int,
    from_lane,
    one,
    plus,
    power,
    rescale,
    select,
    times,
    value_from_lane,
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
def delay_of(LAYOUT: tl.constexpr):
    """How many steps a thread is behind the first one."""
    lane, warp = lane_and_warp(LAYOUT)
    return lane + warp * LAYOUT.lag


# what is loaded before it is used


@triton.jit
def load_cells(pair, strip, column, LAYOUT: tl.constexpr):
    """What `cells_of` makes a column's cells of."""
    views, v_views, _unit, _go, _ge = pair
    rows, v_rows, limit = strip
    loaded = (load_column(rows[0], views[0][3], column, limit, -float("inf"), LAYOUT),)
    if LAYOUT.dual:
        loaded = loaded + (load_column(v_rows[0], v_views[0][3], column, limit, 0.0, LAYOUT),)
    if LAYOUT.cell:
        for c in tl.static_range(1, 3):
            loaded = loaded + (load_column(rows[c], views[c][3], column, limit, 0.0, LAYOUT),)
        if LAYOUT.dual:
            for c in tl.static_range(1, 3):
                loaded = loaded + (load_column(v_rows[c], v_views[c][3], column, limit, 0.0, LAYOUT),)
    return loaded


@triton.jit
def cells_of(loaded, pair, LAYOUT: tl.constexpr):
    """A column's cells, and its largest gaps."""
    _views, _v_views, unit, go, ge = pair
    zeros = fill(0.0, LAYOUT)
    s = convert(loaded[0], LAYOUT)
    v = in_each_row(zeros, LAYOUT)
    if LAYOUT.dual:
        v = convert(loaded[1], LAYOUT)
    if LAYOUT.cell:
        v_open = in_each_row(zeros, LAYOUT)
        v_extend = v_open
        if LAYOUT.dual:
            v_open = convert(loaded[4], LAYOUT)
            v_extend = convert(loaded[5], LAYOUT)
        go_rows, most_open = cell_gaps(convert(loaded[1 + LAYOUT.dual], LAYOUT), v_open, unit, LAYOUT)
        ge_rows, most_extend = cell_gaps(convert(loaded[2 + LAYOUT.dual], LAYOUT), v_extend, unit, LAYOUT)
        return (s, v, go_rows, ge_rows, unit), most_open, most_extend
    else:
        return (s, v, in_each_row(go, LAYOUT), in_each_row(ge, LAYOUT), unit), zeros, zeros


@triton.jit
def take(link, column, COUNT: tl.constexpr, LAYOUT: tl.constexpr):
    """What the neighbouring strip left in a column, for `receive`."""
    takes, _gives, edge_in, _edge_out = link
    if LAYOUT.multi:
        p = record_at(edge_in, column, COUNT, LAYOUT)
        return get_record(p, is_inside(column, takes), COUNT, LAYOUT)
    else:
        values = ()
        for _ in tl.static_range(COUNT):
            values = values + (zero(LAYOUT),)
        return values, fill_int(0, LAYOUT)


@triton.jit
def give(link, column, values, K, LAYOUT: tl.constexpr):
    """Leave a column to the neighbouring strip."""
    _takes, gives, _edge_in, edge_out = link
    if LAYOUT.multi:
        p = record_at(edge_out, column, len(values), LAYOUT)
        put_record(p, values, K, is_inside(column, gives), LAYOUT)


@triton.jit
def receive(values, K, record, neighbour, first, LAYOUT: tl.constexpr):
    """Values and their exponent of the neighbouring lane; lane `first` has none in its strip, and takes the record."""
    taken, K_taken = record
    COUNT: tl.constexpr = len(values)
    incoming = ()
    for c in tl.static_range(COUNT):
        incoming = incoming + (select(first, taken[c], value_from_lane(values[c], neighbour, LAYOUT)),)
    K_in = K
    if LAYOUT.mode == SCALED:
        K_in = tl.where(first, K_taken, from_lane(K, neighbour, LAYOUT))
    return incoming, K_in


# the step downwards and to the right


@triton.jit
def link_down(edges, i_strip, strips, m, M, LAYOUT: tl.constexpr):
    """From the strip above, to the one below. A strip has its row of edges."""
    lane, _warp = lane_and_warp(LAYOUT)
    takes = tl.where((lane == 0) & (i_strip > 0) & (i_strip < strips), m, 0)
    gives = tl.where((lane == LAYOUT.lanes - 1) & (i_strip < strips - 1), m, 0)
    own = edges + i_strip.to(tl.int64) * (LAYOUT.edge * M)
    return takes, gives, own - LAYOUT.edge * M, own


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
    COUNT: tl.constexpr = LAYOUT.handed
    last = ()
    for _ in tl.static_range(COUNT):
        last = last + (zero(LAYOUT),)
    return d, x, h, last, one(fill_int(0, LAYOUT), LAYOUT), fill_int(0, LAYOUT)


@triton.jit
def from_above(state, record, LAYOUT: tl.constexpr):
    """What `forward_column` needs of the row above each lane's first, and its exponent."""
    _d, _x, _h, last, _diagonal, K = state
    lane, _warp = lane_and_warp(LAYOUT)
    return receive(last, K, record, (lane + (LAYOUT.lanes - 1)) % LAYOUT.lanes, lane == 0, LAYOUT)


@triton.jit
def row_above(incoming, LAYOUT: tl.constexpr):
    """d + x and y of the row above."""
    if LAYOUT.mode == MAXIMUM:
        return plus(incoming[0], incoming[1], LAYOUT), incoming[2]
    else:
        return incoming


@triton.jit
def forward_exponent(h, K, incoming, K_in, LAYOUT: tl.constexpr):
    """The exponent of the largest h that the step starts from, the lane's own or the incoming one."""
    R: tl.constexpr = LAYOUT.rows
    top = h[0][0]
    for r in tl.static_range(1, R):
        top = tl.maximum(top, h[r][0])
    u_in, y_in = incoming
    top_in = u_in[0] + (y_in[0] + power(-K_in, LAYOUT.dtype))
    return tl.maximum(K + exponent(top), K_in + exponent(top_in))


@triton.jit
def forward_column(cells, state, incoming, K_in, LAYOUT: tl.constexpr):
    """(1) to (4) in a lane's rows of one column.

    `state` is of the column before, with `diagonal` the h above its first row; `incoming` is d + x and y of the row
    above the first (in MAXIMUM d, x, y), same column, at exponent K_in. Returns the next state and per row the terms
    (x opened, x extended, y opened, y extended, y).
    """
    R: tl.constexpr = LAYOUT.rows
    s, v, go, ge, unit = cells
    d, x, h, _last, diagonal, K = state
    u, y = row_above(incoming, LAYOUT)
    K_new = K
    f = fill(1.0, LAYOUT)
    if LAYOUT.mode == SCALED:
        K_new = forward_exponent(h, K, incoming, K_in, LAYOUT)
        f = power(K - K_new, LAYOUT.dtype)
        f_in = power(K_in - K_new, LAYOUT.dtype)
        u = rescale(u, f_in, LAYOUT)
        y = rescale(y, f_in, LAYOUT)
    shift = (K - K_new).to(LAYOUT.dtype)
    start = one(K_new, LAYOUT)
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
    last = (u, y)
    if LAYOUT.mode == MAXIMUM:
        last = (d_new[R - 1], x_new[R - 1], y)
    return (d_new, x_new, h_new, last, next_diagonal, K_new), terms


# the step upwards and to the left


@triton.jit
def link_up(edges, rows, i_strip, strips, m, M, LAYOUT: tl.constexpr):
    """From the strip below, to the one above. Strips that lie `rows` apart have the same row of edges."""
    lane, _warp = lane_and_warp(LAYOUT)
    takes = tl.where((lane == LAYOUT.lanes - 1) & (i_strip < strips - 1), m, 0)
    gives = tl.where((lane == 0) & (i_strip > 0) & (i_strip < strips), m, 0)
    below = edges + ((i_strip + 1) % rows).to(tl.int64) * (LAYOUT.edge_back * M)
    return takes, gives, below, edges + (i_strip % rows).to(tl.int64) * (LAYOUT.edge_back * M)


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
def leaving(back):
    """q, yo, ye of the first row, which the lane above goes on with."""
    q, _xo, _xe, yo, ye, _below, _top, _K = back
    return q[0], yo, ye


@triton.jit
def from_below(back, record, LAYOUT: tl.constexpr):
    """What `backward_column` needs of the row below each lane's last, and its exponent."""
    _q, _xo, _xe, _yo, _ye, _below, _top, K = back
    lane, _warp = lane_and_warp(LAYOUT)
    return receive(leaving(back), K, record, (lane + 1) % LAYOUT.lanes, lane == LAYOUT.lanes - 1, LAYOUT)


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
