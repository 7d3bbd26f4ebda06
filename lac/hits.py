"""What a search has found, as a table, as a picture and as cut-outs of the videos."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lac.data.base import Clip
from lac.data.video import package, shown_frames
from lac.errors import DataError
from lac.files import atomic_path
from lac.plots import GREY, INK, new_figure
from lac.search import Occurrence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIELDS = (
    "rank", "recording", "start", "end", "matched_start", "matched_end", "query_start", "query_end", "matched_frames",
    "score", "chance",
)  # fmt: skip
_AROUND, _TALLEST, _CLOCK = 0.5, 480, 90_000  # seconds before and after a cut, its height, ticks a second of its clock
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


def described(hit: Hit, query: Clip, recording: Clip) -> dict[str, Any]:
    """A hit by the names of `FIELDS`, in seconds of the recording and of the query."""
    first, last = hit.occurrence.path[0], hit.occurrence.path[-1]
    values = (
        hit.rank, recording.name, hit.occurrence.start, hit.occurrence.end, float(recording.times[first[1]]),
        float(recording.times[last[1]]), float(query.times[first[0]]), float(query.times[last[0]]),
        len(hit.occurrence.path), hit.occurrence.score, hit.occurrence.chance,
    )  # fmt: skip
    return dict(zip(FIELDS, values, strict=True))


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The hits as CSV, `FIELDS` first."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: round(x, 6) if isinstance(x, float) else x for name, x in row.items()} for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


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
    labels = [_short(text) for text, _, _ in spans]
    axes.set_yticks(range(len(spans) + 1), [*labels, f"query: {_short(query[0])}"], fontsize=8, parse_math=False)
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


def _short(name: str) -> str:
    half = (_WIDEST - 1) // 2
    return name if len(name) <= _WIDEST else f"{name[:half]}…{name[-half:]}"


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
    av = package("av", "PyAV")
    frames = shown_frames(video, rate)
    begun = dropwhile(lambda frame: frame.time < start - _AROUND, frames)
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = None
        for frame in takewhile(lambda frame: frame.time <= end + _AROUND, begun):
            if stream is None:
                first, tall = frame.time, min(frame.shape[0], _TALLEST)
                size = (_even(tall), _even(frame.shape[1] * tall / frame.shape[0]))
                stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
                stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
                stream.codec_context.time_base = Fraction(1, _CLOCK)
            out = av.VideoFrame.from_ndarray(frame.picture(size), format="rgb24")
            out.pts, out.time_base = round((frame.time - first) * _CLOCK), Fraction(1, _CLOCK)
            container.mux(stream.encode(out))
        if stream is None:
            raise DataError(f"{video}: no frame between {start:g} and {end:g} s")
        container.mux(stream.encode())
    frames.close()


def _even(side: float) -> int:
    """H.264 with halved colour needs even sides."""
    return max(2, round(side / 2) * 2)


def path_seconds(hit: Hit, query: Clip, recording: Clip) -> list[list[float]]:
    """The matched moments, (second of the query, second of the recording)."""
    path = hit.occurrence.path
    moments = np.stack([query.times[path[:, 0]], recording.times[path[:, 1]]], axis=1)
    return [[float(one), float(other)] for one, other in moments.round(6)]
