"""Everything that changes in training, and how it starts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lac.data import Dataset
from lac.errors import ConfigError
from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.runs import processes
from lac.runs.config import CONFIG, TrainConfig, TrainSection, blaming
from lac.runs.sampling import learning_groups
from lac_kernels import engines

# The loss has a few scalars to learn. At the encoder's rate they would hardly leave their start in a short run.
LOSS_RATE = 10.0


@dataclass
class State:
    """Everything that changes in training."""

    encoder: FrameEncoder
    loss: Any  # LACLoss, or a module that has its methods `terms` and `learned`
    optimiser: torch.optim.Optimizer
    teacher: FrameEncoder | None = None  # a slow copy of the encoder, where clips of an action learn from each other
    step: int = 0
    init: str | None = None  # the run whose weights it began with
    history: dict[str, list[float]] = field(default_factory=dict)


def start(
    config: TrainConfig, dataset: Dataset, device: torch.device, make_loss: Callable[[], nn.Module] | None = None
) -> State:
    """A fresh encoder, loss and optimiser, the same for the same seed.

    Args:
        config: all settings.
        dataset: tells the shape of a frame.
        device: where to train.
        make_loss: makes another loss to compare with `LACLoss(**config.loss)`: a module with the methods `terms`
            (the first of which, `total`, is minimised) and `learned`. Its parameters learn at the encoder's rate.

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
        with blaming("model", ValueError, TypeError, RuntimeError, ArithmeticError):
            encoder = FrameEncoder(math.prod(shape) if name is None else None, **config.model)
        with blaming("loss", ValueError, TypeError, RuntimeError, ArithmeticError):
            loss = (make_loss or (lambda: LACLoss(**config.loss, gather=processes.count() > 1)))()
        check_backend(config.loss["backend"], device)
        encoder, loss = encoder.to(device, torch.float32), loss.to(device, torch.float32)  # as clips' frames are
    teacher = None
    if isinstance(loss, LACLoss) and learning_groups(config, dataset.train) is not None:
        teacher = slow_copy(encoder)
    rate = LOSS_RATE if isinstance(loss, LACLoss) else 1.0
    return State(encoder, loss, _optimiser(encoder, loss, config.train, rate), teacher)


def slow_copy(encoder: FrameEncoder) -> FrameEncoder:
    """A copy that is not trained, in evaluation mode."""
    return copy.deepcopy(encoder).requires_grad_(False).eval()


def _optimiser(
    encoder: FrameEncoder, loss: nn.Module, options: TrainSection, loss_rate: float
) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, and `loss_rate` times the encoder's rate for the loss's parameters."""
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    learned = [p for p in loss.parameters() if p.requires_grad]
    if learned:
        groups.append({"params": learned, "weight_decay": 0.0, "lr_scale": loss_rate})
    return torch.optim.AdamW(groups, lr=options.lr)


def check_backend(backend: str, device: torch.device) -> None:
    """Whether the backend that the settings name can run on the device.

    Raises:
        ConfigError: it cannot; the message says why, and what can.
    """
    if backend in engines.BACKENDS:  # the loss itself refuses other names
        reason = engines.unavailable(backend, device)
        if reason is not None:
            raise ConfigError(
                f"loss.backend {backend!r} cannot run on {device}: {reason}. loss.backend=auto can; of a run that is "
                f"there already it stands in {CONFIG}"
            )
