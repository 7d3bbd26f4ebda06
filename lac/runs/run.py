"""Training an encoder with LACLoss: one visible loop, and the folder that a run leaves behind.

The batch of a step depends on the seed and the number of the step alone, and so does dropout. So a killed run goes
on from its last checkpoint to the same weights as one that was not killed, bit for bit on a CPU with the same
number of threads. Several processes can train together, see `lac.runs.processes`.

A run folder holds:

    config.yaml          every setting, defaults included
    model.safetensors    the encoder's weights; its arguments as JSON in the metadata
    loss.safetensors     the loss's own parameters (gaps, margin, scale...)
    trainer.pt           all that is needed to go on: step, weights, optimiser, history
    trainer.previous.pt  the one before it
    metrics.json         the evaluation of the encoder and of its controls, versions, seconds
    report.html          all of this to be looked at, in one file
    plots/               the pictures, see `lac.runs.drawing`
    events.out.tfevents* TensorBoard
    .lock                held by the process that trains there
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lac.data import Dataset
from lac.data.doubts import doubts, few_frames
from lac.data.telling import tell
from lac.data.video import RATE
from lac.embed import embed_clips
from lac.errors import CheckpointError, ConfigError
from lac.files import atomic_path, locked, sealed, write_json
from lac.model.encoder import FrameEncoder
from lac.runs import checkpoint, processes
from lac.runs.checkpoint import begin_with, restore, save, spread
from lac.runs.config import CONFIG, TrainConfig
from lac.runs.controls import controls
from lac.runs.drawing import PLOTS, Drawings, draw_all
from lac.runs.evaluate import EvalResult, evaluate_dataset
from lac.runs.events import events, flat, tags
from lac.runs.fit import Progress, fit, rehearse
from lac.runs.folder import check_space, check_vacant, remains
from lac.runs.processes import first
from lac.runs.report import METRICS, write_page
from lac.runs.sampling import Sampler
from lac.runs.state import State, start
from lac.runs.verdict import Known, verdict
from lac.system import describe, pick_device


def load_run(folder: str | Path, device: torch.device | str = "cpu") -> tuple[FrameEncoder, TrainConfig, Dataset]:
    """The trained encoder of a run folder (in evaluation mode), its settings, and its data set.

    Raises:
        CheckpointError: the weights are missing, damaged or of another encoder.
        ConfigError, OSError: `config.yaml` is not there or not valid.
        ValueError, ImportError: the data set cannot be loaded (see `lac.data.load`).
    """
    folder = Path(folder)
    config = TrainConfig.of_run(folder)
    encoder = checkpoint.read_encoder(folder, device)
    dataset = config.data.load(device)
    return encoder, config, dataset


@dataclass(frozen=True)
class Result:
    """What a run gives: the trained encoder, the contents of `metrics.json`, the pictures.

    Attributes:
        folder: the run folder.
        encoder: in evaluation mode.
        rows: evaluation of the trained encoder and of the controls by name; empty if `not_evaluated`.
        not_evaluated: why there is none (clips without labels, for instance), else `None`.
        metrics: what `metrics.json` holds.
        pictures: the files that were drawn, the alignment first; `metrics["not_drawn"]` says what was not, and why.
        page: `report.html`.
    """

    folder: Path
    encoder: FrameEncoder
    rows: dict[str, EvalResult]
    not_evaluated: str | None
    metrics: dict[str, Any]
    pictures: list[Path]
    page: Path


def train(
    config: TrainConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """A whole run: train, save, evaluate against the controls, draw.

    The first checkpoint is written before the first step. Nothing is written before all settings have been tried.

    Processes that torchrun started all call it, within `lac.runs.processes.joined`, and train together. Process 0 alone
    writes, and alone calls `progress`; all get the same result. Where torchrun starts them again since one has died,
    they go on from the last checkpoint, as with `resume`.

    Args:
        config: all settings.
        folder: the run folder; made if missing. No other process can train in it at the same time.
        resume: go on with the run in `folder` from its last checkpoint.
        init: a run folder whose weights to begin with, see `begin_with` and `TrainConfig.read`.
        progress: called at every logging step.

    Raises:
        ConfigError: a setting that cannot be, such as a device that is not there.
        FileExistsError: `folder` holds something, and `resume` is false. What a run left that ended before it
            had saved a step does not count, and is removed.
        BlockingIOError: another process trains in `folder`.
        CheckpointError, Diverged, OSError: see `restore`, `fit` and `save`.
        ValueError, ImportError: the data set cannot be loaded (see `lac.data.load`).
    """
    folder = Path(folder)
    if config.train.batch < processes.count():
        raise ConfigError(
            f"train.batch is {config.train.batch}, but {processes.count()} processes share a batch: each needs a pair"
        )
    begun = f"begun {folder.absolute()}"
    with ExitStack() as stack:
        if first():
            resume = resume or processes.kept(begun) != ""
            if not resume:
                check_vacant(folder)
            elif checkpoint.is_saved(folder):
                stack.enter_context(locked(folder))
            else:
                raise CheckpointError(
                    f"{folder} holds no checkpoint: its run ended before the first; start it again, without --resume"
                )
        device = pick_device(processes.own_device(config.train.device))
        dataset = processes.in_turn(lambda: config.data.load(device))
        config = config.with_data_options(dataset.chosen)
        state = start(config, dataset, device)
        if init is not None and first():
            begin_with(state, init)
        sampler = Sampler.of(config, dataset.train)
        rehearse(state, sampler, amp=config.train.amp)
        for line in few_frames(dataset, config.augment["frames"], config.data.options):
            tell(line)
        if first():
            check_space(state, folder)
            if resume:
                restore(state, folder)
            else:
                stack.enter_context(_new(folder, config))
            save(state, folder)
            processes.kept(begun, "yes")
        spread(state)
        return _run(folder, config, dataset, state, sampler, progress)


@contextmanager
def _new(folder: Path, config: TrainConfig) -> Iterator[None]:
    """The folder of a new run, locked, with its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        check_vacant(folder)  # for another process may have been faster
        for path in remains(folder):
            path.unlink()
        with atomic_path(folder / CONFIG) as temporary:
            temporary.write_text(config.to_sealed_yaml(), encoding="utf-8")
        yield


def _run(
    folder: Path,
    config: TrainConfig,
    dataset: Dataset,
    state: State,
    sampler: Sampler,
    progress: Callable[[Progress], None] | None,
) -> Result:
    """Train, evaluate and draw, in a folder that holds the settings and a checkpoint."""
    first_step = state.step
    with events(folder, state.step) if first() else nullcontext(_unheard) as log:

        def report(numbers: Progress) -> None:
            log({f"train/{name}": value for name, value in flat(numbers).items()}, numbers.step)
            if progress is not None:
                progress(numbers)

        began = time.perf_counter()
        if first():
            fit(state, sampler, config.train, on_save=lambda now: save(now, folder), on_progress=report)
        else:
            fit(state, sampler, config.train)
        seconds = time.perf_counter() - began
        judged = processes.from_first(lambda: _judged(folder, config, dataset, state, log, seconds, first_step))
    return Result(folder, state.encoder.eval(), *judged)


def _unheard(values: Mapping[str, float], step: int) -> None:
    """In the place of a log."""


def _judged(
    folder: Path,
    config: TrainConfig,
    dataset: Dataset,
    state: State,
    log: Callable[[Mapping[str, float], int], None],
    seconds: float,
    first_step: int,
) -> tuple[dict[str, EvalResult], str | None, dict[str, Any], list[Path], Path]:
    """Evaluate and draw after `seconds` of training from `first_step`: what a `Result` has beyond the encoder."""
    options, device = config.train, next(state.encoder.parameters()).device
    began = time.perf_counter()
    rows, not_evaluated = _evaluate(state.encoder, dataset, device, seed=options.seed, stride=options.stride)
    evaluation = time.perf_counter() - began
    if rows:
        log(tags(rows["trained encoder"], config.data.name), state.step)

    rate = config.data.options.get("rate", RATE)
    drawings = Drawings(dataset, state.encoder, state.loss, state.history, rate)
    shown, not_drawn = draw_all(folder / PLOTS, drawings.writers())
    metrics = {
        "data": dataset.name,
        "clips": {"train": len(dataset.train), "val": len(dataset.val)},
        "left_out": dict(dataset.left_out),
        "unlabelled": dict(dataset.unlabelled),
        "doubts": doubts(dataset, view=config.augment["frames"], options=config.data.options),
        "steps": state.step,
        "init": state.init,
        "results": {name: row.to_dict() for name, row in rows.items()},
        "not_evaluated": not_evaluated,
        "verdict": verdict(rows, Known.of(dataset, config)),
        "pictures": shown,
        "not_drawn": not_drawn,
        "environment": describe(device) | {"processes": processes.count()},
        "seconds": {"training": seconds, "evaluation": evaluation},
        "seconds_cover_steps": state.step - first_step,
    }
    write_json(folder / METRICS, sealed(metrics))
    pictures = [folder / PLOTS / name for name in shown]
    return rows, not_evaluated, metrics, pictures, write_page(folder)


def _evaluate(
    encoder: FrameEncoder, dataset: Dataset, device: torch.device, *, seed: int, stride: int
) -> tuple[dict[str, EvalResult], str | None]:
    """The trained encoder first, then its controls; or why this data cannot be evaluated."""
    try:
        trained = evaluate_dataset(dataset, lambda clips: embed_clips(encoder, clips, device), stride=stride)
    except ValueError as error:
        return {}, str(error)
    others = controls(dataset, encoder.config, seed=seed, device=device, stride=stride)
    return {"trained encoder": trained, **others}, None
