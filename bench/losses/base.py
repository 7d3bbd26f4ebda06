"""What the losses compared share: the interface, and a batch of sequences as each of them wants it."""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lac.checks import Length
from lac.sequences import NEVER, Sequences, sequence_pairs

__all__ = ["FRAME_RATE", "NEVER", "PairLoss", "Sequences", "Terms", "phase", "squared_distances"]

FRAME_RATE = 25.0  # frames a second of the videos that the published windows, given in frames, were chosen for


class Terms(NamedTuple):
    """total: (B,), one value per pair; their mean is the published loss."""

    total: Tensor


class PairLoss(nn.Module):
    """A loss of pairs of sequences, with the methods of `lac.LACLoss` that training uses.

    A subclass says in `views` what its authors pair ("same": two views of one clip, "action": two clips of one action)
    and in `pairs` what the loss of each pair is.

    Shape: z1 (B, T1, E), z2 (B, T2, E), any floating dtype, computed in float32 also inside autocast; times (B, T1),
    (B, T2) seconds since the first frame of the clip, non-decreasing, default the frame index at FRAME_RATE; lengths
    (B,) integers. Padded frames may hold anything, also NaN. A pair with an empty sequence has loss 0.
    """

    views: ClassVar[str]

    def terms(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths1: Length = None,
        lengths2: Length = None,
    ) -> Terms:
        first, second = sequence_pairs(z1, z2, times1, times2, lengths1, lengths2)
        first, second = (_in_frames(s, seconds=times1 is not None) for s in (first, second))
        with torch.autocast(device_type=z1.device.type, enabled=False):
            total = self.pairs(first, second)
        return Terms(torch.where(first.lengths > 0, total, 0))

    def forward(self, z1: Tensor, z2: Tensor, **settings: Any) -> Tensor:
        return self.terms(z1, z2, **settings).total.mean()

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        """(B,), the loss of each pair; times are in frames of the clip."""
        raise NotImplementedError

    def learned(self) -> dict[str, Tensor]:
        """Detached 0-d tensors of what the loss has learned, for logging."""
        return {}


def _in_frames(sequences: Sequences, seconds: bool) -> Sequences:
    """Times, frame numbers unless they are in seconds, in frames of the clip and the dtype of the embeddings."""
    frames = sequences.times
    if seconds:  # rounded, so that 0.2 s is 5 frames and not a little more: windows have sharp edges
        frames = torch.round(frames * FRAME_RATE, decimals=3)
    return sequences._replace(times=frames.to(sequences.z.dtype))


def phase(sequences: Sequences) -> Tensor:
    """(B, T) time since the first frame as a share of the sequence's length in frames, in [0, 1); 0 at padding."""
    first, last = sequences.times[:, :1], sequences.times[:, -1:]
    return torch.where(sequences.valid, (sequences.times - first) / (last - first + 1), 0)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2: (B, N, E), (B, M, E) -> (B, N, M)."""
    products = a @ b.mT
    return ((a * a).sum(2)[:, :, None] + (b * b).sum(2)[:, None, :] - 2 * products).clamp(min=0)
