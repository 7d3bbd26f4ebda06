"""Pictures of alignments and of training, with matplotlib, imported only when a picture is drawn.

Every function returns a ``matplotlib.figure.Figure`` made without pyplot: no global state, no window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lac.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#22272e"
_GREY = "#8b949e"
_BLUE = "#0072b2"
_CYAN = "#4fd1ff"
_GREEN = "#1a9850"
_RED = "#d73027"


def plot_alignment(
    posterior: Any,
    path: Any,
    times1: Any,
    times2: Any,
    scores: Any = None,
    *,
    labels: tuple[Any, Any] | None = None,
    names: tuple[str, str] = ("sequence 1", "sequence 2"),
    title: str = "",
) -> Figure:
    """The soft alignment of two sequences with the best hard path over it; ``scores``, if given, beside it.

    Args:
        posterior: (N, M) array or tensor, the probability of each match (``lac.soft_alignment``).
        path: (K, 2) matched frames of the hard alignment; if it is empty, the picture says "no match".
        times1: (N,) times of the frames in seconds, increasing.
        times2: (M,) the same for the second sequence.
        scores: (N, M) similarity scores, drawn with 0 in the neutral colour; ``None``: only the posterior.
        labels: phases (N,) and (M,) of the frames, negative for none; a box surrounds the cells where the two
            sequences are in the same phase. ``None``: no boxes.
        names: what the two axes show.
        title: a line above the picture.

    Raises:
        ValueError: the shapes do not agree, times do not increase, or the path names frames that are not there.
    """
    posterior = _array(posterior)
    path = _array(path).reshape(-1, 2).astype(int)
    times1, times2 = _array(times1), _array(times2)
    if posterior.ndim != 2 or posterior.shape != (len(times1), len(times2)):
        raise ValueError(
            f"posterior must be (len(times1), len(times2)), here ({len(times1)}, {len(times2)}), got {posterior.shape}"
        )
    if scores is not None and _array(scores).shape != posterior.shape:
        raise ValueError(f"scores must have posterior's shape {posterior.shape}, got {_array(scores).shape}")

    for name, times in (("times1", times1), ("times2", times2)):
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise ValueError(f"{name} must be finite and increase, got {times[:5]}...")
    if len(path) and (path.min() < 0 or (path.max(axis=0) >= posterior.shape).any()):
        raise ValueError(f"path must lie within {posterior.shape}, got {path.min(axis=0)} to {path.max(axis=0)}")

    panels = 1 if scores is None else 2
    figure = _figure(4.7 * panels, _height(times1, times2) + (0.3 if title else 0.0))
    all_axes = figure.subplots(1, panels, squeeze=False)[0]
    if scores is not None:
        limit = _greatest(np.abs(_array(scores))) or 1.0
        image = _heat_map(all_axes[0], _array(scores), times1, times2, "RdBu_r", -limit, limit)
        _colour_bar(figure, image, all_axes[0], "score")
        all_axes[0].set_title("similarity score", fontsize=10)
    axes = all_axes[-1]
    image = _heat_map(axes, posterior, times1, times2, "magma", 0.0, max(_greatest(posterior), 1e-6))
    _colour_bar(figure, image, axes, "probability of a match")
    matched = "best path (line)" if len(path) > 1 else "best path (point)" if len(path) else "no match"
    axes.set_title(f"soft alignment, {matched}" + (", same phase (boxes)" if labels else ""), fontsize=10)
    for drawn in all_axes:
        line, frame = (_CYAN, "white") if drawn is axes else (_INK, _INK)
        if len(path):
            marker = "." if len(path) == 1 else None
            drawn.plot(times2[path[:, 1]], times1[path[:, 0]], color=line, linewidth=1.2, marker=marker)
        if labels is not None:
            _phase_boxes(drawn, times1, times2, _array(labels[0]), _array(labels[1]), frame)
        drawn.set_xlabel(f"{names[1]}, time (s)")
    all_axes[0].set_ylabel(f"{names[0]}, time (s)")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def plot_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Training curves: one small panel for each entry of ``history``, all over ``history["step"]``.

    Args:
        history: equally long lists of numbers by name; ``"step"`` is the horizontal axis.

    Raises:
        ValueError: there is no ``"step"``, or the lists differ in length.
    """
    names = [name for name in history if name != "step"]
    if "step" not in history or any(len(history[name]) != len(history["step"]) for name in names):
        lengths = {name: len(values) for name, values in history.items()}
        raise ValueError(f"history must hold 'step' and lists as long as it, got lengths {lengths}")
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = _figure(3.3 * columns, 2.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for k, axes in enumerate(grid.flat):
        if k >= len(names):
            axes.set_visible(False)
            continue
        axes.plot(history["step"], history[names[k]], color=_BLUE, linewidth=1.4)
        axes.set_title(names[k].replace("_", " "), fontsize=10, loc="left")
        axes.grid(axis="y", color="#e6e8eb", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        _quiet(axes)
        if k >= len(names) - columns:
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)
    return figure


class Joints(NamedTuple):
    """A pose to draw: points (J, 2), right and up, and the pairs of them that are joined."""

    points: np.ndarray
    bones: Sequence[tuple[int, int]] = ()


class Window(NamedTuple):
    """Signals to draw around a moment: seconds (W,), which are 0 at the moment, and values (W, D)."""

    seconds: np.ndarray
    values: np.ndarray


Picture = np.ndarray | Joints | Window


def plot_retrieval(
    pictures: Sequence[Sequence[Picture]],
    captions: Sequence[Sequence[str]],
    agree: Sequence[Sequence[bool | None]] | None = None,
    *,
    title: str = "",
) -> Figure:
    """A grid of frames: in each row a query, then what was found for it.

    Args:
        pictures: R rows of C pictures, the query first; each an image (H, W, 3) uint8, :class:`Joints`, or a
            :class:`Window`. Poses have one scale in all panels, so have windows.
        captions: for each picture a few lines to stand over it.
        agree: for each picture whether it has the query's phase: a green border if true, red if false, grey if
            ``None`` (not known). The queries' own are not looked at. ``None``: grey for all.
        title: a line above the grid.

    Raises:
        ValueError: no picture, or rows that differ in length.
    """
    rows, columns = len(pictures), len(pictures[0]) if len(pictures) else 0
    for what in (pictures, captions, agree or captions):
        if columns == 0 or [len(row) for row in what] != [columns] * rows:
            raise ValueError(
                f"pictures, captions and agree must have rows of one length >= 1, got rows of "
                f"{[len(row) for row in pictures]}, {[len(row) for row in captions]} and "
                f"{None if agree is None else [len(row) for row in agree]}"
            )
    lines = max(caption.count("\n") + 1 for row in captions for caption in row)
    limits = _limits([picture for row in pictures for picture in row])
    tall = max(_tallness(picture, limits) for row in pictures for picture in row)
    figure = _figure(1.55 * columns, (1.4 * tall + 0.14 * lines + 0.1) * rows + (0.3 if title else 0))
    grid = figure.subplots(rows, columns, squeeze=False)
    for r, row in enumerate(pictures):
        for c, picture in enumerate(row):
            axes = grid[r, c]
            _draw_picture(axes, picture, limits)
            axes.set_title(captions[r][c], fontsize=7, color=_INK, pad=3, linespacing=1.15)
            same = None if agree is None else agree[r][c]
            colour = _INK if c == 0 else _GREY if same is None else _GREEN if same else _RED
            for spine in axes.spines.values():
                spine.set_color(colour)
                spine.set_linewidth(2.0 if c == 0 or same is not None else 0.8)
    if title:
        figure.suptitle(title, fontsize=9, color=_INK)
    return figure


_Limits = tuple[np.ndarray, np.ndarray]


def _tallness(picture: Picture, limits: _Limits) -> float:
    """Height by width of a panel."""
    if isinstance(picture, Window):
        return 0.75
    width, height = limits[1] - limits[0] if isinstance(picture, Joints) else picture.shape[1::-1]
    return float(np.clip(height / width, 0.5, 1.4))


def _limits(pictures: Sequence[Picture]) -> _Limits:
    """Lowest and highest coordinates of all poses, or values of all windows."""
    points = [x.points for x in pictures if isinstance(x, Joints)]
    points += [x.values.reshape(-1, 1).repeat(2, axis=1) for x in pictures if isinstance(x, Window)]
    everything = np.concatenate(points) if points else np.zeros((1, 2))
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = 0.08 * max(float((high - low).max()), 1e-6)
    return low - margin, high + margin


def _draw_picture(axes: Axes, picture: Picture, limits: _Limits) -> None:
    low, high = limits
    axes.set_xticks([])
    axes.set_yticks([])
    if isinstance(picture, Joints):
        for start, end in picture.bones:
            axes.plot(*picture.points[[start, end]].T, color=_BLUE, linewidth=1.8, solid_capstyle="round")
        if not picture.bones:
            axes.plot(*picture.points.T, ".", color=_BLUE, markersize=3)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_aspect("equal")
    elif isinstance(picture, Window):
        axes.axvline(0, color=_GREY, linewidth=0.8)
        axes.plot(picture.seconds, picture.values, linewidth=1.0)
        reach = max(float(np.abs(picture.seconds).max()), 1e-6)
        axes.set(xlim=(-reach, reach), ylim=(low[1], high[1]))
    else:
        axes.imshow(picture)


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure whole or not at all (:func:`lac.files.atomic_path`); the suffix chooses the format."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return Path(path)


def _array(values: Any) -> np.ndarray[Any, Any]:
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values)


def _greatest(values: np.ndarray[Any, Any]) -> float:
    """The greatest finite value, 0 if there is none."""
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def _height(times1: Any, times2: Any) -> float:
    """Inches that give a second the same length on both axes, within reason."""
    ratio = float(np.ptp(times1)) / max(float(np.ptp(times2)), 1e-9)
    return 3.6 * min(max(ratio, 0.6), 1.6) + 0.8


def _heat_map(axes: Axes, values: Any, times1: Any, times2: Any, colours: str, low: float, high: float) -> Any:
    image = axes.pcolormesh(_edges(times2), _edges(times1), values, cmap=colours, vmin=low, vmax=high, rasterized=True)
    axes.invert_yaxis()
    _quiet(axes)
    return image


def _phase_boxes(axes: Axes, times1: Any, times2: Any, labels1: Any, labels2: Any, colour: str) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = _edges(times1), _edges(times2)
    for top, bottom, phase in _runs(labels1):
        for left, right, other in _runs(labels2):
            if phase == other:
                corner = (columns[left], rows[top])
                width, height = columns[right] - columns[left], rows[bottom] - rows[top]
                axes.add_patch(Rectangle(corner, width, height, fill=False, color=colour, linewidth=0.8, alpha=0.8))


def _runs(labels: Any) -> list[tuple[int, int, int]]:
    """(first, after the last, label) of each stretch of one label that is not negative."""
    borders = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [(first, end, int(labels[first])) for first, end in pairwise(borders) if labels[first] >= 0]


def _edges(times: Any) -> Any:
    """Borders of the cells around frame times that need not be evenly spaced."""
    if len(times) == 1:
        return np.array([times[0] - 0.5, times[0] + 0.5])
    middle = (times[1:] + times[:-1]) / 2
    return np.concatenate([[2 * times[0] - middle[0]], middle, [2 * times[-1] - middle[-1]]])


def _colour_bar(figure: Figure, image: Any, axes: Axes, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=28)
    bar.set_label(label, fontsize=9, color=_INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=_GREY, labelcolor=_INK, width=0.6)


def _quiet(axes: Axes) -> None:
    axes.tick_params(labelsize=8, colors=_GREY, labelcolor=_INK, width=0.6)
    for spine in axes.spines.values():
        spine.set_color(_GREY)
        spine.set_linewidth(0.6)
