"""Embeddings of whole clips by a trained encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from lac.data.augment import collate, whole
from lac.data.base import Clip

WINDOW = 4096  # frames that attend to each other: attention takes the square of them in time


def embed_clips(
    model: nn.Module, clips: Sequence[Clip], device: torch.device | str = "cpu", batch_size: int = 16
) -> list[np.ndarray]:
    """Embed clips by `model(frames, times=..., lengths=...)`, in evaluation mode and without gradients.

    A clip of more than `WINDOW` frames is embedded as `embed_long` does.

    Args:
        model: such as `lac.FrameEncoder`; put back into its mode afterwards.
        clips: whose frames the model takes.
        device: where the model is.
        batch_size: clips in a batch, >= 1.

    Returns:
        For each clip (T, E) float32.

    Raises:
        ValueError: `batch_size` is no whole number >= 1.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of clips, at least 1, got {batch_size!r}")
    embedded: list[np.ndarray] = []
    with _evaluating(model):
        for start in range(0, len(clips), batch_size):
            batch = clips[start : start + batch_size]
            if max(map(len, batch)) > WINDOW or len({clip.frames.shape[1:] for clip in batch}) > 1:
                embedded += [embed_long(model, clip, device, window=WINDOW) for clip in batch]
            else:
                embedded += _embed(model, batch, device)
    return embedded


def embed_long(model: nn.Module, clip: Clip, device: torch.device | str = "cpu", *, window: int = WINDOW) -> np.ndarray:
    """Embed a clip of any length, hours of it, in time that grows with its length alone and in bounded memory.

    A clip of at most `window` frames is embedded whole. A longer one is embedded in windows of that many frames, each
    beginning half a window after the one before it, the last one at the end of the clip; the embedding of a frame is
    that of the window in whose middle it lies: so a frame sees a quarter of a window before it and after it at least,
    or all there is.

    Args:
        model: as in `embed_clips`.
        clip: of any length.
        device: where the model is.
        window: frames that are embedded at a time, >= 4.

    Returns:
        (T, E) float32.

    Raises:
        ValueError: `window` is no whole number >= 4.
    """
    if not isinstance(window, int) or window < 4:
        raise ValueError(f"window must be a whole number of frames, at least 4, got {window!r}")
    with _evaluating(model):
        if len(clip) <= window:
            return _embed(model, [clip], device)[0]
        last = len(clip) - window
        starts = [*range(0, last, window // 2), last]
        borders = [0, *((a + b + window) // 2 for a, b in pairwise(starts)), len(clip)]
        middles = list(zip(starts, pairwise(borders), strict=True))
        embedded, at_a_time = [], max(1, WINDOW // window)
        for group in (middles[k : k + at_a_time] for k in range(0, len(middles), at_a_time)):
            pieces = [_piece(clip, start, window) for start, _ in group]
            for z, (start, (first, end)) in zip(_embed(model, pieces, device), group, strict=True):
                embedded.append(z[first - start : end - start].copy())  # else all of z is kept
    return np.concatenate(embedded)


def _piece(clip: Clip, start: int, frames: int) -> Clip:
    inside = slice(start, start + frames)
    return replace(clip, frames=clip.frames[inside], times=clip.times[inside], labels=None, guide=None)


def _embed(model: nn.Module, clips: Sequence[Clip], device: torch.device | str) -> list[np.ndarray]:
    """One batch of clips."""
    batch = collate([whole(clip) for clip in clips]).to(device)
    z = model(batch.frames, times=batch.times, lengths=batch.lengths).float().cpu().numpy()
    return [z[row, :length] for row, length in enumerate(batch.lengths.tolist())]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
