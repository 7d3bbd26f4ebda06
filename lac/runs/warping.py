"""Dynamic time warping, smooth and hard, for a batch of pairs at once, one anti-diagonal after another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FAR = 1e6  # outside the table; far above any cost and finite, so that its gradient is 0 and not NaN


def warp(cost: Tensor, smooth_min: Callable[[Tensor], Tensor]) -> Tensor:
    """R (B, N, M) with R[i,j] = cost[i,j] + smooth_min of R[i-1,j], R[i,j-1], R[i-1,j-1], and R[0,0] = cost[0,0].

    cost (B, N, M) finite, also where it is padding: a cell depends on no later one, so the table of a shorter pair is
    the upper left part of that of its padded one. smooth_min takes (3, B, N) to (B, N).
    """
    b, n, m = cost.shape
    rows = torch.arange(n, device=cost.device)
    column = torch.arange(n + m - 1, device=cost.device) - rows[:, None]  # (N, D) of the cell in row i, diagonal d
    inside = (column >= 0) & (column < m)
    skewed = cost.gather(2, column.clamp(0, m - 1).expand(b, -1, -1)).masked_fill(~inside, FAR)
    border = cost.new_full((b, 1), FAR)
    costs = skewed.permute(2, 0, 1).unbind(0)
    before, last = cost.new_full((b, n + 1), FAR), torch.cat((border, costs[0]), 1)  # shifted by one row
    diagonals = [costs[0]]
    for here in costs[1:]:
        diagonals.append(here + smooth_min(torch.stack((last[:, :-1], last[:, 1:], before[:, :-1]))))
        before, last = last, torch.cat((border, diagonals[-1]), 1)
    diagonal = rows[:, None] + torch.arange(m, device=cost.device)
    return torch.stack(diagonals, dim=2).gather(2, diagonal.expand(b, -1, -1))


def end(table: Tensor, lengths1: Tensor, lengths2: Tensor) -> Tensor:
    """(B,), the value in the last cell of each pair; of an empty pair, some value."""
    rows, columns = ((lengths - 1).clamp(min=0) for lengths in (lengths1, lengths2))
    return table[torch.arange(len(table), device=table.device), rows, columns]


def soft_dtw(cost: Tensor, gamma: float) -> Tensor:
    """Table of soft-DTW (M. Cuturi, M. Blondel, "Soft-DTW", ICML 2017): (B, N, M) -> (B, N, M)."""
    return warp(cost, lambda x: -gamma * torch.logsumexp(x / -gamma, dim=0))


def soft_dtw_cells(cost: Tensor, lengths1: Tensor, lengths2: Tensor, gamma: float) -> Tensor:
    """The probability that the warping path passes through each cell, d soft-DTW / d cost: (B, N, M).

    Each row within its length sums to 1 at least, since a path of DTW leaves no frame out.
    """
    return _gradient(cost, lambda inner: end(soft_dtw(inner, gamma), lengths1, lengths2))


def dtw_cells(cost: Tensor, lengths1: Tensor, lengths2: Tensor) -> Tensor:
    """The cells of the cheapest path from the first to the last frames of both, 1 on it and 0 elsewhere: (B, N, M).

    H. Sakoe, S. Chiba, "Dynamic programming algorithm optimization for spoken word recognition", 1978. The gradient of
    the hard minimum by the costs; of equal costs the minimum takes one.
    """
    return _gradient(cost, lambda inner: end(warp(inner, _hard_min), lengths1, lengths2))


def subsequence_dtw_cells(cost: Tensor, lengths1: Tensor, lengths2: Tensor) -> Tensor:
    """The same where the path may begin and end at any frame of sequence 2: all of sequence 1 within sequence 2.

    M. Müller, "Information Retrieval for Music and Motion", 2007, chapter 4.4.
    """

    def cheapest(inner: Tensor) -> Tensor:
        # A row without costs before the first: along it the path begins wherever it likes.
        table = warp(torch.cat((torch.zeros_like(inner[:, :1]), inner), 1), _hard_min)
        last = table[torch.arange(len(table), device=table.device), lengths1]
        beyond = torch.arange(last.shape[1], device=last.device) >= lengths2[:, None]
        return last.masked_fill(beyond, FAR).min(dim=1).values

    return _gradient(cost, cheapest)


def _hard_min(neighbours: Tensor) -> Tensor:
    return neighbours.min(dim=0).values


def _gradient(cost: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.enable_grad():
        inner = cost.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(value(inner).sum(), inner)
    return gradient
