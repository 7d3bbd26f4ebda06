"""The loop: batches that depend on the seed and the step alone, a step of the optimiser, numbers now and then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lac.data import Clip, Dataset
from lac.data.augment import Batch, collate, two_views, view, view_batches
from lac.errors import ConfigError, Diverged
from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.runs import checkpoint
from lac.runs.config import TrainConfig, TrainSection

# The loss has a few scalars to learn. At the encoder's rate they would hardly leave their start in a short run.
LOSS_RATE = 10.0


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
            terms = _mean(_terms(state, first, second, amp=options.amp), first, second)
            state.optimiser.zero_grad(set_to_none=True)
            terms.total.backward()
            gradient = nn.utils.clip_grad_norm_(parameters, options.clip)
            state.optimiser.step()

            unread.append(torch.stack([*terms, gradient]).detach())
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


def _mean(terms: Any, first: Batch, second: Batch) -> Any:
    """The mean of each part over the pairs that have frames, as in the loss."""
    pairs = ((first.lengths > 0) & (second.lengths > 0)).sum().clamp(min=1)
    return type(terms)(*(term.sum() / pairs for term in terms))


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
