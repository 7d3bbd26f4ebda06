"""`lac-bench`: time, memory and exactness of every backend on this machine, beside the naive forms."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lac.cli.common import Command, add_device, add_general, new_parser
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from rich.table import Table

    from lac.measure.problem import Shape
    from lac.measure.rows import Row
    from lac.measure.sides import Side

_SHAPES = {
    "cpu": ["1x32x32", "16x64x64", "16x256x256", "4x1024x1024"],
    "cuda": [
        "1x32x32", "2x64x64", "16x64x64", "16x256x256", "64x256x256", "16x512x512", "4x1024x1024", "1x4096x4096",
        "1024x256x256", "64x1024x1024",
    ],
}  # fmt: skip
_MOST_THREADS = 1024  # more is a slip: torch would start them all
_EXAMPLES = """examples:
  lac-bench                     every backend, score and gradient, two minutes
  lac-bench --device cuda --mode forward --dtype bfloat16
  lac-bench --shapes 1x256x256 1x512x512 1x1024x1024 --plot growth.png
  lac-bench --mode second --shapes 16x128x128 --rows rows.csv
"""
_READING = (
    "{unit}: 20th, 50th, 80th percentile. {estimate}MB: peak memory of what is timed, beyond the scores. "
    "x loop, x wave: times faster than the naive loop and the naive wavefront. "
    "error: largest deviation from float64, relative to the largest value or 1."
)
_ESTIMATE = "H100: an estimate from the kernels' machine code, without launches and torch's own share. "


def _parser() -> argparse.ArgumentParser:
    from lac.measure.sides import MODES

    parser = new_parser(
        "lac-bench",
        "Time every backend beside the naive forms: a cell-by-cell loop in Python, and torch operations on "
        "anti-diagonals of the batch under autograd. What disagrees with float64 gets no time.",
        examples=_EXAMPLES,
        usage="lac-bench [option ...]",
    )
    what = parser.add_argument_group("what is timed")
    what.add_argument(
        "--shapes",
        metavar="BxNxM",
        nargs="+",
        help="pairs, frames, frames; or the NxM of each pair of a ragged batch, like 80x64,33x80,7x5 "
        f"(default: {' '.join(_SHAPES['cpu'])}; on a GPU more)",
    )
    what.add_argument(
        "--mode",
        choices=MODES,
        default="both",
        help="the score, its gradient, both (the default), or the Hessian-vector product",
    )
    what.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32", "float64"),
        default="float32",
        help="of the scores (default: float32)",
    )
    what.add_argument(
        "--backends", metavar="NAME", nargs="+", help="loop, wavefront, eager, cpu, triton (default: all)"
    )
    settings = parser.add_argument_group("settings")
    add_device(settings)
    settings.add_argument("--threads", metavar="N", type=int, nargs="+", help="on a CPU (default: 1 and all)")
    settings.add_argument("--seconds", metavar="S", type=float, default=0.5, help="for each row (default: 0.5)")
    output = parser.add_argument_group("output")
    output.add_argument("--rows", metavar="FILE.csv", help="add the rows to this file, each shape as it is finished")
    output.add_argument("--plot", metavar="FILE.png", help="draw time and memory against N and B")
    add_general(parser)
    return parser


def _check(arguments: argparse.Namespace) -> tuple[torch.device, list[Shape], list[Side]]:
    """The device, the shapes and the sides; what would be refused at the end is refused before anything is timed.

    Raises:
        UsageError: an argument that cannot be.
        DataError, OSError: the file of rows has other columns, or cannot be written.
    """
    from lac.measure.problem import Shape
    from lac.measure.rows import append_rows
    from lac.measure.sides import own_sides
    from lac.system import pick_device

    device = pick_device(arguments.device or "auto")
    try:
        shapes = [Shape.parse(text) for text in arguments.shapes or _SHAPES.get(device.type, ())]
    except ValueError as error:
        raise UsageError(str(error)) from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {arguments.device}: only the CPU and CUDA devices are measured")
    sides = own_sides(device)
    for name in arguments.backends or ():
        if name not in sides:
            raise UsageError(f"--backends: {name!r} is none of {', '.join(sides)}")
    threads = arguments.threads or [1]
    if not 1 <= min(threads) <= max(threads) <= _MOST_THREADS or (arguments.threads and device.type != "cpu"):
        raise UsageError(f"--threads are counts of at least 1 and at most {_MOST_THREADS}, for the CPU")
    if not arguments.seconds > 0:
        raise UsageError(f"--seconds must be positive, got {arguments.seconds}")
    if arguments.plot:
        _check_plot(arguments.plot, shapes)
    if arguments.rows:
        try:
            append_rows(arguments.rows, ())
        except ValueError as error:
            raise DataError(str(error)) from error
    return device, shapes, [side for name, side in sides.items() if name in (arguments.backends or sides)]


def _bench(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    device, shapes, sides = _check(arguments)
    rows = _timed(arguments, device, shapes, sides)
    console = Console()
    unit, estimate = ("us", _ESTIMATE) if device.type == "cuda" else ("ms", "")
    console.print(_READING.format(unit=unit, estimate=estimate), style="dim")
    if arguments.plot:
        from lac.measure.figure import growth_figure
        from lac.plots import save_figure

        save_figure(growth_figure(rows, title=f"{arguments.mode}, {rows[0]['device']}"), arguments.plot)
        console.print(f"plot        {arguments.plot}", highlight=False, soft_wrap=True)
    if arguments.rows:
        console.print(f"rows        {arguments.rows}", highlight=False, soft_wrap=True)
    return 0


def _timed(
    arguments: argparse.Namespace, device: torch.device, shapes: Sequence[Shape], sides: Sequence[Side]
) -> list[Row]:
    """The rows of all thread counts, each count shown as a table when it is finished or cut off."""
    import torch
    from rich.console import Console

    from lac.cli.progress import measuring_progress
    from lac.measure.rows import context

    usual = torch.get_num_threads()
    counts = arguments.threads or ([usual] if device.type == "cuda" else sorted({1, usual}))
    console = Console()
    rows: list[Row] = []
    try:
        for count in counts:
            torch.set_num_threads(count)
            about = context(device, shlex.join(["lac-bench", *arguments.argv]))
            threads = "1 thread" if count == 1 else f"{count} threads"
            title = f"{arguments.mode}, {arguments.dtype}, {about['device']}"
            shown = len(rows)
            try:
                with measuring_progress(len(shapes)) as (tell, advance):
                    for row in _measured(sides, shapes, arguments, device, about, tell, advance):
                        rows.append(row)  # one by one: what is finished stays, whatever comes
            finally:
                if rows[shown:]:
                    console.print(_table(rows[shown:], title=f"{title}, {threads}" if device.type == "cpu" else title))
    finally:
        torch.set_num_threads(usual)
    return rows


def _check_plot(path: str, shapes: Sequence[Shape]) -> None:
    """Whether the shapes can be drawn, and written in a format of that name.

    Raises:
        UsageError: they cannot.
    """
    from matplotlib.figure import Figure

    from lac.measure.figure import growing

    if not any(len(series) > 1 for series in growing(shapes)):
        raise UsageError("--plot needs square shapes that differ in N = M or in the batch alone")
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower()[1:] not in formats:
        raise UsageError(f"--plot {path}: must end in one of {', '.join(f'.{name}' for name in sorted(formats))}")


def _measured(
    sides: Sequence[Side],
    shapes: Sequence[Shape],
    arguments: argparse.Namespace,
    device: torch.device,
    about: Row,
    tell: Callable[[str], None],
    advance: Callable[[], None],
) -> Iterator[Row]:
    """The rows of one thread count: written to the file, then given, as each shape is finished."""
    import torch

    from lac.measure.gate import gate
    from lac.measure.limits import limits
    from lac.measure.rows import append_rows
    from lac.measure.run import measure

    dtype = getattr(torch, arguments.dtype)

    def finished(rows: Sequence[Row]) -> Iterator[Row]:
        complete = [about | row for row in rows]
        if arguments.rows:
            append_rows(arguments.rows, complete)
        yield from complete

    tell("limits of this machine")
    yield from finished(limits(arguments.mode, dtype, device))
    refused = gate(sides, arguments.mode, dtype, device, tell)
    options = {"mode": arguments.mode, "dtype": dtype, "device": device, "seconds": arguments.seconds}
    for shape in shapes:
        yield from finished(measure(sides, shape, refused=refused, tell=tell, **options))
        advance()


def _table(rows: Sequence[Row], *, title: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from lac.measure.rows import shape_of, speed_up
    from lac.measure.sides import LOOP, WAVEFRONT

    table = Table(title=title, box=box.SIMPLE, padding=0, title_justify="left", caption_justify="left")
    table.add_column("", no_wrap=True)
    gpu = not rows[0]["threads"]  # whose rows are shorter, and have an estimate beside them
    times = (" us p20", "   p50", "   p80", "  H100", "Gcell/s") if gpu else (" ms p20", "   p50", "   p80", "Mcell/s")
    for name in (*times, "    MB", "x loop", "x wave", " error"):
        table.add_column(name, justify="right", no_wrap=True)
    notes = [f"{r['side']}: {r['mcells_per_s']} Mcell/s; {r['computes']}" for r in rows if not r.get("batch")]
    skipped: dict[str, list[Shape]] = {}
    shape = None
    for row in rows:
        if not row.get("batch"):
            continue
        if row.get("skipped"):
            skipped.setdefault(f"{row['side']}: {row['skipped']}", []).append(shape_of(row))
            continue
        if shape != shape_of(row):
            shape = shape_of(row)
            table.add_section()
            table.add_row(f"[bold]{shape}[/bold]")
        table.add_row(
            f"  {row['side']}",
            *_paces(row, gpu),
            _three_digits(int(row["peak_bytes"]) / 1e6) if row["peak_bytes"] else "-",
            *(_three_digits(speed_up(row, rows, naive)) for naive in (LOOP, WAVEFRONT)),
            row["error"] or "-",
        )
    shapes = {shape_of(row) for row in rows if row.get("batch")}
    for text, where in skipped.items():
        notes.append(f"not timed: {text}" + ("" if len(where) == len(shapes) else f" ({', '.join(map(str, where))})"))
    table.caption = escape("\n".join(notes))
    return table


def _paces(row: Row, gpu: bool) -> Iterator[str]:
    """Times and cells per second: in ms and millions, of a GPU in microseconds and billions, with the estimate."""
    names = ("ms_p20", "ms_p50", "ms_p80", *(("ms_estimated",) if gpu else ()))
    for name in names:
        yield _three_digits(float(row[name]) * (1e3 if gpu else 1) if row.get(name) else None)
    yield _three_digits(float(row["mcells_per_s"]) / (1e3 if gpu else 1))


def _three_digits(number: str | float | None) -> str:
    if number is None:
        return "-"
    number = float(number)
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


COMMAND = Command("lac-bench", _parser, _bench)
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
