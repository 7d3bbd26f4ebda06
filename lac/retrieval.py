"""Retrieval: the frames of other clips whose embeddings are nearest to those of some frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Found(NamedTuple):
    """A frame: the place of its clip, its index there, and its distance to the query."""

    clip: int
    frame: int
    distance: float


def nearest_frames(queries: np.ndarray, clips: Sequence[np.ndarray], k: int) -> list[list[Found]]:
    """For each query the nearest frame of each of the `k` clips that come nearest, nearest first.

    Args:
        queries: (Q, E) embeddings.
        clips: for each clip (T, E).
        k: at least 1; all clips where there are fewer.

    Returns:
        Q lists. Distances are Euclidean, in float64; of equal ones the earlier clip and frame come first.

    Raises:
        ImportError: scipy is not installed.
    """
    from scipy.spatial.distance import cdist

    distances = [cdist(queries.astype(np.float64), clip.astype(np.float64)) for clip in clips]
    best = [distance.argmin(axis=1) for distance in distances]
    nearest = []
    for q in range(len(queries)):
        of_each = [Found(c, int(best[c][q]), float(distances[c][q, best[c][q]])) for c in range(len(clips))]
        nearest.append(sorted(of_each, key=lambda answer: answer.distance)[:k])
    return nearest
