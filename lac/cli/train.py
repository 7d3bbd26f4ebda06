"""`lac-train`: train an encoder, compare it with its controls, draw an alignment."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lac.cli.common import (
    Command,
    add_data,
    add_device,
    add_general,
    add_out,
    add_root,
    add_seed,
    add_set,
    new_parser,
)
from lac.cli.progress import showing_features
from lac.errors import UsageError
from lac.runs.processes import from_first, joined, kept

if TYPE_CHECKING:
    from lac.runs.config import TrainConfig
    from lac.runs.run import Result

_EXAMPLES = """examples:
  lac-train                                  two minutes, on signals of a watch
  lac-train --data folder --root my/data     your features, see docs/guide.md
  lac-train --set train.steps=2000 --set loss.temperature=0.5
  lac-train --print-config > mine.yaml       every setting, to be changed
  lac-train -c mine.yaml
  lac-train --resume runs/watch-20260131-120000
  lac-train --init runs/mine --data folder --root more/data --set train.lr=3e-4
  torchrun --nproc_per_node=4 -m lac.cli.train --out runs/mine    4 processes
"""
_WRITES = """what is written to --out (default: runs/DATA-TIME), the run folder:
  config.yaml          every setting
  model.safetensors    the encoder, and loss.safetensors the loss's parameters
  metrics.json         the evaluation, versions, seconds
  report.html          all of it on one page, to be looked at and passed on
  plots/               two validation clips aligned, retrieval, training curves
  trainer.pt, events.out.tfevents*   to go on from, and for TensorBoard
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-train",
        "Train an encoder with LACLoss, compare it with its controls and draw an alignment.",
        examples=_EXAMPLES,
        writes=_WRITES,
        usage="lac-train [option ...]",
    )
    what = parser.add_argument_group("what to train on, what to begin with")
    add_data(what)
    add_root(what)
    what.add_argument("--resume", metavar="RUN", help="go on with this run, with its own settings")
    what.add_argument(
        "--init", metavar="RUN", help="begin with the weights of this run, and its model; all else is as given here"
    )
    settings = parser.add_argument_group("settings")
    settings.add_argument(
        "-c",
        "--config",
        metavar="FILE.yaml",
        help="sections data, augment, model, loss, train; what it leaves out is as --print-config shows",
    )
    add_set(settings)
    add_seed(settings)
    add_device(settings)
    settings.add_argument("--amp", action="store_true", help="run the encoder in bfloat16, as train.amp")
    output = parser.add_argument_group("output")
    add_out(output)
    output.add_argument("--print-config", action="store_true", help="print every setting as YAML, and do nothing else")
    add_general(parser)
    return parser


def _train(arguments: argparse.Namespace) -> int:
    config, folder = from_first(lambda: _settings(arguments))
    if arguments.print_config:
        print(config.to_yaml(), end="")
        return 0

    from rich.console import Console

    from lac.cli.progress import training_progress
    from lac.runs.checkpoint import is_saved
    from lac.runs.run import train

    console = Console(highlight=False, soft_wrap=True, markup=False)
    resume = arguments.resume is not None
    try:
        with training_progress() as progress:
            result = train(config, folder, resume=resume, init=arguments.init, progress=progress)
    except KeyboardInterrupt:
        if is_saved(folder):
            console.print(f"go on with: lac-train --resume {folder}")
        raise
    _show(result)
    if resume and not result.metrics["seconds_cover_steps"]:
        console.print(_finished(folder))
    return 0


def _show(result: Result) -> None:
    from rich.console import Console

    from lac.cli.table import remarks, results_table

    console = Console(highlight=False, markup=False)
    if result.not_evaluated is None:
        console.print(results_table(result.rows, title=result.metrics["data"], width=console.width))
    else:
        console.print(f"not evaluated: {result.not_evaluated}", soft_wrap=True)
    noted = remarks(result.rows, result.metrics["clips"], result.metrics["left_out"])
    for line in [*noted, *result.metrics["doubts"]]:
        console.print(line, soft_wrap=True)
    for sentence in result.metrics["verdict"]:
        console.print(sentence)
    for name, reason in result.metrics["not_drawn"].items():
        console.print(f"{name} is not drawn: {reason}", soft_wrap=True)
    for name, path in {"run folder": result.folder, "report": result.page}.items():
        console.print(f"{name:<12}{path}", soft_wrap=True)


def _finished(folder: Path) -> str:
    """That a run is finished, and how to go on all the same; empty if it is not."""
    from lac.runs.report import read_metrics

    try:
        step = read_metrics(folder)["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"finished at step {step}; to go on from its weights in a new run: lac-train --init {folder} ..."


def _settings(arguments: argparse.Namespace) -> tuple[TrainConfig, Path]:
    """The configuration and the run folder that the command line asks for."""
    from lac.runs.config import TrainConfig, parse_override

    where = _without_none({"data.root": arguments.root, "train.device": arguments.device})
    if arguments.resume is not None:
        folder = Path(arguments.resume)
        _check_resumable(folder, arguments)
        return TrainConfig.of_run(folder, where), folder
    what = _without_none(
        {"data.name": arguments.data, "train.seed": arguments.seed, "train.amp": arguments.amp or None}
    )
    overrides = dict(parse_override(text) for text in arguments.set)
    weights_of = None if arguments.init is None else TrainConfig.of_run(arguments.init)
    config = TrainConfig.read(arguments.config, overrides | where | what, weights_of=weights_of)
    new = f"runs/{config.data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return config, Path(arguments.out or kept("folder", new))


def _check_resumable(folder: Path, arguments: argparse.Namespace) -> None:
    """Whether a run can go on in `folder`, with the options of the command line.

    Raises:
        UsageError: there is no run, or an option would change its settings.
    """
    from lac.runs.config import CONFIG

    defaults = _parser()
    for option in ("config", "set", "data", "out", "seed", "amp", "init"):
        if getattr(arguments, option) != defaults.get_default(option):
            finished = _finished(folder)
            raise UsageError(
                f"--resume goes on with the settings of the run; leave out --{option}"
                + (f". This run is {finished}" if finished else "")
            )
    if not (folder / CONFIG).is_file():
        raise UsageError(
            f"there is no run in {folder}: it holds no {CONFIG}; start it again, by --out {folder} without --resume"
        )


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


COMMAND = Command("lac-train", _parser, showing_features(_train), joined)
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
