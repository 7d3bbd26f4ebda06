"""Pictures of alignments and of training, with matplotlib, imported only when a picture is drawn.

Every function returns a `matplotlib.figure.Figure` made without pyplot: no global state, no window.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lac.errors import how_to_install
from lac.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

INK = "#22272e"
GREY = "#8b949e"
BLUE = "#0072b2"
_CYAN = "#4fd1ff"
_FULL_SCORE = 1.5  # the score of full colour, if none is greater: LACLoss's by default lie from -1.5 to 0.5
_PROBABILITIES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1)  # that the colour bar names
_WIDEST = 40  # characters of a name that fit along an axis
_MOST_CELLS = 1000  # rows or columns of a map: a picture shows no more of them, and each costs memory and time
_ASTRAY = 0.75  # the share of a path on the ridge below which the heading says so


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
    """The soft alignment of two sequences with the best hard path over it; `scores`, if given, beside it.

    The colours mean the same in every picture, so that noise looks like noise: those of probabilities go from 0 to 1,
    by their square roots, so that an alignment that is unsure is still seen; those of scores reach as far on both sides
    of 0, to 1.5 (what `LACLoss` reaches by default) or to the greatest magnitude where that is more.

    The path of the best score may run beside the ridge of the probabilities, which weigh all paths: where more than a
    quarter of it does, see `on_ridge`, the heading says so.

    Args:
        posterior: (N, M) array or tensor, the probability of each match (`lac.soft_alignment`).
        path: (K, 2) matched frames of the hard alignment; if it is empty, the picture says "no match".
        times1: (N,) times of the frames in seconds, increasing.
        times2: (M,) the same for the second sequence.
        scores: (N, M) similarity scores, drawn with 0 in the neutral colour; `None`: only the posterior.
        labels: phases (N,) and (M,) of the frames, negative for none; a box surrounds the cells where the two
            sequences are in the same phase. `None`: no boxes.
        names: what the two axes show.
        title: a line above the picture.

    Raises:
        ValueError: the shapes do not agree, times do not increase, or the path names frames that are not there.
    """
    posterior = _array(posterior)
    path = _array(path).reshape(-1, 2).astype(int)
    times1, times2 = _array(times1), _array(times2)
    scores = None if scores is None else _array(scores)
    _check_alignment(posterior, path, times1, times2, scores)

    panels = 1 if scores is None else 2
    figure = new_figure(4.7 * panels, _height(times1, times2) + (0.3 if title else 0.0))
    all_axes = figure.subplots(1, panels, squeeze=False)[0]
    if scores is not None:
        _score_map(figure, all_axes[0], scores, times1, times2)
        all_axes[0].set_title("similarity score", fontsize=10)
    axes = all_axes[-1]
    _probability_bar(figure, _probability_map(axes, posterior, times1, times2), axes)
    matched = "best path (line)" if len(path) > 1 else "best path (point)" if len(path) else "no match"
    heading = f"soft alignment, {matched}" + (", same phase (boxes)" if labels else "")
    axes.set_title(heading + _astray(posterior, path), fontsize=10)
    for drawn in all_axes:
        line, frame = (_CYAN, "white") if drawn is axes else (INK, INK)
        _path_line(drawn, path, times1, times2, line)
        if labels is not None:
            _phase_boxes(drawn, times1, times2, _array(labels[0]), _array(labels[1]), frame)
    _name_axes(all_axes, names)
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def plot_alignments(
    alignments: Mapping[str, tuple[Any, Any]],
    times1: Any,
    times2: Any,
    *,
    labels: tuple[Any, Any] | None = None,
    label_names: Sequence[str] | None = None,
    names: tuple[str, str] = ("sequence 1", "sequence 2"),
    title: str = "",
) -> Figure:
    """Several soft alignments of the same two sequences side by side, each with its path, as in `plot_alignment`.

    Args:
        alignments: by heading posterior (N, M) and path (K, 2), as in `plot_alignment`.
        times1: (N,) times of the frames in seconds, increasing.
        times2: (M,) the same for the second sequence.
        labels: phases (N,) and (M,) of the frames, as in `plot_alignment`.
        label_names: of phase 0, 1 ...: written at the margins beside their stretches; `None`: not written.
        names: what the two axes show.
        title: a line above the picture.

    Raises:
        ValueError: as in `plot_alignment`, or there is no alignment.
    """
    if not alignments:
        raise ValueError("alignments must hold one at least, got none")
    times1, times2 = _array(times1), _array(times2)
    panels = {name: (_array(p), _array(path).reshape(-1, 2).astype(int)) for name, (p, path) in alignments.items()}
    for posterior, path in panels.values():
        _check_alignment(posterior, path, times1, times2, None)
    figure = new_figure(4.3 * len(panels) + 0.6, _height(times1, times2) + (0.3 if title else 0.0))
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (heading, (posterior, path)) in zip(all_axes, panels.items(), strict=True):
        image = _probability_map(axes, posterior, times1, times2)
        _path_line(axes, path, times1, times2, _CYAN)
        if labels is not None:
            _phase_boxes(axes, times1, times2, _array(labels[0]), _array(labels[1]), "white")
        if labels is not None and label_names is not None:
            _phase_names(axes.xaxis, times2, _array(labels[1]), label_names)
        heading = heading if len(path) else f"{heading}: no match"
        axes.set_title(heading + _astray(posterior, path), fontsize=10, parse_math=False)
    if labels is not None and label_names is not None:
        _phase_names(all_axes[0].yaxis, times1, _array(labels[0]), label_names)
        for axes in all_axes[1:]:
            axes.tick_params(axis="y", which="minor", length=0)
    _name_axes(all_axes, names)
    _probability_bar(figure, image, all_axes[-1])
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def on_ridge(posterior: Any, path: Any) -> float:
    """The share of a path that lies on the ridge of a posterior; NaN for an empty path, and where numbers are missing.

    A cell does where it is no further than a frame from the likeliest one of its row, or at least half as likely.

    Args:
        posterior: (N, M) array or tensor.
        path: (K, 2) matched frames.
    """
    posterior, path = _array(posterior), _array(path).reshape(-1, 2).astype(int)
    rows, columns = path.T
    if not len(path) or not np.isfinite(posterior[rows]).all():
        return float("nan")
    near = np.abs(posterior[rows].argmax(axis=1) - columns) <= 1
    likely = posterior[rows, columns] >= posterior[rows].max(axis=1) / 2
    return float(((near | likely) & (posterior[rows, columns] > 0)).mean())


def _astray(posterior: np.ndarray, path: np.ndarray) -> str:
    """A line for the heading where much of the path is beside the ridge, else nothing."""
    share = on_ridge(posterior, path)
    where = f"path off the ridge: {100 * share:.0f} % of its cells are near the likeliest"
    return f"\n{where}" if share < _ASTRAY else ""


def _check_alignment(
    posterior: np.ndarray, path: np.ndarray, times1: np.ndarray, times2: np.ndarray, scores: np.ndarray | None
) -> None:
    if posterior.ndim != 2 or posterior.shape != (len(times1), len(times2)):
        raise ValueError(
            f"posterior must be (len(times1), len(times2)), here ({len(times1)}, {len(times2)}), got {posterior.shape}"
        )
    if scores is not None and scores.shape != posterior.shape:
        raise ValueError(f"scores must have posterior's shape {posterior.shape}, got {scores.shape}")
    for name, times in (("times1", times1), ("times2", times2)):
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise ValueError(f"{name} must be finite and increase, got {times[:5]}...")
    if len(path) and (path.min() < 0 or (path.max(axis=0) >= posterior.shape).any()):
        raise ValueError(f"path must lie within {posterior.shape}, got {path.min(axis=0)} to {path.max(axis=0)}")


def plot_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Training curves: one small panel for each entry of `history`, all over `history["step"]`.

    Args:
        history: equally long lists of numbers by name; `"step"` is the horizontal axis.

    Raises:
        ValueError: there is no `"step"`, or the lists differ in length.
    """
    names = [name for name in history if name != "step"]
    if "step" not in history or any(len(history[name]) != len(history["step"]) for name in names):
        lengths = {name: len(values) for name, values in history.items()}
        raise ValueError(f"history must hold 'step' and lists as long as it, got lengths {lengths}")
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.3 * columns, 2.3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for k, axes in enumerate(grid.flat):
        if k >= len(names):
            axes.set_visible(False)
            continue
        axes.plot(history["step"], history[names[k]], color=BLUE, linewidth=1.4)
        axes.set_title(names[k].replace("_", " "), fontsize=10, loc="left")
        axes.grid(axis="y", color="#e6e8eb", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        _quiet(axes)
        if k >= len(names) - columns:
            axes.set_xlabel("step")
            axes.tick_params(labelbottom=True)
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure whole or not at all (`lac.files.atomic_path`); the suffix chooses the format.

    Letters of a name that the font lacks become boxes, without a warning for each.
    """
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.savefig(temporary, dpi=dpi)
    return Path(path)


def _array(values: Any) -> np.ndarray[Any, Any]:
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values)


def _greatest(values: np.ndarray[Any, Any]) -> float:
    """The greatest finite value, 0 if there is none."""
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"pictures need matplotlib: {how_to_install('train')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def _height(times1: Any, times2: Any) -> float:
    """Inches that give a second the same length on both axes, within reason."""
    ratio = float(np.ptp(times1)) / max(float(np.ptp(times2)), 1e-9)
    return 3.6 * min(max(ratio, 0.6), 1.6) + 0.8


def _score_map(figure: Figure, axes: Axes, scores: Any, times1: Any, times2: Any) -> None:
    from matplotlib.colors import Normalize

    limit = max(_greatest(np.abs(scores)), _FULL_SCORE)
    image = _heat_map(axes, scores, times1, times2, "RdBu_r", Normalize(-limit, limit))
    _colour_bar(figure, image, axes, "score")


def _probability_map(axes: Axes, posterior: Any, times1: Any, times2: Any) -> Any:
    from matplotlib.colors import PowerNorm

    return _heat_map(axes, posterior, times1, times2, "magma", PowerNorm(0.5, 0.0, 1.0))


def _probability_bar(figure: Figure, image: Any, axes: Axes) -> None:
    bar = _colour_bar(figure, image, axes, "probability of a match (by its root)")
    bar.set_ticks(_PROBABILITIES, labels=[f"{probability:g}" for probability in _PROBABILITIES])


def _heat_map(axes: Axes, values: Any, times1: Any, times2: Any, colours: str, norm: Normalize) -> Any:
    """A map of values (N, M); of more cells than a picture can show, the greatest of each block."""
    edges = []
    for axis, times in enumerate((times1, times2)):
        first = np.arange(0, len(times), -(-len(times) // _MOST_CELLS))
        values = np.maximum.reduceat(values, first, axis=axis) if len(first) < len(times) else values
        edges.append(cell_edges(times)[[*first, len(times)]])
    image = axes.pcolormesh(edges[1], edges[0], values, cmap=colours, norm=norm, rasterized=True)
    axes.set_ylim(*sorted(axes.get_ylim(), reverse=True))
    _quiet(axes)
    return image


def _name_axes(all_axes: Any, names: tuple[str, str]) -> None:
    """What the horizontal axes and the leftmost vertical one show; the names are text, whatever they hold."""
    first, second = (f"{without_middle(name, _WIDEST)}, time (s)" for name in names)
    all_axes[0].set_ylabel(first, parse_math=False)
    for axes in all_axes:
        axes.set_xlabel(second, parse_math=False)


def without_middle(text: str, widest: int) -> str:
    """A name as it is if it has no more than so many characters, else its beginning and its end."""
    half = (widest - 1) // 2
    return text if len(text) <= widest else f"{text[:half]}…{text[-half:]}"


def _path_line(axes: Axes, path: Any, times1: Any, times2: Any, colour: str) -> None:
    if len(path):
        marker = "." if len(path) == 1 else None
        axes.plot(times2[path[:, 1]], times1[path[:, 0]], color=colour, linewidth=1.2, marker=marker)


def _phase_names(axis: Any, times: Any, labels: Any, names: Sequence[str]) -> None:
    """The name of each phase on the axis, beyond the numbers, at the middle of its stretch."""
    edges, stretches = cell_edges(times), _runs(labels)
    axis.remove_overlapping_locs = False  # a number at the same place is no reason to leave a name out
    axis.set_ticks([(edges[first] + edges[end]) / 2 for first, end, _ in stretches], minor=True)
    vertical = axis.axis_name == "y"
    turned = {"va": "center"} if vertical else {"rotation": 25, "ha": "right"}
    shown = [names[label] for _, _, label in stretches]
    axis.set_ticklabels(shown, minor=True, fontsize=8, color=BLUE, parse_math=False, **turned)
    axis.set_tick_params(which="minor", length=0, pad=22 if vertical else 14)
    axis.labelpad = 14 if vertical else 0


def _phase_boxes(axes: Axes, times1: Any, times2: Any, labels1: Any, labels2: Any, colour: str) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = cell_edges(times1), cell_edges(times2)
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


def cell_edges(times: Any) -> Any:
    """Borders of the cells around frame times that need not be evenly spaced."""
    if len(times) == 1:
        return np.array([times[0] - 0.5, times[0] + 0.5])
    middle = (times[1:] + times[:-1]) / 2
    return np.concatenate([[2 * times[0] - middle[0]], middle, [2 * times[-1] - middle[-1]]])


def _colour_bar(figure: Figure, image: Any, axes: Axes, label: str) -> Any:
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=28)
    bar.set_label(label, fontsize=9, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=GREY, labelcolor=INK, width=0.6)
    return bar


def _quiet(axes: Axes) -> None:
    axes.tick_params(labelsize=8, colors=GREY, labelcolor=INK, width=0.6)
    for spine in axes.spines.values():
        spine.set_color(GREY)
        spine.set_linewidth(0.6)
