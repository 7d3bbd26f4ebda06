"""Two clips aligned by a trained encoder and its loss, with the help of others, and the picture of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lac.consensus import Consensus
from lac.data.base import Clip
from lac.embed import embed_clips
from lac.guides import with_guides
from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.paths import expected_paths
from lac.plots import plot_alignment, plot_alignments

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure


class AlignedClips(NamedTuple):
    """Two clips of N and M frames aligned: `lac.Aligned` of this one pair, and what others make of it.

    Attributes:
        scores: (N, M).
        posterior: (N, M).
        path: (K, 2) the matched frames; empty where the clips have nothing in common.
        score: 0-d.
        best_score: 0-d.
        together: the same two clips aligned with the help of others, where there are any.
    """

    scores: Tensor
    posterior: Tensor
    path: Tensor
    score: Tensor
    best_score: Tensor
    together: Together | None = None


class Together(NamedTuple):
    """Two clips of N and M frames aligned by what they and others of the same action agree about.

    Attributes:
        posterior: (N, M), of `lac.Consensus`.
        path: (K, 2) its `lac.paths.expected_paths`.
        trust: 0-d, from 0 to 1, see `lac.AlignedTogether`.
    """

    posterior: Tensor
    path: Tensor
    trust: Tensor


def align_clips(
    encoder: FrameEncoder,
    loss: LACLoss,
    first: Clip,
    second: Clip,
    others: Sequence[Clip] = (),
    *,
    reach: float = 0.8,
) -> AlignedClips:
    """Align two clips by their embeddings and by the similarity and gaps that were learned, without a gradient.

    Others help where they show the same action: all are aligned with each other by the loss's `lac.Consensus`, of
    embeddings and self-similarity and not spread, which takes some ten tensors of (clips x frames)^2 numbers.

    Args:
        encoder: of a run, say.
        loss: likewise.
        first: the clip of the rows.
        second: that of the columns.
        others: more clips of the same action.
        reach: of the self-similarity, in seconds, see `lac.self_similarity`; 0: embeddings alone.
    """
    device = next(encoder.parameters()).device
    clips = [first, second, *others]
    z = [torch.from_numpy(embedding).to(device) for embedding in embed_clips(encoder, clips, device)]
    times = [torch.from_numpy(clip.times - clip.times[0]).to(z[0]) for clip in clips]
    with torch.no_grad():
        aligned = loss.align(z[0][None], z[1][None], times1=times[0][None], times2=times[1][None])
    together = _align_together(loss.consensus, with_guides(clips, reach), z, times) if others else None
    scores, posterior, path, score, best_score = (of_pairs[0] for of_pairs in aligned)
    return AlignedClips(scores, posterior, path, score, best_score, together)


def _align_together(settings: Consensus, clips: Sequence[Clip], z: list[Tensor], times: list[Tensor]) -> Together:
    """The first two of the clips, of embeddings z and times since their first frame."""
    lengths = torch.tensor([len(clip) for clip in clips], device=z[0].device)
    guides = [torch.from_numpy(clip.guide).to(z[0]) for clip in clips if clip.guide is not None]
    consensus = dataclasses.replace(settings, spread=0.0, n_thirds=len(clips))
    aligned = consensus(
        pad_sequence(z, batch_first=True),
        torch.zeros_like(lengths),
        lengths,
        times=pad_sequence(times, batch_first=True),
        guide=pad_sequence(guides, batch_first=True) if len(guides) == len(clips) else None,
    )
    posterior = aligned.posterior[0, 1, : len(clips[0]), : len(clips[1])]
    return Together(posterior, expected_paths(posterior[None])[0], aligned.trust[0, 1])


def draw_pair(encoder: FrameEncoder, loss: LACLoss, first: Clip, second: Clip, title: str = "") -> Figure:
    """Align two clips and draw it, see `draw_aligned`."""
    return draw_aligned(align_clips(encoder, loss, first, second), first, second, title)


def draw_aligned(aligned: AlignedClips, first: Clip, second: Clip, title: str = "") -> Figure:
    """The picture of `align_clips`: scores, soft alignment, best path, and the phases where both have them.

    With the help of others: the soft alignment and path before, and after.
    """
    labels = None if first.labels is None or second.labels is None else (first.labels, second.labels)
    names = (first.name, second.name)
    if aligned.together is None:
        return plot_alignment(
            aligned.posterior,
            aligned.path,
            first.times,
            second.times,
            aligned.scores,
            labels=labels,
            names=names,
            title=title,
        )
    panels = {
        "the two alone": (aligned.posterior, aligned.path),
        "with the others": (aligned.together.posterior, aligned.together.path),
    }
    return plot_alignments(panels, first.times, second.times, labels=labels, names=names, title=title)


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
