"""What the losses compared share: the interface, and a batch of sequences as each of them wants it."""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lac import checks
from lac.alignment import pair_times

FRAME_RATE = 25.0  # frames a second of the videos that the published windows, given in frames, were chosen for
NEVER = -1e30  # logit of what cannot be chosen; finite, so that a row of padding has a gradient, too


class Terms(NamedTuple):
    """total: (B,), one value per pair; their mean is the published loss."""

    total: Tensor


class Sequences(NamedTuple):
    """A batch of embedded sequences. Padding is 0 in `z` and `frames`."""

    z: Tensor  # (B, T, E) float32 (float64 for float64), as the encoder gave it
    frames: Tensor  # (B, T) time in frames of the clip: seconds * FRAME_RATE, or the index where no times are given
    lengths: Tensor  # (B,)
    valid: Tensor  # (B, T) bool

    @classmethod
    def of(cls, z: Tensor, times: Tensor | None, lengths: Tensor) -> "Sequences":
        index = torch.arange(z.shape[1], device=z.device)
        valid = index < lengths[:, None]
        dtype = z.dtype if z.dtype == torch.float64 else torch.float32
        frames = index.expand(valid.shape)
        if times is not None:  # rounded, so that 0.2 s is 5 frames and not a little more: windows have sharp edges
            frames = torch.round(times * FRAME_RATE, decimals=3)
        return cls(
            torch.where(valid[:, :, None], z, 0).to(dtype), torch.where(valid, frames, 0).to(dtype), lengths, valid
        )

    @property
    def count(self) -> Tensor:
        """(B,) valid frames, at least 1: what sums over frames are divided by."""
        return self.lengths.clamp(min=1)

    @property
    def phase(self) -> Tensor:
        """(B, T) time since the first frame as a share of the sequence's length in frames, in [0, 1)."""
        first, last = self.frames[:, :1], self.frames.gather(1, (self.count - 1)[:, None])
        return torch.where(self.valid, (self.frames - first) / (last - first + 1), 0)

    def mean(self, per_frame: Tensor) -> Tensor:
        """Mean of (B, T) over the valid frames: (B,)."""
        return torch.where(self.valid, per_frame, 0).sum(1) / self.count


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
        lengths1: checks.Length = None,
        lengths2: checks.Length = None,
    ) -> Terms:
        n, m = checks.embedding_pair(z1, z2, lengths1, lengths2)
        if times1 is not None or times2 is not None:
            shapes = tuple(z1.shape[:2]), tuple(z2.shape[:2])
            times1, times2 = pair_times(times1, times2, *shapes, ("z1", "z2"), n, m)
        with torch.autocast(device_type=z1.device.type, enabled=False):
            one, two = Sequences.of(z1, times1, n), Sequences.of(z2, times2, m)
            total = self.pairs(one, two)
        return Terms(torch.where((one.lengths > 0) & (two.lengths > 0), total, 0))

    def forward(self, z1: Tensor, z2: Tensor, **settings: Any) -> Tensor:
        return self.terms(z1, z2, **settings).total.mean()

    def pairs(self, one: Sequences, two: Sequences) -> Tensor:
        """(B,), the loss of each pair."""
        raise NotImplementedError

    def learned(self) -> dict[str, Tensor]:
        """Detached 0-d tensors of what the loss has learned, for logging."""
        return {}


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2: (B, N, E), (B, M, E) -> (B, N, M)."""
    products = a @ b.mT
    return ((a * a).sum(2)[:, :, None] + (b * b).sum(2)[:, None, :] - 2 * products).clamp(min=0)
