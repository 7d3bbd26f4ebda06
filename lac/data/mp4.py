"""Videos that are written: an mp4 (H.264), each picture at its time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from lac.data.video import ShownFrame, package

_CLOCK = 90_000  # ticks a second


def write_pictures(path: Path, pictures: Iterable[tuple[float, np.ndarray]], *, rate: float) -> int:
    """Write pictures of one size, (H, W, 3) uint8 with even sides, each with its time in seconds, the first at 0.

    Args:
        path: file to write.
        pictures: in order of time; they are taken one after the other.
        rate: nominal frames a second.

    Returns:
        Number of pictures written; where it is 0 the file is no video.

    Raises:
        ImportError: PyAV is not installed.
        OSError: the file cannot be written.
    """
    av = package("av", "PyAV")
    written = 0
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for time, picture in pictures:
            if stream is None:
                start = time
                stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
                stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
                stream.codec_context.time_base = Fraction(1, _CLOCK)
            out = av.VideoFrame.from_ndarray(picture, format="rgb24")
            out.pts, out.time_base = round((time - start) * _CLOCK), Fraction(1, _CLOCK)
            container.mux(stream.encode(out))
            written += 1
        if stream is not None:
            container.mux(stream.encode())
    return written


def between(frames: Iterator[ShownFrame], start: float, end: float) -> Iterator[ShownFrame]:
    """Those of the frames that are shown from one second to another."""
    return takewhile(lambda frame: frame.time <= end, dropwhile(lambda frame: frame.time < start, frames))


def even(side: float) -> int:
    """H.264 with halved colour needs even sides."""
    return max(2, round(side / 2) * 2)
