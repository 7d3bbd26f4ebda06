"""Two clips as two rows of frames, each frame at its time, and the moments that match joined by lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lac.pictures import Limits, Picture, Signals, Source, common_limits, draw_picture, frame_pictures, tallness
from lac.plots import BLUE, GREY, INK, cell_edges, new_figure, without_middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 10  # frames in a row
_PARTS = 8  # equal parts of a clip, of which each without a match shows a frame
_FEWEST, _MOST_MOMENTS = 3, 7  # matches whose frames are shown, where the path has as many
_MOST_THREADS = 150  # matches that are drawn as a thin line
_WIDEST = 80  # characters of a name beside a row

# Inches.
_WIDTH, _MARGIN = 11.0, 0.25
_PITCH = (_WIDTH - 2 * _MARGIN) / MOST
_GAP, _TITLE, _NAME, _CAPTION, _LEADER, _RULER, _NUMBER, _BETWEEN = 0.08, 0.35, 0.3, 0.2, 0.25, 0.24, 0.4, 1.1
_MATCHED, _UNMATCHED = "#cfe4f3", "#e3e5e8"


class _Row(NamedTuple):
    """A clip: which frames are matched, which of them are shown with a picture, and its time axis in inches.

    Attributes:
        frames: of the pictures, in order.
        shown: for each whether it is one of the moments; the others belong to stretches without a match.
        edges: (T + 1,) inches from the left of the cells of its frames.
        centres: (T,) inches of the frames.
    """

    source: Source
    matched: np.ndarray
    frames: np.ndarray
    shown: np.ndarray
    edges: np.ndarray
    centres: np.ndarray


def draw_moments(first: Source, second: Source, path: Any, *, rate: float, title: str = "") -> Figure:
    """Frames of one clip above frames of the other, each joined with its time; lines join what the path matches.

    The time axes have the same length whatever the clips' are. Thin lines are matches, the thick ones those whose
    frames are shown; stretches of the axes without a match are grey, and frames from long ones pale.

    Args:
        first: the clip above.
        second: the clip below.
        path: (K, 2) matched frames, both columns increasing; empty where nothing matches.
        rate: frames a second of a video that is a folder of images.
        title: a line above the picture.

    Raises:
        ValueError, OSError, ImportError: a video cannot be read, see `lac.pictures.frame_pictures`.
    """
    path = (path.detach().cpu().numpy() if hasattr(path, "detach") else np.asarray(path)).reshape(-1, 2).astype(int)
    alone = [_without_match(source, path[:, k]) for k, source in enumerate((first, second))]
    moments = choose_moments(path, _PARTS - min(len(frames) for frames in alone))
    rows = [
        _row(source, path[:, k], path[moments, k], frames)
        for k, (source, frames) in enumerate(zip((first, second), alone, strict=True))
    ]
    signals = Signals([first.clip, second.clip])
    pictures = [frame_pictures(row.source, row.frames.tolist(), signals, rate=rate) for row in rows]
    return _draw(rows, pictures, path, moments, title)


def choose_moments(path: np.ndarray, count: int) -> np.ndarray:
    """The places on the path of about `count` matches evenly through it: three to seven, all where there are fewer."""
    count = min(max(count, _FEWEST), _MOST_MOMENTS, len(path))
    return np.linspace(0, len(path) - 1, count).round().astype(int) if count else np.zeros(0, dtype=int)


def _without_match(source: Source, matched: np.ndarray) -> np.ndarray:
    """The frames in the middle of those of eight equal parts of a clip in which no frame is matched."""
    parts = np.array_split(np.arange(len(source.clip)), _PARTS)
    return np.array([part[len(part) // 2] for part in parts if len(part) and not np.isin(part, matched).any()], int)


def _row(source: Source, matched: np.ndarray, moments: np.ndarray, others: np.ndarray) -> _Row:
    room = MOST - len(moments)
    if len(others) > room:
        others = others[np.linspace(0, len(others) - 1, room).round().astype(int)]
    frames = np.concatenate([moments, others])
    order = np.argsort(frames)
    edges = cell_edges(source.clip.times)
    inches = (_WIDTH - 2 * _MARGIN) / (edges[-1] - edges[0])
    across = _MARGIN + (edges - edges[0]) * inches
    centres = _MARGIN + (source.clip.times - edges[0]) * inches
    return _Row(source, matched, frames[order], order < len(moments), across, centres)


def _draw(rows: list[_Row], pictures: list[list[Picture]], path: np.ndarray, moments: np.ndarray, title: str) -> Figure:
    everything = [picture for row in pictures for picture in row]
    limits = common_limits(everything)
    tall = (_PITCH - _GAP) * max(tallness(picture, limits) for picture in everything)
    band = _NAME + tall + _CAPTION + _LEADER + _RULER  # the height of a row
    top = _TITLE if title else 0.1
    height = top + 2 * band + _BETWEEN + 0.1
    figure = new_figure(_WIDTH, height)
    figure.set_layout_engine("none")  # every place is given
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, _WIDTH), ylim=(0, height))
    axes.set_axis_off()
    if title:
        axes.text(_WIDTH / 2, height - 0.22, title, ha="center", va="center", fontsize=11, color=INK, parse_math=False)
    inner = 0.1 + band + _BETWEEN, 0.1 + band  # the sides of the two rulers that face each other
    for letter, row, drawn, side, away in zip("AB", rows, pictures, inner, (1, -1), strict=True):
        _draw_row(axes, f"{letter}   {row.source.clip.name}", row, drawn, side, away, tall, limits)
    _draw_threads(axes, rows, path, moments, inner)
    legend = "blue: matched    grey: without a match"
    axes.text(_WIDTH - _MARGIN, 0.1 + _NAME / 2, legend, ha="right", va="center", fontsize=8, color=INK)
    return figure


def _draw_row(
    axes: Axes,
    name: str,
    row: _Row,
    pictures: list[Picture],
    side: float,
    away: int,
    tall: float,
    limits: Limits,
) -> None:
    """A ruler from `side` on, then leaders, pictures, their times and the name: upwards if `away` is 1, else down."""
    _draw_ruler(axes, row, side, side + away * _RULER)
    places = spread(row.centres[row.frames], _PITCH, _MARGIN + _PITCH / 2, _WIDTH - _MARGIN - _PITCH / 2)
    foot, face = side + away * _RULER, side + away * (_RULER + _LEADER)
    wide = _PITCH - _GAP
    for frame, shown, place, picture in zip(row.frames, row.shown, places, pictures, strict=True):
        colour = BLUE if shown else GREY
        axes.plot([row.centres[frame], place], [foot, face], color=colour, linewidth=1.2 if shown else 0.8)
        low = face if away > 0 else face - tall
        inset = axes.inset_axes((place - wide / 2, low, wide, tall), transform=axes.transData)
        draw_picture(inset, picture, limits, faint=not shown)
        for spine in inset.spines.values():
            spine.set(color=colour, linewidth=1.6 if shown else 0.8)
        seconds = f"{row.source.clip.times[frame]:.2f} s"
        middle = face + away * (tall + _CAPTION / 2)
        axes.text(place, middle, seconds, ha="center", va="center", fontsize=8, color=INK if shown else GREY)
    middle = face + away * (tall + _CAPTION + _NAME / 2)
    name = without_middle(name, _WIDEST)
    axes.text(_MARGIN, middle, name, ha="left", va="center", fontsize=10, color=INK, parse_math=False)


def _draw_ruler(axes: Axes, row: _Row, start: float, end: float) -> None:
    """The time axis of a clip: blue where frames are matched, grey elsewhere, with seconds on it."""
    from matplotlib.ticker import MaxNLocator

    stretches = np.split(row.matched, np.flatnonzero(np.diff(row.matched) > 1) + 1) if len(row.matched) else []
    matched = [row.edges[[stretch[0], stretch[-1] + 1]] for stretch in stretches]
    for ranges, colour in (([row.edges[[0, -1]]], _UNMATCHED), (matched, _MATCHED)):
        bars = [(left, right - left) for left, right in ranges]
        axes.broken_barh(bars, (min(start, end), abs(end - start)), color=colour, linewidth=0)
    times = row.source.clip.times
    if len(times) == 1:
        return
    first, last = times[[0, -1]]
    for second in MaxNLocator(10, min_n_ticks=2).tick_values(first, last):
        place = np.interp(second, times, row.centres)
        if first <= second <= last and place < row.edges[-1] - _NUMBER:
            axes.plot([place, place], [start, end], color="white", linewidth=0.8)
            axes.text(place + 0.04, (start + end) / 2, f"{second:g} s", fontsize=7, color=INK, va="center")


def _draw_threads(
    axes: Axes, rows: list[_Row], path: np.ndarray, moments: np.ndarray, inner: tuple[float, float]
) -> None:
    if not len(path):
        middle = sum(inner) / 2
        axes.text(_WIDTH / 2, middle, "nothing in common", ha="center", va="center", fontsize=11, color=GREY)
    ends = np.stack([rows[0].centres[path[:, 0]], rows[1].centres[path[:, 1]]], axis=1)
    thin = np.unique(np.linspace(0, len(path) - 1, min(len(path), _MOST_THREADS)).round().astype(int))
    for chosen, style in (
        (thin, {"linewidth": 0.5, "alpha": 0.35}),
        (moments, {"linewidth": 1.4, "marker": "o", "markersize": 3}),
    ):
        if len(chosen):
            axes.plot(ends[chosen].T, np.repeat(np.array([inner]).T, len(chosen), axis=1), color=BLUE, **style)


def spread(places: np.ndarray, pitch: float, low: float, high: float) -> np.ndarray:
    """Places (n,) in order moved as little as they must be to stand a pitch apart, between `low` and `high`."""
    steps = pitch * np.arange(len(places))
    free = places - steps
    # Half way between all pushed to the right and all pushed to the left: a crowd stays where it is as a whole.
    pushed = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2
    moved: np.ndarray = np.clip(pushed, low, high - steps[-1]) + steps
    return moved
