"""Independent answers: enumeration of all local alignments, and Biopython's exact aligner."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.problems import Problem
from lac.measure.errors import relative_error
from lac_kernels import eager
from lac_kernels.engines import BACKENDS, unavailable


def chains(n: int, m: int) -> Iterator[list[tuple[int, int]]]:
    """Every local alignment of n and m frames: a non-empty chain of cells, increasing in both indices."""
    for k in range(1, min(n, m) + 1):
        for rows in itertools.combinations(range(n), k):
            for columns in itertools.combinations(range(m), k):
                yield list(zip(rows, columns, strict=True))


def chain_terms(chain: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cells at which the chain opens and extends gaps: first over columns (X), then over rows (Y)."""
    opened, extended = [], []
    for (i, j), (i2, j2) in itertools.pairwise(chain):
        skipped_columns = [(i, c) for c in range(j + 1, j2)]
        skipped_rows = [(r, j2 - 1) for r in range(i + 1, i2)]
        for cells in (skipped_columns, skipped_rows):
            opened += cells[:1]
            extended += cells[1:]
    return opened, extended


def enumerate_alignments(scores: Tensor, gap_open: Tensor, gap_extend: Tensor) -> Tensor:
    """The score of every local alignment of one pair; scores and gaps (N, M), differentiable."""
    n, m = scores.shape
    gap_open, gap_extend = gap_open.expand(n, m), gap_extend.expand(n, m)
    totals = []
    for chain in chains(n, m):
        opened, extended = chain_terms(chain)
        total = torch.stack([scores[c] for c in chain]).sum()
        for gap, cells in ((gap_open, opened), (gap_extend, extended)):
            if cells:
                total = total - torch.stack([gap[c] for c in cells]).sum()
        totals.append(total)
    return torch.stack(totals)


def soft_score(scores: Tensor, gap_open: Tensor, gap_extend: Tensor, temperature: Tensor) -> Tensor:
    return temperature * torch.logsumexp(enumerate_alignments(scores, gap_open, gap_extend) / temperature, dim=0)


def exact_aligner(scores: np.ndarray, gap_open: float, gap_extend: float) -> tuple[float, np.ndarray]:
    """Best local alignment by Biopython: its score and its matched cells (K, 2). Some score must be positive."""
    from Bio.Align import PairwiseAligner

    n, m = scores.shape
    matrix = np.zeros((n + m, n + m))
    matrix[:n, n:] = scores
    aligner = PairwiseAligner(mode="local", open_gap_score=-gap_open, extend_gap_score=-gap_extend)
    aligner.substitution_matrix = matrix
    first = np.arange(n, dtype=np.int32)
    second = np.arange(n, n + m, dtype=np.int32)
    best = aligner.align(first, second)[0]
    cells = [
        (i, j)
        for (i0, i1), (j0, j1) in zip(*best.aligned, strict=True)
        for i, j in zip(range(i0, i1), range(j0, j1), strict=True)
    ]
    return best.score, np.array(cells)


def errors(engine: Any, p: Problem, grad: Tensor, least: float = 1e-6) -> dict[str, float]:
    """Errors of an engine against eager in float64: scores relative to max(|score|, T), gradients to the largest.

    A gap's gradient is an expected number of gaps; below `least` of a gap it is judged absolutely.
    """
    score, saved = engine.forward(p, True)
    result = engine.gradient(grad, p, saved, score.dtype, True)
    exact_score, states = eager.forward(p.double(), True)
    exact = eager.gradient(grad.double(), p.double(), states, torch.float64, True)
    errors = {"score": relative_error(score, exact_score, p.temperature.item(), each=True)}
    for name, x, y in zip(("scores", "open", "extend"), result, exact, strict=True):
        errors[name] = relative_error(x, y, grad.abs().max().item() * (1 if name == "scores" else least))
    return errors


# The engines that run on this machine's CPU.
ENGINES = [name for name in BACKENDS[2:] if unavailable(name, torch.device("cpu")) is None]


def leaves(*shape: int, seed: int = 0, gaps: str = "scalar", dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Scores, gap_open, gap_extend, temperature, all requiring gradients."""
    g = torch.Generator().manual_seed(seed)
    b, n, m = shape
    gap_shape = {"scalar": (), "pair": (b, 1, 1), "row": (1, n, 1), "column": (b, 1, m), "cell": shape}[gaps]
    tensors = [
        torch.randn(shape, generator=g, dtype=torch.float64),
        torch.rand(gap_shape, generator=g, dtype=torch.float64) + 0.5,
        torch.rand(gap_shape, generator=g, dtype=torch.float64) + 0.1,
        torch.tensor(0.7, dtype=torch.float64),
    ]
    return [x.to(dtype).requires_grad_() for x in tensors]


GOLDEN = [[1, -0.5, 0.2, 0], [0.3, 0.8, -0.2, 0.1], [-0.4, 0.6, 1.2, 0.5]]
GOLDEN_SCORES = {1.0: 4.30332735, 0.8: 3.76036038, 0.1: 3.00000516}
GOLDEN_POSTERIOR = [
    [0.525824, 0.041174, 0.044791, 0.013523],
    [0.081236, 0.551338, 0.076441, 0.046554],
    [0.009065, 0.082545, 0.465284, 0.162523],
]
