"""One path through a posterior: what is drawn, listed and judged where there is no score to be best by."""

import numpy as np
import torch
from torch import Tensor

from lac.functional import hard_alignment
from lac.solve import Lengths, in_common

_PAIRS = 64  # aligned at once, which bounds the memory
LEAST_MATCH = 0.05  # the probability below which a path rather leaves two frames out


def expected_paths(posteriors: Tensor, lengths: Lengths | None = None) -> list[Tensor]:
    """The path of each pair that gathers the most probability, less `LEAST_MATCH` for each of its cells.

    The alignment of maximum expected accuracy: the hard alignment of P - `LEAST_MATCH`, gaps at no cost.

    Args:
        posteriors: (K, N, M) floating point, of `lac.soft_alignment` or `lac.Consensus`; no gradient is taken.
        lengths: as in `lac.hard_alignment`.

    Returns:
        K LongTensors (., 2) of matched frames, both increasing; empty where no cell is worth `LEAST_MATCH`.

    Raises:
        ValueError, TypeError: as `lac.hard_alignment`.

    References: C. Do, M. Mahabhashyam, M. Brudno, S. Batzoglou, "ProbCons: Probabilistic consistency-based multiple
    sequence alignment", 2005.
    """
    with torch.no_grad():
        best = hard_alignment(posteriors - LEAST_MATCH, gap_open=0.0, gap_extend=0.0, lengths=lengths)
    return in_common(best.score, best.paths)


def every_path(posteriors: Tensor, lengths: Tensor) -> dict[tuple[int, int], np.ndarray]:
    """`expected_paths` of every ordered pair of C clips, by their numbers.

    Args:
        posteriors: (C, C, N, N), posteriors[j, i] the transpose of posteriors[i, j].
        lengths: (C,) the frames of each clip.
    """
    paths = {}
    for i, j in torch.triu_indices(len(lengths), len(lengths), 1, device=lengths.device).split(_PAIRS, dim=1):
        best = expected_paths(posteriors[i, j], (lengths[i], lengths[j]))
        for a, b, path in zip(i.tolist(), j.tolist(), best, strict=True):
            paths[a, b] = path.cpu().numpy()
            paths[b, a] = paths[a, b][:, ::-1]
    return paths
