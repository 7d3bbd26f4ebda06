"""Phases of one repetition of a movement, by a kinematic rule.

The rule is in the spirit of the key events of Penn Action as Dwibedi et al. use them ("Temporal
Cycle-Consistency Learning", 2019): a movement that goes out and comes back is cut where it passes half of its
way out, where it turns, and where it passes half of its way back. The labels are made by a rule, not by
people, and are to be called so wherever they are reported.
"""

from __future__ import annotations

import numpy as np


def half_way_phases(excursion: np.ndarray) -> np.ndarray:
    """Label each frame of one repetition 0, 1, 2 or 3 from how far the movement is out.

    With `rest` the 5th percentile of the excursion, `turn` its first maximum and `half` the mean of
    `rest` and the maximum: 0 before the last passage of `half` on the way out, 1 from there to the turn,
    2 from the turn until the movement is back at `half`, 3 after that.

    Args:
        excursion: (T,) real, any unit, larger = farther from rest. For a squat minus the pelvis' height.

    Returns:
        (T,) int64, never decreasing. A repetition that starts beyond half has no 0, and so on.

    Raises:
        ValueError: not one-dimensional, or empty.
    """
    if excursion.ndim != 1 or len(excursion) == 0:
        raise ValueError(f"excursion must be (frames,) with at least one frame, got {excursion.shape}")
    turn = int(np.argmax(excursion))
    half = (np.percentile(excursion, 5) + excursion[turn]) / 2
    below = np.flatnonzero(excursion[: turn + 1] <= half)
    back = np.flatnonzero(excursion[turn:] <= half)
    out = int(below[-1]) + 1 if len(below) else 0
    home = turn + int(back[0]) if len(back) else len(excursion)
    labels = np.zeros(len(excursion), dtype=np.int64)
    labels[min(out, turn) :] = 1
    labels[turn:] = 2
    labels[home:] = 3
    return labels
