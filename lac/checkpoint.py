"""The weights and the state of a run on disk: written whole or not at all, read with checks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from lac.backbone import without_file
from lac.config import TrainConfig
from lac.encoder import FrameEncoder
from lac.files import atomic_path
from lac.loss import LACLoss

ENCODER = "model.safetensors"
LOSS = "loss.safetensors"
STATE = "trainer.pt"


class CheckpointError(ValueError):
    """A file of a run folder that cannot be used: missing, cut short, or of another model."""


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors, numbers and strings.

    Raises:
        OSError: see :func:`lac.files.atomic_path`; the file that was there before is untouched.
    """
    buffer = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError without the path
    torch.save(state, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_state(path: Path) -> dict[str, Any]:
    """What :func:`write_state` wrote, on the CPU. Runs no code that the file may hold (``weights_only``).

    Raises:
        CheckpointError: the file is damaged.
        OSError: it cannot be opened.
    """
    content = io.BytesIO(path.read_bytes())
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load documents no set of errors for a damaged file
        raise CheckpointError(_damaged(path)) from error
    if not isinstance(state, dict):
        raise CheckpointError(_damaged(path))
    return state


def write_weights(path: Path, module: nn.Module, metadata: dict[str, str] | None = None) -> None:
    """Write a module's parameters and buffers as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    content = safetensors.torch.save(tensors, metadata)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_encoder(folder: Path, encoder: FrameEncoder) -> None:
    """Write ``model.safetensors``: the weights, and the encoder's arguments in the metadata."""
    write_weights(folder / ENCODER, encoder, {"FrameEncoder": json.dumps(encoder.config)})


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a safetensors file by name, on the CPU, and its metadata.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; give the folder of a run that has saved at least once")
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise CheckpointError(_damaged(path)) from error


def read_encoder(folder: Path, device: torch.device | str = "cpu") -> FrameEncoder:
    """The encoder of a run folder, in evaluation mode.

    Raises:
        CheckpointError: there is no such file, or it is damaged, or its weights do not fit its arguments.
    """
    path = folder / ENCODER
    weights, metadata = read_weights(path)
    try:
        config = json.loads(metadata["FrameEncoder"])
        # The checkpoint has the weights: the file that the backbone started from is not needed.
        encoder = FrameEncoder(**config | {"backbone": without_file(config["backbone"])})
        encoder.config["backbone"] = config["backbone"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(_damaged(path)) from error
    load_weights(encoder, weights, path)
    return encoder.to(device).eval()


def read_loss(folder: Path, config: TrainConfig, device: torch.device | str = "cpu") -> LACLoss:
    """The loss of a run folder with what it has learned; ``config`` is that of the run.

    Raises:
        CheckpointError: as :func:`read_encoder`.
    """
    loss = LACLoss(**config.loss)
    load_weights(loss, read_weights(folder / LOSS)[0], folder / LOSS)
    return loss.to(device).eval()


def load_weights(module: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """``module.load_state_dict`` with an error that names the file and the first thing that does not fit.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {first[0].strip()}") from error


def _damaged(path: Path) -> str:
    return f"{path} is damaged, or no checkpoint of lac; train again in a new folder, or bring the file back"
