"""Two videos side by side, the second in the timing of the first."""

from __future__ import annotations

import math
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lac.data.video import RATE, package, shown_frames
from lac.errors import DataError
from lac.files import atomic_path

_CLOCK = 90_000  # ticks a second of the mp4 that is written


def write_side_by_side(
    path: str | Path,
    first: str | Path,
    second: str | Path,
    times1: np.ndarray,
    times2: np.ndarray,
    *,
    height: int = 480,
    rate: float = RATE,
    between: tuple[float, float] = (-math.inf, math.inf),
) -> int:
    """An mp4 (H.264) with two videos side by side, in which the second follows the timing of the first.

    At time t of the first video the second shows its time f(t): f is linear between matches and constant beyond the
    first and the last one, where the second stands still and is dimmed.

    Args:
        path: file to write, `.mp4`; written whole or not at all.
        first, second: videos as in `read_frames`.
        times1, times2: (K,) seconds of the K >= 1 matched frames on the videos' own clocks, increasing.
        height: greatest height of the picture in pixels; a lower first video keeps its own.
        rate: as in `read_frames`.
        between: the seconds of the first video that are written.

    Returns:
        Number of frames written.

    Raises:
        ValueError: no match, times that do not increase, no frame `between`, or a video that cannot be read (see
            `read_frames`).
        OSError: the file cannot be written.
    """
    times1, times2 = _checked_times(times1, times2)
    if not isinstance(height, int) or height < 2:
        raise DataError(f"height must be a whole number of pixels, at least 2, got {height!r}")
    av = package("av", "PyAV")
    written = 0
    with (
        closing(shown_frames(Path(first), rate)) as left,
        closing(shown_frames(Path(second), rate)) as right,
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4") as container,
    ):
        shown, upcoming = next(right), next(right, None)
        stream: Any = None
        for frame in left:
            if frame.time < between[0]:
                continue
            if frame.time > between[1]:
                break
            if stream is None:
                start, tall = frame.time, _even(min(height, frame.shape[0]))
                sizes = [(tall, _even(tall * shape[1] / shape[0])) for shape in (frame.shape, shown.shape)]
                stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
                stream.height, stream.width, stream.pix_fmt = tall, sizes[0][1] + sizes[1][1], "yuv420p"
                stream.codec_context.time_base = Fraction(1, _CLOCK)
                picture = shown.picture(sizes[1])
            moment = float(np.interp(frame.time, times1, times2))
            while upcoming is not None and upcoming.time <= moment + 1e-6:
                shown, upcoming = upcoming, next(right, None)
                if upcoming is None or upcoming.time > moment + 1e-6:
                    picture = shown.picture(sizes[1])
            matched = times1[0] - 1e-6 <= frame.time <= times1[-1] + 1e-6
            both = np.concatenate([frame.picture(sizes[0]), picture if matched else picture // 3], axis=1)
            out = av.VideoFrame.from_ndarray(both, format="rgb24")
            out.pts, out.time_base = round((frame.time - start) * _CLOCK), Fraction(1, _CLOCK)
            container.mux(stream.encode(out))
            written += 1
        if stream is None:
            raise DataError(f"{first}: no frame between {between[0]:g} and {between[1]:g} s")
        container.mux(stream.encode())
    return written


def _checked_times(times1: np.ndarray, times2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    times1, times2 = (np.asarray(times, dtype=np.float64) for times in (times1, times2))
    if times1.ndim != 1 or len(times1) == 0 or times1.shape != times2.shape:
        raise DataError(
            f"times1 and times2 must hold one time for each of K >= 1 matches, got {times1.shape}, {times2.shape}"
        )
    for name, times in (("times1", times1), ("times2", times2)):
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise DataError(f"{name} must be finite seconds that increase, got {times}")
    return times1, times2


def _even(side: float) -> int:
    """H.264 with halved colour needs even sides."""
    return max(2, round(side / 2) * 2)
