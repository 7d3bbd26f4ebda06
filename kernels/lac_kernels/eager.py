"""The recursion of `reference` in torch operations on whole anti-diagonals: any device, any dtype, any order.

All cells (i, j) with i + j = t depend on diagonals t - 1 and t - 2 only. A diagonal is a vector over the shorter
sequence, `scores` is *skewed* once so that diagonal t lies contiguous at index t, and a shift by one place stands for
the other index stepping back. Everything is in units of the temperature: s = S / T, o / T, e / T, score = T f.

The gradient does not differentiate the log-sum-exps again. It turns the saved D, X, Y into transition weights, which
are softmaxes and so sum to one whatever the rounding of D, X, Y was, and sends probability mass backwards through
them: additions and multiplications only. The Hessian-vector product is the same pair of sweeps on tangents. No
operation writes in place, so autograd can differentiate each of these functions again.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lac_kernels.problem import Direction, Problem, valid_frames
from lac_kernels.reference import FORBIDDEN, compute_dtype

_NEVER = -1e37  # finite stand-in for -inf: differences of two stay finite
_POSSIBLE = 0.5 * _NEVER  # above it is what has an alignment, whatever was added to it or taken from it


class _Grid(NamedTuple):
    """A problem on skewed diagonals: T = N + M - 1 diagonals, batch B, L = min(N, M) places."""

    scores: Tensor  # (T, B, L), in units of the temperature, _NEVER outside the valid cells
    gap_open: Tensor  # (T | 1, B | 1, L | 1)
    gap_extend: Tensor
    swapped: bool  # places run over sequence 2 instead of sequence 1


def unavailable(device: torch.device) -> str | None:
    return None


def saved_like(problem: Problem) -> Tensor:
    scores = problem.scores
    b, n, m = scores.shape
    return _pairs_first(scores.new_empty((3, n + m - 1, b, min(n, m)), dtype=compute_dtype(scores.dtype)))


def _pairs_first(states: Tensor) -> Tensor:
    """What is saved has the batch first, as in every engine."""
    return states.permute(2, 0, 1, 3)


def _skew(x: Tensor, fill: float) -> Tensor:
    """(B, L, K) -> (L + K - 1, B, L): x[b, p, q] moves to [p + q, b, p]."""
    b, length, k = x.shape
    wide = pad(x, (0, length), value=fill).reshape(b, length * (k + length))
    return wide[:, : length * (k + length - 1)].reshape(b, length, k + length - 1).permute(2, 0, 1).contiguous()


def _unskew(x: Tensor, swapped: bool) -> Tensor:
    """Back to (B, N, M)."""
    t, b, length = x.shape
    flat = pad(x.permute(1, 2, 0).reshape(b, length * t), (0, length))
    y = flat.reshape(b, length, t + 1)[:, :, : t + 1 - length]
    return y.mT if swapped else y


def _skew_broadcast(x: Tensor, n: int, m: int, swapped: bool) -> Tensor:
    """(1 | B, 1 | N, 1 | M) -> (T | 1, B | 1, L | 1)."""
    if x.shape[1] == x.shape[2] == 1:
        return x.permute(1, 0, 2)
    x = x.expand(-1, n, m)
    return _skew(x.mT if swapped else x, 0.0)


def _reduce_gap(d: Tensor, gap: Tensor, swapped: bool) -> Tensor:
    """Sum a gradient on diagonals (T, B, L) over the dimensions in which the gap (1 | B, 1 | N, 1 | M) is broadcast."""
    if gap.shape[1] == gap.shape[2] == 1:
        return d.sum((0, 2))[:, None, None].sum_to_size(gap.shape)
    return _unskew(d, swapped).sum_to_size(gap.shape)


def _valid_cells(problem: Problem) -> Tensor | None:
    """(B, N, M) bool, which cells are within the lengths; None where all are."""
    if problem.lengths1 is None or problem.lengths2 is None:
        return None
    _, n, m = problem.scores.shape
    return valid_frames(problem.lengths1, n)[:, :, None] & valid_frames(problem.lengths2, m)[:, None, :]


def _grid(problem: Problem, soft: bool = True) -> _Grid:
    _, n, m = problem.scores.shape
    swapped = m < n
    scores = problem.scores.to(compute_dtype(problem.scores.dtype))
    forbidden = scores <= FORBIDDEN
    gap_open, gap_extend = (gap.clamp(max=-_NEVER) for gap in (problem.gap_open, problem.gap_extend))
    valid = _valid_cells(problem)
    if valid is not None:
        outside = ~valid
        forbidden = forbidden | outside
        gap_open, gap_extend = (_inside(gap, outside) for gap in (gap_open, gap_extend))
    scores = scores.masked_fill(forbidden, 0.0)  # before the division, whose derivative would bring NaN back
    if soft:
        scores, gap_open, gap_extend = (x / problem.temperature for x in (scores, gap_open, gap_extend))
    scores = scores.clamp(min=_NEVER).masked_fill(forbidden, _NEVER)
    return _Grid(
        _skew(scores.mT if swapped else scores, _NEVER),
        _skew_broadcast(gap_open.clamp(max=-_NEVER), n, m, swapped),
        _skew_broadcast(gap_extend.clamp(max=-_NEVER), n, m, swapped),
        swapped,
    )


def _inside(gap: Tensor, outside: Tensor) -> Tensor:
    """0 where no valid cell has the penalty, whatever stands there."""
    for dim in range(3):
        outside = outside.all(dim, keepdim=True) if gap.shape[dim] == 1 else outside
    return gap.masked_fill(outside, 0.0)


def _shift(x: Tensor, fill: float) -> Tensor:
    """Value of the previous place."""
    return pad(x[..., :-1], (1, 0), value=fill)


def _unshift(x: Tensor) -> Tensor:
    """Value of the next place; none is 0."""
    return pad(x[..., 1:], (0, 1))


def _at(x: Tensor, t: int) -> Tensor:
    return x[t if x.shape[0] > 1 else 0]


def _sweep(grid: _Grid) -> Tensor:
    """D, X, Y of every cell, (3, T, B, L), in units of the temperature."""
    never, zero = torch.full_like(grid.scores[0], _NEVER), torch.zeros_like(grid.scores[0])
    D, X, Y, DX, H, H_before = never, never, never, never, zero, zero
    states = []
    for t, s in enumerate(grid.scores):
        o, e = _at(grid.gap_open, t), _at(grid.gap_extend, t)
        if grid.swapped:
            D, X = _shift(D, _NEVER), _shift(X, _NEVER)
        else:
            DX, Y = _shift(DX, _NEVER), _shift(Y, _NEVER)
        X, Y = torch.logaddexp(D - o, X - e), torch.logaddexp(DX - o, Y - e)
        D = s + _shift(H_before, 0.0)
        DX = torch.logaddexp(D, X)
        H_before, H = H, torch.logaddexp(DX, torch.logaddexp(Y, zero))
        states.append(torch.stack((D, X, Y)))
    return torch.stack(states, dim=1)


def _total(states: Tensor) -> Tensor:
    """log sum exp of D over all cells (B,), 0 where no cell can be matched."""
    f = torch.logsumexp(states[0], dim=(0, 2))
    return torch.where(f > _POSSIBLE, f, f - f)


class _Weights(NamedTuple):
    """Probabilities of the transitions, each (T, B, L).

    At the cell the step leaves: `from_d`, `from_x`, `from_y` of H (the next match), `open_d` of D within D + X (a gap
    that opens in sequence 1). At the cell the step enters: `open_x`, `open_y` of opening against extending.
    """

    from_d: Tensor
    from_x: Tensor
    from_y: Tensor
    open_d: Tensor
    open_x: Tensor
    open_y: Tensor
    end: Tensor  # of D among all ends of an alignment


def _weights(states: Tensor, grid: _Grid) -> _Weights:
    D, X, Y = states
    _, from_d, from_x, from_y = torch.softmax(torch.stack((torch.zeros_like(D), D, X, Y)), dim=0)
    DX = torch.logaddexp(D, X)
    t, b, length = D.shape
    end = torch.softmax(D.permute(1, 0, 2).reshape(b, -1), dim=1).reshape(b, t, length).permute(1, 0, 2)
    x_open, x_extend = _enter_x(D, grid, _NEVER), _enter_x(X, grid, _NEVER)
    y_open, y_extend = _enter_y(DX, grid, _NEVER), _enter_y(Y, grid, _NEVER)
    return _Weights(
        from_d,
        from_x,
        from_y,
        torch.sigmoid(D - X),
        torch.sigmoid((x_open - grid.gap_open) - (x_extend - grid.gap_extend)),
        torch.sigmoid((y_open - grid.gap_open) - (y_extend - grid.gap_extend)),
        end * (D > _POSSIBLE),
    )


def _previous(x: Tensor, fill: float) -> Tensor:
    return torch.cat((torch.full_like(x[:1], fill), x[:-1]))


def _next(x: Tensor) -> Tensor:
    return torch.cat((x[1:], torch.zeros_like(x[:1])))


def _enter_x(x: Tensor, grid: _Grid, fill: float) -> Tensor:
    """Values at (i, j - 1), seen from (i, j)."""
    x = _previous(x, fill)
    return _shift(x, fill) if grid.swapped else x


def _enter_y(x: Tensor, grid: _Grid, fill: float) -> Tensor:
    """Values at (i - 1, j), seen from (i, j)."""
    x = _previous(x, fill)
    return x if grid.swapped else _shift(x, fill)


def _leave_x(x: Tensor, grid: _Grid) -> Tensor:
    """Values at (i, j + 1), seen from (i, j)."""
    x = _next(x)
    return _unshift(x) if grid.swapped else x


def _leave_y(x: Tensor, grid: _Grid) -> Tensor:
    """Values at (i + 1, j), seen from (i, j)."""
    x = _next(x)
    return x if grid.swapped else _unshift(x)


def _leave_h(x: Tensor) -> Tensor:
    """Values at (i + 1, j + 1), seen from (i, j)."""
    return _unshift(_next(_next(x)))


def _adjoint(w: _Weights, sources: tuple[Tensor, Tensor, Tensor], grid: _Grid) -> Tensor:
    """Send mass backwards: the adjoints of D, X, Y (3, T, B, L) for the mass that `sources` put on D, X, Y."""
    zero = torch.zeros_like(w.end[0])
    bd, bd_after, x_open, x_extend, y_open, y_extend = zero, zero, zero, zero, zero, zero
    adjoints = []
    for t in range(w.end.shape[0] - 1, -1, -1):
        if grid.swapped:
            x_open, x_extend = _unshift(x_open), _unshift(x_extend)
        else:
            y_open, y_extend = _unshift(y_open), _unshift(y_extend)
        bh, bd_after = _unshift(bd_after), bd
        y_open_d = w.open_d[t] * y_open
        bd = sources[0][t] + w.from_d[t] * bh + x_open + y_open_d
        bx = sources[1][t] + w.from_x[t] * bh + x_extend + (y_open - y_open_d)
        by = sources[2][t] + w.from_y[t] * bh + y_extend
        adjoints.append(torch.stack((bd, bx, by)))
        x_open, y_open = w.open_x[t] * bx, w.open_y[t] * by
        x_extend, y_extend = bx - x_open, by - y_open
    return torch.stack(adjoints[::-1], dim=1)


def _tangent(w: _Weights, sources: tuple[Tensor, Tensor, Tensor], grid: _Grid) -> tuple[Tensor, Tensor]:
    """The tangents of D, X, Y (3, T, B, L) and of H (T, B, L) for increments `sources` of D, X, Y."""
    zero = torch.zeros_like(w.end[0])
    td, tx, ty, tdx, th, th_before = zero, zero, zero, zero, zero, zero
    tangents, tangents_h = [], []
    for t in range(w.end.shape[0]):
        if grid.swapped:
            td, tx = _shift(td, 0.0), _shift(tx, 0.0)
        else:
            tdx, ty = _shift(tdx, 0.0), _shift(ty, 0.0)
        tx = sources[1][t] + tx + w.open_x[t] * (td - tx)
        ty = sources[2][t] + ty + w.open_y[t] * (tdx - ty)
        td = sources[0][t] + _shift(th_before, 0.0)
        tdx = tx + w.open_d[t] * (td - tx)
        th_before, th = th, w.from_d[t] * td + w.from_x[t] * tx + w.from_y[t] * ty
        tangents.append(torch.stack((td, tx, ty)))
        tangents_h.append(th)
    return torch.stack(tangents, dim=1), torch.stack(tangents_h)


def forward(problem: Problem, save: bool) -> tuple[Tensor, Tensor]:
    states = _sweep(_grid(problem))
    return problem.temperature * _total(states), _pairs_first(states) if save else states.new_empty(0)


def gradient(
    grad: Tensor, problem: Problem, saved: Tensor, dtype: torch.dtype, gaps: bool
) -> tuple[Tensor, Tensor, Tensor]:
    grid = _grid(problem)
    w = _weights(saved.permute(1, 2, 0, 3), grid)
    nothing = torch.zeros_like(w.end)
    bd, bx, by = _adjoint(w, (grad[:, None] * w.end, nothing, nothing), grid)
    d_scores = _unskew(bd, grid.swapped).to(dtype).contiguous()
    if not gaps:
        return d_scores, d_scores.new_empty(0), d_scores.new_empty(0)
    opened = w.open_x * bx + w.open_y * by
    extended = bx + by - opened
    return (
        d_scores,
        -_reduce_gap(opened, problem.gap_open, grid.swapped),
        -_reduce_gap(extended, problem.gap_extend, grid.swapped),
    )


def second(grad: Tensor, problem: Problem, direction: Direction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Derivatives of sum_b g[b] <v, df[b]/d(S, o, e)> by S, o, e and g: the tangents of `gradient` along v.

    With the weights w of `_Weights`, ' for the cell that a gap steps from, and v_gap = v_e - v_o:

    (1) the tangents of the states, as the states themselves but for weighted means in place of log-sum-exps
        tX = tX' - v_e + open_x (tD' - tX' + v_gap)        tDX = tX + open_d (tD - tX)
        tY = tY' - v_e + open_y (tDX' - tY' + v_gap)       tH  = from_d tD + from_x tX + from_y tY
        tD = v_S + tH'                                     df/dv = sum end tD
    (2) the tangents of the weights: a softmax weight p_k of inputs a changes by p_k (ta_k - sum_l p_l ta_l), so
        t_end    = end (tD - df/dv)                        t_open_d = open_d (1 - open_d) (tD - tX)
        t_from_z = from_z (tz - tH), z = D, X, Y           t_open_x = open_x (1 - open_x) (tD' - tX' + v_gap)
                                                           t_open_y = open_y (1 - open_y) (tDX' - tY' + v_gap)
    (3) the adjoints bD, bX, bY are linear in the masses that weights send back, so their tangents are the same sweep
        with, as sources, the tangents of the weights times the masses that these moved, ' now for the cell stepped to
        D:  g t_end + t_from_d bH' + t_open_x' bX' + t_open_d open_y' bY' + open_d t_open_y' bY'
        X:            t_from_x bH' - t_open_x' bX' - t_open_d open_y' bY' + (1 - open_d) t_open_y' bY'
        Y:            t_from_y bH' - t_open_y' bY'
    (4) dS = tbD,   do = -(open_x tbX + open_y tbY + t_open_x bX + t_open_y bY),   de = -(tbX + tbY + do);
        the last two summed over the cells that share a penalty. All but df/dv are in units of 1 / T.
    """
    grid = _grid(problem)
    w = _weights(_sweep(grid), grid)
    nothing = torch.zeros_like(w.end)
    end = grad[:, None] * w.end
    bd, bx, by = _adjoint(w, (end, nothing, nothing), grid)

    v_scores, v_open, v_extend = _skew_direction(direction, problem, grid)
    v_gap = v_extend - v_open
    v_all = (v_scores.expand_as(end), w.open_x * v_gap - v_extend, w.open_y * v_gap - v_extend)
    (td, tx, ty), th = _tangent(w, v_all, grid)  # (1)
    h_grad = (w.end * td).sum((0, 2))

    t_end = end * (td - h_grad[:, None])  # (2), t_open_x and t_open_y times bX and bY
    t_from_d, t_from_x, t_from_y = (p * (t - th) for p, t in ((w.from_d, td), (w.from_x, tx), (w.from_y, ty)))
    t_open_d = w.open_d * (1 - w.open_d) * (td - tx)
    tdx = tx + w.open_d * (td - tx)
    t_open_x = bx * w.open_x * (1 - w.open_x) * (_enter_x(td - tx, grid, 0.0) + v_gap)
    t_open_y = by * w.open_y * (1 - w.open_y) * (_enter_y(tdx - ty, grid, 0.0) + v_gap)

    bh, y_opened = _leave_h(bd), _leave_y(w.open_y * by, grid)  # (3)
    x_moved, y_moved = _leave_x(t_open_x, grid), _leave_y(t_open_y, grid)
    d_moved = t_open_d * y_opened
    sources = (
        t_end + t_from_d * bh + x_moved + d_moved + w.open_d * y_moved,
        t_from_x * bh - x_moved - d_moved + (1 - w.open_d) * y_moved,
        t_from_y * bh - y_moved,
    )
    tbd, tbx, tby = _adjoint(w, sources, grid)

    opened = w.open_x * tbx + w.open_y * tby + t_open_x + t_open_y  # (4)
    extended = tbx + tby - opened
    return (
        _unskew(tbd, grid.swapped).contiguous() / problem.temperature,
        -_reduce_gap(opened, problem.gap_open, grid.swapped) / problem.temperature,
        -_reduce_gap(extended, problem.gap_extend, grid.swapped) / problem.temperature,
        h_grad,
    )


def _skew_direction(v: Direction, problem: Problem, grid: _Grid) -> tuple[Tensor, Tensor, Tensor]:
    """The direction on diagonals, 0 for scores outside the lengths."""
    _, n, m = problem.scores.shape
    v_scores, valid = v.scores.to(grid.scores.dtype), _valid_cells(problem)
    if valid is not None:
        v_scores = v_scores.masked_fill(~valid, 0.0)
    scores, gap_open, gap_extend = (
        _skew_broadcast(x, n, m, grid.swapped) for x in (v_scores, v.gap_open, v.gap_extend)
    )
    return scores, gap_open, gap_extend


def _first_maximum(*values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest of several tensors, and the index (int8) of the first that reaches it."""
    best, index = values[0], torch.zeros_like(values[0], dtype=torch.int8)
    for k, value in enumerate(values[1:], start=1):
        index = torch.where(value > best, k, index)
        best = torch.maximum(best, value)
    return best, index


def hard(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    b, n, m = problem.scores.shape
    grid = _grid(problem, soft=False)
    never, zero = torch.full_like(grid.scores[0], _NEVER), torch.zeros_like(grid.scores[0])
    D, X, Y, H, H_before = never, never, never, zero, zero
    matches, choices = [], []
    for t, s in enumerate(grid.scores):
        o, e = _at(grid.gap_open, t), _at(grid.gap_extend, t)
        left, above = (D, X), (D, X, Y)
        if grid.swapped:
            left = (_shift(D, _NEVER), _shift(X, _NEVER))
        else:
            above = (_shift(D, _NEVER), _shift(X, _NEVER), _shift(Y, _NEVER))
        X, to_x = _first_maximum(left[0] - o, left[1] - e)
        Y, to_y = _first_maximum(above[0] - o, above[1] - o, above[2] - e)
        D = s + _shift(H_before, 0.0)
        H_before = H
        H, to_h = _first_maximum(zero, D, X, Y)
        matches.append(D)
        choices.append(torch.stack((to_h, to_x + 1, to_y + 1)))
    cells = _unskew(torch.stack(matches), grid.swapped).reshape(b, n * m)
    score = cells.amax(dim=1)
    order = torch.arange(n * m, device=cells.device)
    end = torch.where(cells == score[:, None], order, n * m).amin(dim=1).clamp(max=n * m - 1)
    matched = score > _POSSIBLE
    path, count = _trace_back(torch.stack(choices, dim=1), end // m, end % m, matched, min(n, m), grid.swapped)
    return torch.where(matched, score, score - score), path, count


def _trace_back(
    choices: Tensor, i: Tensor, j: Tensor, going: Tensor, most: int, swapped: bool
) -> tuple[Tensor, Tensor]:
    """Matched cells (B, most, 2) from the start of each alignment to its end (i, j), and how many there are.

    choices (3, T, B, L) int8 says where H, X and Y came from: 0 start, 1 D, 2 X, 3 Y.
    """
    _, steps, b, _ = choices.shape
    pair = torch.arange(b, device=i.device)
    state = torch.ones_like(i)
    free = torch.full_like(i, most)
    path = i.new_full((b, most + 1, 2), -1)  # filled from the back; the last place takes what is not a match
    for _ in range(steps):
        match = going & (state == 1)
        free = free - match.long()
        path[pair, torch.where(match, free, most)] = torch.stack((i, j), dim=1)
        before_i, before_j = i - (state != 2).long(), j - (state != 3).long()
        inside = (before_i >= 0) & (before_j >= 0)
        at_i, at_j = (torch.where(state == 1, x, y) for x, y in ((before_i, i), (before_j, j)))
        at_i, at_j = at_i.clamp(min=0), at_j.clamp(min=0)
        came_from = choices[state - 1, at_i + at_j, pair, at_j if swapped else at_i].long()
        going = going & inside & (came_from > 0)
        state = torch.where(going, came_from, state)
        i, j = torch.where(going, before_i, i), torch.where(going, before_j, j)
    place = torch.arange(most, device=i.device) + free[:, None]
    rolled = path[pair[:, None], place.clamp(max=most)]
    return rolled.masked_fill((place >= most)[:, :, None], -1), most - free
