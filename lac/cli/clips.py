"""Clips as the commands name them: a file, or a clip of the data set on which a run was trained."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lac.errors import DataError, UsageError
from lac.pictures import Source

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lac.data import Clip, Dataset
    from lac.runs.config import DataSection


def read_clips(
    names: Sequence[str], data: DataSection, device: str | torch.device, dataset: Dataset | None = None
) -> list[Source]:
    """The clips of these names: files are read as the run's folder of data would be, other names are looked up.

    Args:
        names: for each clip a file, a folder of images, or a name of a clip of the data set.
        data: of the run.
        device: where the features of videos are computed.
        dataset: what `data` describes; loaded here when it is needed and not given.

    Raises:
        UsageError: a name that is neither a file nor a clip; the nearest one is told.
        DataError, OSError: the data cannot be read.
    """
    if dataset is None and not all(Path(name).exists() for name in names):
        dataset = data.load(device)
    return [
        _read_file(name, data, device) if dataset is None or Path(name).exists() else _look_up(name, dataset)
        for name in names
    ]


def _read_file(name: str, data: DataSection, device: str | torch.device) -> Source:
    from lac.data.folder import read_clip

    known = inspect.signature(read_clip).parameters
    options = {option: value for option, value in data.options.items() if option in known}
    path = Path(name)
    return Source(read_clip(path, device=device, **options), None if path.suffix == ".npy" else path)


def _look_up(name: str, dataset: Dataset) -> Source:
    known = {clip.name: clip for clip in dataset.train + dataset.val}
    if name in known:
        return Source.of(known[name], dataset)
    if name in dataset.left_out:
        raise DataError(f"clip {name!r} is left out: {dataset.left_out[name]}")
    close = difflib.get_close_matches(name, known, n=1) or list(known)[:1]
    raise UsageError(
        f"{name!r} is neither a file nor one of the {len(known)} clips of {dataset.name}; a name there is {close[0]!r}"
    )


def check_frames(name: str, clip: Clip, encoder: dict[str, Any]) -> None:
    """Whether an encoder with this `config` takes the frames of a clip.

    Raises:
        DataError: it does not; the message names the clip as it was given.
    """
    shape, features = clip.frames.shape[1:], clip.frames[0].size
    if encoder["backbone"] is not None and len(shape) != 3:
        raise DataError(f"{name}: the run was trained on images (3, H, W), a frame here has shape {shape}")
    if encoder["backbone"] is None and features != encoder["input_dim"]:
        raise DataError(
            f"{name}: the encoder of the run takes {encoder['input_dim']} features a frame, a frame here has "
            f"{features} (shape {shape})"
        )


def check_embeddings(clips: Sequence[Clip], embeddings: Sequence[np.ndarray]) -> None:
    """Whether the embeddings of clips are finite.

    Raises:
        DataError: one is not; the message names the clip.
    """
    for clip, embedding in zip(clips, embeddings, strict=True):
        if not (abs(embedding) < float("inf")).all():
            raise DataError(
                f"the embedding of {clip.name} is not finite; the encoder has diverged, or the frames are too large"
            )
