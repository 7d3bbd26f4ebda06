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
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import lac
import lac.data
from lac import checkpoint
from lac.checkpoint import CheckpointError
from lac.config import CONFIG, ConfigError, TrainConfig, TrainSection
from lac.data import Clip, Dataset
from lac.data.augment import Batch, collate, two_views, view, view_batches
from lac.data.doubts import doubts
from lac.encoder import FrameEncoder
from lac.environment import describe
from lac.evaluate import EvalResult, controls, embed_clips, evaluate_dataset
from lac.files import LOCK, atomic_path, left_behind, locked, write_json
from lac.loss import LACLoss
from lac.plots import plot_alignment, plot_curves, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# The loss has a few scalars to learn. At the encoder's rate they would hardly leave their start in a short run.
LOSS_RATE = 10.0


class Diverged(ValueError):
    """The loss or its gradient is no longer finite."""


class Progress(NamedTuple):
    """What is known at a logging step; ``terms`` and ``gradient`` are means since the last one."""

    step: int
    steps: int
    terms: dict[str, float]
    gradient: float
    lr: float
    learned: dict[str, float]


@dataclass
class State:
    """Everything that changes in training."""

    encoder: FrameEncoder
    loss: Any  # LACLoss, or a module that has its methods `terms` and `learned`
    optimiser: torch.optim.Optimizer
    step: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)


def pick_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: torch does not know the name, or cannot use the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}; use 'auto' or 'cpu'") from error
    return device


def learning_rate(step: int, options: TrainSection) -> float:
    """Linear from 0 up to ``lr`` over ``warmup`` steps, then half a cosine down to 0."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * 0.5 * (1 + math.cos(math.pi * done))


def start(
    config: TrainConfig, dataset: Dataset, device: torch.device, make_loss: Callable[[], nn.Module] | None = None
) -> State:
    """A fresh encoder, loss and optimiser, the same for the same seed.

    Args:
        config: all settings.
        dataset: tells the shape of a frame.
        device: where to train.
        make_loss: makes another loss to compare with ``LACLoss(**config.loss)``: a module with the methods ``terms``
            (the first of which, ``total``, is minimised) and ``learned``. Its parameters learn at the encoder's rate.

    Raises:
        ConfigError: the encoder or the loss refuses a setting.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        name, shape = config.model["backbone"], dataset.feature_shape
        if name is not None and len(shape) != 3:
            raise ConfigError(
                f"model.backbone {name!r} takes images (3, H, W), but a frame of {dataset.name} has shape {shape}; for "
                "videos set data.options.backbone=null, else leave model.backbone out"
            )
        # Nothing but the settings can be wrong here, in whatever words torch says so.
        with _naming("model", ValueError, TypeError, RuntimeError, ArithmeticError):
            encoder = FrameEncoder(math.prod(shape) if name is None else None, **config.model)
        with _naming("loss", ValueError, TypeError, RuntimeError, ArithmeticError):
            loss = (make_loss or (lambda: LACLoss(**config.loss)))()
        checkpoint.check_backend(config, device)
        encoder, loss = encoder.to(device), loss.to(device)
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.train.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    learned = [p for p in loss.parameters() if p.requires_grad]
    if learned:
        groups.append({"params": learned, "weight_decay": 0.0, "rate": 1.0 if make_loss else LOSS_RATE})
    return State(encoder, loss, torch.optim.AdamW(groups, lr=config.train.lr))


@contextmanager
def _naming(section: str, *kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds are the fault of a section of the settings."""
    try:
        yield
    except kinds as error:
        raise ConfigError(f"section {section}: {error}") from error


def draw(clips: Sequence[Clip], config: TrainConfig, step: int) -> tuple[Batch, Batch]:
    """The pairs of a step, on the CPU; they depend on the seed and the step only.

    Clips are drawn without repetition as far as there are enough. With ``train.views = "action"`` the second
    view is of another clip of the same action (of the same clip where the action has no other).
    """
    seed, size = config.train.seed, config.train.batch
    rng = np.random.default_rng([seed, step])
    rounds = [rng.permutation(len(clips)) for _ in range(-(-size // len(clips)))]
    chosen = np.concatenate(rounds)[:size].tolist()
    options = config.augment | ({"distractors": clips} if config.augment["longest"] else {})
    if config.train.views == "same":
        return view_batches(clips, chosen, seed=seed, step=step, **options)
    alone = {name: value for name, value in options.items() if name != "offset"}
    pairs = [
        (
            view(clips[k], np.random.default_rng([seed, step, place]), **alone),
            two_views(clips[_partner(clips, k, rng)], np.random.default_rng([seed, step, place]), **options)[1],
        )
        for place, k in enumerate(chosen)
    ]
    return collate([first for first, _ in pairs]), collate([second for _, second in pairs])


def _partner(clips: Sequence[Clip], k: int, rng: np.random.Generator) -> int:
    others = [j for j, clip in enumerate(clips) if clip.action == clips[k].action and j != k]
    return others[int(rng.integers(len(others)))] if others else k


def fit(
    state: State,
    clips: Sequence[Clip],
    config: TrainConfig,
    *,
    save: Callable[[State], None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> None:
    """Train ``state`` in place, from its step up to ``config.train.steps``.

    Numbers stay on the device between two logging steps. ``save`` is called every ``save_every`` steps and at
    the end, and only after all steps before it are known to be finite.

    Raises:
        Diverged: a loss or gradient was not finite; the message names the step. Nothing was saved since.
    """
    options = config.train
    state.encoder.train()
    state.loss.train()
    device = next(state.encoder.parameters()).device
    parameters = [p for group in state.optimiser.param_groups for p in group["params"]]
    unread: list[Tensor] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step in range(state.step, options.steps):
            torch.manual_seed(_stream(options.seed, step))
            lr = learning_rate(step, options)
            for group in state.optimiser.param_groups:
                group["lr"] = lr * group.get("rate", 1.0)

            first, second = (batch.to(device) for batch in draw(clips, config, step))
            terms = _terms(state, first, second, amp=options.amp)
            state.optimiser.zero_grad(set_to_none=True)
            terms.total.mean().backward()
            gradient = nn.utils.clip_grad_norm_(parameters, options.clip)
            state.optimiser.step()

            unread.append(torch.stack([*(term.mean() for term in terms), gradient]).detach())
            state.step = step + 1
            saving = state.step % options.save_every == 0 or state.step == options.steps
            if saving or state.step % options.log_every == 0:
                report = _read(unread, terms._fields, state, options.steps, lr)
                unread.clear()
                if progress is not None:
                    progress(report)
            if saving and save is not None:
                save(state)


def _terms(state: State, first: Batch, second: Batch, *, amp: bool) -> Any:
    """The parts of the loss of two batches on the device of the encoder."""
    with torch.autocast(first.frames.device.type, torch.bfloat16, enabled=amp):
        z1 = state.encoder(first.frames, times=first.times, lengths=first.lengths)
        z2 = state.encoder(second.frames, times=second.times, lengths=second.lengths)
    return state.loss.terms(
        z1.float(), z2.float(),
        times1=first.times, times2=second.times, lengths1=first.lengths, lengths2=second.lengths,
    )  # fmt: skip


def rehearse(state: State, clips: Sequence[Clip], config: TrainConfig) -> None:
    """Draw a batch and compute the loss of a corner of it, so that a wrong setting is found before anything is written.

    Raises:
        ConfigError: the views or the loss refuse a setting.
    """
    with _naming("augment", ValueError, ArithmeticError):
        batches = draw(clips, config, step=0)
    device = next(state.encoder.parameters()).device
    first, second = (
        Batch(b.frames[:2, :8], b.times[:2, :8], b.lengths[:2].clamp(max=8), None, b.source[:2, :8]).to(device)
        for b in batches
    )
    with (
        _naming("loss", ValueError),
        torch.no_grad(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        total = _terms(state, first, second, amp=config.train.amp).total
        if not total.isfinite().all():
            raise ValueError(
                f"it is {total.mean().item()} for the first clips: a setting of it or of the views is too large"
            )


def _stream(seed: int, step: int) -> int:
    """One seed for torch out of two numbers."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _read(unread: list[Tensor], names: Sequence[str], state: State, steps: int, lr: float) -> Progress:
    """Bring the numbers of the last steps to the host, check them, and add their means to the history."""
    rows = torch.stack(unread).cpu().double()
    for k, (total, *_, gradient) in enumerate(rows.tolist()):
        if not (math.isfinite(total) and math.isfinite(gradient)):
            raise Diverged(
                f"training broke down at step {state.step - len(rows) + k + 1}: loss {total:g}, "
                f"gradient norm {gradient:g}. Lower train.lr or train.clip, or look for NaN in the frames"
            )
    *terms, gradient = rows.mean(dim=0).tolist()
    learned = {name: float(value) for name, value in state.loss.learned().items()}
    report = Progress(state.step, steps, dict(zip(names, terms, strict=True)), gradient, lr, learned)
    numbers = {"step": float(state.step), **report.terms, "gradient_norm": gradient, "lr": lr, **learned}
    for name, value in numbers.items():
        state.history.setdefault(name, []).append(value)
    return report


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
    dataset = lac.data.load(config.data.name, config.data.root, device=device, **config.data.options)
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
        dataset = lac.data.load(config.data.name, config.data.root, device=device, **config.data.options)
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
    with _events(folder, state.step) as log:

        def report(numbers: Progress) -> None:
            log({f"train/{name}": value for name, value in _flat(numbers).items()}, numbers.step)
            if progress is not None:
                progress(numbers)

        times = [time.perf_counter()]
        first_step = state.step
        fit(state, dataset.train, config, save=lambda now: save(now, folder), progress=report)
        times.append(time.perf_counter())
        rows, not_evaluated = _evaluate(state.encoder, dataset, config, device)
        times.append(time.perf_counter())
        if rows:
            log(_tags(rows["trained encoder"], config.data.name), state.step)

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


class Aligned(NamedTuple):
    """Two clips aligned: scores and posterior (N, M), matched frames path (K, 2), best_score () of the best path, and
    soft_score (), the smooth maximum over all paths, which the loss is made of. Where best_score is not above 0, the
    clips have nothing in common, and path is empty."""

    scores: Tensor
    posterior: Tensor
    path: Tensor
    best_score: Tensor
    soft_score: Tensor


def align_clips(encoder: FrameEncoder, loss: LACLoss, first: Clip, second: Clip) -> Aligned:
    """Align two clips of N and M frames by their embeddings and by the similarity and gaps that were learned."""
    device = next(encoder.parameters()).device
    z1, z2 = (torch.from_numpy(z).to(device)[None] for z in embed_clips(encoder, [first, second], device))
    times1, times2 = (torch.from_numpy(clip.times - clip.times[0]).to(z1)[None] for clip in (first, second))
    with torch.no_grad():
        scores = loss.scores(z1, z2)
        given: dict[str, Any] = {"z1": z1, "z2": z2, "times1": times1, "times2": times2}
        soft = loss.aligner(scores, **given)
        posterior = loss.aligner.soft_alignment(scores, **given)
        hard = loss.aligner.hard_alignment(scores, **given)
    # The best alignment has one match at least, however bad. One that costs more than it gives is no match.
    path = hard.paths[0] if hard.score[0] > 0 else hard.paths[0][:0]
    return Aligned(scores[0], posterior[0], path, hard.score[0], soft[0])


def draw_pair(encoder: FrameEncoder, loss: LACLoss, first: Clip, second: Clip, title: str = "") -> Figure:
    """Align two clips and draw it, see :func:`draw_aligned`."""
    return draw_aligned(align_clips(encoder, loss, first, second), first, second, title)


def draw_aligned(aligned: Aligned, first: Clip, second: Clip, title: str = "") -> Figure:
    """The picture of :func:`align_clips`: scores, soft alignment, best path, and the phases where both have them."""
    labelled = first.labels is not None and second.labels is not None
    return plot_alignment(
        aligned.posterior,
        aligned.path,
        first.times,
        second.times,
        aligned.scores,
        labels=(first.labels, second.labels) if labelled else None,
        names=(first.name, second.name),
        title=title,
    )


def _pair(clips: Sequence[Clip]) -> tuple[Clip, Clip]:
    """The first clip and the last one of its action: in most data sets two people."""
    return clips[0], [clip for clip in clips if clip.action == clips[0].action][-1]


def _flat(numbers: Progress) -> dict[str, float]:
    terms = {"loss" if name == "total" else name: value for name, value in numbers.terms.items()}
    return terms | {"gradient_norm": numbers.gradient, "lr": numbers.lr} | numbers.learned


def _tags(result: EvalResult, data: str) -> dict[str, float]:
    """The tags under which TCC and CARL log their evaluation."""
    tags = {
        "kendalls_tau/val_align_tau": result.kendalls_tau,
        f"metrics/{data}_kendalls_tau": result.kendalls_tau,
    }
    for fraction, value in result.classification.items():
        tags[f"classification/val_{data}_{fraction:g}_accuracy"] = value
    for fraction, value in result.event_completion.items():
        tags[f"event_completion/val_{data}_{fraction:g}_score"] = value
    for k, value in result.retrieval.items():
        tags[f"AP/val set {k}_align_precision"] = value
    tags[f"metrics/{data}_classification"] = result.classification[max(result.classification)]
    tags[f"metrics/{data}_event_completion"] = result.event_completion[max(result.event_completion)]
    tags[f"metrics/{data}_retrieval"] = result.retrieval[min(result.retrieval)]
    return tags


@contextmanager
def _events(folder: Path, step: int) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """A function that logs numbers by tag at a step, for TensorBoard.

    TensorBoard writes in a thread and raises what went wrong there at the next call. The thread's own
    traceback on the terminal would only say the same again, so it is left out.
    """
    from torch.utils.tensorboard import SummaryWriter

    before = threading.excepthook
    threading.excepthook = lambda arguments: None
    writer = SummaryWriter(folder, purge_step=step or None)

    def log(values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            writer.add_scalar(tag, value, step)

    try:
        yield log
    finally:
        writer.close()
        threading.excepthook = before
