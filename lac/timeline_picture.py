"""The picture of a group of clips: how much each two have in common, and all of them on one timeline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from lac.data.base import Clip
from lac.plots import GREY, INK, new_figure, without_middle
from lac.together import AlignedGroup, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "viridis"
_WIDEST = 24  # characters of a name that fit beside a row
_MOST_NUMBERS = 12  # clips up to which the cells say their numbers
_JOINED = 0.25  # seconds between two matches that are drawn as one stretch
_TICKS = 10  # about so many along the reference


def plot_group(group: AlignedGroup, timeline: Timeline | None, clips: Sequence[Clip], title: str = "") -> Figure:
    """A heat map of all pairs, and beside it the common timeline, where there is one.

    The heat map shows the share of the shorter clip that is matched (`lac.together.Pair.share`). On the timeline each
    clip has a row, the reference the first one: its matched stretch lies where the reference shows the same, so that
    the same moments stand above each other and have one colour. It is thin where a quarter of a second or more of the
    reference has no match. Numbers at its ends and white ticks are the clip's own seconds.

    Args:
        group: of `lac.together.align_group`.
        timeline: of `lac.together.common_timeline`; `None`: the picture says that nothing is confirmed.
        clips: the same.
        title: a line above the picture.
    """
    first = 0 if timeline is None else timeline.reference
    order = [first, *(k for k in range(len(clips)) if k != first)]
    names = [without_middle(clips[k].name, _WIDEST) for k in order]
    side = max(0.26 * len(clips), 2.4)
    figure = new_figure(side + 2.6 + (6.0 if timeline is not None else 0.6), side + 2.4)
    ratios = [side] if timeline is None else [side, 4.8]
    axes = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    _matrix(figure, axes[0], group, order, names)
    if timeline is not None:
        _rows(axes[1], group, timeline, clips, order, names)
    else:
        title += "\nnothing is confirmed: no common timeline"
    figure.suptitle(title.strip(), fontsize=11, parse_math=False)
    return figure


def _matrix(figure: Figure, axes: Axes, group: AlignedGroup, order: Sequence[int], names: Sequence[str]) -> None:
    shares = np.array([[group.pairs[i, j].share if i != j else np.nan for j in order] for i in order])
    image = axes.imshow(shares, cmap="magma", vmin=0, vmax=1)
    if len(order) <= _MOST_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            if row != column:
                ink = "white" if share < 0.6 else "black"
                axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(order)), names, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(order)), names, fontsize=7, parse_math=False)
    axes.tick_params(length=0)
    axes.set_title("matched share of the shorter clip", fontsize=10)
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=28, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=GREY, labelcolor=INK, width=0.6)


def _rows(
    axes: Axes,
    group: AlignedGroup,
    timeline: Timeline,
    clips: Sequence[Clip],
    order: Sequence[int],
    names: Sequence[str],
) -> None:
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    colours = matplotlib.colormaps[_COLOURS]
    reference, times = timeline.reference, clips[timeline.reference].times
    length = max(times[-1] - times[0], 1e-9)
    locations = MaxNLocator(_TICKS, steps=[1, 2, 5, 10]).tick_values(times[0], times[-1])
    step = locations[1] - locations[0]
    edges = np.concatenate([times[:1], (times[1:] + times[:-1]) / 2, times[-1:]])
    for row, k in enumerate(order):
        path = np.arange(len(times))[:, None] if k == reference else group.pairs[reference, k].path
        if not len(path):
            axes.text(times[0], row, "no match with the reference", va="center", fontsize=7, color=GREY)
            continue
        there, thick = np.arange(path[0, 0], path[-1, 0] + 1), _stretches(times, path[:, 0])
        for frames, height in ((there, 0.14), (thick, 0.62)):
            shade = colours((times[frames] - times[0]) / length)
            width = edges[frames + 1] - edges[frames]
            axes.bar(edges[frames], height, width, row - height / 2, align="edge", color=shade)
        _own_seconds(axes, row, times[there], timeline.seconds[there, k], step)
    axes.set_yticks(range(len(order)), names, fontsize=7, parse_math=False)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(times[0] - 0.14 * length, times[-1] + 0.14 * length)
    axes.set_xlabel(f"time of {names[0]}, the reference (s)", parse_math=False)
    axes.set_title(f"common timeline: one colour, one moment; a tick each {step:g} s of the clip", fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY, labelcolor=INK, width=0.6)
    axes.tick_params(axis="y", length=0, labelsize=7)
    axes.get_yticklabels()[0].set_fontweight("bold")


def _stretches(times: np.ndarray, matched: np.ndarray) -> np.ndarray:
    """The frames that are matched, and those between two matches that are near each other."""
    near = [np.arange(a + 1, b) for a, b in pairwise(matched) if times[b] - times[a] < _JOINED]
    return np.sort(np.concatenate([matched, *near]))


def _own_seconds(axes: Axes, row: int, times: np.ndarray, seconds: np.ndarray, step: float) -> None:
    """The clip's own seconds: numbers at both ends of its stretch, and a tick at each multiple of `step`."""
    style: dict[str, Any] = {"va": "center", "fontsize": 7, "color": INK, "textcoords": "offset points"}
    axes.annotate(f"{seconds[0]:.2f}", (times[0], row), (-4, 0), ha="right", **style)
    axes.annotate(f"{seconds[-1]:.2f} s", (times[-1], row), (4, 0), ha="left", **style)
    marks = np.arange(np.floor(seconds[0] / step) + 1, np.ceil(seconds[-1] / step)) * step
    axes.vlines(np.interp(marks, seconds, times), row - 0.31, row + 0.31, color="white", linewidth=0.8)
