"""Two clips aligned by a trained encoder and its loss, and the picture of it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Aligned(NamedTuple):
    """Two clips aligned: scores and posterior (N, M), matched frames path (K, 2), best_score () of the best path, and
    soft_score (), the smooth maximum over all paths, which the loss is made of. Where best_score is not above 0, the
    clips have nothing in common, and path is empty."""

    scores: Tensor
    posterior: Tensor
    path: Tensor
    best_score: Tensor
    soft_score: Tensor


def align_clips(encoder: FrameEncoder, loss: LACLoss, first: Clip, second: Clip) -> Aligned:
    """Align two clips of N and M frames by their embeddings and by the similarity and gaps that were learned."""
    device = next(encoder.parameters()).device
    z1, z2 = (torch.from_numpy(z).to(device)[None] for z in embed_clips(encoder, [first, second], device))
    times1, times2 = (torch.from_numpy(clip.times - clip.times[0]).to(z1)[None] for clip in (first, second))
    with torch.no_grad():
        scores = loss.scores(z1, z2)
        given: dict[str, Any] = {"z1": z1, "z2": z2, "times1": times1, "times2": times2}
        soft = loss.aligner(scores, **given)
        posterior = loss.aligner.soft_alignment(scores, **given)
        hard = loss.aligner.hard_alignment(scores, **given)
    # The best alignment has one match at least, however bad. One that costs more than it gives is no match.
    path = hard.paths[0] if hard.score[0] > 0 else hard.paths[0][:0]
    return Aligned(scores[0], posterior[0], path, hard.score[0], soft[0])


def draw_pair(encoder: FrameEncoder, loss: LACLoss, first: Clip, second: Clip, title: str = "") -> Figure:
    """Align two clips and draw it, see :func:`draw_aligned`."""
    return draw_aligned(align_clips(encoder, loss, first, second), first, second, title)


def draw_aligned(aligned: Aligned, first: Clip, second: Clip, title: str = "") -> Figure:
    """The picture of :func:`align_clips`: scores, soft alignment, best path, and the phases where both have them."""
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
