"""The controls that belong beside every result: what one gets without learning anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lac.data.base import Clip, Dataset
from lac.embed import embed_clips
from lac.model.encoder import FrameEncoder
from lac.runs.evaluate import Embed, EvalResult, evaluate_dataset


def controls(
    dataset: Dataset,
    config: Mapping[str, Any],
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    **options: Any,
) -> dict[str, EvalResult]:
    """The rows that belong beside every result: what one gets without learning anything.

    Args:
        dataset: the clips that the encoder is judged on.
        config: the encoder's `config`; the third control is `FrameEncoder(**config)` at random
            initialisation.
        seed: of that initialisation. The global random state is left as it was.
        device: where the encoder runs.
        options: of `evaluate`; the same as for the encoder.

    Returns:
        "time index": the embedding is (frame number) / (length of the whole clip), one number a frame;
        "raw features": the frames themselves, flattened; "random encoder".
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = FrameEncoder(**config).to(device, torch.float32)
    rows: dict[str, Embed] = {
        "time index": time_index,
        "raw features": raw_features,
        "random encoder": lambda clips: embed_clips(encoder, clips, device),
    }
    return {name: evaluate_dataset(dataset, embed, **options) for name, embed in rows.items()}


def time_index(clips: Sequence[Clip]) -> list[np.ndarray]:
    """The control that has seen nothing: frame number / length of the whole clip, (T, 1)."""
    return [np.arange(len(clip))[:, None] / len(clip) for clip in clips]


def raw_features(clips: Sequence[Clip]) -> list[np.ndarray]:
    """The frames as they are, flattened to (T, D)."""
    return [clip.frames.reshape(len(clip), -1) for clip in clips]
