"""What the commands share: errors become a line and an exit code, results become a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lac.errors import ConfigError, UsageError, UserError

if TYPE_CHECKING:
    from rich.table import Table

    from lac.runs.evaluate import EvalResult

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPT = 130


def run(command: Callable[[list[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Call ``command(arguments)`` and return its exit code; turn every error into one line.

    The code is 2 for ``UsageError`` and ``ConfigError`` (the command line or a setting), 130 for Ctrl-C, 1 for all
    else: what a user can cause, and mistakes of the program, which the line calls internal. ``--traceback`` among the
    arguments, or ``LAC_TRACEBACK=1`` in the environment, shows the traceback too; the flag is taken out before
    ``command`` sees the arguments. argparse's own ``SystemExit`` (2 for usage, 0 for ``--help``) becomes the returned
    code.

    Args:
        command: takes the arguments without the program's name and returns an exit code.
        argv: the arguments; ``None`` means ``sys.argv[1:]``.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments or os.environ.get("LAC_TRACEBACK", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        return command(arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else EXIT_FAILURE if exit_.code else 0
    except KeyboardInterrupt:
        return _report("interrupted", EXIT_INTERRUPT, traceback)
    except Exception as error:
        if isinstance(error, UsageError | ConfigError):
            return _report(str(error), EXIT_USAGE, traceback)
        return _report(_message(error) + ("" if traceback else _hint(error)), EXIT_FAILURE, traceback)


def results_table(rows: Mapping[str, EvalResult], *, title: str) -> Table:
    """The table of an evaluation: a row for each embedding, the controls among them.

    Accuracy is shown for each share of labelled training clips, progression for the greatest; "no tau" counts
    the pairs of clips whose Kendall's tau is not a number. See ``docs/evaluation.md``.
    """
    from rich import box
    from rich.table import Table

    first = next(iter(rows.values()))
    table = Table(
        title=title,
        box=box.SIMPLE,
        padding=0,
        caption=f"{first.classifier} classifier; tau: {first.kendalls_tau_pairs} pairs, stride {first.stride}",
    )
    table.add_column("", no_wrap=True)
    shares = [_share(fraction) for fraction in first.classification]
    for name in [*shares, " progr", "  tau", "no tau", *(f" AP@{k}" for k in first.retrieval)]:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        numbers = [*row.classification.values(), row.event_completion[max(row.event_completion)]]
        table.add_row(
            name,
            *(_short(number) for number in [*numbers, row.kendalls_tau]),
            str(row.kendalls_tau_nan),
            *(_short(number) for number in row.retrieval.values()),
        )
    return table


def remarks(rows: Mapping[str, EvalResult], clips: Mapping[str, int], left_out: Mapping[str, str]) -> list[str]:
    """Lines below the table: which clips were left out and which phases are missing; none if all is there.

    Args:
        rows: as in :func:`results_table`, or empty.
        clips: number of clips of "train" and "val", without those left out.
        left_out: reason by clip.
    """
    from lac.data.doubts import first_few

    lines = []
    if left_out:
        total = len(left_out) + sum(clips.values())
        lines.append(f"left out {len(left_out)} of {total} clips: {first_few(list(left_out.values()))}")
    missing: list[tuple[float, str]] = []
    for row in list(rows.values())[:1]:  # the labels are the same for all
        absent = {c for c, without in row.missing_classes.get("train", {}).items() if without == clips["train"]}
        for split, classes in row.missing_classes.items():
            for c, without in classes.items():
                of = "all" if without == clips[split] else f"{without} of"
                missing.append((-without / clips[split], f"{c} in {of} {clips[split]} {split} clips"))
        for fraction, unseen in row.unseen_classes.items():
            for c in sorted(set(unseen) - absent):
                missing.append((-1, f"{c} in the train clips of{_share(fraction)}"))
    if missing:
        missing.sort(key=lambda one: one[0])
        lines.append(f"missing phases: {first_few([text for _, text in missing])}")
    return lines


def _share(fraction: float) -> str:
    return f" acc {fraction:g}".replace("0.", ".")


def _short(number: float) -> str:
    # At most six characters, so that the table fits a terminal of 80 columns; R^2 has no lower limit.
    if number <= -1000:
        return "< -999"
    return f"{number:.0f}" if number <= -10 else f"{number:.3f}"


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename is not None else ""
        return f"{error.strerror}{where}"
    text = str(error) or type(error).__name__
    if _is_out_of_memory(error):
        reason = text.strip().partition("\n")[0]
        return f"out of memory ({reason}); take fewer or shorter clips at a time (train.batch, augment.frames)"
    return text if _is_expected(error) else f"internal: {type(error).__name__}: {error}"


def _hint(error: Exception) -> str:
    if _is_expected(error):
        return " (--traceback shows where)"
    return " (this is a bug; run again with --traceback and report it)"


def _is_expected(error: Exception) -> bool:
    """Whether an error is one that a user can cause, and not a mistake of the program."""
    return isinstance(error, UserError | OSError | ImportError) or _is_out_of_memory(error)


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # no torch, no error of it
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's words on a CPU


def _report(message: str, code: int, traceback: bool) -> int:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    if traceback:
        console.print_exception()
    console.print(Text.assemble(("error: ", "bold red"), " ".join(message.split())))
    return code
