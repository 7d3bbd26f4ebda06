"""A padded batch of embedded sequences with the times of their frames, and the one check that makes it."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lac import checks
from lac.checks import Length
from lac_kernels.problem import valid_frames

NEVER = -1e30  # logit of what cannot be chosen; finite, so that a row of padding has a gradient, too


class Sequences(NamedTuple):
    """B sequences of at most T frames, padded at the end.

    Attributes:
        z: (B, T, E) embeddings, 0 at padding; float64 for float64, else float32.
        times: (B, T) float32 or float64, in any unit, from any start, not decreasing. Padding repeats the last time,
            so that no interval there differs from 0.
        lengths: (B,) int64, the number of frames, from 0 to T.
        valid: (B, T) bool, which frames are no padding.
    """

    z: Tensor
    times: Tensor
    lengths: Tensor
    valid: Tensor

    # A method, as all that is computed: torch.compile of torch 2.10 knows no properties of named tuples.
    def divisor(self) -> Tensor:
        """(B,) the number of frames, at least 1: what sums over frames are divided by."""
        return self.lengths.clamp(min=1)

    def mean(self, per_frame: Tensor) -> Tensor:
        """The mean of (B, T) over the frames that are no padding: (B,); 0 where there is none."""
        return torch.where(self.valid, per_frame, 0).sum(1) / self.divisor()

    def selected(self, index: Tensor | slice) -> "Sequences":
        """The sequences of these numbers (K,), each as often as it is named: K sequences."""
        return Sequences(*(x[index] for x in self))

    def repeated(self, k: int) -> "Sequences":
        """Each sequence k times in a row: B k sequences."""
        return Sequences(*(x.repeat_interleave(k, dim=0) for x in self))

    def joined(self, others: "Sequences") -> "Sequences":
        """These and then the others, padded to the same T: one batch of both."""
        return Sequences(*(torch.cat(x) for x in zip(self, others, strict=True)))

    def padded(self, frames: int) -> "Sequences":
        """The same, padded to so many frames."""
        if frames == self.z.shape[1]:
            return self
        more = (0, frames - self.z.shape[1])
        times = torch.cat((self.times, self.times[:, -1:].expand(-1, more[1])), dim=1)
        return Sequences(pad(self.z, (0, 0, *more)), times, self.lengths, pad(self.valid, more))

    def reversed(self) -> "Sequences":
        """Each sequence played backwards, its padding kept at the end; times run forward from the same start."""
        frames = torch.arange(self.z.shape[1], device=self.z.device)
        source = torch.where(self.valid, self.lengths[:, None] - 1 - frames, 0)
        times = self.times[:, :1] + self.times[:, -1:] - self.times.gather(1, source)
        z = torch.where(self.valid[:, :, None], self.z.gather(1, source[:, :, None].expand_as(self.z)), 0)
        return Sequences(z, times, self.lengths, self.valid)


def sequence_pairs(
    z1: Tensor, z2: Tensor, times1: Tensor | None, times2: Tensor | None, lengths1: Length, lengths2: Length
) -> tuple[Sequences, Sequences]:
    """Check what a loss of pairs is called with, and make two batches of it, sequence k of both being a pair.

    Where one sequence of a pair is empty, both are: such a pair has nothing to compare.

    Args:
        z1: (B, T1, E), floating point.
        z2: (B, T2, E), on the same device.
        times1: (B, T1) of any real dtype, not decreasing, with `times2`; None: frame numbers.
        times2: (B, T2).
        lengths1: (B,) integers (a tensor, a list, or one int for all); None: T1.
        lengths2: likewise; None: T2.

    Raises:
        ValueError: wrong shapes, lengths out of range, times that decrease or are not finite, one of the two times.
        TypeError: arguments of the wrong type.
    """
    given1, given2 = checks.embedding_pair(z1, z2, lengths1, lengths2)
    full = (given1 > 0) & (given2 > 0)
    lengths = torch.where(full, given1, 0), torch.where(full, given2, 0)
    shapes = tuple(z1.shape[:2]), tuple(z2.shape[:2])
    times = pair_times(times1, times2, *shapes, ("z1", "z2"), *lengths)
    dtype = compute_dtype(z1, z2)
    return masked_sequences(z1, times[0], lengths[0], dtype), masked_sequences(z2, times[1], lengths[1], dtype)


def recordings_of(z: Tensor, times: Tensor | None, lengths: Length) -> Sequences:
    """Check a batch that is no pair: z (B, T, E), times (B, T) or frame numbers, lengths (B,) or T.

    Raises:
        ValueError, TypeError: as `sequence_pairs`.
    """
    checks.embeddings("z", z)
    shape = tuple(z.shape[:2])
    checked = checks.lengths("lengths", lengths, shape[0], shape[1], z.device)
    if times is None:
        held = frame_numbers(shape[1], checked)
    else:
        held = held_times("times", times, shape, "z", checked)
        held = held if held.is_floating_point() else (held - held[:, :1]).double()
    return masked_sequences(z, held, checked.long(), compute_dtype(z, z))


def compute_dtype(z1: Tensor, z2: Tensor) -> torch.dtype:
    """What embeddings are computed in: float64 where either is float64, else float32."""
    return torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)


def masked_sequences(z: Tensor, times: Tensor, lengths: Tensor, dtype: torch.dtype) -> Sequences:
    """Of checked arguments, in this precision; what stands at padding is 0 from here on."""
    valid = valid_frames(lengths, z.shape[1])
    return Sequences(torch.where(valid[:, :, None], z, 0).to(dtype), times, lengths, valid)


def mean_interval(first: Sequences, second: Sequences) -> Tensor:
    """(B,) the mean time from frame to frame in both sequences of each pair; 1 where no time passes."""
    spans = sum(s.times[:, -1] - s.times[:, 0] for s in (first, second))
    interval = spans / (first.lengths + second.lengths - 2).clamp(min=1)
    return torch.where(interval > 0, interval, 1)


def pair_times(
    times1: Tensor | None,
    times2: Tensor | None,
    shape1: tuple[int, ...],
    shape2: tuple[int, ...],
    like: tuple[str, str],
    lengths1: Tensor,
    lengths2: Tensor,
) -> tuple[Tensor, Tensor]:
    """The times (B, N) and (B, M) of pairs, checked, in one dtype that keeps their differences.

    float32 stays float32. float64 stays float64; so do integers, counted from the first frame of sequence 1, lest
    they lose digits. Frames beyond a length repeat the last time, so that no interval there differs from 0.

    Args:
        times1: of `shape1`, with `times2`; None: frame numbers.
        times2: of `shape2`.
        shape1: (B, N), or (N,) for a single pair.
        shape2: (B, M), or (M,).
        like: what the shapes belong to, for messages.
        lengths1: (B,), checked.
        lengths2: likewise.

    Raises:
        ValueError: one of the two times, a wrong shape, times that decrease or are not finite.
        TypeError: times of the wrong type.
    """
    checks.both_or_none("times1", times1, "times2", times2)
    if times1 is None or times2 is None:
        return frame_numbers(shape1[-1], lengths1), frame_numbers(shape2[-1], lengths2)
    checked1 = held_times("times1", times1, shape1, like[0], lengths1)
    checked2 = held_times("times2", times2, shape2, like[1], lengths2)
    if checked1.dtype == checked2.dtype == torch.int64 and checked1.shape[1] and checked2.shape[1]:
        start = torch.where(lengths1 > 0, checked1[:, 0], checked2[:, 0])[:, None]
        checked1, checked2 = checked1 - start, checked2 - start
    whole = torch.int64 in (checked1.dtype, checked2.dtype)
    dtype = torch.float64 if whole else torch.promote_types(checked1.dtype, checked2.dtype)
    return checked1.to(dtype), checked2.to(dtype)


def frame_numbers(frames: int, lengths: Tensor) -> Tensor:
    """0, 1, 2, ... of sequences of these lengths: (B, frames) float32, the last one repeated at padding."""
    numbers = torch.arange(frames, device=lengths.device, dtype=torch.float32)
    return _held(numbers.expand(lengths.shape[0], frames), lengths)


def held_times(name: str, times: Tensor, shape: tuple[int, ...], like: str, lengths: Tensor) -> Tensor:
    """Times of `shape`, (B, T) or (T,), checked: (B, T) with all their digits, the last one repeated at padding.

    Raises:
        ValueError: a wrong shape, times that decrease or are not finite.
        TypeError: times of the wrong type.
    """
    checked = checks.times(name, times, shape, like, lengths.device)
    checked = checked.unsqueeze(0) if checked.dim() == 1 else checked
    checks.in_order(name, checked, lengths)
    return _held(checked, lengths)


def _held(times: Tensor, lengths: Tensor) -> Tensor:
    """The last time repeated at padding; 0 where there is no frame."""
    last = (lengths[:, None].long() - 1).clamp(min=0)
    index = torch.arange(times.shape[1], device=times.device).expand_as(times)
    return torch.where(lengths[:, None] > 0, times.gather(1, torch.minimum(index, last)), 0)
