"""`lac`: the commands under one name; `lac train ...` is `lac-train ...`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from lac.cli.common import Command, add_general, as_process, new_parser

# The module and what the command is for, by the name below `lac`.
COMMANDS = {
    "train": ("lac.cli.train", "train an encoder, judge it, draw an alignment"),
    "eval": ("lac.cli.evaluate", "judge a run or embeddings, beside the controls"),
    "align": ("lac.cli.align", "what two clips have in common"),
    "find": ("lac.cli.find", "where recordings show what a clip shows"),
    "embed": ("lac.cli.embed", "embeddings of clips as NumPy files"),
    "retrieve": ("lac.cli.retrieve", "the nearest frames of other clips"),
    "data": ("lac.cli.data", "published data sets into plain folders"),
    "bench": ("lac.cli.bench", "time every backend on this machine"),
    "doctor": ("lac.cli.doctor", "whether what is installed works here; for bug reports"),
}
_EXAMPLES = """examples:
  lac train --help
  lac align runs/mine clip03 clip07     the same as lac-align runs/mine ...
"""


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<10}{line}" for name, (_, line) in COMMANDS.items())
    parser = new_parser(
        "lac",
        "Local-alignment contrastive learning: train, judge, align, embed, retrieve.",
        examples=f"commands:\n{listed}\n\n{_EXAMPLES}",
        usage="lac COMMAND ...",
    )
    parser.add_argument_group("what").add_argument(
        "command", metavar="COMMAND", nargs="?", choices=COMMANDS, help="one of those below"
    )
    add_general(parser)
    return parser


def _list_commands(_: argparse.Namespace) -> int:
    _parser().print_help()
    return 0


_LIST = Command("lac", _parser, _list_commands)


def main(argv: Sequence[str] | None = None) -> int:
    """The command that the first argument names, with the arguments after it; without one, the list of commands."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        return _LIST.main(arguments)
    module, _ = COMMANDS[arguments[0]]
    command: Command = importlib.import_module(module).COMMAND
    return command.main(arguments[1:])


def entry() -> NoReturn:
    """`lac` as the process."""
    as_process(main)


if __name__ == "__main__":
    entry()
