"""All pairs of the clips of an action aligned, without and with the consensus of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lac.consensus import Consensus, consistent_alignments
from lac.paths import every_path
from lac.runs.aligners import ActionClips, Aligner

_PAIRS = 64  # aligned at once, which bounds the memory

Consistency = Callable[[Tensor, Tensor, Tensor], Tensor]


class Matched(NamedTuple):
    """All ordered pairs of C clips aligned.

    Attributes:
        posteriors: (C, C, T, T), [i, j] of the frames of i.
        paths: by (i, j) matched frames (., 2); empty where the aligner gives none.
    """

    posteriors: Tensor
    paths: dict[tuple[int, int], np.ndarray]


def match_all(aligner: Aligner, clips: ActionClips) -> Matched:
    """Align every pair of the clips, in both directions.

    A posterior without a path gets `lac.paths.expected_paths`, a path without a posterior has equal shares for the
    frames that it matches with a frame.
    """
    c, t = clips.raw.shape[:2]
    posteriors, paths = clips.z.new_zeros(c, c, t, t), {}
    for pairs in torch.triu_indices(c, c, 1).split(_PAIRS, dim=1):
        i, j = pairs
        aligned = aligner(clips, i, j)
        if aligned.rows is not None and aligned.columns is not None:
            posteriors[i, j], posteriors[j, i] = aligned.rows, aligned.columns.mT
        if aligned.paths is not None:
            back = aligned.paths_back or [path.flip(1) for path in aligned.paths]
            for a, b, path, path_back in zip(i.tolist(), j.tolist(), aligned.paths, back, strict=True):
                paths[a, b], paths[b, a] = path.cpu().numpy(), path_back.cpu().numpy()
                if aligned.rows is None:
                    posteriors[a, b], posteriors[b, a] = _shares(path, t), _shares(path_back, t)
    if not paths:
        paths = every_path(_symmetric(posteriors), clips.lengths)
    return Matched(posteriors, paths)


def _shares(path: Tensor, t: int) -> Tensor:
    """(t, t): 1 in each row that the path (K, 2) has cells in, in equal shares for them."""
    cells = torch.zeros(t, t, device=path.device)
    cells[path[:, 0], path[:, 1]] = 1
    return cells / cells.sum(1, keepdim=True).clamp(min=1)


def with_consensus(posteriors: Tensor, lengths: Tensor, consistency: Consistency = consistent_alignments) -> Matched:
    """The posteriors of clips of one action made consistent with each other, and the paths of what comes out.

    Where the posteriors of a pair's two directions differ, the lesser of both enters.

    Args:
        posteriors: (C, C, T, T) as in `Matched`.
        lengths: (C,).
        consistency: takes symmetric posteriors, groups (C,) and lengths (C,), as `lac.consistent_alignments` does.
    """
    consistent = consistency(_symmetric(posteriors), torch.zeros_like(lengths), lengths)
    return Matched(consistent, every_path(consistent, lengths))


def match_together(consensus: Consensus, clips: ActionClips, guide_weight: float) -> Matched:
    """All clips aligned by `lac.Consensus`: by every third clip, and not spread.

    Args:
        consensus: the settings; the three that are named here do not count.
        clips: of one action.
        guide_weight: of the self-similarity beside the embeddings; 0 where the clips have none.
    """
    c = len(clips.lengths)
    settings = dataclasses.replace(consensus, guide_weight=guide_weight, spread=0.0, n_thirds=c)
    groups = torch.zeros_like(clips.lengths)
    posteriors = settings(clips.z, groups, clips.lengths, times=clips.times, guide=clips.guide).posterior
    return Matched(posteriors, every_path(posteriors, clips.lengths))


def _symmetric(posteriors: Tensor) -> Tensor:
    return torch.minimum(posteriors, posteriors.permute(1, 0, 3, 2))
