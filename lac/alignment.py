"""The alignment as a module that owns its gap model."""

from typing import Any

import torch
from torch import Tensor, nn

from lac import checks, functional
from lac.functional import HardAlignment, Lengths
from lac.gaps import ConstantGaps, GapModel, LearnedGaps, Penalties


def valid_frames(lengths: Tensor, t: int) -> Tensor:
    """(B, T): which of t frames are within the lengths (B,)."""
    return torch.arange(t, device=lengths.device) < lengths[:, None]


def pair_times(
    times1: Tensor | None,
    times2: Tensor | None,
    shape1: tuple[int, ...],
    shape2: tuple[int, ...],
    like: tuple[str, str],
    lengths1: Tensor,
    lengths2: Tensor,
) -> tuple[Tensor, Tensor]:
    """The times (B, N) and (B, M) of pairs, checked, in one dtype that keeps their differences; frame numbers if None.

    float32 stays float32. float64 stays float64; so do integers, counted from the first frame of sequence 1, lest
    they lose digits. Frames beyond a length repeat the last time, so that no interval there differs from 0.
    """
    checks.both_or_none("times1", times1, "times2", times2)
    if times1 is None or times2 is None:
        one, two = (
            _held(torch.arange(t, device=k.device, dtype=torch.float32).expand(k.shape[0], t), k)
            for t, k in ((shape1[-1], lengths1), (shape2[-1], lengths2))
        )
        return one, two
    one = _times("times1", times1, shape1, like[0], lengths1)
    two = _times("times2", times2, shape2, like[1], lengths2)
    if one.dtype == two.dtype == torch.int64 and one.shape[1] and two.shape[1]:
        start = torch.where(lengths1 > 0, one[:, 0], two[:, 0])[:, None]
        one, two = one - start, two - start
    whole = torch.int64 in (one.dtype, two.dtype)
    dtype = torch.float64 if whole else torch.promote_types(one.dtype, two.dtype)
    return one.to(dtype), two.to(dtype)


def _times(name: str, given: Tensor, shape: tuple[int, ...], like: str, lengths: Tensor) -> Tensor:
    times = checks.times(name, given, shape, like, lengths.device)
    times = times.unsqueeze(0) if times.dim() == 1 else times
    checks.in_order(name, times, lengths)
    return _held(times, lengths)


def _held(times: Tensor, lengths: Tensor) -> Tensor:
    last = (lengths[:, None].long() - 1).clamp(min=0)
    index = torch.arange(times.shape[1], device=times.device).expand_as(times)
    return torch.where(lengths[:, None] > 0, times.gather(1, torch.minimum(index, last)), 0)


def _embeddings(name: str, z: Tensor | None, shape: tuple[int, ...], lengths: Tensor) -> Tensor | None:
    """Embeddings as a batch (B, T, E), 0 beyond the lengths."""
    if z is None:
        return None
    checks.embeddings(name, z, shape)
    checks.same_device(name, z, "scores", lengths.device)
    batched = z.unsqueeze(0) if z.dim() == 2 else z
    return torch.where(valid_frames(lengths, shape[-1])[:, :, None], batched, 0)


class SmithWaterman(nn.Module):
    """`smith_waterman`, `soft_alignment` and `hard_alignment` with the penalties of a gap model.

    Args:
        gaps: a gap model of `lac.gaps` (its penalties may be learned), or a pair of floats (open, extend) >= 0 that
            stay fixed. Default: `LearnedGaps()`, scalars that start at open 1.0 and extend 0.5.
        temperature: fixed, > 0, in the unit of the scores. Default 1.0.
        backend: as in `smith_waterman`. Default "auto".

    All methods take scores (B, N, M), or (N, M) for a single pair, with `lengths` as in `smith_waterman`, and for gap
    models that look at them:

        z1, z2: embeddings (B, N, E) and (B, M, E); (N, E) and (M, E) for a single pair.
        times1, times2: (B, N) and (B, M); (N,) and (M,) for a single pair. Any real dtype, finite, not decreasing, both
            or none; default the frame number. Values on a GPU are not checked.

    Frames beyond a length may hold anything, also NaN, and reach neither a value nor a gradient.

    Raises:
        ValueError: an argument out of its range, an unknown backend; a shape that does not fit the scores, times that
            decrease or are not finite, `times1` without `times2`, no embeddings for a gap model that needs them.
        TypeError: arguments of the wrong type.
    """

    def __init__(
        self,
        gaps: GapModel | tuple[float, float] | None = None,
        temperature: float = 1.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if gaps is None:
            gaps = LearnedGaps()
        elif isinstance(gaps, (tuple, list)) and len(gaps) == 2:
            gaps = ConstantGaps(*gaps)
        elif not isinstance(gaps, GapModel):
            raise TypeError(f"gaps must be a lac.gaps.GapModel or a pair (open, extend), got {gaps!r}")
        self.gaps = gaps
        self.temperature = checks.temperature(temperature)
        self.backend = checks.backend(backend)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, backend={self.backend!r}"

    def penalties(
        self,
        scores: Tensor,
        z1: Tensor | None = None,
        z2: Tensor | None = None,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths: Lengths | None = None,
    ) -> Penalties:
        """The gap model's (gap_open, gap_extend) for these pairs, broadcastable to the scores."""
        checks.scores(scores)
        single = scores.dim() == 2
        batched = scores.unsqueeze(0) if single else scores
        lengths1, lengths2 = checks.length_pair((None, None) if lengths is None else lengths, batched)
        rows, columns = tuple(scores.shape[:-1]), tuple(scores.shape[:-2] + scores.shape[-1:])
        times = pair_times(
            times1, times2, rows, columns, ("the rows of scores", "the columns of scores"), lengths1, lengths2
        )
        gap_open, gap_extend = self.gaps(
            _embeddings("z1", z1, rows, lengths1), _embeddings("z2", z2, columns, lengths2), *times
        )
        if single:
            gap_open, gap_extend = (x[0] if x.dim() == 3 else x for x in (gap_open, gap_extend))
        return gap_open, gap_extend

    def _arguments(
        self,
        scores: Tensor,
        z1: Tensor | None,
        z2: Tensor | None,
        times1: Tensor | None,
        times2: Tensor | None,
        lengths: Lengths | None,
    ) -> dict[str, Any]:
        gap_open, gap_extend = self.penalties(scores, z1, z2, times1, times2, lengths)
        return {"gap_open": gap_open, "gap_extend": gap_extend, "lengths": lengths, "backend": self.backend}

    def forward(
        self,
        scores: Tensor,
        *,
        z1: Tensor | None = None,
        z2: Tensor | None = None,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths: Lengths | None = None,
    ) -> Tensor:
        """The score (B,), or 0-d for a single pair; see `lac.smith_waterman`."""
        given = self._arguments(scores, z1, z2, times1, times2, lengths)
        return functional.smith_waterman(scores, temperature=self.temperature, **given)

    def soft_alignment(
        self,
        scores: Tensor,
        *,
        z1: Tensor | None = None,
        z2: Tensor | None = None,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths: Lengths | None = None,
    ) -> Tensor:
        """The posterior (B, N, M); see `lac.soft_alignment`."""
        given = self._arguments(scores, z1, z2, times1, times2, lengths)
        return functional.soft_alignment(scores, temperature=self.temperature, **given)

    def hard_alignment(
        self,
        scores: Tensor,
        *,
        z1: Tensor | None = None,
        z2: Tensor | None = None,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths: Lengths | None = None,
    ) -> HardAlignment:
        """The best alignment at the model's penalties; see `lac.hard_alignment`."""
        given = self._arguments(scores, z1, z2, times1, times2, lengths)
        return functional.hard_alignment(scores, **given)
