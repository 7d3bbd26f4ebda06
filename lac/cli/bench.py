"""``lac-bench``: time, memory and exactness of every backend on this machine, beside the naive forms."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lac.cli.common import run
from lac.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from rich.console import Console
    from rich.table import Table

    from lac.measure.problem import Shape
    from lac.measure.rows import Row

_SHAPES = ["1x32x32", "16x64x64", "16x256x256", "4x1024x1024"]
_EXAMPLES = """examples:
  lac-bench                                       every backend here, score and gradient, a minute or two
  lac-bench --device cuda --mode forward --dtype bfloat16
  lac-bench --shapes 1x256x256 1x512x512 1x1024x1024 --backends eager cpu --plot growth.png
  lac-bench --mode second --shapes 16x128x128 --out rows.csv
"""
_READING = (
    "ms: 20th, 50th, 80th percentile. MB: peak memory of what is timed, beyond the scores. "
    "x loop, x wave: times faster than the naive loop and the naive wavefront. "
    "error: largest deviation from float64, relative to the largest value or 1."
)


def entry() -> NoReturn:
    """The installed command."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """``lac-bench`` with the arguments ``argv``; returns the exit code."""
    return run(_command, argv)


def _parser() -> argparse.ArgumentParser:
    from lac.measure.sides import MODES

    parser = argparse.ArgumentParser(
        prog="lac-bench",
        description="Time every backend beside the naive forms: a cell-by-cell loop in Python, and torch operations\n"
        "on anti-diagonals of the batch under autograd. What disagrees with float64 gets no time.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:1... (default: auto)")
    parser.add_argument(
        "--shapes",
        metavar="BxNxM",
        nargs="+",
        default=_SHAPES,
        help="pairs, frames, frames; or the NxM of each pair of a ragged batch, like 80x64,33x80,7x5 "
        "(default: %(default)s)".replace("%(default)s", " ".join(_SHAPES)),
    )
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="both",
        help="the score, its gradient, both (the default), or the Hessian-vector product",
    )
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32", "float64"), default="float32")
    parser.add_argument(
        "--backends", metavar="NAME", nargs="+", help="loop, wavefront, eager, cpu, triton; default all"
    )
    parser.add_argument("--threads", metavar="N", type=int, nargs="+", help="on a CPU (default: 1 and all)")
    parser.add_argument("--seconds", metavar="S", type=float, default=0.5, help="for each row (default: %(default)s)")
    parser.add_argument("--out", metavar="CSV", help="add the rows to this file, each shape as it is finished")
    parser.add_argument("--plot", metavar="PNG", help="draw time and memory against N and B")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _command(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)

    import torch
    from rich.console import Console

    from lac.errors import ConfigError
    from lac.files import atomic_path
    from lac.measure.figure import growth_figure
    from lac.measure.problem import Shape
    from lac.measure.rows import append_rows, context
    from lac.measure.sides import own_sides
    from lac.system import pick_device

    try:
        device = pick_device(arguments.device)
        shapes = [Shape.parse(text) for text in arguments.shapes]
    except (ConfigError, ValueError) as error:
        raise UsageError(str(error)) from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {arguments.device}: only the CPU and CUDA devices are measured")
    sides = own_sides(device)
    for name in arguments.backends or ():
        if name not in sides:
            raise UsageError(f"--backends: {name!r} is none of {', '.join(sides)}")
    if arguments.threads and (
        device.type != "cpu" or not 1 <= min(arguments.threads) <= max(arguments.threads) <= 1024
    ):
        raise UsageError("--threads are counts of at least 1 and at most 1024, for the CPU")
    if not arguments.seconds > 0:
        raise UsageError(f"--seconds must be positive, got {arguments.seconds}")
    # What would be refused at the end is refused before anything is timed.
    if arguments.plot:
        _check_plot(arguments.plot, shapes)
    if arguments.out:
        append_rows(arguments.out, ())
    chosen = [side for name, side in sides.items() if name in (arguments.backends or sides)]
    usual = torch.get_num_threads()
    threads = arguments.threads or ([usual] if device.type == "cuda" else sorted({1, usual}))
    command = shlex.join(["lac-bench", *(argv if argv is not None else sys.argv[1:])])

    console = Console()
    rows: list[Row] = []
    try:
        for count in threads:
            torch.set_num_threads(count)
            about = context(device, command)
            title = f"{about['device']}" + (f", {count} thread{'s' * (count > 1)}" if device.type == "cpu" else "")
            found: list[Row] = []
            try:
                with _telling(console, len(shapes)) as (tell, advance):
                    for row in _measured(chosen, shapes, arguments, device, about, tell, advance):
                        found.append(row)
            finally:
                rows += found
                if found:
                    console.print(_table(found, title=f"{arguments.mode}, {arguments.dtype}, {title}"))
    finally:
        torch.set_num_threads(usual)
    console.print(_READING, style="dim")
    if arguments.plot:
        figure = growth_figure(rows, title=f"{arguments.mode}, {rows[0]['device']}")
        with atomic_path(arguments.plot) as temporary:
            figure.savefig(temporary, dpi=150)
        console.print(f"plot        {arguments.plot}", highlight=False, soft_wrap=True)
    if arguments.out:
        console.print(f"rows        {arguments.out}", highlight=False, soft_wrap=True)
    return 0


def _check_plot(path: str, shapes: Sequence[Shape]) -> None:
    """Whether the shapes can be drawn, and written in a format of that name.

    Raises:
        UsageError: they cannot.
    """
    from matplotlib.figure import Figure

    from lac.measure.figure import growing

    if not any(len(found) > 1 for found in growing(shapes)):
        raise UsageError("--plot needs square shapes that differ in N = M or in the batch alone")
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower()[1:] not in formats:
        raise UsageError(f"--plot {path}: must end in one of {', '.join(f'.{name}' for name in sorted(formats))}")


def _measured(
    sides: Sequence[Any],
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
        if arguments.out:
            append_rows(arguments.out, complete)
        yield from complete

    tell("limits of this machine")
    yield from finished(limits(arguments.mode, dtype, device))
    refused = gate(sides, arguments.mode, dtype, device, tell)
    options = {"mode": arguments.mode, "dtype": dtype, "device": device, "seconds": arguments.seconds}
    for shape in shapes:
        yield from finished(measure(sides, shape, refused=refused, tell=tell, **options))
        advance()


@contextmanager
def _telling(console: Console, total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Two functions, to say what is being measured and that a shape is finished: a bar, on a terminal only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # Drawn when told only: a thread that draws by itself would run beside what is timed.
    with Progress(
        *columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total)
        yield (lambda text: bar.update(task, description=text, refresh=True)), (lambda: bar.advance(task))


def _table(rows: Sequence[Row], *, title: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from lac.measure.rows import shape_of, speed_up
    from lac.measure.sides import LOOP, WAVEFRONT

    table = Table(title=title, box=box.SIMPLE, padding=0, title_justify="left", caption_justify="left")
    table.add_column("", no_wrap=True)
    for name in (" ms p20", "   p50", "   p80", "Mcell/s", "    MB", "x loop", "x wave", " error"):
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
            *(_short(row[name]) for name in ("ms_p20", "ms_p50", "ms_p80", "mcells_per_s")),
            _short(int(row["peak_bytes"]) / 1e6) if row["peak_bytes"] else "-",
            *(_short(speed_up(row, rows, naive)) for naive in (LOOP, WAVEFRONT)),
            row["error"] or "-",
        )
    shapes = {shape_of(row) for row in rows if row.get("batch")}
    for text, where in skipped.items():
        notes.append(f"not timed: {text}" + ("" if len(where) == len(shapes) else f" ({', '.join(map(str, where))})"))
    table.caption = escape("\n".join(notes))
    return table


def _short(number: str | float | None) -> str:
    if number is None:
        return "-"
    number = float(number)
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    entry()
