"""The table of smooth dynamic time warping, for a batch of pairs at once, one anti-diagonal after another."""

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
