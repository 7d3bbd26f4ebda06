"""Clips as the commands name them: a file, or a clip of the data set on which a run was trained."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from lac.data import Clip, Dataset
    from lac.runs.config import DataSection


def read_clips(
    given: Sequence[str], data: DataSection, device: str | torch.device, dataset: Dataset | None = None
) -> list[Clip]:
    """The clips of the given names: files are read as the run's folder of data would be, names are looked up.

    Args:
        given: for each clip a file, a folder of images, or a name of a clip of the data set.
        data: of the run.
        device: where the features of videos are computed.
        dataset: what ``data`` describes; loaded here when it is needed and not given.

    Raises:
        UsageError: a name that is neither a file nor a clip; the nearest one is told.
        ValueError, OSError: the data cannot be read.
    """
    from lac.data.folder import read_clip

    if dataset is None and not all(Path(name).exists() for name in given):
        dataset = data.load(device)
    known = {} if dataset is None else {clip.name: clip for clip in dataset.train + dataset.val}
    options = {name: value for name, value in data.options.items() if name in ("rate", "fps", "size", "backbone")}
    clips = []
    for name in given:
        if Path(name).exists():
            clips.append(read_clip(name, device=device, **options))
        elif name in known:
            clips.append(known[name])
        elif dataset is not None and name in dataset.left_out:
            raise DataError(f"clip {name!r} is left out: {dataset.left_out[name]}")
        else:
            close = difflib.get_close_matches(name, known, n=1) or list(known)[:1]
            where = "" if dataset is None else dataset.name
            raise UsageError(
                f"{name!r} is neither a file nor one of the {len(known)} clips of {where}; a name there is {close[0]!r}"
            )
    return clips


def find_video(name: str, data: DataSection) -> Path | None:
    """The video of a clip as it is given, if it has one: the file itself, or that of the run's clip of this name."""
    path = Path(name)
    if path.exists():
        return None if path.suffix == ".npy" else path
    return video_of(name, data)


def video_of(clip: str, data: DataSection) -> Path | None:
    """The video of a clip of the run's data set, if it has one, whatever is called like it elsewhere."""
    from lac.data.folder import videos

    return videos(data.root).get(clip) if data.name == "folder" and data.root else None


def check_frames(name: str, clip: Clip, encoder: dict[str, Any]) -> None:
    """Whether an encoder with this ``config`` takes the frames of a clip.

    Raises:
        ValueError: it does not; the message names the clip as it was given.
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
        ValueError: one is not; the message names the clip.
    """
    for clip, embedding in zip(clips, embeddings, strict=True):
        if not (abs(embedding) < float("inf")).all():
            raise DataError(
                f"the embedding of {clip.name} is not finite; the encoder has diverged, or the frames are too large"
            )
