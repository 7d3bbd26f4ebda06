"""The loop: a batch, a step of the optimiser, numbers now and then.

Where several processes train together, each takes its part of the batch, and DistributedDataParallel averages the
gradients. What is minimised is the mean over the joint batch, so a step is that of one process up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lac.data.augment import Batch
from lac.errors import Diverged
from lac.runs import processes
from lac.runs.config import TrainSection, blaming
from lac.runs.sampling import Sampler
from lac.runs.state import State


class Progress(NamedTuple):
    """What is known at a logging step; `terms` and `gradient` are means since the last one."""

    step: int
    steps: int
    terms: dict[str, float]
    gradient: float
    lr: float
    learned: dict[str, float]


def learning_rate(step: int, options: TrainSection) -> float:
    """Linear from 0 up to `lr` over `warmup` steps, then half a cosine down to 0."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.lr * 0.5 * (1 + math.cos(math.pi * done))


def fit(
    state: State,
    sampler: Sampler,
    options: TrainSection,
    *,
    on_save: Callable[[State], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Train `state` in place, from its step up to `options.steps`.

    Numbers stay on the device between two logging steps. `on_save` is called every `save_every` steps and at
    the end, and only after all steps before it are known to be finite.

    Processes that train together all call it, with the same state and each with its part of the batches.

    Raises:
        Diverged: a loss or gradient was not finite; the message names the step. Nothing was saved since.
    """
    state.encoder.train()
    state.loss.train()
    module = _joint(state)
    device = next(state.encoder.parameters()).device
    parameters = [p for group in state.optimiser.param_groups for p in group["params"]]
    unread: list[Tensor] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step in range(state.step, options.steps):
            own = [] if processes.first() else [processes.rank()]  # each process drops what it draws
            torch.manual_seed(_stream(options.seed, step, *own))
            lr = learning_rate(step, options)
            for group in state.optimiser.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)

            first, second = (batch.to(device) for batch in sampler(step))
            terms = _mean(_terms(module, state.teacher, first, second, amp=options.amp), first, second)
            state.optimiser.zero_grad(set_to_none=True)
            (processes.count() * terms.total).backward()  # for the gradient is the mean over the processes
            gradient = nn.utils.clip_grad_norm_(parameters, options.clip)
            state.optimiser.step()
            _follow(state, options.teacher)

            unread.append(torch.stack([*terms, gradient]).detach())
            state.step = step + 1
            saving = state.step % options.save_every == 0 or state.step == options.steps
            if saving or state.step % options.log_every == 0:
                report = _read(unread, terms._fields, state, options.steps, lr)
                unread.clear()
                if on_progress is not None:
                    on_progress(report)
            if saving and on_save is not None:
                on_save(state)


class _Whole(nn.Module):
    """Encoder and loss as one: what both learn is averaged over the processes."""

    def __init__(self, encoder: nn.Module, loss: Any) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss

    def forward(self, first: Batch, second: Batch, *, amp: bool, **shared: Tensor | None) -> Any:
        """The parts of the loss."""
        with torch.autocast(first.frames.device.type, torch.bfloat16, enabled=amp):
            z1 = self.encoder(first.frames, times=first.times, lengths=first.lengths)
            z2 = self.encoder(second.frames, times=second.times, lengths=second.lengths)
        return self.loss.terms(
            z1.float(), z2.float(),
            times1=first.times, times2=second.times, lengths1=first.lengths, lengths2=second.lengths, **shared,
        )  # fmt: skip


def _joint(state: State) -> nn.Module:
    """Encoder and loss of all processes together."""
    whole = _Whole(state.encoder, state.loss)
    if processes.count() == 1:
        return whole
    device = next(state.encoder.parameters()).device
    # Buckets of gradients that are arranged anew after the first step change the last bits of sums, so that a run that
    # was broken off would end elsewhere. They stay as they are where parameters without a gradient are looked for; a
    # warning comes if there are none.
    searching = device.type == "cpu" or not getattr(state.loss, "sequence_weight", 0)
    if searching:
        whole.without_gradient = nn.Parameter(torch.zeros((), device=device))
    return DistributedDataParallel(whole, find_unused_parameters=searching)


def _terms(module: nn.Module, teacher: nn.Module | None, first: Batch, second: Batch, *, amp: bool) -> Any:
    """The parts of the loss of two batches on the device of the encoder."""
    shared = {} if teacher is None else _of_the_group(teacher, first, amp=amp)
    return module(first, second, amp=amp, **shared)


def _of_the_group(teacher: nn.Module, batch: Batch, *, amp: bool) -> dict[str, Tensor | None]:
    """What the loss learns from other clips of the action by."""
    with torch.no_grad(), torch.autocast(batch.frames.device.type, torch.bfloat16, enabled=amp):
        z = teacher(batch.frames, times=batch.times, lengths=batch.lengths)
    return {"groups": batch.groups, "guide1": batch.guide, "teacher1": z.float()}


@torch.no_grad()
def _follow(state: State, kept: float) -> None:
    """The teacher: `kept` of itself, and the rest of the encoder."""
    if state.teacher is not None:
        torch._foreach_lerp_(list(state.teacher.parameters()), list(state.encoder.parameters()), 1 - kept)
        for mine, its in zip(state.teacher.buffers(), state.encoder.buffers(), strict=True):
            mine.copy_(its)


def _mean(terms: Any, first: Batch, second: Batch) -> Any:
    """The mean of each part over the pairs that have frames, as in the loss; of many processes, what this one adds."""
    pairs = processes.summed(((first.lengths > 0) & (second.lengths > 0)).sum()).clamp(min=1)
    return type(terms)(*(term.sum() / pairs for term in terms))


def rehearse(state: State, sampler: Sampler, *, amp: bool) -> None:
    """Draw a batch and compute the loss of a corner of it, so that a wrong setting is found before anything is written.

    Raises:
        ConfigError: the views or the loss refuse a setting.
    """
    with blaming("augment", ValueError, ArithmeticError):
        batches = sampler(step=0)
    device = next(state.encoder.parameters()).device
    first, second = (
        Batch(
            b.frames[:2, :8],
            b.times[:2, :8],
            b.lengths[:2].clamp(max=8),
            None,
            b.source[:2, :8],
            None if b.guide is None else b.guide[:2, :8],
            None if b.groups is None else b.groups[:2],
        ).to(device)
        for b in batches
    )
    with (
        blaming("loss", ValueError),
        torch.no_grad(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        total = _terms(_Whole(state.encoder, state.loss), state.teacher, first, second, amp=amp).total
        if not total.isfinite().all():
            raise ValueError(
                f"it is {total.mean().item()} for the first clips: a setting of it or of the views is too large"
            )


def _stream(*numbers: int) -> int:
    """One seed for torch out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _read(unread: list[Tensor], names: Sequence[str], state: State, steps: int, lr: float) -> Progress:
    """Bring the numbers of the last steps to the host, check them, and add their means to the history."""
    each = torch.stack(unread)
    parts = processes.summed(each[:, :-1].contiguous())  # the gradient is that of all processes already
    rows = torch.cat((parts, each[:, -1:]), dim=1).cpu().double()
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
