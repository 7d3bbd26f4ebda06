"""What a search has found, as a table, as a picture and as cut-outs of the videos."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lac.data.base import Clip
from lac.data.mp4 import between, even, write_pictures
from lac.data.video import ShownFrame, shown_frames
from lac.errors import DataError
from lac.files import atomic_path
from lac.plots import GREY, INK, new_figure, without_middle
from lac.search import Occurrence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELDS = (
    "rank", "recording", "start", "end", "matched_start", "matched_end", "query_start", "query_end", "matched_frames",
    "score", "chance",
)  # fmt: skip
_AROUND, _TALLEST = 0.5, 480  # seconds before and after a cut, and its height
_WIDEST = 28  # characters of a name beside a row
_MOST_NUMBERS = 40  # hits whose rank is written


class Hit(NamedTuple):
    """An occurrence in one of several recordings.

    Attributes:
        rank: from 1, the best first.
        recording: its place among them.
        occurrence: see there.
    """

    rank: int
    recording: int
    occurrence: Occurrence


def described(occurrence: Occurrence, query: Clip, recording: Clip) -> dict[str, Any]:
    """An occurrence by the names of `FIELDS` but `rank` and `chance`, and below `path` the matched moments, (second of
    the query, second of the recording)."""
    path = occurrence.path
    moments = np.stack([query.times[path[:, 0]], recording.times[path[:, 1]]], axis=1)
    (query_start, start), (query_end, end) = moments[0].tolist(), moments[-1].tolist()
    return {
        "recording": recording.name,
        "start": occurrence.start,
        "end": occurrence.end,
        "matched_start": start,
        "matched_end": end,
        "query_start": query_start,
        "query_end": query_end,
        "matched_frames": len(path),
        "score": occurrence.score,
        "path": moments.round(6).tolist(),
    }


def draw_timeline(
    spans: Sequence[tuple[str, float, float]], hits: Sequence[Hit], query: tuple[str, float], title: str = ""
) -> Figure:
    """A row for each recording from its beginning to its end, with what was found in it: the surer, the darker.

    Args:
        spans: name, first and last second of each recording.
        hits: their `recording` is a place in `spans`.
        query: its name, and how many seconds it lasts: a bar of this length stands below for comparison.
        title: a line above the picture.
    """
    longest = max(end - start for _, start, end in spans)
    unit, name = (60.0, "min") if longest > 600 else (1.0, "s")
    figure = new_figure(9.0, 1.3 + 0.42 * (len(spans) + 1))
    axes = figure.subplots()
    for row, (_, start, end) in enumerate(spans):
        axes.barh(row, (end - start) / unit, left=start / unit, height=0.62, color="#eef0f2", edgecolor="none")
    shades = _shades()
    numbered: list[tuple[int, float]] = []  # recording and second of the hits whose rank is written
    for hit in hits:
        found = hit.occurrence
        width = max(found.end - found.start, longest / 900)
        colour = shades(_sureness(found.chance))
        axes.barh(
            hit.recording, width / unit, left=found.start / unit, height=0.62, color=colour, edgecolor="white", lw=0.4
        )
        near = [x for x in numbered if x[0] == hit.recording and abs(x[1] - found.start) < longest / 60]
        if hit.rank <= _MOST_NUMBERS and not near:
            numbered.append((hit.recording, found.start))
            middle = (found.start + found.end) / 2 / unit
            axes.annotate(
                str(hit.rank), (middle, hit.recording - 0.33), fontsize=6.5, ha="center", va="bottom", color=INK
            )
    left = min(start for _, start, _ in spans)
    axes.barh(len(spans), query[1] / unit, left=left / unit, height=0.3, color=GREY, edgecolor="none")
    labels = [without_middle(text, _WIDEST) for text in (*(text for text, _, _ in spans), query[0])]
    labels[-1] = f"query: {labels[-1]}"
    axes.set_yticks(range(len(labels)), labels, fontsize=8, parse_math=False)
    axes.set_ylim(len(spans) + 0.5, -0.75)
    axes.set_xlabel(f"time ({name})")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), shades), ax=axes, fraction=0.025, pad=0.02)
    bar.set_ticks([0, 0.5, 1], labels=["1", ".01", ".0001"])
    bar.set_label("chance", fontsize=8)
    return figure


def _shades() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sure", ["#cfe2f3", "#0072b2", "#062b45"])


def _sureness(chance: float) -> float:
    """0 where all may be chance, 1 from a ten-thousandth on."""
    return min(-math.log10(max(chance, 1e-4)) / 4, 1.0)


def cut_out(path: Path, video: Path, start: float, end: float, *, rate: float) -> None:
    """What a video shows from `start` to `end`, and half a second before and after, as an mp4 (H.264) without sound.

    Args:
        path: to be written, whole or not at all.
        video: as in `lac.data.video.read_frames`; it is decoded from its beginning.
        start, end: seconds on its clock.
        rate: frames a second of a folder of images.

    Raises:
        ValueError, OSError, ImportError: the video cannot be read or the file not written.
    """
    with closing(shown_frames(video, rate)) as frames, atomic_path(path) as temporary:
        part = between(frames, start - _AROUND, end + _AROUND)
        if not write_pictures(temporary, _lowered(part), rate=rate):
            raise DataError(f"{video}: no frame between {start:g} and {end:g} s")


def _lowered(frames: Iterator[ShownFrame]) -> Iterator[tuple[float, np.ndarray]]:
    """The frames with their times, no higher than `_TALLEST`, all of one size."""
    size: tuple[int, int] | None = None
    for frame in frames:
        tall = min(frame.shape[0], _TALLEST)
        size = size or (even(tall), even(frame.shape[1] * tall / frame.shape[0]))
        yield frame.time, frame.picture(size)
