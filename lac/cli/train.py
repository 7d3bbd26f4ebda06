"""``lac-train``: train an encoder, compare it with its controls, draw an alignment."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lac.cli.common import remarks, results_table, run
from lac.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from lac.runs.config import TrainConfig
    from lac.runs.fit import Progress

_EXAMPLES = """examples:
  lac-train                                    the watch data, about two minutes on two cores
  lac-train --data folder --root my/data       your own features, see docs/guide.md
  lac-train --set train.steps=2000 --set loss.temperature=0.5
  lac-train --resume runs/watch-20260131-120000
  lac-train --init runs/mine --data folder --root more/data --set train.lr=3e-4
"""


def entry() -> NoReturn:
    """The installed command."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """``lac-train`` with the arguments ``argv``; returns the exit code."""
    return run(_command, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lac-train",
        description="Train an encoder with LACLoss, compare it with its controls and draw an alignment.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="YAML file with the sections data, augment, model, loss, train"
    )
    parser.add_argument(
        "--set",
        metavar="SECTION.NAME=VALUE",
        action="append",
        default=[],
        help="one setting; may be repeated",
    )
    parser.add_argument("--data", metavar="NAME", help="data set (default: watch)")
    parser.add_argument("--root", metavar="DIR", help="where the data lies, for data sets that are not installed")
    parser.add_argument("--out", metavar="DIR", help="run folder (default: runs/DATA-TIME)")
    parser.add_argument("--seed", metavar="N", type=int, help="seed (default: 0)")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1... (default: auto)")
    parser.add_argument("--amp", action="store_true", help="run the encoder in bfloat16")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in DIR, with its own settings")
    parser.add_argument(
        "--init",
        metavar="DIR",
        help="begin with the weights of the run in DIR, and its model; all else is as given here",
    )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _command(argv: list[str] | None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    return _train(*_settings(parser, arguments), resume=arguments.resume is not None, init=arguments.init)


def _train(config: TrainConfig, folder: Path, *, resume: bool, init: str | None) -> int:
    from rich.console import Console

    from lac.runs.checkpoint import is_saved
    from lac.runs.run import train

    console = Console()
    try:
        with _reporter(console) as progress:
            result = train(config, folder, resume=resume, init=init, progress=progress)
    except KeyboardInterrupt:
        if is_saved(folder):
            console.print(f"go on with: lac-train --resume {folder}", highlight=False, soft_wrap=True)
        raise
    if result.not_evaluated is None:
        console.print(results_table(result.rows, title=result.metrics["data"]))
    else:
        console.print(f"not evaluated: {result.not_evaluated}", highlight=False, soft_wrap=True)
    noted = remarks(result.rows, result.metrics["clips"], result.metrics["left_out"])
    for line in [*noted, *result.metrics["doubts"]]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    for name, path in {"run folder": result.folder, "alignment": result.pictures[0]}.items():
        console.print(f"{name:<12}{path}", highlight=False, soft_wrap=True)
    if resume and not result.metrics["seconds_cover_steps"]:
        console.print(_finished(folder), highlight=False, soft_wrap=True)
    return 0


def _finished(folder: Path) -> str:
    """That a run is finished, and how to go on all the same; empty if it is not."""
    try:
        step = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, KeyError):
        return ""
    return f"finished at step {step}; to go on from its weights in a new run: lac-train --init {folder} ..."


@contextmanager
def _reporter(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A function that shows :class:`lac.runs.run.Progress`: a live bar on a terminal, else a line each time."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    if not console.is_terminal:
        began, first = time.monotonic(), 0

        def line(report: Progress) -> None:
            nonlocal began, first
            left = ""
            if first:
                pace = (time.monotonic() - began) / (report.step - first)
                left = f"  {_clock(pace * (report.steps - report.step))} left"
            else:
                began, first = time.monotonic(), report.step
            console.print(
                f"step {report.step}/{report.steps}  {_numbers(report)}{left}",
                highlight=False,
                soft_wrap=True,
            )

        yield line
        return

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    task = bar.add_task("training", total=None)
    live = Live(bar, console=console, refresh_per_second=4)

    def show(report: Progress) -> None:
        live.start()  # not before: reading videos has a bar of its own
        doing = "training" if report.step < report.steps else "evaluating"
        bar.update(task, description=doing, total=report.steps, completed=report.step)
        live.update(Group(bar, Text(_numbers(report))))

    try:
        yield show
    finally:
        live.stop()


def _numbers(report: Progress) -> str:
    numbers = {name: f"{value:.4f}" for name, value in report.terms.items()}
    numbers |= {"lr": f"{report.lr:.2e}"} | {name: f"{value:.3f}" for name, value in report.learned.items()}
    return "  ".join(f"{name} {value}" for name, value in numbers.items())


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _settings(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> tuple[TrainConfig, Path]:
    """The configuration and the run folder that the command line asks for."""
    from lac.runs.config import CONFIG, TrainConfig, parse_override

    where = {"data.root": arguments.root, "train.device": arguments.device}
    what = {"data.name": arguments.data, "train.seed": arguments.seed, "train.amp": arguments.amp or None}
    if arguments.resume is not None:
        folder = Path(arguments.resume)
        for flag in ("config", "set", "data", "out", "seed", "amp", "init"):
            if getattr(arguments, flag) != parser.get_default(flag):
                finished = _finished(folder)
                raise UsageError(
                    f"--resume goes on with the settings of the run; leave out --{flag}"
                    + (f". This run is {finished}" if finished else "")
                )
        if not (folder / CONFIG).is_file():
            raise UsageError(
                f"there is no run in {folder}: it holds no {CONFIG}; start it again, by --out {folder} without --resume"
            )
        return TrainConfig.of_run(folder, _given(where)), folder
    overrides = dict(parse_override(text) for text in arguments.set)
    weights_of = None if arguments.init is None else TrainConfig.of_run(arguments.init)
    config = TrainConfig.read(arguments.config, overrides | _given(where | what), weights_of=weights_of)
    return config, Path(arguments.out or f"runs/{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}")


if __name__ == "__main__":
    entry()
