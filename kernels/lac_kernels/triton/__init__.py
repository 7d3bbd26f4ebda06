# mypy: disable-error-code="no-untyped-def, assignment, misc, attr-defined, operator, no-any-return, index"
# ruff: noqa: RUF005, SIM300
"""The recursion of `reference` as Triton kernels: one warp per pair, all state in registers.

Lane l of the warp owns R consecutive rows and is one column behind lane l - 1, so that a neighbour's bottom row comes
over by one lane shift per step; scores are loaded one step ahead. kernels/README.md has the derivation and the numbers
of the equations. With d, x, y, h the exponentials of D / T, X / T, Y / T, H / T and es, go, ge those of S / T, -o / T,
-e / T:

    d[i,j] = es[i,j] h[i-1,j-1]                                     bh = es[i+1,j+1] bd[i+1,j+1]
    x[i,j] = go d[i,j-1] + ge x[i,j-1]                              bx = bh + ge bx[i,j+1] + go by[i+1,j]
    y[i,j] = go (d + x)[i-1,j] + ge y[i-1,j]                        by = bh + ge by[i+1,j]
    h[i,j] = 1 + d + x + y,   Z = sum d,   score = T log Z          bd = 1 + bh + go bx[i,j+1] + go by[i+1,j]

A *value* is a triple (m, k, t). What it means is the semiring, MODE:

    SCALED    m 2^K        K is one exponent per lane, not in the triple: fast, and right within the bound (12)
    EXTENDED  m 2^k        every value has its own exponent: no overflow, no underflow, whatever S / T is
    MAXIMUM   m            plus is max, times is +: the hard alignment

and t is the tangent along a direction (same scale as m), present if DUAL: the derivative of every line by the
product rule, which makes the Hessian-vector product the same pair of sweeps. Parts that a mode does not use are
constants that the compiler removes.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from itertools import chain
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import FORBIDDEN, compute_dtype

SCALED = tl.constexpr(0)
EXTENDED = tl.constexpr(1)
MAXIMUM = tl.constexpr(2)

_FLOOR = tl.constexpr(-(1 << 27))  # the exponent of zero in EXTENDED: sums of several stay within int32
_RANGE = tl.constexpr(float(1 << 27))  # EXTENDED counts exponents up to here
_FORBIDDEN = tl.constexpr(FORBIDDEN)
_LN2 = tl.constexpr(0.6931471805599453)


def _kernel(fn: Any) -> Any:
    """Compile once for all sizes, strides and alignments: a lane reads single words, which gains nothing from them."""
    names = [name for name, p in inspect.signature(fn).parameters.items() if p.annotation != "tl.constexpr"]
    return triton.jit(fn, do_not_specialize=names, do_not_specialize_on_alignment=names)


# numbers


@triton.jit
def _exponent(m):
    """floor(log2 m) for normal m > 0."""
    if m.dtype == tl.float64:
        return ((m.to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)
    else:
        return (m.to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def _mantissa(m):
    """m 2^-exponent(m), in [1, 2)."""
    if m.dtype == tl.float64:
        return ((m.to(tl.int64, bitcast=True) & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000).to(tl.float64, bitcast=True)
    else:
        return ((m.to(tl.int32, bitcast=True) & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)


@triton.jit
def _power(k, C: tl.constexpr):
    """2^k exactly, and 0 below the normal numbers; k must not exceed the largest exponent."""
    if C == tl.float64:
        return ((tl.maximum(k, -1023) + 1023).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    else:
        return ((tl.maximum(k, -127) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _constant(m, k, L: tl.constexpr, C: tl.constexpr):
    return tl.full((L,), m, C), tl.full((L,), k, tl.int32), tl.full((L,), 0.0, C)


@triton.jit
def _zero(L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr):
    if MODE == MAXIMUM:
        return _constant(-float("inf"), 0, L, C)
    elif MODE == EXTENDED:
        return _constant(1.0, _FLOOR, L, C)
    else:
        return _constant(0.0, 0, L, C)


@triton.jit
def _one(K, L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr):
    if MODE == MAXIMUM:
        return _constant(0.0, 0, L, C)
    elif MODE == EXTENDED:
        return _constant(1.0, 0, L, C)
    else:
        return _power(-K, C), tl.full((L,), 0, tl.int32), tl.full((L,), 0.0, C)


@triton.jit
def _times(a, b, MODE: tl.constexpr, DUAL: tl.constexpr):
    if MODE == MAXIMUM:
        return a[0] + b[0], a[1], a[2]
    else:
        k = a[1]
        if MODE == EXTENDED:
            k = a[1] + b[1]
        t = a[2]
        if DUAL:
            t = a[2] * b[0] + a[0] * b[2]
        return a[0] * b[0], k, t


@triton.jit
def _plus(a, b, MODE: tl.constexpr, DUAL: tl.constexpr):
    if MODE == MAXIMUM:
        return tl.maximum(a[0], b[0]), a[1], a[2]
    elif MODE == SCALED:
        t = a[2]
        if DUAL:
            t = a[2] + b[2]
        return a[0] + b[0], a[1], t
    else:
        C: tl.constexpr = a[0].dtype
        k = tl.maximum(a[1], b[1])
        fa = _power(a[1] - k, C)
        fb = _power(b[1] - k, C)
        m = a[0] * fa + b[0] * fb
        e = _exponent(m)
        t = a[2]
        if DUAL:
            t = (a[2] * fa + b[2] * fb) * _power(-e, C)
        return _mantissa(m), tl.maximum(k + e, _FLOOR), t


@triton.jit
def _rescale(a, f, MODE: tl.constexpr, DUAL: tl.constexpr):
    """The value in a scale that is 1 / f of its own."""
    if MODE == SCALED:
        t = a[2]
        if DUAL:
            t = a[2] * f
        return a[0] * f, a[1], t
    else:
        return a


@triton.jit
def _exp(s, v, unit, shift, MODE: tl.constexpr, DUAL: tl.constexpr):
    """The value exp(s / T) 2^shift; its tangent along v is taken per 1 / T. unit = (hi, lo, lowest), see `_unit`."""
    C: tl.constexpr = unit[0].dtype
    if MODE == MAXIMUM:
        m = s
        k = tl.zeros_like(shift).to(tl.int32)
    elif MODE == SCALED:
        m = tl.exp2(tl.fma(s, unit[0] + tl.zeros_like(s), shift))
        k = tl.zeros_like(shift).to(tl.int32)
    else:
        s = tl.maximum(s, unit[2])
        whole = tl.floor(s * unit[0] + 0.5)
        m = tl.exp2(tl.fma(s, unit[0] + tl.zeros_like(s), -whole) + s * unit[1])
        k = whole.to(tl.int32)
    t = tl.zeros_like(m)
    if DUAL:
        t = m * v
    return m, k, t.to(C)


@triton.jit
def _unit(T, C: tl.constexpr):
    """log2(e) / T as hi + lo, and the lowest score that EXTENDED tells from -inf."""
    T = T.to(C)
    if C == tl.float64:
        log2e = tl.full((), 1.4426950408889634, C)
        rest = tl.full((), 2.0355273740931033e-17, C)
        hi = log2e / T
    else:
        log2e = tl.full((), 1.44269502162933349609375, C)
        rest = tl.full((), 1.9259629911266175e-8, C)
        hi = tl.div_rn(log2e, T)
    lo = (tl.fma(-hi, T, log2e) + rest) / T
    return hi, lo, tl.full((), -67108864.0, C) / hi


@triton.jit
def _gather(a, index, MODE: tl.constexpr, DUAL: tl.constexpr):
    m = tl.gather(a[0], index, 0)
    k = a[1]
    if MODE == EXTENDED:
        k = tl.gather(a[1], index, 0)
    t = a[2]
    if DUAL:
        t = tl.gather(a[2], index, 0)
    return m, k, t


@triton.jit
def _select(mask, a, b):
    return tl.where(mask, a[0], b[0]), tl.where(mask, a[1], b[1]), tl.where(mask, a[2], b[2])


# memory


@triton.jit
def _read(p, mask):
    if mask is None:
        return tl.load(p)
    else:
        return tl.load(p, mask=mask, other=0.0)


@triton.jit
def _put_int(p, k, mask):
    if p.dtype.element_ty == tl.float32:
        tl.store(p, k.to(tl.float32, bitcast=True), mask=mask)
    else:
        tl.store(p, k.to(tl.float64), mask=mask)


@triton.jit
def _get_int(p, mask):
    w = _read(p, mask)
    if p.dtype.element_ty == tl.float32:
        return w.to(tl.int32, bitcast=True)
    else:
        return w.to(tl.int32)


@triton.jit
def _put(p, stride, a, mask, MODE: tl.constexpr, DUAL: tl.constexpr):
    """Store a value in one to three words that lie `stride` apart."""
    tl.store(p, a[0], mask=mask)
    if MODE == EXTENDED:
        _put_int(p + stride, a[1], mask)
    if DUAL:
        tl.store(p + stride * (1 + (MODE == EXTENDED)), a[2], mask=mask)


@triton.jit
def _get(p, stride, mask, MODE: tl.constexpr, DUAL: tl.constexpr):
    m = _read(p, mask)
    k = tl.zeros_like(m).to(tl.int32)
    if MODE == EXTENDED:
        k = _get_int(p + stride, mask)
    t = tl.zeros_like(m)
    if DUAL:
        t = _read(p + stride * (1 + (MODE == EXTENDED)), mask)
    return m, k, t


@triton.jit
def _rows(view, b, row, R: tl.constexpr):
    """Pointers to column 0 of rows row ... row + R - 1 of pair b. A view is (pointer, stride_b, stride_n, stride_m)."""
    p = ()
    for r in tl.static_range(R):
        p = p + (view[0] + tl.cast(b, tl.int64) * view[1] + (row + r).to(tl.int64) * view[2],)
    return p


@triton.jit
def _load(p, step, column, limit, other, R: tl.constexpr):
    """Cells of one column in R rows; row r ends before column limit[r]."""
    s = ()
    for r in tl.static_range(R):
        inside = column.to(tl.uint32, bitcast=True) < limit[r].to(tl.uint32, bitcast=True)
        s = s + (tl.load(p[r] + column * step, mask=inside, other=other),)
    return s


@triton.jit
def _convert(s, R: tl.constexpr, C: tl.constexpr):
    converted = ()
    for r in tl.static_range(R):
        converted = converted + (s[r].to(C),)
    return converted


@triton.jit
def _load_tangent(p, view, column, limit, R: tl.constexpr, L: tl.constexpr, C: tl.constexpr, DUAL: tl.constexpr):
    if DUAL:
        return _convert(_load(p, view[3], column, limit, 0.0, R), R, C)
    else:
        v = ()
        for _ in tl.static_range(R):
            v = v + (tl.full((L,), 0.0, C),)
        return v


@triton.jit
def _limits(row, n, m, R: tl.constexpr):
    limit = ()
    for r in tl.static_range(R):
        limit = limit + (tl.where(row + r < n, m, 0),)
    return limit


@triton.jit
def _gap(view, v_view, b, unit, L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr):
    """The value exp(-gap / T) of a gap that is the same in every cell of pair b, in all lanes, and the gap itself."""
    zeros = tl.full((L,), 0.0, C)
    gap = tl.load(view[0] + tl.cast(b, tl.int64) * view[1])
    v = zeros
    if DUAL:
        v = zeros - tl.load(v_view[0] + tl.cast(b, tl.int64) * v_view[1]).to(C)
    return _exp(zeros - gap, v, unit, zeros, MODE, DUAL), gap


@triton.jit
def _gap_rows(
    gap, p, view, v_p, v_view, column, limit, unit,
    R: tl.constexpr, L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr, CELL: tl.constexpr,
):  # fmt: skip
    """Values exp(-gap / T) at one column in R rows, and the largest gap."""
    g = ()
    most = tl.full((L,), 0.0, C)
    if CELL:
        raw = _convert(_load(p, view[3], column, limit, 0.0, R), R, C)
        v = _load_tangent(v_p, v_view, column, limit, R, L, C, DUAL)
        for r in tl.static_range(R):
            g = g + (_exp(-raw[r], -v[r], unit, tl.zeros_like(most), MODE, DUAL),)
            most = tl.maximum(most, raw[r], propagate_nan=tl.PropagateNan.ALL)
    else:
        for _ in tl.static_range(R):
            g = g + (gap,)
    return g, most


# one column


@triton.jit
def _border(R: tl.constexpr, L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr):
    """d, x, h of the column before the first."""
    d = ()
    x = ()
    h = ()
    for _ in tl.static_range(R):
        d = d + (_zero(L, C, MODE),)
        x = x + (_zero(L, C, MODE),)
        h = h + (_one(tl.full((L,), 0, tl.int32), L, C, MODE),)
    return d, x, h


@triton.jit
def _forward_column(
    s, v, go, ge, d, x, h, diagonal, d_in, x_in, y_in, K, K_in, unit,
    R: tl.constexpr, L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr,
):  # fmt: skip
    """d, x, y, h of one column in R rows.

    Of the column before, at exponent K: d, x, h and `diagonal`, the h above the first row. Of the row above the first,
    same column, at exponent K_in: *_in. Returns d, x, h, the next diagonal, the new exponent, and per row the terms
    (x opened, x extended, y opened, y extended, y).
    """
    K_new = K
    f = tl.full((L,), 1.0, C)
    if MODE == SCALED:
        top = h[0][0]
        for r in tl.static_range(1, R):
            top = tl.maximum(top, h[r][0])
        top_in = d_in[0] + x_in[0] + (y_in[0] + _power(-K_in, C))
        K_new = tl.maximum(K + _exponent(top), K_in + _exponent(top_in))
        f = _power(K - K_new, C)
        f_in = _power(K_in - K_new, C)
        d_in = _rescale(d_in, f_in, MODE, DUAL)
        x_in = _rescale(x_in, f_in, MODE, DUAL)
        y_in = _rescale(y_in, f_in, MODE, DUAL)
    shift = (K - K_new).to(C)
    one = _one(K_new, L, C, MODE)
    u = _plus(d_in, x_in, MODE, DUAL)
    y = y_in
    next_diagonal = _plus(_plus(one, u, MODE, DUAL), y, MODE, DUAL)
    d_new = ()
    x_new = ()
    h_new = ()
    terms = ()
    for r in tl.static_range(R):
        before = diagonal if r == 0 else h[r - 1]
        d_r = _times(_exp(s[r], v[r], unit, shift, MODE, DUAL), before, MODE, DUAL)
        x_open = _times(_rescale(go[r], f, MODE, DUAL), d[r], MODE, DUAL)
        x_extend = _times(_rescale(ge[r], f, MODE, DUAL), x[r], MODE, DUAL)
        x_r = _plus(x_open, x_extend, MODE, DUAL)
        y_open = _times(go[r], u, MODE, DUAL)
        y_extend = _times(ge[r], y, MODE, DUAL)
        y = _plus(y_open, y_extend, MODE, DUAL)
        u = _plus(d_r, x_r, MODE, DUAL)
        d_new = d_new + (d_r,)
        x_new = x_new + (x_r,)
        h_new = h_new + (_plus(_plus(one, u, MODE, DUAL), y, MODE, DUAL),)
        terms = terms + ((x_open, x_extend, y_open, y_extend, y),)
    return d_new, x_new, h_new, next_diagonal, K_new, terms


@triton.jit
def _backward_column(
    s, v, go, ge, q, xo, xe, top, diagonal, q_in, yo_in, ye_in, K, K_in, unit,
    R: tl.constexpr, L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr,
):  # fmt: skip
    """The mirror image of `_forward_column`, with q = es bd, xo = go bx, xe = ge bx, yo = go by, ye = ge by.

    Of the column after, at exponent K: q, xo, xe, `diagonal` (the q below the last row) and the largest value that this
    column needs (top). Of the row below the last, same column, at exponent K_in: *_in. Returns q, xo, xe, top, the
    next diagonal, the new exponent, the first row's yo and ye, and per row (bd, bx, by) and what it was reached from:
    xo of the column after, yo of the row below, xe, ye.
    """
    K_new = K
    f = tl.full((L,), 1.0, C)
    if MODE == SCALED:
        top_in = tl.maximum(q_in[0], tl.maximum(yo_in[0], ye_in[0]))
        K_new = tl.maximum(K + _exponent(top), K_in + _exponent(top_in))
        f = _power(K - K_new, C)
        f_in = _power(K_in - K_new, C)
        q_in = _rescale(q_in, f_in, MODE, DUAL)
        yo_in = _rescale(yo_in, f_in, MODE, DUAL)
        ye_in = _rescale(ye_in, f_in, MODE, DUAL)
    one = _one(K_new, L, C, MODE)
    no_shift = tl.full((L,), 0.0, C)
    yo = yo_in
    ye = ye_in
    top = q_in[0]
    q_new = ()
    xo_new = ()
    xe_new = ()
    states = ()
    after = ()
    for r in tl.static_range(R - 1, -1, -1):
        below = diagonal if r == R - 1 else q[r + 1]
        bh = _rescale(below, f, MODE, DUAL)
        xo_r = _rescale(xo[r], f, MODE, DUAL)
        xe_r = _rescale(xe[r], f, MODE, DUAL)
        after = ((xo_r, yo, xe_r, ye),) + after
        bh_y = _plus(bh, yo, MODE, DUAL)
        bx = _plus(bh_y, xe_r, MODE, DUAL)
        by = _plus(bh, ye, MODE, DUAL)
        bd = _plus(_plus(one, bh_y, MODE, DUAL), xo_r, MODE, DUAL)
        q_r = _times(_exp(s[r], v[r], unit, no_shift, MODE, DUAL), bd, MODE, DUAL)
        q_new = (q_r,) + q_new
        top = tl.maximum(top, bd[0])
        if r > 0:
            top = tl.maximum(top, q_r[0])
        xo_new = (_times(go[r], bx, MODE, DUAL),) + xo_new
        xe_new = (_times(ge[r], bx, MODE, DUAL),) + xe_new
        yo = _times(go[r], by, MODE, DUAL)
        ye = _times(ge[r], by, MODE, DUAL)
        states = ((bd, bx, by),) + states
    return q_new, xo_new, xe_new, top, q_in, K_new, yo, ye, states, after


@triton.jit
def _flow(a, b, weight, k, rate, MODE: tl.constexpr, DUAL: tl.constexpr):
    """a b / Z, or its tangent if DUAL; weight and k are 1 / Z's mantissa (at the lanes' exponents) and exponent."""
    C: tl.constexpr = a[0].dtype
    if MODE == EXTENDED:
        weight = weight * _power(tl.minimum(a[1] + b[1] + k, 127), C)
    p = (a[0] * weight) * b[0]
    if DUAL:
        p = (a[2] * weight) * b[0] + (a[0] * weight) * b[2] - p * rate
    return p


# forward


@triton.jit
def _length(lengths, b, most):
    if lengths is None:
        return most
    else:
        return tl.minimum(tl.maximum(tl.load(lengths + b), 0), most)


@triton.jit
def _shift(a, K, index, edge, edge_load, edge_stride, first, MULTI: tl.constexpr, C: tl.constexpr,
           MODE: tl.constexpr, DUAL: tl.constexpr, L: tl.constexpr):  # fmt: skip
    """The neighbour lane's three values and exponent; lane `first` has none and takes the next strip's edge."""
    W: tl.constexpr = 1 + (MODE == EXTENDED) + DUAL
    zero = _zero(L, C, MODE)
    K_in = K
    if MODE == SCALED:
        K_in = tl.gather(K, index, 0)
    outgoing = ()
    for c in tl.static_range(3):
        outgoing = outgoing + (_gather(a[c], index, MODE, DUAL),)
    incoming = ()
    for c in tl.static_range(3):
        at_edge = zero
        if MULTI:
            at_edge = _select(edge_load, _get(edge + c * W * edge_stride, edge_stride, edge_load, MODE, DUAL), zero)
        incoming = incoming + (_select(first, at_edge, outgoing[c]),)
    K_next = K_in
    if MODE == SCALED:
        K_edge = tl.full((L,), 0, tl.int32)
        if MULTI:
            K_edge = _get_int(edge + 3 * W * edge_stride, edge_load)
        K_next = tl.where(first, K_edge, K_in)
    return incoming, K_next, outgoing, K_in


@triton.jit
def _put_edge(a, K, edge, edge_stride, mask, MODE: tl.constexpr, DUAL: tl.constexpr):
    W: tl.constexpr = 1 + (MODE == EXTENDED) + DUAL
    for c in tl.static_range(3):
        _put(edge + c * W * edge_stride, edge_stride, a[c], mask, MODE, DUAL)
    if MODE == SCALED:
        _put_int(edge + 3 * W * edge_stride, K, mask)


@triton.jit
def _put_state(p, d, x, h, y, diagonal, K, R: tl.constexpr, L: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr):
    W: tl.constexpr = 1 + (MODE == EXTENDED) + DUAL
    for r in tl.static_range(R):
        _put(p + (3 * r) * W * L, L, d[r], None, MODE, DUAL)
        _put(p + (3 * r + 1) * W * L, L, x[r], None, MODE, DUAL)
        _put(p + (3 * r + 2) * W * L, L, h[r], None, MODE, DUAL)
    _put(p + 3 * R * W * L, L, y, None, MODE, DUAL)
    _put(p + (3 * R + 1) * W * L, L, diagonal, None, MODE, DUAL)
    if MODE == SCALED:
        _put_int(p + (3 * R + 2) * W * L, K, None)


@triton.jit
def _get_state(p, mask, R: tl.constexpr, L: tl.constexpr, C: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr):
    """What `_put_state` stored, or the border's state where mask is false."""
    W: tl.constexpr = 1 + (MODE == EXTENDED) + DUAL
    zero = _zero(L, C, MODE)
    one = _one(tl.full((L,), 0, tl.int32), L, C, MODE)
    d = ()
    x = ()
    h = ()
    for r in tl.static_range(R):
        d = d + (_select(mask, _get(p + (3 * r) * W * L, L, mask, MODE, DUAL), zero),)
        x = x + (_select(mask, _get(p + (3 * r + 1) * W * L, L, mask, MODE, DUAL), zero),)
        h = h + (_select(mask, _get(p + (3 * r + 2) * W * L, L, mask, MODE, DUAL), one),)
    y = _select(mask, _get(p + 3 * R * W * L, L, mask, MODE, DUAL), zero)
    diagonal = _select(mask, _get(p + (3 * R + 1) * W * L, L, mask, MODE, DUAL), one)
    K = tl.full((L,), 0, tl.int32)
    if MODE == SCALED:
        K = _get_int(p + (3 * R + 2) * W * L, mask)
    return d, x, h, y, diagonal, K


@_kernel
def _forward_kernel(
    scores, s_b, s_n, s_m, gap_open, o_b, o_n, o_m, gap_extend, e_b, e_n, e_m,
    v_scores, vs_b, vs_n, vs_m, v_open, vo_b, vo_n, vo_m, v_extend, ve_b, ve_n, ve_m,
    temperature, lengths1, lengths2,
    score, rate, saved, size, edge_step, segment, N, M,
    R: tl.constexpr, L: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr, CELL: tl.constexpr,
    MULTI: tl.constexpr, FLAGGED: tl.constexpr,
):  # fmt: skip
    """Score of one pair, and the state of every lane at the start of each segment of steps but the first.

    SCALED decides whether it was safe and leaves a flag; EXTENDED with FLAGGED then does the pairs that were not.
    """
    C: tl.constexpr = score.dtype.element_ty
    scores = (scores, s_b, s_n, s_m)
    gap_open = (gap_open, o_b, o_n, o_m)
    gap_extend = (gap_extend, e_b, e_n, e_m)
    v_scores = (v_scores, vs_b, vs_n, vs_m)
    v_open = (v_open, vo_b, vo_n, vo_m)
    v_extend = (v_extend, ve_b, ve_n, ve_m)
    W: tl.constexpr = 1 + (MODE == EXTENDED) + DUAL
    b = tl.program_id(0)
    lane = tl.arange(0, L)
    index = (lane + (L - 1)) & (L - 1)
    T = tl.load(temperature)
    unit = _unit(T, C)
    n = _length(lengths1, b, N)
    m = _length(lengths2, b, M)
    head = saved + tl.cast(b, tl.int64) * size
    edges = head + 4
    checkpoints = edges + edge_step * (tl.cdiv(N, R * L) - 1)
    strips = tl.cdiv(n, R * L)
    active = True
    if FLAGGED:
        active = _get_int(head + 2, True) != 0
        strips = tl.where(active, strips, 0)
    go, o = _gap(gap_open, v_open, b, unit, L, C, MODE, DUAL)
    ge, e = _gap(gap_extend, v_extend, b, unit, L, C, MODE, DUAL)
    o_top = tl.full((L,), 0.0, C)
    e_top = tl.full((L,), 0.0, C)
    s_top = tl.full((L,), -float("inf"), C)
    z = _zero(L, C, MODE)
    K_z = tl.full((L,), 0, tl.int32)
    steps = m + L
    for strip in range(strips):
        row = strip * (R * L) + lane * R
        limit = _limits(row, n, m, R)
        p_s = _rows(scores, b, row, R)
        p_o = _rows(gap_open, b, row, R)
        p_e = _rows(gap_extend, b, row, R)
        p_vs = _rows(v_scores, b, row, R) if DUAL else p_s
        p_vo = _rows(v_open, b, row, R) if DUAL else p_s
        p_ve = _rows(v_extend, b, row, R) if DUAL else p_s
        edge_out = edges + strip * edge_step
        edge_in = edge_out - edge_step
        d, x, h = _border(R, L, C, MODE)
        y = _zero(L, C, MODE)
        diagonal = _one(tl.full((L,), 0, tl.int32), L, C, MODE)
        K = tl.full((L,), 0, tl.int32)
        for start in range(0, steps, segment):
            if start > 0:
                at = strip * ((M + L - 1) // segment) + start // segment - 1
                p = checkpoints + tl.cast(at, tl.int64) * ((3 * R + 2) * W + (MODE == SCALED)) * L + lane
                _put_state(p, d, x, h, y, diagonal, K, R, L, MODE, DUAL)
            ahead = _load(p_s, scores[3], start - lane, limit, -float("inf"), R)
            for t in range(start, tl.minimum(start + segment, steps)):
                column = t - lane
                s = _convert(ahead, R, C)
                ahead = _load(p_s, scores[3], column + 1, limit, -float("inf"), R)
                v = _load_tangent(p_vs, v_scores, column, limit, R, L, C, DUAL)
                go_r, o_c = _gap_rows(go, p_o, gap_open, p_vo, v_open, column, limit, unit, R, L, C, MODE, DUAL, CELL)
                ge_r, e_c = _gap_rows(
                    ge, p_e, gap_extend, p_ve, v_extend, column, limit, unit, R, L, C, MODE, DUAL, CELL
                )
                first = lane == 0
                load_edge = first & (column < m) & (lane < strip * L)
                incoming, K_in, outgoing, K_out = _shift(
                    (d[R - 1], x[R - 1], y), K, index, edge_in + column, load_edge, M, first, MULTI, C, MODE, DUAL, L
                )
                if MULTI:
                    done = column - L
                    leaves = first & (done >= 0) & (done < m) & (lane < (strips - 1 - strip) * L)
                    _put_edge(outgoing, K_out, edge_out + done, M, leaves, MODE, DUAL)
                d, x, h, diagonal, K, terms = _forward_column(
                    s, v, go_r, ge_r, d, x, h, diagonal, incoming[0], incoming[1], incoming[2], K, K_in, unit,
                    R, L, C, MODE, DUAL,
                )  # fmt: skip
                y = terms[R - 1][4]
                total = d[0]
                for r in tl.static_range(1, R):
                    total = _plus(total, d[r], MODE, DUAL)
                for r in tl.static_range(R):
                    s_top = tl.maximum(s_top, s[r], propagate_nan=tl.PropagateNan.ALL)
                if CELL:
                    o_top = tl.maximum(o_top, o_c, propagate_nan=tl.PropagateNan.ALL)
                    e_top = tl.maximum(e_top, e_c, propagate_nan=tl.PropagateNan.ALL)
                if MODE == SCALED:
                    K_next = tl.maximum(K_z, K)
                    z = _plus(
                        _rescale(z, _power(K_z - K_next, C), MODE, DUAL),
                        _rescale(total, _power(K - K_next, C), MODE, DUAL),
                        MODE, DUAL,
                    )  # fmt: skip
                    K_z = K_next
                else:
                    z = _plus(z, total, MODE, DUAL)

    if MODE == EXTENDED:
        K_z = z[1]
    k = tl.max(K_z, 0)
    weight = _power(K_z - k, C)
    Z = tl.sum(z[0] * weight, 0)
    k = k + _exponent(Z)
    mantissa = _mantissa(Z)
    f = k.to(C) + tl.log2(mantissa)
    s_most = tl.max(s_top, 0)
    if CELL:
        o = tl.max(o_top, 0)
        e = tl.max(e_top, 0)
    nan = (tl.max((s_top != s_top).to(tl.int32), 0) != 0) | (o != o) | (e != e) | (T != T)
    if CELL:
        nan = nan | (tl.max(((o_top != o_top) | (e_top != e_top)).to(tl.int32), 0) != 0)
    too_low = f < -67108000.0  # all scores are: the largest is the score to rounding, but no gradient is known
    too_large = s_most * unit[0] * tl.minimum(n, m).to(C) > _RANGE
    empty = s_most <= _FORBIDDEN
    value = tl.where(too_low, s_most, T * (_LN2 * f))
    beyond = tl.where(s_most == float("inf"), s_most, float("nan"))
    value = tl.where(nan, float("nan"), tl.where(too_large, beyond, tl.where(empty, 0.0, value)))
    inverse = tl.where(empty, 0.0, tl.where(too_low, float("nan"), 1.0 / mantissa))
    inverse = tl.where(nan | too_large, float("nan"), inverse)
    tl.store(score + b, value, mask=active)
    tl.store(head, inverse, mask=active)
    _put_int(head + 1, k, active)
    if DUAL:
        slope = tl.sum(z[2] * weight, 0) / Z
        slope = tl.where(empty, 0.0, tl.where(too_low, float("nan"), slope))
        slope = tl.where(nan | too_large, float("nan"), slope)
        tl.store(rate + b, slope, mask=active)
    if MODE == SCALED:
        gain = tl.maximum(s_most, 0.0)
        safe = (o + e < 30.0 * T) & (o + R * (e + gain) < 70.0 * T) & (f > -60.0)
        _put_int(head + 2, tl.where(safe, 0, 1), active)
    elif not FLAGGED:
        _put_int(head + 2, k * 0, active)


# backward


@triton.jit
def _put_states(
    p, d, x, terms, K,
    R: tl.constexpr, L: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr, CELL: tl.constexpr, GAPS: tl.constexpr,
):  # fmt: skip
    """What the backward step needs of a forward step: d alone, or with what the gaps' gradients need."""
    W: tl.constexpr = (1 + (MODE == EXTENDED) + DUAL) * L
    for r in tl.static_range(R):
        _put(p + r * W, L, d[r], None, MODE, DUAL)
        if GAPS and CELL:
            for c in tl.static_range(4):
                _put(p + ((c + 1) * R + r) * W, L, terms[r][c], None, MODE, DUAL)
        elif GAPS:
            _put(p + (R + r) * W, L, x[r], None, MODE, DUAL)
            _put(p + (2 * R + r) * W, L, terms[r][4], None, MODE, DUAL)
    if MODE == SCALED:
        Q: tl.constexpr = (5 if CELL else 3) if GAPS else 1
        _put_int(p + Q * R * W, K, None)


@_kernel
def _backward_kernel(
    scores, s_b, s_n, s_m, gap_open, o_b, o_n, o_m, gap_extend, e_b, e_n, e_m,
    v_scores, vs_b, vs_n, vs_m, v_open, vo_b, vo_n, vo_m, v_extend, ve_b, ve_n, ve_m,
    temperature, lengths1, lengths2,
    grad, grad_stride, rate, d_scores, d_open, d_extend, saved, size, edge_step, segment,
    scratch, scratch_size, B, N, M,
    R: tl.constexpr, L: tl.constexpr, MODE: tl.constexpr, DUAL: tl.constexpr, CELL: tl.constexpr,
    MULTI: tl.constexpr, GAPS: tl.constexpr, FLAGGED: tl.constexpr,
):  # fmt: skip
    """Gradients of one pair after another: every segment of steps is run forward again into the program's scratch
    memory, from the state saved at its start, and then swept back.
    """
    C: tl.constexpr = saved.dtype.element_ty
    scores = (scores, s_b, s_n, s_m)
    gap_open = (gap_open, o_b, o_n, o_m)
    gap_extend = (gap_extend, e_b, e_n, e_m)
    v_scores = (v_scores, vs_b, vs_n, vs_m)
    v_open = (v_open, vo_b, vo_n, vo_m)
    v_extend = (v_extend, ve_b, ve_n, ve_m)
    W: tl.constexpr = 1 + (MODE == EXTENDED) + DUAL
    Q: tl.constexpr = (5 if CELL else 3) if GAPS else 1
    SLOTS: tl.constexpr = Q * R * W + (MODE == SCALED)
    lane = tl.arange(0, L)
    up = (lane + (L - 1)) & (L - 1)
    down = (lane + 1) & (L - 1)
    T = tl.load(temperature)
    unit = _unit(T, C)
    no_lane = lane < 0
    back_edge = scratch + tl.program_id(0).to(tl.int64) * scratch_size
    memory = back_edge + (3 * W + 1) * M + lane
    for b in range(tl.program_id(0), B, tl.num_programs(0)):
        n = _length(lengths1, b, N)
        m = _length(lengths2, b, M)
        head = saved + tl.cast(b, tl.int64) * size
        edges = head + 4
        checkpoints = edges + edge_step * (tl.cdiv(N, R * L) - 1)
        strips = tl.cdiv(n, R * L)
        active = _get_int(head + 2, True) == (1 if FLAGGED else 0)
        strips = tl.where(active, strips, 0)
        weight = tl.load(head) * tl.load(grad + tl.cast(b, tl.int64) * grad_stride)
        k = -_get_int(head + 1, True)
        slope = weight
        if DUAL:
            weight = weight / T
            slope = tl.load(rate + b)
        go, _open = _gap(gap_open, v_open, b, unit, L, C, MODE, DUAL)
        ge, _extend = _gap(gap_extend, v_extend, b, unit, L, C, MODE, DUAL)
        sum_o = tl.full((L,), 0.0, C)
        sum_e = tl.full((L,), 0.0, C)
        steps = m + L
        segments = tl.cdiv(steps, segment)
        for i_strip in range(strips):
            strip = strips - 1 - i_strip
            row = strip * (R * L) + lane * R
            limit = _limits(row, n, m, R)
            p_s = _rows(scores, b, row, R)
            p_o = _rows(gap_open, b, row, R)
            p_e = _rows(gap_extend, b, row, R)
            p_vs = _rows(v_scores, b, row, R) if DUAL else p_s
            p_vo = _rows(v_open, b, row, R) if DUAL else p_s
            p_ve = _rows(v_extend, b, row, R) if DUAL else p_s
            out = (tl.cast(b, tl.int64) * N + row) * M
            edge_in = edges + (strip - 1) * edge_step
            q = ()
            xo = ()
            xe = ()
            for _ in tl.static_range(R):
                q = q + (_zero(L, C, MODE),)
                xo = xo + (_zero(L, C, MODE),)
                xe = xe + (_zero(L, C, MODE),)
            yo = _zero(L, C, MODE)
            ye = _zero(L, C, MODE)
            below = _zero(L, C, MODE)
            top = tl.full((L,), 1.0, C)
            K_b = tl.full((L,), 0, tl.int32)
            for i_segment in range(segments):
                start = (segments - 1 - i_segment) * segment
                end = tl.minimum(start + segment, steps)
                at = strip * ((M + L - 1) // segment) + start // segment - 1
                p = checkpoints + tl.cast(at, tl.int64) * ((3 * R + 2) * W + (MODE == SCALED)) * L + lane
                d, x, h, y, diagonal, K = _get_state(p, lane < start * L, R, L, C, MODE, DUAL)
                ahead = _load(p_s, scores[3], start - lane, limit, -float("inf"), R)
                for t in range(start, end):
                    column = t - lane
                    s = _convert(ahead, R, C)
                    ahead = _load(p_s, scores[3], column + 1, limit, -float("inf"), R)
                    v = _load_tangent(p_vs, v_scores, column, limit, R, L, C, DUAL)
                    go_r, _o = _gap_rows(
                        go, p_o, gap_open, p_vo, v_open, column, limit, unit, R, L, C, MODE, DUAL, CELL
                    )
                    ge_r, _e = _gap_rows(
                        ge, p_e, gap_extend, p_ve, v_extend, column, limit, unit, R, L, C, MODE, DUAL, CELL
                    )
                    first = lane == 0
                    load_edge = first & (column < m) & (lane < strip * L)
                    incoming, K_in, _out, _K = _shift(
                        (d[R - 1], x[R - 1], y), K, up, edge_in + column, load_edge, M, first, MULTI, C, MODE, DUAL, L
                    )
                    d, x, h, diagonal, K, terms = _forward_column(
                        s, v, go_r, ge_r, d, x, h, diagonal, incoming[0], incoming[1], incoming[2], K, K_in, unit,
                        R, L, C, MODE, DUAL,
                    )  # fmt: skip
                    y = terms[R - 1][4]
                    _put_states(memory + (t - start) * (SLOTS * L), d, x, terms, K, R, L, MODE, DUAL, CELL, GAPS)
                ahead = _load(p_s, scores[3], end - 1 - lane, limit, -float("inf"), R)
                for i in range(end - start):
                    t = end - 1 - i
                    column = t - lane
                    p = memory + (t - start) * (SLOTS * L)
                    s = _convert(ahead, R, C)
                    ahead = _load(p_s, scores[3], column - 1, limit, -float("inf"), R)
                    v = _load_tangent(p_vs, v_scores, column, limit, R, L, C, DUAL)
                    go_r, _o = _gap_rows(
                        go, p_o, gap_open, p_vo, v_open, column, limit, unit, R, L, C, MODE, DUAL, CELL
                    )
                    ge_r, _e = _gap_rows(
                        ge, p_e, gap_extend, p_ve, v_extend, column, limit, unit, R, L, C, MODE, DUAL, CELL
                    )
                    last = lane == L - 1
                    load_edge = last & (column >= 0) & (column < m) & (lane < i_strip * L)
                    incoming, K_in, outgoing, K_out = _shift(
                        (q[0], yo, ye), K_b, down, back_edge + column, load_edge, M, last, MULTI, C, MODE, DUAL, L
                    )
                    if MULTI:
                        done = t + 1 + lane * 0
                        _put_edge(outgoing, K_out, back_edge + done, M, last & (done < m), MODE, DUAL)
                    q, xo, xe, top, below, K_b, yo, ye, states, after = _backward_column(
                        s, v, go_r, ge_r, q, xo, xe, top, below, incoming[0], incoming[1], incoming[2], K_b, K_in, unit,
                        R, L, C, MODE, DUAL,
                    )  # fmt: skip
                    lane_weight = weight + tl.full((L,), 0.0, C)
                    k_lane = tl.full((L,), 0, tl.int32) + k
                    if MODE == SCALED:
                        k_lane = k + K_b + _get_int(p + Q * R * W * L, None)
                        lane_weight = weight * _power(tl.minimum(k_lane, 127), C)
                    for r in tl.static_range(R):
                        d_r = _get(p + r * W * L, L, None, MODE, DUAL)
                        inside = column.to(tl.uint32, bitcast=True) < limit[r].to(tl.uint32, bitcast=True)
                        posterior = _flow(d_r, states[r][0], lane_weight, k_lane, slope, MODE, DUAL)
                        tl.store(d_scores + (out + r * M + column), posterior, mask=inside)
                        if GAPS and CELL:
                            o_r = tl.full((L,), 0.0, C)
                            e_r = tl.full((L,), 0.0, C)
                            for c in tl.static_range(2):
                                opened = _get(p + ((2 * c + 1) * R + r) * W * L, L, None, MODE, DUAL)
                                extended = _get(p + ((2 * c + 2) * R + r) * W * L, L, None, MODE, DUAL)
                                o_r -= _flow(opened, states[r][c + 1], lane_weight, k_lane, slope, MODE, DUAL)
                                e_r -= _flow(extended, states[r][c + 1], lane_weight, k_lane, slope, MODE, DUAL)
                            tl.store(d_open + (out + r * M + column), o_r, mask=inside)
                            tl.store(d_extend + (out + r * M + column), e_r, mask=inside)
                        elif GAPS:
                            x_r = _get(p + (R + r) * W * L, L, None, MODE, DUAL)
                            y_r = _get(p + (2 * R + r) * W * L, L, None, MODE, DUAL)
                            u_r = _plus(d_r, x_r, MODE, DUAL)
                            sum_o += _flow(d_r, after[r][0], lane_weight, k_lane, slope, MODE, DUAL)
                            sum_o += _flow(u_r, after[r][1], lane_weight, k_lane, slope, MODE, DUAL)
                            sum_e += _flow(x_r, after[r][2], lane_weight, k_lane, slope, MODE, DUAL)
                            sum_e += _flow(y_r, after[r][3], lane_weight, k_lane, slope, MODE, DUAL)
            if MULTI:
                _i, _k, outgoing, K_out = _shift(
                    (q[0], yo, ye), K_b, down, back_edge + lane, no_lane, M, no_lane, False, C, MODE, DUAL, L
                )
                _put_edge(outgoing, K_out, back_edge + lane * 0, M, (lane == L - 1) & (lane * 0 < m), MODE, DUAL)
        if GAPS and not CELL:
            tl.store(d_open + b, -tl.sum(sum_o, 0), mask=active)
            tl.store(d_extend + b, -tl.sum(sum_e, 0), mask=active)


# hard alignment


@_kernel
def _hard_kernel(
    scores, s_b, s_n, s_m, gap_open, o_b, o_n, o_m, gap_extend, e_b, e_n, e_m, lengths1, lengths2,
    score, end, choices, edges, edge_step, N, M,
    R: tl.constexpr, L: tl.constexpr, CELL: tl.constexpr, MULTI: tl.constexpr,
):  # fmt: skip
    """Best score of one pair, the cell it ends in, and where H, X and Y of every cell came from.

    A choice has the source of H in bits 0-1 (0 start, 1 D, 2 X, 3 Y), of X in bit 2 (0 D, 1 X), of Y in bits 3-4
    (0 D, 1 X, 2 Y); the first named wins a tie.
    """
    C: tl.constexpr = score.dtype.element_ty
    scores = (scores, s_b, s_n, s_m)
    gap_open = (gap_open, o_b, o_n, o_m)
    gap_extend = (gap_extend, e_b, e_n, e_m)
    MODE: tl.constexpr = MAXIMUM
    b = tl.program_id(0)
    lane = tl.arange(0, L)
    index = (lane + (L - 1)) & (L - 1)
    n = _length(lengths1, b, N)
    m = _length(lengths2, b, M)
    one = tl.full((), 1.0, C)
    unit = (one, one, one)
    edge = edges + tl.cast(b, tl.int64) * edge_step
    go, o = _gap(gap_open, gap_open, b, unit, L, C, MODE, False)
    ge, e = _gap(gap_extend, gap_extend, b, unit, L, C, MODE, False)
    nan = tl.full((L,), 0, tl.int32) + ((o != o) | (e != e)).to(tl.int32)
    best = tl.full((L,), -float("inf"), C)
    best_i = tl.full((L,), 0, tl.int32)
    best_j = tl.full((L,), 0, tl.int32)
    K = tl.full((L,), 0, tl.int32)
    for strip in range(tl.cdiv(n, R * L)):
        row = strip * (R * L) + lane * R
        limit = _limits(row, n, m, R)
        p_s = _rows(scores, b, row, R)
        p_o = _rows(gap_open, b, row, R)
        p_e = _rows(gap_extend, b, row, R)
        out = (tl.cast(b, tl.int64) * N + row) * M
        d, x, h = _border(R, L, C, MODE)
        y = _zero(L, C, MODE)
        diagonal = _one(K, L, C, MODE)
        top = ()
        top_j = ()
        for _ in tl.static_range(R):
            top = top + (tl.full((L,), -float("inf"), C),)
            top_j = top_j + (tl.full((L,), 0, tl.int32),)
        ahead = _load(p_s, scores[3], -lane, limit, -float("inf"), R)
        for t in range(m + L):
            column = t - lane
            s = _convert(ahead, R, C)
            ahead = _load(p_s, scores[3], column + 1, limit, -float("inf"), R)
            v = _load_tangent(p_s, scores, column, limit, R, L, C, False)
            go_r, o_c = _gap_rows(go, p_o, gap_open, p_o, gap_open, column, limit, unit, R, L, C, MODE, False, CELL)
            ge_r, e_c = _gap_rows(ge, p_e, gap_extend, p_e, gap_extend, column, limit, unit, R, L, C, MODE, False, CELL)
            nan |= ((o_c != o_c) | (e_c != e_c)).to(tl.int32)
            first = lane == 0
            load_edge = first & (column < m) & (lane < strip * L)
            incoming, _K_in, outgoing, _K_out = _shift(
                (d[R - 1], x[R - 1], y), K, index, edge + column, load_edge, M, first, MULTI, C, MODE, False, L
            )
            if MULTI:
                done = column - L
                _put_edge(outgoing, K, edge + done, M, first & (done >= 0) & (done < m), MODE, False)
            d, x, h, diagonal, _K_new, terms = _forward_column(
                s, v, go_r, ge_r, d, x, h, diagonal, incoming[0], incoming[1], incoming[2], K, K, unit,
                R, L, C, MODE, False,
            )  # fmt: skip
            y = terms[R - 1][4]
            top_new = ()
            top_j_new = ()
            for r in tl.static_range(R):
                d_above = incoming[0][0] if r == 0 else d[r - 1][0]
                x_above = incoming[1][0] if r == 0 else x[r - 1][0]
                d_r = d[r][0]
                x_r = x[r][0]
                y_r = terms[r][4][0]
                from_h = tl.where((d_r >= x_r) & (d_r >= y_r), 1, tl.where(x_r >= y_r, 2, 3))
                from_h = tl.where((d_r > 0) | (x_r > 0) | (y_r > 0), from_h, 0)
                from_x = tl.where(terms[r][0][0] >= terms[r][1][0], 0, 4)
                from_y = tl.where(d_above + go_r[r][0] >= x_above + go_r[r][0], 0, 8)
                from_y = tl.where(terms[r][2][0] >= terms[r][3][0], from_y, 16)
                inside = column.to(tl.uint32, bitcast=True) < limit[r].to(tl.uint32, bitcast=True)
                tl.store(choices + (out + r * M + column), (from_h | from_x | from_y).to(tl.uint8), mask=inside)
                better = d_r > top[r]
                top_new = top_new + (tl.where(better, d_r, top[r]),)
                top_j_new = top_j_new + (tl.where(better, column, top_j[r]),)
                nan |= (s[r] != s[r]).to(tl.int32)
            top = top_new
            top_j = top_j_new
        for r in tl.static_range(R):
            better = top[r] > best
            best = tl.where(better, top[r], best)
            best_i = tl.where(better, row + r, best_i)
            best_j = tl.where(better, top_j[r], best_j)
    most = tl.max(best, 0)
    bad = tl.max(nan, 0) != 0
    i = tl.min(tl.where(best == most, best_i, N), 0)
    j = tl.min(tl.where((best == most) & (best_i == i), best_j, M), 0)
    found = (most > _FORBIDDEN) & (bad == 0)
    tl.store(score + b, tl.where(bad, float("nan"), tl.where(found, most, 0.0)))
    tl.store(end + 2 * b, tl.where(found, i, -1))
    tl.store(end + 2 * b + 1, j)


@triton.jit
def _walk(choice, i, j, path, free, M, WRITE: tl.constexpr):
    """Follow the choices back from cell (i, j); matched cells go to path[free - 1], path[free - 2] ... Their number."""
    state = tl.where(i >= 0, 1, 0)
    count = tl.where(i >= 0, 0, 0)
    while state > 0:
        match = state == 1
        count += tl.where(match, 1, 0)
        if WRITE:
            place = path + 2 * (free - count).to(tl.int64)
            tl.store(place, i.to(tl.int64), mask=match)
            tl.store(place + 1, j.to(tl.int64), mask=match)
        before_i = tl.where(state == 2, i, i - 1)
        before_j = tl.where(state == 3, j, j - 1)
        at_i = tl.where(match, before_i, i)
        at_j = tl.where(match, before_j, j)
        inside = (before_i >= 0) & (before_j >= 0)
        c = tl.load(choice + (at_i.to(tl.int64) * M + at_j), mask=inside, other=0).to(tl.int32)
        from_gap = tl.where(state == 2, 1 + ((c >> 2) & 1), 1 + (c >> 3))
        state = tl.where(inside, tl.where(match, c & 3, from_gap), 0)
        i = before_i
        j = before_j
    return count


@_kernel
def _trace_kernel(choices, end, path, count, N, M):
    b = tl.program_id(0).to(tl.int64)
    choice = choices + b * N * M
    i = tl.load(end + 2 * b)
    j = tl.load(end + 2 * b + 1)
    p = path + b * 2 * tl.minimum(N, M)
    found = _walk(choice, i, j, p, 0, M, False)
    _walk(choice, i, j, p, found, M, True)
    tl.store(count + b, found.to(tl.int64))


# launchers


def unavailable(device: torch.device) -> str | None:
    """None where Triton can compile for the device: a GPU, or a CPU that stands in for one."""
    if device.type == "cuda":
        return None
    if device.type == "cpu":
        if triton.knobs.runtime.interpret:
            return None
        try:
            if triton.runtime.driver.active.get_active_torch_device().type == "cpu":
                return None
        except RuntimeError:
            pass
        return "Triton kernels need a GPU; move the tensors to one, set TRITON_INTERPRET=1, or use backend='cpu'"
    return f"Triton kernels do not run on {device.type}; use backend='eager'"


class _Plan(NamedTuple):
    """How one mode runs a problem: `rows` per lane, `segment` steps between saved states; sizes in words."""

    mode: int
    rows: int
    lanes: int
    segment: int
    edge: int  # one strip's bottom row in `saved`
    size: int  # `saved` per pair
    words: int  # of a value
    multi: bool  # more than one strip


_new_empty = Tensor.new_empty  # for what a kernel fills and hands on
_new_scratch = Tensor.new_empty  # for what it alone writes and reads


def _lanes() -> int:
    if triton.knobs.runtime.interpret:
        return 32
    return int(triton.runtime.driver.active.get_current_target().warp_size)


_MOST_ROWS = {SCALED.value: 8, EXTENDED.value: 4, MAXIMUM.value: 4}  # more would spill registers


def _saved_words(scores: Tensor) -> int:
    """Four words, and an eighth of the scores' bytes."""
    _, n, m = scores.shape
    return 4 + n * m * scores.element_size() // (8 * compute_dtype(scores.dtype).itemsize)


def _plan(scores: Tensor, mode: int, most: int | None, dual: bool = False) -> _Plan:
    """The shortest segments whose saved states fit into `most` words per pair; None: there is nothing to save."""
    _, n, m = scores.shape
    lanes = _lanes()
    words = 1 + (mode == EXTENDED.value) + dual
    rows = 1
    while rows < (min(4, _MOST_ROWS[mode]) if dual else _MOST_ROWS[mode]) and rows * lanes < n:
        rows *= 2
    between = -(-n // (rows * lanes)) - 1
    steps = m + lanes
    row = (3 * words + 1) * m
    if most is None:
        return _Plan(mode, rows, lanes, steps, 0, 4 + row * (between > 0), words, between > 0)
    edge = row if between else 0
    state = (between + 1) * ((3 * rows + 2) * words + (mode == SCALED.value)) * lanes
    segment = 16
    while segment < steps and 4 + between * edge + (steps - 1) // segment * state > most:
        segment += 16
    return _Plan(mode, rows, lanes, min(segment, steps), edge, most, words, between > 0)


def _plans(scores: Tensor, save: bool, dual: bool = False) -> list[_Plan]:
    """The modes to launch one after another on one `saved`."""
    modes = (EXTENDED,) if scores.dtype == torch.float64 else (SCALED, EXTENDED)
    most = _saved_words(scores) * (2 if dual else 1) if save else None
    plans = [_plan(scores, mode.value, most, dual) for mode in modes]
    size = max(plan.size for plan in plans)
    return [plan._replace(size=size) for plan in plans]


def saved_like(scores: Tensor) -> Tensor:
    return scores.new_empty((scores.shape[0], _saved_words(scores)), dtype=compute_dtype(scores.dtype))


_View = tuple[Tensor, int, int, int]


def _view(x: Tensor, shape: torch.Size) -> _View:
    """The tensor and its strides, 0 where it is broadcast."""
    x = x.expand(shape)
    if x.shape[2] * x.stride(2) >= 2**31:
        x = x.contiguous()
    return x, x.stride(0), x.stride(1), x.stride(2)


_OPTIONS: dict[str, Any] = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}


def _options(needs_all: bool) -> dict[str, Any]:
    """Left to itself, ptxas stops at 128 or 168 registers and spills where a kernel needs more."""
    if not needs_all or triton.knobs.runtime.interpret:
        return _OPTIONS
    backend = triton.runtime.driver.active.get_current_target().backend
    return {**_OPTIONS, "maxnreg": 255} if backend == "cuda" else _OPTIONS


def _guard(device: torch.device) -> Any:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _is_cell(*gaps: Tensor) -> bool:
    return any(gap.shape[1] * gap.shape[2] > 1 for gap in gaps)


def _launch_forward(
    views: tuple[_View, ...],
    temperature: Tensor,
    lengths: tuple[Tensor | None, Tensor | None],
    plans: list[_Plan],
    dual: bool,
    cell: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    scores = views[0][0]
    b, n, m = scores.shape
    dtype = compute_dtype(scores.dtype)
    score = _new_empty(scores, b, dtype=dtype)
    rate = _new_empty(scores, b if dual else 0, dtype=dtype)
    saved = _new_empty(scores, (b, plans[0].size), dtype=dtype)
    with _guard(scores.device):
        for plan in plans:
            _forward_kernel[(b,)](
                *chain(*views), temperature, *lengths, score, rate, saved, plan.size, plan.edge, plan.segment, n, m,
                R=plan.rows, L=plan.lanes, MODE=plan.mode, DUAL=dual, CELL=cell, MULTI=plan.multi,
                FLAGGED=plan is not plans[0], **_OPTIONS,
            )  # fmt: skip
    return score, rate, saved


def _programs(plan: _Plan, pairs: int, words: int, most: int) -> int:
    """As many as share `most` words of scratch, but never so few that a large GPU stands idle."""
    few = 1056 if plan.mode == SCALED.value else 528
    return min(pairs, max(few, most // words))


def _launch_backward(
    grad: Tensor,
    views: tuple[_View, ...],
    temperature: Tensor,
    lengths: tuple[Tensor | None, Tensor | None],
    saved: Tensor,
    rate: Tensor,
    plans: list[_Plan],
    dtype: torch.dtype,
    gaps: bool,
    dual: bool,
    gap_shapes: tuple[torch.Size, torch.Size],
    cell: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    scores = views[0][0]
    b, n, m = scores.shape
    empty = _new_empty if lengths[0] is None else Tensor.new_zeros
    d_scores = empty(scores, (b, n, m), dtype=dtype)
    shape = (0,) if not gaps else (b, n, m) if cell else (b, 1, 1)
    d_open, d_extend = (empty(saved, shape, dtype=saved.dtype) for _ in range(2))
    values = (5 if cell else 3) if gaps else 1
    sizes, programs = [], []
    for plan in plans:
        slots = values * plan.rows * plan.words + (plan.mode == SCALED.value)
        sizes.append((3 * plan.words + 1) * m + plan.segment * slots * plan.lanes)
        programs.append(_programs(plan, b, sizes[-1], scores.numel() // 16))
    scratch = _new_scratch(saved, max(x * y for x, y in zip(sizes, programs, strict=True)))
    with _guard(scores.device):
        for plan, size, count in zip(plans, sizes, programs, strict=True):
            _backward_kernel[(count,)](
                *chain(*views), temperature, *lengths, grad, grad.stride(0), rate, d_scores, d_open, d_extend,
                saved, plan.size, plan.edge, plan.segment, scratch, size, b, n, m,
                R=plan.rows, L=plan.lanes, MODE=plan.mode, DUAL=dual, CELL=cell, MULTI=plan.multi, GAPS=gaps,
                FLAGGED=plan is not plans[0], **_options(cell or dual),
            )  # fmt: skip
    if not gaps:
        return d_scores, d_open, d_extend
    return d_scores, d_open.sum_to_size(gap_shapes[0]), d_extend.sum_to_size(gap_shapes[1])


def forward(problem: Problem, save: bool) -> tuple[Tensor, Tensor]:
    scores, gap_open, gap_extend, temperature, lengths1, lengths2 = problem
    views = tuple(_view(x, scores.shape) for x in (scores, gap_open, gap_extend))
    score, _, saved = _launch_forward(
        (*views, *views), temperature, (lengths1, lengths2), _plans(scores, save), False, _is_cell(gap_open, gap_extend)
    )
    return score, saved if save else _new_empty(saved, 0)


def gradient(
    grad: Tensor, problem: Problem, saved: Tensor, dtype: torch.dtype, gaps: bool
) -> tuple[Tensor, Tensor, Tensor]:
    scores, gap_open, gap_extend, temperature, lengths1, lengths2 = problem
    views = tuple(_view(x, scores.shape) for x in (scores, gap_open, gap_extend))
    return _launch_backward(
        grad, (*views, *views), temperature, (lengths1, lengths2), saved, saved, _plans(scores, True), dtype, gaps,
        False, (gap_open.shape, gap_extend.shape), _is_cell(gap_open, gap_extend),
    )  # fmt: skip


def second(grad: Tensor, problem: Problem, direction: Direction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scores, gap_open, gap_extend, temperature, lengths1, lengths2 = problem
    views = tuple(_view(x, scores.shape) for x in (scores, gap_open, gap_extend, *direction))
    plans = _plans(scores, True, dual=True)
    cell = _is_cell(gap_open, gap_extend, direction.gap_open, direction.gap_extend)
    score, rate, saved = _launch_forward(views, temperature, (lengths1, lengths2), plans, True, cell)
    h_scores, h_open, h_extend = _launch_backward(
        grad, views, temperature, (lengths1, lengths2), saved, rate, plans, score.dtype, True, True,
        (gap_open.shape, gap_extend.shape), cell,
    )  # fmt: skip
    return h_scores, h_open, h_extend, rate


def hard(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    scores, gap_open, gap_extend, _, lengths1, lengths2 = problem
    b, n, m = scores.shape
    dtype = compute_dtype(scores.dtype)
    plan = _plan(scores, MAXIMUM.value, None)
    score = _new_empty(scores, b, dtype=dtype)
    end = _new_empty(scores, (b, 2), dtype=torch.int32)
    choices = _new_empty(scores, (b, n, m), dtype=torch.uint8)
    edges = _new_scratch(scores, (b, plan.size), dtype=dtype)
    path = scores.new_full((b, min(n, m), 2), -1, dtype=torch.int64)
    count = _new_empty(scores, b, dtype=torch.int64)
    with _guard(scores.device):
        _hard_kernel[(b,)](
            *chain(*(_view(x, scores.shape) for x in (scores, gap_open, gap_extend))), lengths1, lengths2,
            score, end, choices, edges, edges.stride(0), n, m,
            R=plan.rows, L=plan.lanes, CELL=_is_cell(gap_open, gap_extend), MULTI=plan.multi, **_OPTIONS,
        )  # fmt: skip
        _trace_kernel[(b,)](choices, end, path, count, n, m, **_OPTIONS)
    return score, path, count
