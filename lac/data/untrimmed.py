"""Untrimmed clips: an action between pieces of other recordings, played faster or slower.

On trimmed clips the position of a frame within its clip nearly tells its phase, so that an embedding that has
seen nothing scores high. Frames of other movements before and after take that short cut away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lac.data.base import Clip


def resample(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values at fractional frame positions, by linear interpolation between the two neighbouring frames.

    Args:
        values: (T, ...) floating point.
        positions: (K,) in frames, within 0 and T - 1.

    Returns:
        (K, ...) of the dtype of `values`.
    """
    low = np.clip(np.floor(positions).astype(np.int64), 0, len(values) - 1)
    high = np.minimum(low + 1, len(values) - 1)
    weight = (positions - low).reshape((-1,) + (1,) * (values.ndim - 1)).astype(values.dtype)
    return np.asarray(values[low] + weight * (values[high] - values[low]), dtype=values.dtype)


def untrim(
    clip: Clip,
    others: Sequence[Callable[[], np.ndarray]],
    rng: np.random.Generator,
    *,
    max_distractors: int,
    speed: tuple[float, float],
    share: float | None = None,
) -> Clip:
    """Put frames of other recordings before and after `clip` and change its speed.

    The piece before is the end of one of the others, the piece after the beginning of one, so that the joints
    fall where people rest. One speed is drawn for the whole (log-uniform); the frames are taken at equal
    steps of it, and the times are those of the clip as it is played: a clip played at 1.5 lasts 1 / 1.5 of
    its time.

    Args:
        clip: frames at equal steps of time; labels or `None`.
        others: functions that give (T, ...) float32 frames of the same features at the same rate.
        rng: draws, in this order: length and source of the piece before, of the piece after, speed. With `share`
            the second length is what is left, and a piece may draw several sources.
        max_distractors: most frames of a piece, before the change of speed; fewer where its recording is short.
        speed: smallest and greatest factor; (1, 1) keeps the speed.
        share: instead of `max_distractors`: the part of the clip that the two pieces make up together, in [0, 1).
            How many of these frames stand before is drawn; a piece runs over several recordings where one is too short.

    Returns:
        A clip of the same name, action and person; its labels are -1 outside the action, `None` if it had none. It has
        no guide, whatever the clip had: of the pieces around it none is known.
    """
    step = float(clip.times[-1] - clip.times[0]) / max(len(clip) - 1, 1)
    if share is None:
        pieces = []
        for side in ("before", "after"):
            length = int(rng.integers(max_distractors + 1))
            other = others[int(rng.integers(len(others)))]() if others else clip.frames[:0]
            pieces.append(other[max(len(other) - length, 0) :] if side == "before" else other[:length])
        before, after = pieces
    else:
        total = round(len(clip) * share / (1 - share)) if others else 0
        length = int(rng.integers(total + 1))
        joined = _joined(clip, others, rng, length)
        before, after = joined[len(joined) - length :], _joined(clip, others, rng, total - length)[: total - length]
    frames = np.concatenate([before, clip.frames, after]).astype(np.float32)
    factor = float(np.exp(rng.uniform(np.log(speed[0]), np.log(speed[1]))))
    positions = np.arange(int((len(frames) - 1) / factor + 1e-9) + 1) * factor
    labels = None
    if clip.labels is not None:
        whole = np.full(len(frames), -1, dtype=np.int64)
        whole[len(before) : len(before) + len(clip)] = clip.labels
        labels = whole[np.minimum(np.rint(positions).astype(np.int64), len(whole) - 1)]
    times = np.arange(len(positions)) * step
    return Clip(clip.name, resample(frames, positions), times, labels, clip.action, clip.person)


def _joined(clip: Clip, others: Sequence[Callable[[], np.ndarray]], rng: np.random.Generator, least: int) -> np.ndarray:
    """Whole recordings drawn one after another, until there are at least `least` frames."""
    frames = clip.frames[:0]
    while len(frames) < least:
        frames = np.concatenate([frames, others[int(rng.integers(len(others)))]()])
    return frames
