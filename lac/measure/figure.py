"""A figure of how time and memory grow with the lengths and with the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from lac.measure.problem import Shape
from lac.measure.rows import Row, shape_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#22272e", "#8b949e")


def growing(shapes: Iterable[Shape]) -> tuple[list[Shape], list[Shape]]:
    """The square shapes of one batch that has most sizes, and those of one size that has most batches."""
    square = {shape for shape in shapes if shape.n == shape.m and not shape.lengths1}
    return _longest(square, key=lambda shape: shape.batch), _longest(square, key=lambda shape: shape.n)


def growth_figure(rows: Sequence[Row], *, title: str = "") -> Figure:
    """Time and memory against N (square, at the batch that has most sizes) and against B (likewise), logarithmic.

    Rows of one mode and dtype. The memory is the peak of what was timed, beyond the scores. Where there are fewer than
    two sizes a column of the figure is left out; thread counts other than the smallest are dashed.

    Raises:
        ValueError: nothing grows.
    """
    from matplotlib.figure import Figure

    timed = [row for row in rows if row.get("ms_p50")]
    columns: list[tuple[str, str, list[Shape]]] = []
    by_n, by_batch = growing([shape_of(row) for row in timed])
    if len(by_n) > 1:
        columns.append(("N = M", f"B = {by_n[0].batch}", by_n))
    if len(by_batch) > 1:
        columns.append(("B", f"N = M = {by_batch[0].n}", by_batch))
    if not columns:
        raise ValueError("a plot of growth needs square shapes that differ in N = M or in the batch alone")
    figure = Figure(figsize=(4.4 * len(columns), 6.4), layout="constrained")
    axes = figure.subplots(2, len(columns), squeeze=False, sharey="row")
    for k, (name, fixed, wanted) in enumerate(columns):
        for row_of_axes, field, scale in ((0, "ms_p50", 1.0), (1, "peak_bytes", 1e-6)):
            _draw(axes[row_of_axes][k], timed, wanted, name == "B", field, scale)
        axes[0][k].set_title(fixed, fontsize=10)
        axes[1][k].set_xlabel(name)
    axes[0][0].set_ylabel("milliseconds")
    axes[1][0].set_ylabel("peak memory, MB")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _longest(shapes: Iterable[Shape], key: Callable[[Shape], int]) -> list[Shape]:
    groups: dict[int, list[Shape]] = {}
    for shape in sorted(shapes):
        groups.setdefault(key(shape), []).append(shape)
    return max(groups.values(), key=len, default=[])


def _draw(axes: Axes, rows: Sequence[Row], wanted: list[Shape], by_batch: bool, field: str, scale: float) -> None:
    sides = list(dict.fromkeys(row["side"] for row in rows))
    threads = sorted({row.get("threads") or "" for row in rows}, key=lambda x: (len(x), x))
    for k, side in enumerate(sides):
        for count in threads:
            own = [row for row in rows if row["side"] == side and (row.get("threads") or "") == count]
            if not own:  # or the legend would name a line that is not there
                continue
            points = sorted(
                (shape.batch if by_batch else shape.n, scale * float(row[field]))
                for row in own
                if row.get(field)
                for shape in [shape_of(row)]
                if shape in wanted
            )
            label = side if len(threads) < 2 else f"{side}, {count} thread{'s' * (count != '1')}"
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=label,
                color=_COLOURS[k % len(_COLOURS)],
                linestyle="-" if count == threads[0] else "--",
                marker="o",
                markersize=3,
                linewidth=1.2,
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.tick_params(labelsize=8)
