# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005
"""Where things lie in memory, said once for kernels and launchers, and how they are read and written.

`saved`, one piece per pair, from the forward to the backward kernel:

    header                            three words: INVERSE, EXPONENT, FLAG
    edges     strips - 1              each `edge` words per column: d, x, y of a strip's last row (and their exponent)
    states    strips x (segments - 1) each `state` words: d, x, h of the rows, y, diagonal (and their exponent)

Scratch, one piece per program of the backward kernel:

    edge      1                       of the backward sweep: q, yo, ye of a strip's first row (and their exponent)
    slots     steps of a segment      each `slot` words: what the backward step needs of the forward step

Inside an edge the words of one kind lie together, one per column; inside a state and a slot, one per lane. A value
takes one to three words: m, its exponent in EXTENDED, its tangent if dual. "Their exponent" is SCALED's K.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lac_kernels.triton.values import EXTENDED, SCALED, exp, fill, fill_int, largest, one, select, zero

INVERSE = tl.constexpr(0)  # the mantissa of 1 / Z; 0 if there is no alignment, NaN if the gradients are not known
EXPONENT = tl.constexpr(1)  # the exponent of Z
FLAG = tl.constexpr(2)  # 1 where the SCALED kernels are not safe, and the EXTENDED ones do the pair
HEADER = tl.constexpr(3)  # words

# By rows per lane, of pairs that are one strip in scaled numbers: how many steps before their use scores and slots are
# loaded. For others it is one: more takes registers that are not there, or gains nothing.
AHEAD = {1: 4, 2: 4, 4: 2, 8: 2}
AHEAD_BACK = {1: 4, 2: 4, 4: 2, 8: 1}
STEPS = tl.constexpr(4)  # a strip's are a multiple of it, and so of all of these


@dataclass(frozen=True)
class Layout:
    """What a kernel is compiled for: numbers, rows, lanes, and the words that things take. `Layout.of` makes one.

    The words are fields, not methods, because Triton's cache knows a constant by its fields.
    """

    mode: int  # SCALED, EXTENDED or MAXIMUM
    dual: bool  # values have tangents
    cell: bool  # a gap may differ from cell to cell
    multi: bool  # more than one strip
    gaps: bool  # the backward kernel gives the gradients of the gaps
    rows: int  # per lane
    lanes: int
    ahead: int  # steps between a load and its use, forward
    ahead_back: int  # and in the sweep back
    dtype: Any  # of the values, Triton's
    words: int  # a value, per lane or column
    edge: int  # an edge, per column
    state: int  # a saved state, all lanes
    values: int  # a slot, values per cell
    slot: int  # a slot, words of all lanes

    @staticmethod
    def of(
        mode: int, rows: int, lanes: int, dtype: torch.dtype, n: int, *, dual: bool, cell: bool, gaps: bool
    ) -> Layout:
        words = 1 + (mode == EXTENDED.value) + dual
        exponent = int(mode == SCALED.value)
        values = (5 if cell else 3) if gaps else 1
        multi = n > rows * lanes
        light = mode == SCALED.value and not (dual or cell or multi)
        return Layout(
            mode=mode,
            dual=dual,
            cell=cell,
            multi=multi,
            gaps=gaps,
            rows=rows,
            lanes=lanes,
            ahead=AHEAD[rows] if light else 1,
            ahead_back=AHEAD_BACK[rows] if light else 1,
            dtype=tl.float64 if dtype == torch.float64 else tl.float32,
            words=words,
            edge=3 * words + exponent,
            state=((3 * rows + 2) * words + exponent) * lanes,
            values=values,
            slot=(values * rows * words + exponent) * lanes,
        )

    def strips(self, n: int) -> int:
        return -(-n // (self.rows * self.lanes))

    def steps(self, m: int) -> int:
        """Of a strip: lane l is at column t - l at step t, and one more step hands the last column on."""
        unit = int(STEPS.value)
        return -(-(m + self.lanes) // unit) * unit

    def saved_words(self, n: int, m: int, segment: int) -> int:
        """Of a pair, if every segment's first state is saved, but for a strip's first."""
        strips = self.strips(n)
        states = strips * ((self.steps(m) - 1) // segment)
        return int(HEADER.value) + (strips - 1) * self.edge * m + states * self.state

    def scratch_words(self, m: int, segment: int) -> int:
        """Of a program."""
        return self.edge * m + segment * self.slot


@triton.jit
def steps_of(m, LAYOUT: tl.constexpr):
    """`Layout.steps`."""
    return tl.cdiv(m + LAYOUT.lanes, STEPS) * STEPS


@triton.jit
def checkpoint_at(head, strip, start, edge_step, segment, N, M, LAYOUT: tl.constexpr):
    """Where a strip's state before step `start` > 0 lies."""
    states = head + HEADER + edge_step * (tl.cdiv(N, LAYOUT.rows * LAYOUT.lanes) - 1)
    index = strip * ((steps_of(M, LAYOUT) - 1) // segment) + start // segment - 1
    return states + tl.cast(index, tl.int64) * LAYOUT.state + tl.arange(0, LAYOUT.lanes)


# arguments of kernels


def kernel(fn: Any) -> Any:
    """Compile once for all sizes and alignments: a lane reads single words, which gains nothing from them."""
    names = [name for name, p in inspect.signature(fn).parameters.items() if p.annotation != "tl.constexpr"]
    return triton.jit(fn, do_not_specialize=names, do_not_specialize_on_alignment=names)


def pack_strides(x: Tensor) -> tuple[int, int, int]:
    """Strides as a kernel takes them.

    Triton compiles anew for each integer in a tuple that is 1 or a multiple of 16, whatever `do_not_specialize` says;
    2 stride + 3 is never either.
    """
    b, n, m = (2 * stride + 3 for stride in x.stride())
    return b, n, m


@triton.jit
def unpack_view(pointer, packed):
    """(pointer, stride_b, stride_n, stride_m) of a tensor (B, N, M)."""
    return pointer, (packed[0] - 3) >> 1, (packed[1] - 3) >> 1, ((packed[2] - 3) >> 1).to(tl.int32)


@triton.jit
def unpack_views(scores, gap_open, gap_extend, packed):
    return unpack_view(scores, packed[0]), unpack_view(gap_open, packed[1]), unpack_view(gap_extend, packed[2])


@triton.jit
def length(lengths, b, most):
    if lengths is None:
        return most
    else:
        return tl.minimum(tl.maximum(tl.load(lengths + b), 0), most)


# words and values


@triton.jit
def read(p, mask):
    if mask is None:
        return tl.load(p)
    else:
        return tl.load(p, mask=mask, other=0.0)


@triton.jit
def put_int(p, k, mask):
    if p.dtype.element_ty == tl.float32:
        tl.store(p, k.to(tl.float32, bitcast=True), mask=mask)
    else:
        tl.store(p, k.to(tl.float64), mask=mask)


@triton.jit
def get_int(p, mask):
    w = read(p, mask)
    if p.dtype.element_ty == tl.float32:
        return w.to(tl.int32, bitcast=True)
    else:
        return w.to(tl.int32)


@triton.jit
def put(p, step, a, mask, LAYOUT: tl.constexpr):
    """Store a value in words that lie `step` apart."""
    tl.store(p, a[0], mask=mask)
    if LAYOUT.mode == EXTENDED:
        put_int(p + step, a[1], mask)
    if LAYOUT.dual:
        tl.store(p + step * (LAYOUT.words - 1), a[2], mask=mask)


@triton.jit
def get(p, step, mask, LAYOUT: tl.constexpr):
    m = read(p, mask)
    k = tl.zeros_like(m).to(tl.int32)
    if LAYOUT.mode == EXTENDED:
        k = get_int(p + step, mask)
    t = tl.zeros_like(m)
    if LAYOUT.dual:
        t = read(p + step * (LAYOUT.words - 1), mask)
    return m, k, t


# edges


@triton.jit
def put_edge(a, K, edge, M, mask, LAYOUT: tl.constexpr):
    for c in tl.static_range(3):
        put(edge + c * LAYOUT.words * M, M, a[c], mask, LAYOUT)
    if LAYOUT.mode == SCALED:
        put_int(edge + 3 * LAYOUT.words * M, K, mask)


@triton.jit
def load_edge(edge, M, mask, LAYOUT: tl.constexpr):
    """One column of a strip's edge, three values and their exponent, for `receive_edge`."""
    values = ()
    K = fill_int(0, LAYOUT)
    for c in tl.static_range(3):
        if LAYOUT.multi:
            values = values + (get(edge + c * LAYOUT.words * M, M, mask, LAYOUT),)
        else:
            values = values + (zero(LAYOUT),)
    if LAYOUT.multi and LAYOUT.mode == SCALED:
        K = get_int(edge + 3 * LAYOUT.words * M, mask)
    return values, K


@triton.jit
def receive_edge(rotated, K_rotated, at_edge, first, loaded, LAYOUT: tl.constexpr):
    """The neighbour lane's values and exponent; lane `first` has none and takes the next strip's, if there is one."""
    values, K_edge = at_edge
    incoming = ()
    for c in tl.static_range(3):
        value = select(loaded, values[c], zero(LAYOUT))
        incoming = incoming + (select(first, value, rotated[c]),)
    K = K_rotated
    if LAYOUT.mode == SCALED:
        K = tl.where(first, K_edge, K_rotated)
    return incoming, K


# states


@triton.jit
def put_state(p, state, LAYOUT: tl.constexpr):
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.lanes
    d, x, h, y, diagonal, K = state
    for r in tl.static_range(R):
        put(p + (3 * r) * W, LAYOUT.lanes, d[r], None, LAYOUT)
        put(p + (3 * r + 1) * W, LAYOUT.lanes, x[r], None, LAYOUT)
        put(p + (3 * r + 2) * W, LAYOUT.lanes, h[r], None, LAYOUT)
    put(p + 3 * R * W, LAYOUT.lanes, y, None, LAYOUT)
    put(p + (3 * R + 1) * W, LAYOUT.lanes, diagonal, None, LAYOUT)
    if LAYOUT.mode == SCALED:
        put_int(p + (3 * R + 2) * W, K, None)


@triton.jit
def get_or(p, mask, border, LAYOUT: tl.constexpr):
    return select(mask, get(p, LAYOUT.lanes, mask, LAYOUT), border)


@triton.jit
def get_state(p, mask, LAYOUT: tl.constexpr):
    """What `put_state` stored, or the border's state where mask is false."""
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.lanes
    none = zero(LAYOUT)
    start = one(fill_int(0, LAYOUT), LAYOUT)
    d = ()
    x = ()
    h = ()
    for r in tl.static_range(R):
        d = d + (get_or(p + (3 * r) * W, mask, none, LAYOUT),)
        x = x + (get_or(p + (3 * r + 1) * W, mask, none, LAYOUT),)
        h = h + (get_or(p + (3 * r + 2) * W, mask, start, LAYOUT),)
    y = get_or(p + 3 * R * W, mask, none, LAYOUT)
    diagonal = get_or(p + (3 * R + 1) * W, mask, start, LAYOUT)
    K = fill_int(0, LAYOUT)
    if LAYOUT.mode == SCALED:
        K = get_int(p + (3 * R + 2) * W, mask)
    return d, x, h, y, diagonal, K


# slots


@triton.jit
def put_slot(p, state, terms, LAYOUT: tl.constexpr):
    """Value 0 of each row is d; then follow x and y, or for gaps per cell the four terms, if gaps have gradients."""
    d, x, _h, _y, _diagonal, K = state
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.lanes
    for r in tl.static_range(R):
        put(p + r * W, LAYOUT.lanes, d[r], None, LAYOUT)
        if LAYOUT.gaps and LAYOUT.cell:
            for c in tl.static_range(4):
                put(p + ((c + 1) * R + r) * W, LAYOUT.lanes, terms[r][c], None, LAYOUT)
        elif LAYOUT.gaps:
            put(p + (R + r) * W, LAYOUT.lanes, x[r], None, LAYOUT)
            put(p + (2 * R + r) * W, LAYOUT.lanes, terms[r][4], None, LAYOUT)
    if LAYOUT.mode == SCALED:
        put_int(p + LAYOUT.values * R * W, K, None)


@triton.jit
def get_slot(p, LAYOUT: tl.constexpr):
    """What `put_slot` kept: of each row its values, in their order; and the exponent."""
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.lanes
    VALUES: tl.constexpr = LAYOUT.values
    values = ()
    for r in tl.static_range(R):
        row = ()
        for c in tl.static_range(VALUES):
            row = row + (get(p + (c * R + r) * W, LAYOUT.lanes, None, LAYOUT),)
        values = values + (row,)
    K = fill_int(0, LAYOUT)
    if LAYOUT.mode == SCALED:
        K = get_int(p + VALUES * R * W, None)
    return values, K


# cells of scores and gaps


@triton.jit
def rows_of(view, b, row, LAYOUT: tl.constexpr):
    """Pointers to column 0 of a lane's rows, the first of which is `row`, of pair b."""
    R: tl.constexpr = LAYOUT.rows
    p = ()
    for r in tl.static_range(R):
        p = p + (view[0] + tl.cast(b, tl.int64) * view[1] + (row + r).to(tl.int64) * view[2],)
    return p


@triton.jit
def rows_of_all(views, b, row, LAYOUT: tl.constexpr):
    return (
        rows_of(views[0], b, row, LAYOUT), rows_of(views[1], b, row, LAYOUT), rows_of(views[2], b, row, LAYOUT)
    )  # fmt: skip


@triton.jit
def is_inside(column, limit):
    """0 <= column < limit."""
    return column.to(tl.uint32, bitcast=True) < limit.to(tl.uint32, bitcast=True)


@triton.jit
def load_column(p, step, column, limit, other, LAYOUT: tl.constexpr):
    """Cells of one column in a lane's rows; row r ends before column limit[r]."""
    R: tl.constexpr = LAYOUT.rows
    s = ()
    for r in tl.static_range(R):
        s = s + (tl.load(p[r] + column * step, mask=is_inside(column, limit[r]), other=other),)
    return s


@triton.jit
def convert(s, LAYOUT: tl.constexpr):
    R: tl.constexpr = LAYOUT.rows
    converted = ()
    for r in tl.static_range(R):
        converted = converted + (s[r].to(LAYOUT.dtype),)
    return converted


@triton.jit
def load_tangent(p, view, column, limit, LAYOUT: tl.constexpr):
    if LAYOUT.dual:
        return convert(load_column(p, view[3], column, limit, 0.0, LAYOUT), LAYOUT)
    else:
        R: tl.constexpr = LAYOUT.rows
        v = ()
        for _ in tl.static_range(R):
            v = v + (fill(0.0, LAYOUT),)
        return v


@triton.jit
def limits_of(row, n, m, LAYOUT: tl.constexpr):
    """The columns that a lane's rows have."""
    R: tl.constexpr = LAYOUT.rows
    limit = ()
    for r in tl.static_range(R):
        limit = limit + (tl.where(row + r < n, m, 0),)
    return limit


@triton.jit
def pair_gap(view, v_view, b, unit, LAYOUT: tl.constexpr):
    """The value exp(-gap / T) of a gap that is the same in every cell of pair b, in all lanes, and the gap itself."""
    zeros = fill(0.0, LAYOUT)
    gap = tl.load(view[0] + tl.cast(b, tl.int64) * view[1])
    v = zeros
    if LAYOUT.dual:
        v = zeros - tl.load(v_view[0] + tl.cast(b, tl.int64) * v_view[1]).to(LAYOUT.dtype)
    return exp(zeros - gap, v, unit, zeros, LAYOUT), gap


@triton.jit
def column_gaps(gap, p, view, v_p, v_view, column, limit, unit, LAYOUT: tl.constexpr):
    """Values exp(-gap / T) at one column in a lane's rows, and the largest gap; `gap` is the pair's, if it has one."""
    R: tl.constexpr = LAYOUT.rows
    values = ()
    most = fill(0.0, LAYOUT)
    if LAYOUT.cell:
        raw = convert(load_column(p, view[3], column, limit, 0.0, LAYOUT), LAYOUT)
        v = load_tangent(v_p, v_view, column, limit, LAYOUT)
        for r in tl.static_range(R):
            values = values + (exp(-raw[r], -v[r], unit, tl.zeros_like(most), LAYOUT),)
            most = largest(most, raw[r])
    else:
        for _ in tl.static_range(R):
            values = values + (gap,)
    return values, most
