"""What every engine is given."""

from typing import NamedTuple

import torch
from torch import Tensor


class Problem(NamedTuple):
    """A batch of B alignments of N with M frames.

    Attributes:
        scores: (B, N, M), floating point.
        gap_open: (1 | B, 1 | N, 1 | M), in the compute dtype (float64 for float64 scores, else float32).
        gap_extend: likewise.
        temperature: 0-d, likewise; `hard` does not read it.
        lengths1: (B,) int32, contiguous, the valid rows; None together with `lengths2`.
        lengths2: likewise, the valid columns.
    """

    scores: Tensor
    gap_open: Tensor
    gap_extend: Tensor
    temperature: Tensor
    lengths1: Tensor | None
    lengths2: Tensor | None


class Direction(NamedTuple):
    """A direction in which scores and gaps change: one tensor for each, of its shape."""

    scores: Tensor
    gap_open: Tensor
    gap_extend: Tensor


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Which of so many frames are within the lengths (B,): (B, frames) bool."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]
