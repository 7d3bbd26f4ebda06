"""Frame rate and size of the frames of videos where none is given: chosen from the clips, and told in one line.

As many frames a second as bring the median clip to `FRAMES`, but no fewer than 10, and no more than 30 or than the
videos have; 224 x 224 pixels where the videos have as many, else 112 x 112. Both stay so low that a core computes the
features of all clips in about `MINUTES`, by a rough cost of a pixel. The same folder gives the same choice anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lac.data.telling import tell
from lac.data.video import outline
from lac.errors import is_of_machine

FPS, SIZE = 10.0, 112  # the least
MOST_FPS, LARGE = 30.0, 224
FRAMES = 60  # views take up to 40 by default, at up to three times the speed
MINUTES = 10
_SECONDS = 1.5e-6  # a pixel of a frame in the default backbone, on one core


def choose(
    videos: Sequence[Path], *, rate: float, fps: float | None, size: int | Sequence[int] | None, images: bool
) -> dict[str, Any]:
    """Those of the options `fps` and `size` that are `None`, chosen for `videos`; what is chosen is told.

    Args:
        videos: of all clips; those that cannot be read do not count.
        rate: of folders of images.
        fps, size: the options as they are given.
        images: whether the frames stay images in memory, which are kept small.

    Raises:
        ImportError: a package that reads them is not installed.
    """
    found = []
    for video in videos if fps is None or size is None else ():
        try:
            found.append(outline(video, rate=rate))
        except (ValueError, OSError) as error:  # it is told when it is read
            if is_of_machine(error):
                raise
    if not found:
        return ({"fps": FPS} if fps is None else {}) | ({"size": SIZE} if size is None else {})
    seconds, rates, sides = np.array([(one.seconds, one.rate, min(one.shape)) for one in found]).T
    chosen: dict[str, Any] = {}
    if fps is None:
        affordable = MINUTES * 60 / (_cost(SIZE if size is None else size) * max(seconds.sum(), 1e-9))
        most = min(MOST_FPS, math.ceil(np.median(rates)), math.floor(affordable))
        fps = chosen["fps"] = float(max(FPS, min(most, math.ceil(FRAMES / max(np.median(seconds), 1e-9)))))
    frames = (seconds * np.minimum(rates, fps)).sum()
    if size is None:
        large = not images and np.median(sides) >= LARGE and frames * _cost(LARGE) <= MINUTES * 60
        size = chosen["size"] = LARGE if large else SIZE
    count = np.median(seconds) * min(np.median(rates), fps)
    cost = "" if images else f"; about {max(1, round(frames * _cost(size) / 60))} min for all on one core, once"
    words = {"fps": f"{fps:g} frames a second", "size": f"{size} x {size} pixels"}
    others = {"fps": FPS if fps > FPS else 25, "size": SIZE if size == LARGE else LARGE}
    tell(
        f"chosen for these videos: {' and '.join(words[name] for name in chosen)}; the median clip of "
        f"{np.median(seconds):.1f} s then has {count:.0f} frames{cost}. To change it: "
        + " ".join(f"--set data.options.{name}={others[name]:g}" for name in chosen)
    )
    return chosen


def _cost(size: int | Sequence[int]) -> float:
    """Seconds that the features of a frame take."""
    return _SECONDS * (size**2 if isinstance(size, int) else math.prod(size))
