"""The matching between two clips, judged by their phases alone: no classifier, no embedding.

A frame's *phase position* is c + r: c its phase, r in (0, 1) how far it is through this stretch of the phase. Two
frames match where their positions differ by at most `TOLERANCE` of a phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.35  # of a phase: about a third, so that neither neighbouring phases nor all of one phase count as right


class Matching(NamedTuple):
    """How well frames of clip 1 are matched with those of clip 2. "The action": frames with a phase.

    NaN where a figure has no value: the first three without a posterior, the others without a path, `precision` where
    the action's rows have no mass, `error` where no cell of the path has two phases, `distracted` where each frame of
    clip 1 has a phase.

    Attributes:
        recall: mass on right cells, mean over the action's frames of clip 1.
        precision: of the mass on the action's rows the part on right cells.
        hit: share of the action's rows whose best column is right: of columns equally good, the part that is right; a
            row without mass has none.
        error: mean difference of phase positions, in phases, along the path where both frames have a phase.
        covered: share of the action's frames of clip 1 that are on the path.
        distracted: share of the frames of clip 1 without a phase that are on the path.
    """

    recall: float = float("nan")
    precision: float = float("nan")
    hit: float = float("nan")
    error: float = float("nan")
    covered: float = float("nan")
    distracted: float = float("nan")


def phase_positions(labels: np.ndarray) -> np.ndarray:
    """Phase positions (T,) float64 of the frames with these labels (T,); NaN where a label is negative.

    Frame k of a stretch of n frames of phase c is at c + (k + 1/2) / n.
    """
    starts = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    lengths = np.diff(starts, append=len(labels))
    frame = np.arange(len(labels)) - np.repeat(starts, lengths)
    return np.where(labels >= 0, labels + (frame + 0.5) / np.repeat(lengths, lengths), np.nan)


def judge(
    positions1: np.ndarray,
    positions2: np.ndarray,
    posterior: np.ndarray | None = None,
    path: np.ndarray | None = None,
) -> Matching:
    """Judge the matching of two clips of N and M frames.

    Args:
        positions1: (N,) phase positions, NaN outside of the action; one frame at least has one.
        positions2: (M,) likewise.
        posterior: (N, M) >= 0, rows of sum at most 1; or `None`.
        path: (K, 2) matched frames; or `None`.
    """
    figures = {} if posterior is None else _of_posterior(positions1, positions2, posterior)
    return Matching(**figures, **({} if path is None else _of_path(positions1, positions2, path)))


def _of_posterior(positions1: np.ndarray, positions2: np.ndarray, posterior: np.ndarray) -> dict[str, float]:
    rows = np.isfinite(positions1)
    right = np.abs(positions1[rows, None] - positions2) <= TOLERANCE  # a NaN is not
    mass = posterior[rows].astype(np.float64)
    on_right = (mass * right).sum()
    best = (mass == mass.max(axis=1, keepdims=True)) & (mass > 0)
    hits = (best & right).sum(axis=1) / np.maximum(best.sum(axis=1), 1)
    return {
        "recall": float(on_right / len(mass)),
        "precision": float(on_right / mass.sum()) if mass.any() else float("nan"),
        "hit": float(hits.mean()),
    }


def _of_path(positions1: np.ndarray, positions2: np.ndarray, path: np.ndarray) -> dict[str, float]:
    differences = np.abs(positions1[path[:, 0]] - positions2[path[:, 1]])
    differences = differences[np.isfinite(differences)]
    on_path = np.zeros(len(positions1), bool)
    on_path[path[:, 0]] = True
    action = np.isfinite(positions1)
    return {
        "error": float(differences.mean()) if len(differences) else float("nan"),
        "covered": float(on_path[action].mean()),
        "distracted": float("nan") if action.all() else float(on_path[~action].mean()),
    }


def mean(matchings: Sequence[Matching]) -> Matching:
    """The mean of each figure over the pairs that have it."""
    columns = np.array(matchings, dtype=np.float64).T
    return Matching(*(float(np.mean(known)) if len(known := x[np.isfinite(x)]) else float("nan") for x in columns))
