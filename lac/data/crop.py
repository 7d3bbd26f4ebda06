"""Which part of a video moves: one fixed box a clip, so that a small person in a large picture fills the frame.

What changes between frames a fifth of a second apart is averaged over the clip at low resolution. What the picture does
as a whole, as flicker or exposure, is taken off, and so is noise. The box leaves out a hundredth of the change on each
side; it has a margin, the proportions of the picture, and at least a quarter of its height and width.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from lac.data.video import RATE, Box, each_frame

_FPS, _SIDE = 5.0, 64  # of the frames that are looked at
_SHARE = 0.01  # of the change that may lie outside the box, on each side
_MARGIN = 0.15  # on each side, of the box
_LEAST = 0.25  # of the picture
_NOISE = 2.0  # levels of 255: less change, on the mean over time, is none
_FAINT = 0.1  # so is less than this share of the strongest
_COMMON = 4.0  # and less than so many times what half of the picture shows, which is noise, or a camera that moves


def moving_box(path: str | Path, *, rate: float = RATE) -> Box | None:
    """The part of a video that moves; `None`, the whole, where nothing does, or nearly everything.

    Args:
        path, rate: as in `lac.data.video.read_frames`.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `lac.data.video.read_frames`.
    """
    change, before = np.zeros((_SIDE, _SIDE)), None
    count = 0
    with closing(each_frame(path, fps=_FPS, size=_SIDE, rate=rate)) as frames:
        for _, picture in frames:
            if picture is None:
                continue
            now = picture.astype(np.float64)
            if before is not None:
                moved = np.abs(now - before).mean(axis=2)
                change += np.maximum(moved - np.median(moved), 0)
                count += 1
            before = now
    return box_of(change / max(count, 1))


def box_of(change: np.ndarray) -> Box | None:
    """The box around what changes in a picture: (H, W), the mean change of each place in levels of 255."""
    least = max(_NOISE, _FAINT * np.percentile(change, 99.5), _COMMON * np.median(change))
    change = np.where(change > least, change, 0)
    if not change.any():
        return None
    spans = [_span(change.sum(axis=1)), _span(change.sum(axis=0))]
    side = max(max(high - low for low, high in spans) * (1 + 2 * _MARGIN), _LEAST)
    if side >= 1 - 2 * _SHARE:
        return None
    top, left = (min(max((low + high - side) / 2, 0), 1 - side) for low, high in spans)
    return Box(top, left, side)


def _span(weights: np.ndarray) -> tuple[float, float]:
    """Where all but `_SHARE` of the weights on each side lie, as shares of their length."""
    total = np.concatenate([[0], np.cumsum(weights)]) / weights.sum()
    low, high = np.interp([_SHARE, 1 - _SHARE], total, np.arange(len(total)) / len(weights))
    return float(low), float(high)
