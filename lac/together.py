"""Several clips of one action aligned with each other, and the one timeline on which they all lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lac.data.base import Clip
from lac.paths import every_path
from lac.ways import Way, align_together, check_memory


class Pair(NamedTuple):
    """Clips i and j of a group.

    Attributes:
        path: (K, 2) matched frames, in order: `lac.paths.expected_paths` of the posterior.
        probability: (K,) of these matches.
        share: from 0 to 1, the expected number of matches over the frames of the shorter clip.
    """

    path: np.ndarray
    probability: np.ndarray
    share: float


class AlignedGroup(NamedTuple):
    """C clips of up to N frames.

    Attributes:
        pairs: by (i, j), i other than j; (j, i) is (i, j) turned about.
        trust: from 0 to 1, how far the clips confirm each other, see `lac.AlignedTogether`; at 0 they do not.
        matches: (C,) of each clip the expected number of matches with all others.
    """

    pairs: dict[tuple[int, int], Pair]
    trust: float
    matches: np.ndarray


class Timeline(NamedTuple):
    """Where each of C clips is at each frame of one of them, the reference.

    Attributes:
        reference: the number of that clip.
        seconds: (N, C) for the N frames of the reference the second of each clip, on its own clock; NaN before the
            first and after the last match of the two, linear between matches.
    """

    reference: int
    seconds: np.ndarray


def align_group(way: Way, clips: Sequence[Clip]) -> AlignedGroup:
    """All clips aligned with each other by what they agree about (`lac.Consensus`, every third heard).

    Args:
        way: what they are aligned by, see `lac.ways`.
        clips: three at least, of one action.

    Raises:
        ValueError: so many clips of such lengths do not fit into memory, see `lac.ways.check_memory`; or something in
            them, or in what a way makes of them, is not finite.
    """
    check_memory(clips)
    aligned = align_together(way, clips, way.vectors(clips))
    lengths = torch.tensor([len(clip) for clip in clips], device=aligned.posterior.device)
    expected = aligned.posterior.sum((2, 3)).cpu().numpy()
    pairs = {
        (i, j): Pair(
            path, _along(aligned.posterior[i, j], path), float(expected[i, j] / min(len(clips[i]), len(clips[j])))
        )
        for (i, j), path in every_path(aligned.posterior, lengths).items()
    }
    return AlignedGroup(pairs, aligned.trust[0, 1].item(), expected.sum(1))


def _along(posterior: Tensor, path: np.ndarray) -> np.ndarray:
    rows, columns = torch.from_numpy(path.copy()).to(posterior.device).T
    found: np.ndarray = posterior[rows, columns].cpu().numpy()
    return found


def common_timeline(group: AlignedGroup, clips: Sequence[Clip]) -> Timeline | None:
    """The timeline of the clip that has most in common with the others; `None` where nothing is confirmed.

    Args:
        group: `align_group(way, clips)`.
        clips: the same.
    """
    if not group.trust > 0:
        return None
    reference = int(group.matches.argmax())
    times = clips[reference].times
    seconds = np.full((len(times), len(clips)), np.nan)
    seconds[:, reference] = times
    for k, clip in enumerate(clips):
        if k != reference and len(path := group.pairs[reference, k].path):
            rows, columns = path.T
            inside = slice(rows[0], rows[-1] + 1)
            seconds[inside, k] = np.interp(times[inside], times[rows], clip.times[columns])
    return Timeline(reference, seconds)
