"""``lac-data``: data sets as their authors publish them, turned into plain folders."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from lac.cli.common import run

_OUTPUT = """what is written to OUT (or to OUT/ACTION where the data set has several actions):
  videos/NAME.mp4 or videos/NAME/000000.jpg   hard links where possible: no space is used twice
  labels/NAME.npy                             one number a frame, -1 = no phase
  split.json, label_names.json                where they are known
  conversion.json                             what was converted, what was left out and why

Nothing in a file of the data set is run as code. Clips whose video is missing or damaged, or whose labels do not fit,
are left out. The same command again goes on where the last one was cut off.

examples:
  lac-data convert carl-pouring datasets/pouring pouring
  lac-data convert penn-action Penn_Action penn         then: lac-train --data folder --root penn/squat ...
  lac-data convert videos recordings mine               recordings/*.mp4, recordings/labels.csv
"""


def entry() -> NoReturn:
    """The installed command."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """``lac-data`` with the arguments ``argv``; returns the exit code."""
    return run(_command, argv)


def _parser() -> argparse.ArgumentParser:
    from lac.data.convert import FORMATS

    parser = argparse.ArgumentParser(prog="lac-data", description="Bring data sets into the layout of --data folder.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    width = max(map(len, FORMATS)) + 2
    listed = "\n".join(f"  {name:<{width}}{line}" for name, (_, line) in FORMATS.items())
    convert = commands.add_parser(
        "convert",
        help="a data set in its own format into plain folders",
        description="Turn a data set in its own format into plain folders, for lac-train --data folder --root OUT.",
        epilog=f"formats:\n{listed}\n\n{_OUTPUT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("format", metavar="FORMAT", choices=FORMATS, help="one of the formats below")
    convert.add_argument("source", metavar="SOURCE", help="folder of the data set; nothing in it is changed")
    convert.add_argument("out", metavar="OUT", help="new or empty folder, or one that this command was cut off in")
    convert.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _command(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)

    from lac.data.convert import FORMATS, convert

    read, _ = FORMATS[arguments.format]
    with _telling() as tell:
        report = convert(arguments.format, arguments.source, arguments.out, read=read, tell=tell)
    _show(report, Path(arguments.out))
    return 0


@contextmanager
def _telling() -> Iterator[Callable[[int, int, str], None]]:
    """A function that moves a bar, on a terminal only."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total, description=escape(name))


def _show(report: dict[str, Any], out: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True, markup=False)
    table = Table(box=box.SIMPLE, padding=(0, 1))
    table.add_column("folder")
    for name in ("clips", "train", "val", "frames", "labels"):
        table.add_column(name, justify="right")
    for task, counts in report["tasks"].items():
        labels = [label for label in counts["labels"] or () if int(label) >= 0]
        numbers = (counts[name] for name in ("clips", "train", "val", "frames"))
        table.add_row(str(out / task), *map(str, numbers), str(len(labels) or "none"))
    console.print(table)
    left_out = report["left_out"]
    console.print(f"left out        {len(left_out)} clips")
    for reason, count in report["left_out_by_reason"].items():
        first = next(one for one in left_out if one["reason"] == reason)
        detail = f" ({first['detail']})" if "detail" in first else ""
        console.print(f"  {reason}: {count}, such as {first['clip']}{detail}")
    changed = sum("note" in clip for clip in report["clips"])
    if changed:
        console.print(f"changed         {changed} clips, see conversion.json")
    for note in report["notes"]:
        console.print(f"note            {note}")
    console.print(f"report          {out / 'conversion.json'}")


if __name__ == "__main__":
    entry()
