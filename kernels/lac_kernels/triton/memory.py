# mypy: disable-error-code="no-untyped-def, assignment"
# ruff: noqa: RUF005
"""How what lies in memory (`layout.py`) is read and written: words, values, edges, states, slots, scores and gaps."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lac_kernels.triton.values import EXTENDED, SCALED, exp, fill, fill_int, largest, one, select, zero

# arguments of kernels


def kernel(fn: Any) -> Any:
    """Compile once for all sizes and alignments: a lane reads single words, which gains nothing from them."""
    names = [name for name, p in inspect.signature(fn).parameters.items() if p.annotation != "tl.constexpr"]
    return triton.jit(fn, do_not_specialize=names, do_not_specialize_on_alignment=names)


def pack_strides(x: Tensor, shape: torch.Size) -> tuple[int, int, int]:
    """Strides of x, broadcast to the shape, as a kernel takes them.

    Triton compiles anew for each integer in a tuple that is 1 or a multiple of 16, whatever `do_not_specialize` says;
    2 stride + 3 is never either.
    """
    strides = zip(x.stride(), x.shape, shape, strict=True)
    b, n, m = (2 * (0 if size < most else stride) + 3 for stride, size, most in strides)
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
def put_record(p, values, K, mask, LAYOUT: tl.constexpr):
    """One column of a strip's edge: `values`, and their exponent."""
    COUNT: tl.constexpr = len(values)
    for c in tl.static_range(COUNT):
        put(p + c * LAYOUT.words, 1, values[c], mask, LAYOUT)
    if LAYOUT.mode == SCALED:
        put_int(p + COUNT * LAYOUT.words, K, mask)


@triton.jit
def get_record(p, mask, COUNT: tl.constexpr, LAYOUT: tl.constexpr):
    """What `put_record` stored, or zeros where mask is false."""
    values = ()
    for c in tl.static_range(COUNT):
        value = get(p + c * LAYOUT.words, 1, mask, LAYOUT)
        if LAYOUT.mode != SCALED:  # in which zero is what is read where mask is false
            value = select(mask, value, zero(LAYOUT))
        values = values + (value,)
    K = fill_int(0, LAYOUT)
    if LAYOUT.mode == SCALED:
        K = get_int(p + COUNT * LAYOUT.words, mask)
    return values, K


# states


@triton.jit
def put_state(p, state, LAYOUT: tl.constexpr):
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.threads
    d, x, h, last, diagonal, K = state
    for r in tl.static_range(R):
        put(p + (3 * r) * W, LAYOUT.threads, d[r], None, LAYOUT)
        put(p + (3 * r + 1) * W, LAYOUT.threads, x[r], None, LAYOUT)
        put(p + (3 * r + 2) * W, LAYOUT.threads, h[r], None, LAYOUT)
    put(p + 3 * R * W, LAYOUT.threads, last[0], None, LAYOUT)
    put(p + (3 * R + 1) * W, LAYOUT.threads, last[1], None, LAYOUT)
    put(p + (3 * R + 2) * W, LAYOUT.threads, diagonal, None, LAYOUT)
    if LAYOUT.mode == SCALED:
        put_int(p + (3 * R + 3) * W, K, None)


@triton.jit
def get_or(p, mask, border, LAYOUT: tl.constexpr):
    return select(mask, get(p, LAYOUT.threads, mask, LAYOUT), border)


@triton.jit
def get_state(p, mask, LAYOUT: tl.constexpr):
    """What `put_state` stored, or the border's state where mask is false."""
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.threads
    none = zero(LAYOUT)
    start = one(fill_int(0, LAYOUT), LAYOUT)
    d = ()
    x = ()
    h = ()
    for r in tl.static_range(R):
        d = d + (get_or(p + (3 * r) * W, mask, none, LAYOUT),)
        x = x + (get_or(p + (3 * r + 1) * W, mask, none, LAYOUT),)
        h = h + (get_or(p + (3 * r + 2) * W, mask, start, LAYOUT),)
    last = (get_or(p + 3 * R * W, mask, none, LAYOUT), get_or(p + (3 * R + 1) * W, mask, none, LAYOUT))
    diagonal = get_or(p + (3 * R + 2) * W, mask, start, LAYOUT)
    K = fill_int(0, LAYOUT)
    if LAYOUT.mode == SCALED:
        K = get_int(p + (3 * R + 3) * W, mask)
    return d, x, h, last, diagonal, K


# slots


@triton.jit
def put_slot(p, state, terms, mask, LAYOUT: tl.constexpr):
    """Value 0 of each row is d; then follow x and y, or for gaps per cell the four terms, if gaps have gradients."""
    d, x, _h, _last, _diagonal, K = state
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.lanes
    for r in tl.static_range(R):
        put(p + r * W, LAYOUT.lanes, d[r], mask, LAYOUT)
        if LAYOUT.values == 5:
            for c in tl.static_range(4):
                put(p + ((c + 1) * R + r) * W, LAYOUT.lanes, terms[r][c], mask, LAYOUT)
        elif LAYOUT.values == 3:
            put(p + (R + r) * W, LAYOUT.lanes, x[r], mask, LAYOUT)
            put(p + (2 * R + r) * W, LAYOUT.lanes, terms[r][4], mask, LAYOUT)
    if LAYOUT.mode == SCALED:
        put_int(p + LAYOUT.values * R * W, K, mask)


@triton.jit
def get_slot(p, mask, LAYOUT: tl.constexpr):
    """Of what `put_slot` kept, for each row its values in their order, d alone without gradients of gaps; and K."""
    R: tl.constexpr = LAYOUT.rows
    W: tl.constexpr = LAYOUT.words * LAYOUT.lanes
    VALUES: tl.constexpr = LAYOUT.values if LAYOUT.gaps else 1
    values = ()
    for r in tl.static_range(R):
        row = ()
        for c in tl.static_range(VALUES):
            row = row + (get(p + (c * R + r) * W, LAYOUT.lanes, mask, LAYOUT),)
        values = values + (row,)
    K = fill_int(0, LAYOUT)
    if LAYOUT.mode == SCALED:
        K = get_int(p + LAYOUT.values * R * W, mask)
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
def limits_of(row, n, m, LAYOUT: tl.constexpr):
    """The columns that a lane's rows have."""
    R: tl.constexpr = LAYOUT.rows
    limit = ()
    for r in tl.static_range(R):
        limit = limit + (tl.where(row + r < n, m, 0),)
    return limit


@triton.jit
def inside_rows(column, limit, LAYOUT: tl.constexpr):
    """Which of a lane's rows have this column."""
    R: tl.constexpr = LAYOUT.rows
    inside = ()
    for r in tl.static_range(R):
        inside = inside + (is_inside(column, limit[r]),)
    return inside


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
def cell_gaps(raw, v, unit, LAYOUT: tl.constexpr):
    """Values exp(-gap / T) at one column in a lane's rows, and the largest gap."""
    R: tl.constexpr = LAYOUT.rows
    values = ()
    most = fill(0.0, LAYOUT)
    for r in tl.static_range(R):
        values = values + (exp(-raw[r], -v[r], unit, tl.zeros_like(most), LAYOUT),)
        most = largest(most, raw[r])
    return values, most


@triton.jit
def in_each_row(x, LAYOUT: tl.constexpr):
    R: tl.constexpr = LAYOUT.rows
    rows = ()
    for _ in tl.static_range(R):
        rows = rows + (x,)
    return rows
