"""The specification: soft Smith-Waterman with affine gaps, one cell at a time.

Read this first. Every engine must agree with it. With smax_T(x) = T log sum exp(x / T), scores S (N x M), gap
penalties o (open) and e (extend) taken at the cell the gap steps into, and borders that do not exist:

    D[i,j] = S[i,j] + smax_T(0, D[i-1,j-1], X[i-1,j-1], Y[i-1,j-1])               match i with j
    X[i,j] = smax_T(D[i,j-1] - o[i,j], X[i,j-1] - e[i,j])                         gap that consumes sequence 2
    Y[i,j] = smax_T(D[i-1,j] - o[i,j], X[i-1,j] - o[i,j], Y[i-1,j] - e[i,j])      gap that consumes sequence 1
    score  = smax_T over all D[i,j]

A gap of k frames costs o + (k - 1) e. X may turn into Y but not Y into X, so no mixed gap is counted twice and the
score is exactly T log sum exp(score / T) over all local alignments.

Sources: T. Smith, M. Waterman, "Identification of common molecular subsequences" (1981); O. Gotoh, "An improved
algorithm for matching biological sequences" (1982); F. Llinares-Lopez et al., "Deep embedding and alignment of
protein sequences" (DEDAL, 2023); K. Oei et al., "Self-Supervised Contrastive Learning for Videos using
Differentiable Local Alignment" (2024).

Plain torch operations on scalars: any dtype and device, differentiable to any order, and slow.
"""

import torch
from torch import Tensor

FORBIDDEN = -1e30  # a score of so little forbids its cell, as -inf does


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What scores of a dtype are computed in: float64 for float64, float32 for float32, float16 and bfloat16."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _smax(terms: list[Tensor], temperature: Tensor) -> Tensor:
    return temperature * torch.logsumexp(torch.stack(terms) / temperature, dim=0)


def pair_score(scores: Tensor, gap_open: Tensor, gap_extend: Tensor, temperature: Tensor) -> Tensor:
    """Score (0-d) of one pair: scores, gap_open, gap_extend (N, M), temperature 0-d. No cell to match: 0."""
    n, m = scores.shape
    D: dict[tuple[int, int], Tensor] = {}
    X: dict[tuple[int, int], Tensor] = {}
    Y: dict[tuple[int, int], Tensor] = {}
    for i in range(n):
        for j in range(m):
            o, e = gap_open[i, j], gap_extend[i, j]
            diagonal, left, above = (i - 1, j - 1), (i, j - 1), (i - 1, j)
            if not scores[i, j] <= FORBIDDEN:
                before = [torch.zeros_like(temperature), *(Z[diagonal] for Z in (D, X, Y) if diagonal in Z)]
                D[i, j] = scores[i, j] + _smax(before, temperature)
            from_left = [Z[left] - p for Z, p in ((D, o), (X, e)) if left in Z and not torch.isposinf(p)]
            if from_left:
                X[i, j] = _smax(from_left, temperature)
            from_above = [Z[above] - p for Z, p in ((D, o), (X, o), (Y, e)) if above in Z and not torch.isposinf(p)]
            if from_above:
                Y[i, j] = _smax(from_above, temperature)
    if not D:
        return scores[:0].sum()
    return _smax(list(D.values()), temperature)


def smith_waterman(
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
) -> Tensor:
    """Scores (B,) of a batch (B, N, M) in the scores' precision, at least float32, pair by pair."""
    scores = scores.to(compute_dtype(scores.dtype))
    b, n, m = scores.shape
    gap_open, gap_extend = gap_open.expand(b, n, m), gap_extend.expand(b, n, m)
    rows = [n] * b if lengths1 is None else lengths1.tolist()
    columns = [m] * b if lengths2 is None else lengths2.tolist()
    return torch.stack(
        [
            pair_score(scores[k, :r, :c], gap_open[k, :r, :c], gap_extend[k, :r, :c], temperature)
            for k, (r, c) in enumerate(zip(rows, columns, strict=True))
        ]
    )
