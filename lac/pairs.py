"""Two clips aligned by a trained encoder and its loss, and the picture of it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lac.data.base import Clip
from lac.embed import embed_clips
from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.plots import plot_alignment

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


class AlignedClips(NamedTuple):
    """Two clips of N and M frames aligned: `lac.Aligned` of this one pair.

    Attributes:
        scores: (N, M).
        posterior: (N, M).
        path: (K, 2) the matched frames; empty where the clips have nothing in common.
        score: 0-d.
        best_score: 0-d.
    """

    scores: Tensor
    posterior: Tensor
    path: Tensor
    score: Tensor
    best_score: Tensor


def align_clips(encoder: FrameEncoder, loss: LACLoss, first: Clip, second: Clip) -> AlignedClips:
    """Align two clips by their embeddings and by the similarity and gaps that were learned, without a gradient."""
    device = next(encoder.parameters()).device
    z1, z2 = (torch.from_numpy(z).to(device)[None] for z in embed_clips(encoder, [first, second], device))
    times1, times2 = (torch.from_numpy(clip.times - clip.times[0]).to(z1)[None] for clip in (first, second))
    with torch.no_grad():
        aligned = loss.align(z1, z2, times1=times1, times2=times2)
    return AlignedClips(*(of_pairs[0] for of_pairs in aligned))


def draw_pair(encoder: FrameEncoder, loss: LACLoss, first: Clip, second: Clip, title: str = "") -> Figure:
    """Align two clips and draw it, see `draw_aligned`."""
    return draw_aligned(align_clips(encoder, loss, first, second), first, second, title)


def draw_aligned(aligned: AlignedClips, first: Clip, second: Clip, title: str = "") -> Figure:
    """The picture of `align_clips`: scores, soft alignment, best path, and the phases where both have them."""
    labelled = first.labels is not None and second.labels is not None
    return plot_alignment(
        aligned.posterior,
        aligned.path,
        first.times,
        second.times,
        aligned.scores,
        labels=(first.labels, second.labels) if labelled else None,
        names=(first.name, second.name),
        title=title,
    )


def find_gaps(path: np.ndarray, times1: np.ndarray, times2: np.ndarray) -> list[dict[str, float]]:
    """The frames between the first and the last match that are skipped in one clip or the other.

    Args:
        path: (K, 2) matched frames, both columns increasing.
        times1, times2: (N,), (M,) seconds of the frames.

    Returns:
        For each gap, in order: `clip` 0 or 1, `after` the second of the match before it, `frames` that are
        skipped, and `seconds` from that match to the last of them (the sum of their intervals, which is what a gap
        penalty by time charges).
    """
    gaps: list[dict[str, float]] = []
    for before, after in pairwise(path):
        for clip, times in enumerate((times1, times2)):
            start, end = int(before[clip]), int(after[clip]) - 1
            if end > start:
                gaps.append(
                    {
                        "clip": clip,
                        "after": float(times[start]),
                        "frames": end - start,
                        "seconds": float(times[end] - times[start]),
                    }
                )
    return gaps
