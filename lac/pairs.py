"""Two clips aligned, by a trained encoder and its loss or by raw features, with the help of others, and its picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from lac.data.base import Clip
from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.paths import expected_paths
from lac.plots import plot_alignment, plot_alignments
from lac.search import by_chance
from lac.ways import Trained, Way, align_together, check_memory, check_memory_of_two

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
        chance: the probability that frames of the second clip, shuffled, match the first as well, see
            `lac.search.Chance`; NaN where the scores are not finite.
        together: the same two clips aligned with the help of others, where there are any.
    """

    scores: Tensor
    posterior: Tensor
    path: Tensor
    score: Tensor
    best_score: Tensor
    chance: float
    together: Together | None = None


class Together(NamedTuple):
    """Two clips of N and M frames aligned by what they and others of the same action agree about.

    Attributes:
        posterior: (N, M), of `lac.Consensus`.
        path: (K, 2) its `lac.paths.expected_paths`.
        trust: 0-d, from 0 to 1, see `lac.AlignedTogether`.
        others: the same path of the first clip and each of the others.
    """

    posterior: Tensor
    path: Tensor
    trust: Tensor
    others: list[Tensor]


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
    embeddings and self-similarity and not spread, which takes some seven tensors of (clips x frames)^2 numbers.

    Args:
        encoder: of a run, say.
        loss: likewise.
        first: the clip of the rows.
        second: that of the columns.
        others: more clips of the same action.
        reach: of the self-similarity, in seconds, see `lac.self_similarity`; 0: embeddings alone.
    """
    return align_by(Trained(encoder, loss, reach), first, second, others)


def align_by(way: Way, first: Clip, second: Clip, others: Sequence[Clip] = ()) -> AlignedClips:
    """Align two clips by a way of one's choice, such as `lac.ways.Raw`: see `align_clips`.

    Raises:
        ValueError: so many clips of such lengths do not fit into memory, see `lac.ways.check_memory`.
    """
    clips = [first, second, *others]
    if others:
        check_memory(clips)
    check_memory_of_two(first, second)
    vectors = way.vectors(clips)
    scores, posterior, path, score, best_score = (of_pairs[0] for of_pairs in way.pair(first, second, vectors[:2]))
    chance = math.nan
    if best_score.isfinite():
        null = by_chance(way.compared(first, second, vectors[:2]))
        chance = -math.expm1(-null.expected(best_score.item()))
    if not others:
        return AlignedClips(scores, posterior, path, score, best_score, chance)
    agreed = align_together(way, clips, vectors)
    of_first = [agreed.posterior[0, k, : len(first), : len(clip)] for k, clip in enumerate(clips)]
    paths = [expected_paths(posterior[None])[0] for posterior in of_first[1:]]
    together = Together(of_first[1], paths[0], agreed.trust[0, 1], paths[1:])
    return AlignedClips(scores, posterior, path, score, best_score, chance, together)


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
