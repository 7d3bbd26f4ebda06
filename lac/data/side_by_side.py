"""Videos beside each other, all in the timing of the first."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lac.data.mp4 import between as within
from lac.data.mp4 import even, write_pictures
from lac.data.video import RATE, ShownFrame, package, shown_frames
from lac.errors import DataError
from lac.files import atomic_path

_WIDE, _TALL = 1920, 1080  # pixels that the whole picture may have, where it is a grid
_LOWEST = 144  # pixels: lower videos are blown up to this, so that their captions can be read
_DIMMED = 0.6
_INK, _AMBER, _GROUND = (230, 233, 237), (255, 190, 60), (24, 27, 31)


class Following(NamedTuple):
    """A video that follows the first one.

    Attributes:
        video: as in `lac.data.video.read_frames`.
        name: written above it.
        times1: (K,) seconds of the K matched moments on the clock of the first video, increasing; K may be 0.
        times2: (K,) on the clock of this video, increasing.
    """

    video: str | Path
    name: str
    times1: np.ndarray
    times2: np.ndarray


def write_side_by_side(
    path: str | Path,
    first: str | Path,
    name: str,
    others: Sequence[Following],
    *,
    height: int = 480,
    rate: float = RATE,
    between: tuple[float, float] = (-math.inf, math.inf),
) -> int:
    """An mp4 (H.264) with videos in a grid, the first at the top left, the others in the timing of the first.

    At time t of the first video another shows its time f(t): f is linear between matches. Before the first match and
    after the last one it stands still there, somewhat dimmed, and "no match" is written above it. Names and running
    seconds, each on its own clock, are written above the videos. Every video is decoded once, a few frames at a time.

    Args:
        path: file to write, `.mp4`; written whole or not at all.
        first: video as in `read_frames`.
        name: written above it.
        others: at least one, and one match at least among them.
        height: greatest height of a video in pixels, less where a grid of three or more would exceed 1920 x 1080. A
            first video that is lower keeps its height, but for one below 144.
        rate: as in `read_frames`.
        between: the seconds of the first video that are written.

    Returns:
        Number of frames written.

    Raises:
        ValueError: no match, times that do not increase, no frame `between`, or a video that cannot be read (see
            `read_frames`).
        OSError: the file cannot be written.
    """
    followed = [_checked(other) for other in others]
    if not any(len(other.times1) for other in followed):
        raise DataError("there is no match that another video could follow")
    if not isinstance(height, int) or height < 2:
        raise DataError(f"height must be a whole number of pixels, at least 2, got {height!r}")
    with ExitStack() as stack:
        leading = stack.enter_context(closing(shown_frames(Path(first), rate)))
        followers = [
            _Follower(stack.enter_context(closing(shown_frames(Path(other.video), rate))), other) for other in followed
        ]
        temporary = stack.enter_context(atomic_path(path))
        written = write_pictures(temporary, _drawn(within(leading, *between), name, followers, height), rate=rate)
        if not written:
            raise DataError(f"{first}: no frame between {between[0]:g} and {between[1]:g} s")
    return written


def _drawn(
    leading: Iterator[ShownFrame], name: str, followers: Sequence[_Follower], height: int
) -> Iterator[tuple[float, np.ndarray]]:
    """The whole picture at each frame of the first video, with its time."""
    grid: _Grid | None = None
    for frame in leading:
        grid = grid or _Grid([frame, *(one.shown for one in followers)], height)
        grid.show(0, frame)
        grid.write(0, name, frame.time, matched=True)
        for place, follower in enumerate(followers, start=1):
            matched = follower.go(frame.time)
            grid.show(place, follower.shown, dimmed=not matched)
            grid.write(place, follower.name, follower.shown.time, matched=matched)
        yield frame.time, np.asarray(grid.canvas)


class _Follower:
    """A video that is played as the first one asks, forwards."""

    def __init__(self, frames: Generator[ShownFrame], following: Following) -> None:
        self.name, self._times1, self._times2 = following.name, following.times1, following.times2
        self._frames = frames
        self.shown = next(frames)
        self._upcoming = next(frames, None)

    def go(self, time: float) -> bool:
        """Go on to what belongs to this time of the first video; returns whether that is matched."""
        if len(self._times1) == 0:
            return False
        moment = float(np.interp(time, self._times1, self._times2))
        while self._upcoming is not None and self._upcoming.time <= moment + 1e-6:
            self.shown, self._upcoming = self._upcoming, next(self._frames, None)
        return bool(self._times1[0] - 1e-6 <= time <= self._times1[-1] + 1e-6)


class _Grid:
    """The picture that is written: cells of one size, each a line of text above a video in its own proportions."""

    def __init__(self, frames: Sequence[ShownFrame], height: int) -> None:
        count = len(frames)
        self._columns = math.ceil(math.sqrt(count))
        rows = math.ceil(count / self._columns)
        widest = max(wide / tall for tall, wide in (frame.shape for frame in frames))
        tall = max(min(height, frames[0].shape[0]), min(height, _LOWEST))
        if count > 2:
            tall = max(min(tall, _TALL // rows - 32, int(_WIDE / self._columns / widest)), 16)
        self._text = min(max(tall // 22, 11), 20)
        self._strip = even(self._text * 1.6)
        self._cell = (even(tall), even(tall * widest))
        self.height, self.width = rows * (self._strip + self._cell[0]), self._columns * self._cell[1]
        image, draw, font = (package(f"PIL.{name}", "Pillow") for name in ("Image", "ImageDraw", "ImageFont"))
        self.canvas = image.new("RGB", (self.width, self.height))
        self._from_array, self._draw = image.fromarray, draw.Draw(self.canvas)
        self._font = font.load_default(self._text)
        self._there: dict[int, tuple[float, bool]] = {}

    def show(self, place: int, frame: ShownFrame, *, dimmed: bool = False) -> None:
        """Put a frame into a cell, where it is not there already."""
        if self._there.get(place) == (frame.time, dimmed):
            return
        self._there[place] = frame.time, dimmed
        tall, wide = self._cell
        scale = min(tall / frame.shape[0], wide / frame.shape[1])
        size = (min(even(frame.shape[0] * scale), tall), min(even(frame.shape[1] * scale), wide))
        picture = frame.picture(size)
        if dimmed:
            picture = (picture * _DIMMED).astype(np.uint8)
        left, top = self._corner(place)
        corner = (left + (wide - size[1]) // 2, top + self._strip + (tall - size[0]) // 2)
        self._draw.rectangle((left, top + self._strip, left + wide - 1, top + self._strip + tall - 1), fill=0)
        self.canvas.paste(self._from_array(picture), corner)

    def write(self, place: int, name: str, seconds: float, *, matched: bool) -> None:
        """Write the line above a cell."""
        left, top = self._corner(place)
        right, middle, edge = left + self._cell[1], top + self._strip // 2, self._text // 2
        self._draw.rectangle((left, top, right - 1, top + self._strip - 1), fill=_GROUND)
        clock = f"{seconds:.2f} s" if matched else f"no match   {seconds:.2f} s"
        ink = _INK if matched else _AMBER
        self._draw.text((right - edge, middle), clock, fill=ink, font=self._font, anchor="rm")
        room = self._cell[1] - 3 * edge - self._draw.textlength(clock, font=self._font)
        while name and self._draw.textlength(name, font=self._font) > room:
            name = name[:-1]
        self._draw.text((left + edge, middle), name, fill=ink, font=self._font, anchor="lm")

    def _corner(self, place: int) -> tuple[int, int]:
        row, column = divmod(place, self._columns)
        return column * self._cell[1], row * (self._strip + self._cell[0])


def _checked(following: Following) -> Following:
    times1, times2 = (np.asarray(times, dtype=np.float64) for times in (following.times1, following.times2))
    if times1.ndim != 1 or times1.shape != times2.shape:
        raise DataError(
            f"times1 and times2 must hold one time for each of K matches, got {times1.shape}, {times2.shape}"
        )
    for name, times in (("times1", times1), ("times2", times2)):
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise DataError(f"{name} must be finite seconds that increase, got {times}")
    return following._replace(times1=times1, times2=times2)
