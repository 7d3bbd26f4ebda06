"""A data set and a configuration small enough that a whole run takes a second."""

import json
from pathlib import Path

import numpy as np
import torch

from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.runs import checkpoint
from lac.runs.config import CONFIG, TrainConfig

SETTINGS = {
    "augment.frames": 8,
    "model.width": 8,
    "model.embed_dim": 4,
    "model.heads": 2,
    "model.layers": 1,
    "loss.n_negatives": 2,
    "train.batch": 3,
    "train.steps": 12,
    "train.warmup": 3,
    "train.lr": 1e-2,
    "train.log_every": 2,
    "train.save_every": 5,
    "train.device": "cpu",
}


def flags(**changes: object) -> list[str]:
    """SETTINGS as ``--set`` flags of lac-train; ``train_steps=30`` changes ``train.steps``."""
    settings = SETTINGS | {name.replace("_", ".", 1): value for name, value in changes.items()}
    return [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def write_clips(root: Path, labels: bool = True) -> Path:
    """Eight clips of 20 to 27 frames that go through three phases at different tempos."""
    rng = np.random.default_rng(0)
    for k in range(8):
        phase = np.linspace(0, 2.999, 20 + k) ** (0.8 + 0.05 * k) % 3
        frames = np.stack([np.sin(2 * phase), np.cos(2 * phase), phase], axis=1)
        files = {"features": frames + rng.normal(0, 0.05, frames.shape)}
        if labels:
            files["labels"] = phase.astype(np.int64)
        for kind, array in files.items():
            (root / kind).mkdir(parents=True, exist_ok=True)
            np.save(root / kind / f"clip{k}.npy", array)
    return root


def write_run(folder, root, input_dim, **settings):
    """A run folder whose encoder was never trained."""
    config = TrainConfig.read(None, SETTINGS | {"data.name": "folder", "data.root": str(root)} | settings)
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(config.to_yaml())
    torch.manual_seed(3)
    checkpoint.write_encoder(folder, FrameEncoder(input_dim, **config.model))
    checkpoint.write_weights(folder / checkpoint.LOSS, LACLoss(**config.loss))
    return folder
