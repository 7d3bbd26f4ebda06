"""Training an encoder with LACLoss: one visible loop, and the folder that a run leaves behind.

The batch of a step depends on the seed and the number of the step alone, and so does dropout. So a killed run goes
on from its last checkpoint to the same weights as one that was not killed, bit for bit on a CPU with the same
number of threads.

A run folder holds::

    config.yaml          every setting, defaults included
    model.safetensors    the encoder's weights; its arguments as JSON in the metadata
    loss.safetensors     the loss's own parameters (gaps, margin, scale...)
    trainer.pt           all that is needed to go on: step, weights, optimiser, history
    trainer.previous.pt  the one before it
    metrics.json         the evaluation of the encoder and of its controls, versions, seconds
    plots/alignment.png  similarity scores and alignment of two validation clips
    plots/curves.png     loss terms, learning rate, learned gaps over the steps
    events.out.tfevents* TensorBoard
    .lock                held by the process that trains there
"""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import lac
import lac.data
from lac.data import Clip, Dataset
from lac.data.doubts import doubts
from lac.embed import embed_clips
from lac.errors import CheckpointError, ConfigError
from lac.files import LOCK, atomic_path, left_behind, locked, write_json
from lac.model.encoder import FrameEncoder
from lac.pairs import draw_pair
from lac.plots import plot_curves, save_figure
from lac.runs import checkpoint
from lac.runs.config import CONFIG, TrainConfig
from lac.runs.evaluate import EvalResult, controls, evaluate_dataset
from lac.runs.events import events, flat, tags
from lac.runs.fit import Progress, State, fit, rehearse, start
from lac.system import describe, pick_device

if TYPE_CHECKING:
    pass


def save(state: State, folder: Path) -> None:
    """Write the checkpoint of a run folder: the state to go on from, then the weights on their own.

    The state before is kept as ``trainer.previous.pt``, and only once the new one is whole.

    Raises:
        OSError: a file cannot be written; the one it should replace stays.
    """
    checkpoint.write_state(
        folder / checkpoint.STATE,
        {
            "lac": lac.__version__,
            "step": state.step,
            "encoder": state.encoder.state_dict(),
            "loss": state.loss.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "history": state.history,
        },
        keep=folder / checkpoint.PREVIOUS,
    )
    checkpoint.write_encoder(folder, state.encoder)
    checkpoint.write_weights(folder / checkpoint.LOSS, state.loss)


def restore(state: State, folder: Path) -> None:
    """Bring ``state`` to the last whole checkpoint in ``folder``; leave it as it is if there is none yet.

    Where the newest is damaged, the one before it is taken, and the log of "lac" says so.

    Raises:
        CheckpointError: no checkpoint is whole, or it belongs to other settings or another version.
    """
    saved = checkpoint.read_last_state(folder)
    if saved is None:
        return
    path = folder / checkpoint.STATE
    missing = {"lac", "step", "encoder", "loss", "optimiser", "history"} - set(saved)
    if missing:
        written = f"by lac {saved['lac']}, this is lac {lac.__version__}" if "lac" in saved else "by something else"
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}: it was written {written}")
    checkpoint.load_weights(state.encoder, saved["encoder"], path, saved["lac"])
    checkpoint.load_weights(state.loss, saved["loss"], path, saved["lac"])
    try:
        state.optimiser.load_state_dict(saved["optimiser"])
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit the optimiser: {error}") from error
    state.step, state.history = saved["step"], saved["history"]


def begin_with(state: State, run: str | Path) -> None:
    """Give ``state`` the weights of the encoder and of the loss of a run folder; the optimiser stays fresh.

    Raises:
        CheckpointError: they are missing, damaged, or of another model.
    """
    for name, module in ((checkpoint.ENCODER, state.encoder), (checkpoint.LOSS, state.loss)):
        path = Path(run) / name
        weights, about = checkpoint.read_weights(path)
        checkpoint.load_weights(module, weights, path, about.get("version"))


def load_run(folder: str | Path, device: torch.device | str = "cpu") -> tuple[FrameEncoder, TrainConfig, Dataset]:
    """The trained encoder of a run folder (in evaluation mode), its settings, and its data set.

    Raises:
        CheckpointError: the weights are missing, damaged or of another encoder.
        ConfigError, OSError: ``config.yaml`` is not there or not valid.
        ValueError, ImportError: the data set cannot be loaded (see :func:`lac.data.load`).
    """
    folder = Path(folder)
    config = TrainConfig.of_run(folder)
    encoder = checkpoint.read_encoder(folder, device)
    dataset = config.data.load(device)
    return encoder, config, dataset


@dataclass(frozen=True)
class Result:
    """What a run gives: the trained encoder, the contents of ``metrics.json``, the pictures.

    Attributes:
        folder: the run folder.
        encoder: in evaluation mode.
        rows: evaluation of the trained encoder and of the controls by name; empty if ``not_evaluated``.
        not_evaluated: why there is none (clips without labels, for instance), else ``None``.
        metrics: what ``metrics.json`` holds.
        pictures: paths of the PNG files, the alignment first.
    """

    folder: Path
    encoder: FrameEncoder
    rows: dict[str, EvalResult]
    not_evaluated: str | None
    metrics: dict[str, Any]
    pictures: list[Path]


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

    Args:
        config: all settings.
        folder: the run folder; made if missing. No other process can train in it at the same time.
        resume: go on with the run in ``folder`` from its last checkpoint.
        init: a run folder whose weights to begin with, see :func:`begin_with` and ``TrainConfig.read``.
        progress: called at every logging step.

    Raises:
        ConfigError: a setting that cannot be, such as a device that is not there.
        FileExistsError: ``folder`` holds something, and ``resume`` is false. What a run left that ended before it
            had saved a step does not count, and is removed.
        BlockingIOError: another process trains in ``folder``.
        CheckpointError, Diverged, OSError: see :func:`restore`, :func:`fit` and :func:`save`.
        ValueError, ImportError: the data set cannot be loaded (see :func:`lac.data.load`).
    """
    folder = Path(folder)
    with ExitStack() as stack:
        if resume:
            if not checkpoint.is_saved(folder):
                raise CheckpointError(
                    f"{folder} holds no checkpoint: its run ended before the first; start it again, without --resume"
                )
            stack.enter_context(locked(folder))
        else:
            _check_vacant(folder)
        device = pick_device(config.train.device)
        dataset = config.data.load(device)
        state = start(config, dataset, device)
        if init is not None:
            begin_with(state, init)
        rehearse(state, dataset.train, config)
        _check_space(state, folder)
        if resume:
            restore(state, folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
            _check_vacant(folder)  # for another process may have been faster
            for path in _remains(folder):
                path.unlink()
            with atomic_path(folder / CONFIG) as temporary:
                temporary.write_text(config.to_yaml(), encoding="utf-8")
        save(state, folder)
        return _run(config, folder, dataset, state, progress)


def _check_vacant(folder: Path) -> None:
    """Whether a new run may have the folder: it is missing or empty, or holds what a run left at step 0.

    Raises:
        FileExistsError: it may not.
    """
    if not folder.exists() or (folder.is_dir() and set(folder.iterdir()) <= {folder / LOCK, *_remains(folder)}):
        return
    hint = f"go on with it by --resume {folder}, or " if checkpoint.is_saved(folder) else ""
    raise FileExistsError(f"{folder} is not an empty folder; {hint}choose another one")


def _remains(folder: Path) -> set[Path]:
    """The files of a run that was ended before its first step, or came to nothing before it saved another one.

    A ``config.yaml`` that is not to the letter what a run writes is the user's, a checkpoint of a later step has
    something to lose, and weights without a checkpoint may have been kept on purpose: of these none is among them.
    """
    config, states = folder / CONFIG, [folder / checkpoint.STATE, folder / checkpoint.PREVIOUS]
    temporary = {left for path in (config, *states) for left in left_behind(path)}
    if not config.exists():
        return temporary
    try:
        own = TrainConfig.read(config).to_yaml() == config.read_text(encoding="utf-8")
        steps = [checkpoint.read_state(path)["step"] for path in states if path.exists()]
    except (ConfigError, CheckpointError):
        return set()
    if not own or any(steps):
        return set()
    weights = [folder / checkpoint.ENCODER, folder / checkpoint.LOSS] if steps else []
    temporary |= {left for path in weights for left in left_behind(path)}
    whole = {path for path in (config, *states, *weights) if path.exists()}
    return whole | temporary | set(folder.glob("events.out.tfevents.*"))


def _check_space(state: State, folder: Path) -> None:
    """Whether the disk has room for the checkpoints.

    Raises:
        OSError: it has not.
    """
    tensors = [*state.encoder.state_dict().values(), *state.loss.state_dict().values()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    # Weights with two moments of AdamW: the newest, the one before, the next; the weights alone, old and new; pictures.
    needed = 3 * 3 * weights + 2 * weights + 2_000_000
    there = [folder / name for name in (checkpoint.STATE, checkpoint.PREVIOUS, checkpoint.ENCODER, checkpoint.LOSS)]
    needed -= sum(path.stat().st_size for path in there if path.exists())
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        sizes = f"a run needs about {needed / 1e6:.1f} MB there, and {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, f"No space left on device: {sizes}", str(folder))


def _run(
    config: TrainConfig,
    folder: Path,
    dataset: Dataset,
    state: State,
    progress: Callable[[Progress], None] | None,
) -> Result:
    """Train, evaluate and draw, in a folder that holds the settings and a checkpoint."""
    device = next(state.encoder.parameters()).device
    with events(folder, state.step) as log:

        def report(numbers: Progress) -> None:
            log({f"train/{name}": value for name, value in flat(numbers).items()}, numbers.step)
            if progress is not None:
                progress(numbers)

        times = [time.perf_counter()]
        first_step = state.step
        fit(state, dataset.train, config, save=lambda now: save(now, folder), progress=report)
        times.append(time.perf_counter())
        rows, not_evaluated = _evaluate(state.encoder, dataset, config, device)
        times.append(time.perf_counter())
        if rows:
            log(tags(rows["trained encoder"], config.data.name), state.step)

    picture = draw_pair(state.encoder, state.loss, *_pair(dataset.val), title=dataset.name)
    pictures = [
        save_figure(picture, folder / "plots" / "alignment.png"),
        save_figure(plot_curves(state.history), folder / "plots" / "curves.png"),
    ]
    metrics = {
        "data": dataset.name,
        "clips": {"train": len(dataset.train), "val": len(dataset.val)},
        "left_out": dict(dataset.left_out),
        "unlabelled": dict(dataset.unlabelled),
        "doubts": doubts(dataset),
        "steps": state.step,
        "results": {name: row.to_dict() for name, row in rows.items()},
        "not_evaluated": not_evaluated,
        "environment": describe(device),
        "seconds": {"training": times[1] - times[0], "evaluation": times[2] - times[1]},
        "seconds_cover_steps": state.step - first_step,
    }
    write_json(folder / "metrics.json", metrics)
    return Result(folder, state.encoder.eval(), rows, not_evaluated, metrics, pictures)


def _evaluate(
    encoder: FrameEncoder, dataset: Dataset, config: TrainConfig, device: torch.device
) -> tuple[dict[str, EvalResult], str | None]:
    """The trained encoder first, then its controls; or why this data cannot be evaluated."""
    stride = config.train.stride
    try:
        trained = evaluate_dataset(dataset, lambda clips: embed_clips(encoder, clips, device), stride=stride)
    except ValueError as error:
        return {}, str(error)
    others = controls(dataset, encoder.config, seed=config.train.seed, device=device, stride=stride)
    return {"trained encoder": trained, **others}, None


def _pair(clips: Sequence[Clip]) -> tuple[Clip, Clip]:
    """The first clip and the last one of its action: in most data sets two people."""
    return clips[0], [clip for clip in clips if clip.action == clips[0].action][-1]
