"""Embeddings of whole clips by a trained encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from lac.data.augment import collate, whole
from lac.data.base import Clip


def embed_clips(
    model: nn.Module, clips: Sequence[Clip], device: torch.device | str = "cpu", batch_size: int = 16
) -> list[np.ndarray]:
    """Embed clips by `model(frames, times=..., lengths=...)`, in evaluation mode and without gradients.

    Args:
        model: such as `lac.FrameEncoder`; put back into its mode afterwards.
        clips: of one frame shape.
        device: where the model is.
        batch_size: clips in a batch, >= 1.

    Returns:
        For each clip (T, E) float32.

    Raises:
        ValueError: `batch_size` is no whole number >= 1, or the clips of a batch differ in the shape of a frame.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of clips, at least 1, got {batch_size!r}")
    training = model.training
    model.eval()
    embedded: list[np.ndarray] = []
    try:
        with torch.no_grad():
            for start in range(0, len(clips), batch_size):
                batch = collate([whole(clip) for clip in clips[start : start + batch_size]]).to(device)
                z = model(batch.frames, times=batch.times, lengths=batch.lengths).float().cpu().numpy()
                embedded += [z[row, :length] for row, length in enumerate(batch.lengths.tolist())]
    finally:
        model.train(training)
    return embedded
