"""`lac-data`: data sets as their authors publish them, turned into plain folders."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lac.cli.common import HELP_WIDTH, Command, add_general, new_parser

_EXAMPLES = """examples:
  lac-data convert carl-pouring datasets/pouring pouring
  lac-data convert penn-action Penn_Action penn
  lac-train --data folder --root penn/squat     to train on it
"""
_CONVERT_EXAMPLES = """examples:
  lac-data convert carl-pouring datasets/pouring pouring
  lac-data convert penn-action Penn_Action penn
  lac-data convert videos recordings mine    recordings/*.mp4 and labels.csv
"""
_WRITES = """what is written to OUT, or to OUT/ACTION where there are several actions:
  videos/NAME.mp4, videos/NAME/000000.jpg   hard links where possible: no space
                                            is used twice
  labels/NAME.npy                           one number a frame, -1 = no phase
  split.json, label_names.json              where they are known
  conversion.json                           what was converted, what left out,
                                            and why

Nothing in a file of the data set is run as code. Clips whose video is missing
or damaged, or whose labels do not fit, are left out. The same command again
goes on where the last one was cut off.
"""


def _parser() -> argparse.ArgumentParser:
    from lac.data.convert import FORMATS

    parser = new_parser("lac-data", "Bring data sets into the layout of --data folder.", examples=_EXAMPLES)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    convert = commands.add_parser(
        "convert",
        help="a data set in its own format into plain folders",
        description="Turn a data set in its own format into plain folders, for\nlac-train --data folder --root OUT.",
        epilog=f"formats:\n{_listed(FORMATS)}\n\n{_WRITES}\n{_CONVERT_EXAMPLES}",
        formatter_class=raw,
        add_help=False,
    )
    what = convert.add_argument_group("what")
    what.add_argument("format", metavar="FORMAT", choices=FORMATS, help="one of the formats below")
    what.add_argument("source", metavar="SOURCE", help="folder of the data set; nothing in it is changed")
    output = convert.add_argument_group("output")
    output.add_argument("out", metavar="OUT", help="new or empty folder, or one that this command was cut off in")
    add_general(convert)
    add_general(parser)
    return parser


def _listed(formats: Mapping[str, tuple[object, str]]) -> str:
    """A paragraph for each format, its name in a column of its own."""
    column = max(map(len, formats)) + 4
    listed = []
    for name, (_, text) in formats.items():
        lines = textwrap.wrap(text, HELP_WIDTH - column, break_long_words=False, break_on_hyphens=False)
        names = [f"  {name}", *[""] * (len(lines) - 1)]
        listed += [f"{first:<{column}}{line}" for first, line in zip(names, lines, strict=True)]
    return "\n".join(listed)


def _convert(arguments: argparse.Namespace) -> int:
    from lac.cli.progress import clip_progress
    from lac.data.convert import FORMATS, convert

    read, _ = FORMATS[arguments.format]
    with clip_progress() as tell:
        report = convert(arguments.format, arguments.source, arguments.out, read=read, tell=tell)
    _show(report, Path(arguments.out))
    return 0


def _show(report: dict[str, Any], out: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from lac.data.doubts import first_few

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
        first = next(clip for clip in left_out if clip["reason"] == reason)
        detail = f" ({first['detail']})" if "detail" in first else ""
        console.print(f"  {reason}: {count}, such as {first['clip']}{detail}")
    unlabelled = [clip["unlabelled"] for clip in report["clips"] if "unlabelled" in clip]
    if unlabelled:
        console.print(f"without labels  {len(unlabelled)} clips: {first_few(unlabelled)}")
    changed = sum("note" in clip for clip in report["clips"])
    if changed:
        console.print(f"changed         {changed} clips, see conversion.json")
    for note in report["notes"]:
        console.print(f"note            {note}")
    console.print(f"report          {out / 'conversion.json'}")


COMMAND = Command("lac-data", _parser, _convert)
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
