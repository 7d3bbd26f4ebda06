"""All pairs of the clips of an action aligned, without and with the consensus of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lac.consensus import consistent_alignments
from lac.functional import hard_alignment
from lac.runs.aligners import ActionClips, Aligner

LEAST_MATCH = 0.05  # the probability below which the path of a posterior rather leaves two frames out
_PAIRS = 64  # aligned at once, which bounds the memory

Consensus = Callable[[Tensor, Tensor], Tensor]


class Matched(NamedTuple):
    """All ordered pairs of C clips aligned.

    Attributes:
        posteriors: (C, C, T, T), [i, j] of the frames of i; or `None`.
        paths: by (i, j) matched frames (., 2); empty where the aligner gives none.
    """

    posteriors: Tensor | None
    paths: dict[tuple[int, int], np.ndarray]


def match_all(aligner: Aligner, clips: ActionClips) -> Matched:
    """Align every pair of the clips, in both directions; a posterior without a path gets `expected_paths`."""
    c, t = clips.raw.shape[:2]
    posteriors, paths = None, {}
    for pairs in torch.triu_indices(c, c, 1).split(_PAIRS, dim=1):
        i, j = pairs
        aligned = aligner(clips, i, j)
        if aligned.rows is not None and aligned.columns is not None:
            if posteriors is None:
                posteriors = aligned.rows.new_zeros(c, c, t, t)
            posteriors[i, j], posteriors[j, i] = aligned.rows, aligned.columns.mT
        if aligned.paths is not None:
            back = aligned.paths_back or [path.flip(1) for path in aligned.paths]
            for a, b, path, path_back in zip(i.tolist(), j.tolist(), aligned.paths, back, strict=True):
                paths[a, b], paths[b, a] = path.cpu().numpy(), path_back.cpu().numpy()
    if posteriors is not None and not paths:
        paths = expected_paths(_symmetric(posteriors), clips.lengths)
    return Matched(posteriors, paths)


def with_consensus(posteriors: Tensor, lengths: Tensor, consensus: Consensus = consistent_alignments) -> Matched:
    """The posteriors of clips of one action made consistent with each other, and the paths of what comes out.

    Where the posteriors of a pair's two directions differ, the lesser of both enters.

    Args:
        posteriors: (C, C, T, T) as in `Matched`.
        lengths: (C,).
        consensus: takes symmetric posteriors and groups (C,) as `lac.consensus.consistent_alignments`.
    """
    consistent = consensus(_symmetric(posteriors), torch.zeros_like(lengths))
    return Matched(consistent, expected_paths(consistent, lengths))


def expected_paths(posteriors: Tensor, lengths: Tensor) -> dict[tuple[int, int], np.ndarray]:
    """The path of every ordered pair that gathers the most probability, less `LEAST_MATCH` for each of its cells.

    The alignment of maximum expected accuracy, as ProbCons has it (Do et al., Genome Research 15, 2005): the hard
    alignment of P - `LEAST_MATCH`, gaps at no cost. Empty where no cell is worth that.

    Args:
        posteriors: (C, C, T, T), [j, i] the transpose of [i, j].
        lengths: (C,).
    """
    paths = {}
    for i, j in torch.triu_indices(len(lengths), len(lengths), 1).split(_PAIRS, dim=1):
        scores = posteriors[i, j] - LEAST_MATCH
        best = hard_alignment(scores, gap_open=0.0, gap_extend=0.0, lengths=(lengths[i], lengths[j]))
        worth = (best.score > 0).tolist()
        for a, b, path, some in zip(i.tolist(), j.tolist(), best.paths, worth, strict=True):
            cells = path.cpu().numpy() if some else np.empty((0, 2), np.int64)
            paths[a, b], paths[b, a] = cells, cells[:, ::-1]
    return paths


def _symmetric(posteriors: Tensor) -> Tensor:
    return torch.minimum(posteriors, posteriors.permute(1, 0, 3, 2))
