"""What makes a result say less than it seems to: lines to be read beside it, of data that is valid and yet odd."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lac.data.base import Clip, Dataset
from lac.data.choice import MOST_FPS

FEW = 8  # frames
FULL_RATE = 24.0  # frames a second: beyond it few videos have more
_SHOWN = 3  # of a list in a line; all of it is in the JSON


def doubts(dataset: Dataset, *, view: int = 0, options: Mapping[str, Any] | None = None) -> list[str]:
    """A line for each doubt, none where there is nothing to doubt.

    Args:
        dataset: all clips.
        view: frames that a view takes in training, `augment.frames`; 0: nothing was trained.
        options: those that the data set was loaded with.

    Clips whose labels could not be read; clips that do not change, from which nothing can be learned; clips with the
    same frames; a split with labels of one phase only, of which nothing can be said; labels of validation clips alone;
    with `view`, clips of too few frames for the views, or for an alignment to be worth anything.
    """
    clips = dataset.train + dataset.val
    lines = []
    train_labels, val_labels = (_labels(part) for part in (dataset.train, dataset.val))
    if val_labels and not train_labels:
        lines.append("no train clip has labels: accuracy and progression, which are fitted to them, are left out (-)")
    if dataset.unlabelled:
        count = f"{len(dataset.unlabelled)} of {len(clips)} clips"
        lines.append(
            f"without labels {count}, trained on but not judged: {first_few(list(dataset.unlabelled.values()))}"
        )
    lines += few_frames(dataset, view, options or {}) if view else []
    frozen = [clip.name for clip in clips if still(clip)]
    if all(clip.name in frozen for clip in dataset.train):
        lines.append("no train clip changes from frame to frame: nothing can be learned")
    elif frozen:
        lines.append(
            f"no change from frame to frame in {len(frozen)} of {len(clips)} clips, from which nothing can be learned: "
            f"{first_few(frozen)}"
        )
    pairs = _twins(clips)
    if pairs:
        train = {clip.name for clip in dataset.train}
        across = any((one in train) != (other in train) for one, other in pairs)
        lines.append(
            f"the same frames in {first_few([f'{one} and {other}' for one, other in pairs])}"
            + ("; a val clip that is a train clip says nothing about new ones" if across else "")
        )
    for split, found in (("train", train_labels), ("val", val_labels)):
        if len(found) == 1:
            lines.append(f"all labels of the {split} clips are {found.pop()}: the columns made from them say nothing")
    return lines


def few_frames(dataset: Dataset, view: int, options: Mapping[str, Any]) -> list[str]:
    """Those of `doubts` that are about the number of frames: they cost a whole training."""
    clips, rate = dataset.train + dataset.val, rate_of_videos(options)
    median = float(np.median([len(clip) for clip in dataset.train]))
    few = [clip.name for clip in clips if len(clip) < FEW]
    lines = []
    if few:
        lines.append(
            f"fewer than {FEW} frames in {len(few)} of {len(clips)} clips, too few for an alignment to say much: "
            f"{first_few(few)}"
        )
    if median < view:
        lines.append(
            f"the median train clip has {median:.0f} frames and a view takes up to {view}, so most views are of the "
            f"whole clip: {more_frames(median, view, rate)}"
        )
    return lines


def rate_of_videos(options: Mapping[str, Any]) -> float:
    """Frames a second that are kept of videos, of the options of a data set; 0 where they are none."""
    return float(options.get("fps") or 0)


def more_frames(frames: float, view: int, rate: float) -> str:
    """The setting to change where clips have so many frames, fewer than a view takes.

    Args:
        frames: of the median clip.
        view: those of a view.
        rate: as `rate_of_videos` gives it.
    """
    if 0 < rate < FULL_RATE:
        return f"--set data.options.fps={min(MOST_FPS, math.ceil(rate * view / frames)):g}"
    return f"--set augment.frames={max(2, int(frames) // 2)}"


def _labels(clips: Sequence[Clip]) -> set[int]:
    """The phases that any of the clips has."""
    return {int(label) for clip in clips if clip.labels is not None for label in np.unique(clip.labels) if label >= 0}


def still(clip: Clip) -> bool:
    """Whether all frames of a clip are the same, as in a clip of one frame."""
    return bool((clip.frames == clip.frames[:1]).all())


def _twins(clips: Sequence[Clip]) -> list[tuple[str, str]]:
    """Names of the first clip with some frames and of each later one with the same."""
    first: dict[tuple[tuple[int, ...], bytes], str] = {}
    pairs = []
    for clip in clips:
        key = clip.frames.shape, hashlib.blake2b(clip.frames.data).digest()
        if key in first:
            pairs.append((first[key], clip.name))
        else:
            first[key] = clip.name
    return pairs


def first_few(texts: Sequence[str]) -> str:
    """The first of a list, and how many more there are."""
    more = f"; and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return "; ".join(texts[:_SHOWN]) + more
