"""What the commands share: their first lines, the options of one meaning, and errors as one line and an exit code."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch

import lac
from lac.errors import ConfigError, UsageError, UserError, how_to_install, is_out_of_memory, printable
from lac.system import missing_package

if TYPE_CHECKING:
    from lac.runs.config import TrainConfig

HELP_WIDTH = 78  # as argparse has it in 80 columns

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPT = 130

OptionGroup = argparse._ArgumentGroup  # argparse has no public name for it


# First lines


@dataclass(frozen=True)
class Command:
    """An installed command; its module keeps `main` and `entry` under these names.

    Args:
        name: as it is installed, `lac-train`.
        make_parser: makes the parser of its arguments; called when the command is, and not before.
        act: does the work with the parsed arguments and returns the exit code; `argv` among them is what was typed.
        within: a context around all of it.
    """

    name: str
    make_parser: Callable[[], argparse.ArgumentParser]
    act: Callable[[argparse.Namespace], int]
    within: Callable[[], AbstractContextManager[None]] = nullcontext

    def main(self, argv: Sequence[str] | None = None) -> int:
        """The command with the arguments `argv` (`None`: those of the process); returns the exit code."""

        def parse_and_act(typed: list[str]) -> int:
            with self.within():
                parser, arguments = self.make_parser(), argparse.Namespace(argv=typed)
                # Clips may stand behind an option too, which argparse knows of parsers without subcommands alone.
                parse = parser.parse_intermixed_args if parser._subparsers is None else parser.parse_args
                return self.act(parse(typed, arguments))

        return run(parse_and_act, argv, name=self.name)

    def entry(self) -> NoReturn:
        """The command as the process: its arguments, its exit code."""
        as_process(self.main)


# Options: one spelling, one meaning and the same words in every command


def new_parser(name: str, description: str, *, examples: str, writes: str = "", **more: Any) -> argparse.ArgumentParser:
    """The parser of a command, as yet without options.

    Args:
        name: as it is installed.
        description: a sentence or two.
        examples: a line each, what to type first.
        writes: what stands in the folder of `--out` afterwards; empty for a command without it.
        more: further arguments of `ArgumentParser`, such as `usage`.
    """
    epilog = f"{writes}\n\n{examples}" if writes else examples
    raw = argparse.RawDescriptionHelpFormatter
    about = textwrap.fill(description, HELP_WIDTH)
    return argparse.ArgumentParser(
        prog=name, description=about, epilog=epilog, formatter_class=raw, add_help=False, **more
    )


def add_run(group: OptionGroup, **more: Any) -> None:
    """RUN, the first argument of all that work with a trained encoder."""
    group.add_argument("run", metavar="RUN", help="run folder of lac-train", **more)


def add_data(group: OptionGroup) -> None:
    """`--data`: another data set by its name."""
    group.add_argument("--data", metavar="NAME", help="data set, as data.name (default: as the settings say)")


def add_root(group: OptionGroup) -> None:
    """`--root`: where the data lies on this machine."""
    group.add_argument(
        "--root", metavar="DIR", help="where the data set lies, as data.root (default: as the settings say)"
    )


def add_set(group: OptionGroup) -> None:
    """`--set`: any other setting."""
    group.add_argument(
        "--set",
        metavar="SECTION.NAME=VALUE",
        action="append",
        default=[],
        help="change a setting, such as data.options.rate=30; may be repeated",
    )


def add_chance(group: OptionGroup) -> None:
    """`--chance`: up to where something counts as found; see `check_chance`."""
    group.add_argument(
        "--chance",
        metavar="P",
        type=float,
        default=0.05,
        help="greatest share of what is found that may be chance (default: 0.05; 1: all there is)",
    )


def check_chance(chance: float) -> None:
    """Raises:
    UsageError: `--chance` is no probability above 0.
    """
    if not 0 < chance <= 1:
        raise UsageError(f"--chance must lie above 0 and be at most 1, got {chance}")


def add_seed(group: OptionGroup) -> None:
    """`--seed`: of all that is random."""
    group.add_argument(
        "--seed", metavar="N", type=int, help="seed of what is random, as train.seed (default: as the settings say)"
    )


def add_device(group: OptionGroup) -> None:
    """`--device`: `None` where it is not given, which is "auto" for all but a run that goes on."""
    group.add_argument("--device", metavar="NAME", help="where to compute: auto, cpu, cuda, cuda:1... (default: auto)")


def add_out(group: OptionGroup) -> None:
    """`--out`: always a folder; the names in it are fixed, and the help of the command tells them."""
    group.add_argument("--out", metavar="DIR", help="folder for what is written, see below")


def add_general(parser: argparse.ArgumentParser) -> None:
    """What every command has, as the last group of its help."""
    group = parser.add_argument_group("general")
    group.add_argument("-h", "--help", action="help", help="show this help and exit")
    versions = f"lac {lac.__version__}, torch {torch.__version__}"
    group.add_argument("--version", action="version", version=versions, help="show the versions of lac and torch")
    # Taken out by `run`, wherever it stands; here for the help alone.
    group.add_argument("--traceback", action="store_true", help="show the traceback of an error")


def data_overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of the data that `--set`, `--data` and `--root` change, by dotted name.

    Raises:
        UsageError: `--set` names a setting of another section, which is the run's own.
        ConfigError: it does not read `SECTION.NAME=VALUE`.
    """
    from lac.runs.config import parse_override

    changes = dict(parse_override(text) for text in arguments.set)
    for name in changes:
        if not name.startswith("data."):
            raise UsageError(f"--set {name}: only the settings of data can change here, all others are the run's")
    chosen = {"data.name": getattr(arguments, "data", None), "data.root": arguments.root}
    return changes | {name: value for name, value in chosen.items() if value is not None}


def config_of_run(arguments: argparse.Namespace) -> TrainConfig:
    """The settings of the run folder `arguments.run` with `data_overrides`; another data set inherits nothing.

    Raises:
        UsageError, ConfigError, OSError: see `data_overrides` and `TrainConfig.of_run`.
    """
    from lac.data import check_options
    from lac.runs.config import TrainConfig

    config = TrainConfig.of_run(arguments.run)
    changes = data_overrides(arguments)
    if changes.get("data.name", config.data.name) != config.data.name:
        changes = {"data.root": None, "data.options": {}} | changes
    config = TrainConfig.of_run(arguments.run, changes)
    if any(name.startswith("data.options") for name in changes):
        check_options(config.data.name, config.data.options)  # also where only files are read, and nothing is loaded
    return config


# Errors


class Terminated(KeyboardInterrupt):
    """The process was asked to end, by a signal other than that of Ctrl-C; `args[0]` is its number."""


def as_process(main: Callable[[], int]) -> NoReturn:
    """Exit with the code of `main`; SIGTERM and SIGHUP end it as Ctrl-C does, so that it tidies up."""

    def end(number: int, _: object) -> NoReturn:
        raise Terminated(number)

    def unraisable(lost: Any) -> None:
        """Python drops what is raised while it takes an object apart, a request to end too: it is made again."""
        if isinstance(lost.exc_value, KeyboardInterrupt):
            number = lost.exc_value.args[0] if isinstance(lost.exc_value, Terminated) else signal.SIGINT
            threading.Timer(0.05, signal.pthread_kill, [threading.main_thread().ident, number]).start()
        else:
            sys.__unraisablehook__(lost)

    if hasattr(signal, "pthread_kill"):  # not on Windows
        sys.unraisablehook = unraisable

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has one of them
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the other
            signal.signal(number, end)
    sys.exit(main())


def run(command: Callable[[list[str]], int], argv: Sequence[str] | None = None, *, name: str = "lac") -> int:
    """Call `command(arguments)` and return its exit code; turn every error into one line.

    The code is 2 for `UsageError` and `ConfigError` (the command line or a setting), 130 for Ctrl-C, 143 for SIGTERM, 1
    for all else: what a user can cause, and mistakes of the program, which the line calls internal. `--traceback` among
    the arguments, or `LAC_TRACEBACK=1` in the environment, shows the traceback too; the flag is taken out before
    `command` sees the arguments. argparse's own `SystemExit` (2 for usage, 0 for `--help`) becomes the returned
    code.

    Args:
        command: takes the arguments without the program's name and returns an exit code.
        argv: the arguments; `None` means `sys.argv[1:]`.
        name: of the command, for the message.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with_traceback = "--traceback" in arguments or os.environ.get("LAC_TRACEBACK", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        return command(arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else EXIT_FAILURE if exit_.code else 0
    except Terminated as error:
        return _report(f"ended by {signal.Signals(error.args[0]).name}", 128 + error.args[0], with_traceback)
    except KeyboardInterrupt:
        return _report("interrupted", EXIT_INTERRUPT, with_traceback)
    except Exception as error:
        if isinstance(error, UsageError | ConfigError):
            return _report(str(error), EXIT_USAGE, with_traceback)
        return _report(_message(error, name) + ("" if with_traceback else _hint(error)), EXIT_FAILURE, with_traceback)


# What a command can do with less of.
_FEWER = "take fewer or shorter clips, or fewer frames a second of videos (--set data.options.fps=10)"
_LESS = {
    "lac-train": "take fewer or shorter clips at a time (train.batch, augment.frames)",
    "lac-find": "take shorter recordings, or fewer frames a second of videos (--set data.options.fps=10)",
    "lac-bench": "take a smaller shape",
}


def _message(error: Exception, command: str) -> str:
    if is_out_of_memory(error):
        reason = (str(error) or type(error).__name__).strip().partition("\n")[0]
        return f"out of memory ({reason}); {_LESS.get(command, _FEWER)}"
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{where}"
    text = str(error) or type(error).__name__
    if isinstance(error, ImportError) and (package := missing_package(error)) is not None:
        return f"{command} needs {package.name}, which is not installed: {how_to_install(package.extra)}"
    return text if _is_expected(error) else f"internal: {type(error).__name__}: {error}"


def _hint(error: Exception) -> str:
    if isinstance(error, ImportError) and missing_package(error) is not None:
        return ""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return " (choose a folder that you may write to, and files that you may read; --traceback shows where)"
    if _is_expected(error):
        return " (--traceback shows where)"
    return " (this is a bug; run again with --traceback and report it)"


def _is_expected(error: Exception) -> bool:
    """Whether an error is one that a user can cause, and not a mistake of the program."""
    return isinstance(error, UserError | OSError | ImportError) or is_out_of_memory(error)


def _report(message: str, code: int, with_traceback: bool) -> int:
    # Plain: also where rich is the package that is missing.
    if with_traceback:
        traceback.print_exc()
    process = os.environ.get("RANK", "0")  # as torchrun numbers them; one of them tells an error
    who = "error:" if process == "0" else f"[process {process}] error:"
    print(who, printable(" ".join(message.split())), file=sys.stderr)
    return code
