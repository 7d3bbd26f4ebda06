"""The best several local alignments of a pair: where in a recording a query occurs, not only where it does best."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lac import checks, solve
from lac.sequences import pair_times
from lac.solve import Lengths, Pairs
from lac_kernels.problem import Problem

APART = ("columns", "rows", "cells")


class LocalAlignments(NamedTuple):
    """The K best local alignments of each pair that keep apart, best first; without the first dimension for one pair.

    Attributes:
        scores: (B, K), not increasing along K; 0 where there are fewer than K; float64 for float64 scores, else
            float32.
        paths: (B, K, min(N, M), 2) int64, the matched cells (i, j) of each in order, filled up with -1.
        counts: (B, K) int64, how many matched cells each has; 0 where there are fewer than K.
    """

    scores: Tensor
    paths: Tensor
    counts: Tensor


def local_alignments(
    scores: Tensor,
    k: int,
    *,
    gap_open: float | Tensor = 1.0,
    gap_extend: float | Tensor = 1.0,
    apart: str = "columns",
    min_score: float = 0.0,
    min_length: int = 1,
    min_shift: float | None = None,
    max_shift: float | None = None,
    times1: Tensor | None = None,
    times2: Tensor | None = None,
    lengths: Lengths | None = None,
    backend: str = "auto",
) -> LocalAlignments:
    """The k best local alignments of each pair that touch no common column: every occurrence of a query.

    The first is that of `hard_alignment`; each further one is the best of those that keep apart from all before it.
    Equal alignments are told apart by its rule. Nothing is differentiable, and nothing waits for the device unless
    `min_length` is above 1.

    The rows of a recording aligned with itself, its repeats: `local_alignments(scores, k, min_shift=s)` with s > 0
    leaves out the diagonal and all below it.

    Args:
        scores: as in `smith_waterman`, and so are the gaps, `lengths` and `backend`.
        k: how many, >= 1.
        gap_open: likewise.
        gap_extend: likewise.
        apart: what no two alignments share. "columns": the columns from the first match to the last; "rows": likewise;
            "cells": a match, so that they may cross (M. Waterman and M. Eggert, "A new algorithm for best subsequence
            alignments with application to tRNA-rRNA comparisons", 1987).
        min_score: alignments are given that score more than this, >= 0.
        min_length: those with fewer matches are passed over; what they touch stays theirs.
        min_shift: only frames may match with times2 - times1 >= min_shift. Default: no such limit.
        max_shift: only frames may match with |times2 - times1| <= max_shift, >= 0. Default: no such limit.
        times1: (B, N), or (N,) for a single pair, not decreasing; default the frame numbers. For the shifts alone.
        times2: (B, M), likewise.
        lengths: likewise.
        backend: likewise, but for "reference", which has no hard form.

    Returns:
        LocalAlignments(scores, paths, counts). A pair whose scores hold NaN has NaN for its first score, and no path.

    Raises:
        ValueError, TypeError, RuntimeError: as `hard_alignment`, or an argument out of its range.

    Examples:
        >>> scores = torch.tensor([[2.0, -1, -1, 2, -1], [-1, 2, -1, -1, 1]])
        >>> found = local_alignments(scores, 3)
        >>> found.scores.tolist(), found.counts.tolist()
        ([4.0, 3.0, 0.0], [2, 2, 0])
        >>> found.paths[1].tolist()
        [[0, 3], [1, 4]]
    """
    checks.count("k", k)
    checks.count("min_length", min_length)
    checks.choice("apart", apart, APART)
    checks.cost("min_score", min_score)
    pairs = Pairs.checked(scores, lengths)
    pairs = pairs._replace(scores=_within(pairs, min_shift, max_shift, times1, times2))
    backend = checks.backend(backend)
    problem = solve.hard_problem(pairs, gap_open, gap_extend, backend)
    with torch.no_grad():
        found = _several(problem, k, apart, min_score, min_length, backend)
    return LocalAlignments(*(x[0] for x in found)) if pairs.single else found


def _within(
    pairs: Pairs, min_shift: float | None, max_shift: float | None, times1: Tensor | None, times2: Tensor | None
) -> Tensor:
    """The scores, -inf where the shift is out of its bounds."""
    if min_shift is None and max_shift is None:
        if times1 is not None or times2 is not None:
            raise ValueError("times1 and times2 are for min_shift and max_shift: give one of these, or no times")
        return pairs.scores
    lengths1, lengths2 = pairs.full_lengths()
    b, n, m = pairs.scores.shape
    rows, columns = ((n,), (m,)) if pairs.single else ((b, n), (b, m))
    like = ("the rows of scores", "the columns of scores")
    first, second = pair_times(times1, times2, rows, columns, like, lengths1, lengths2)
    shift = second[:, None, :] - first[:, :, None]
    outside = torch.zeros_like(shift, dtype=torch.bool)
    if min_shift is not None:
        outside |= shift < checks.finite("min_shift", min_shift)
    if max_shift is not None:
        outside |= shift.abs() > checks.weight("max_shift", max_shift)
    return pairs.scores.detach().masked_fill(outside, -torch.inf)


def _several(p: Problem, k: int, apart: str, min_score: float, min_length: int, backend: str) -> LocalAlignments:
    b, n, m = p.scores.shape
    # One place more than is asked for: for what is passed over.
    scores = torch.zeros((b, k + 1), dtype=p.temperature.dtype, device=p.scores.device)
    paths = torch.full((b, k + 1, min(n, m), 2), -1, dtype=torch.int64, device=scores.device)
    counts, filled = paths.new_zeros((b, k + 1)), paths.new_zeros(b)
    if 0 in p.scores.shape:
        return LocalAlignments(scores[:, :k], paths[:, :k], counts[:, :k])
    pair, free = torch.arange(b, device=scores.device), p
    taken = torch.zeros((), dtype=torch.bool, device=scores.device)
    for step in itertools.count(1):
        score, path, count = solve.hard(free, backend)
        more = (score > min_score) & (filled < k)
        place = torch.where(more & (count >= min_length), filled, k)
        scores[pair, place], paths[pair, place], counts[pair, place] = score, path, count
        filled = filled + (place < k)
        if step == 1:
            scores[:, 0] = torch.where(score.isnan(), score, scores[:, 0])
        if step >= k and (min_length == 1 or not more.any()):
            break
        taken = taken | _touched(path, count, apart, (b, n, m))
        free = solve.shut(p, taken, gaps=apart != "cells")
    return LocalAlignments(scores[:, :k], paths[:, :k], counts[:, :k])


def _touched(path: Tensor, count: Tensor, apart: str, shape: Sequence[int]) -> Tensor:
    """What alignments touch: columns (B, 1, M) or rows (B, N, 1) from the first match to the last, or cells (B, N, M).

    Args:
        path: (B, K, 2).
        count: (B,) of each the matches.
        apart: which of them.
        shape: B, N, M.
    """
    b, n, m = shape
    last = (count - 1).clamp(min=0)[:, None]
    if apart == "cells":
        places = path[:, :, 0] * m + path[:, :, 1]
        places = torch.where(torch.arange(places.shape[1], device=path.device) <= last, places, places[:, :1])
        cells = torch.zeros((b, n * m), dtype=torch.bool, device=path.device)
        return cells.scatter_(1, places.clamp(min=0), True).reshape(b, n, m)
    dim, frames = (2, m) if apart == "columns" else (1, n)
    start, end = path[:, :1, dim - 1], path[:, :, dim - 1].gather(1, last)
    frame = torch.arange(frames, device=path.device)
    return ((frame >= start) & (frame <= end) & (count > 0)[:, None]).unsqueeze(3 - dim)
