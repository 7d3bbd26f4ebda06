"""One path through a posterior: what is drawn, listed and judged where there is no score to be best by."""

import torch
from torch import Tensor

from lac.functional import hard_alignment
from lac.solve import Lengths, in_common

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
