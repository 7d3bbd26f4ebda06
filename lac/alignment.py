"""The alignment as a module that owns its gap model."""

from typing import Any

import torch
from torch import Tensor, nn

from lac import functional
from lac.functional import HardAlignment, Lengths
from lac.gaps import ConstantGaps, GapModel, LearnedGaps, Penalties


class SmithWaterman(nn.Module):
    """`smith_waterman`, `soft_alignment` and `hard_alignment` with the penalties of a gap model.

    Args:
        gaps: a gap model of `lac.gaps` (its penalties may be learned), or a pair of floats (open, extend) >= 0 that
            stay fixed. Default: `LearnedGaps()`, scalars that start at open 1.0 and extend 0.5.
        temperature: > 0, fixed, in the unit of the scores. Default 1.0.
        backend: as in `smith_waterman`. Default "auto".

    All methods take scores (B, N, M) or (N, M), and for gap models that look at them the embeddings z1 (B, N, E), z2
    (B, M, E) and times1 (B, N), times2 (B, M); times default to frame indices.
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
        elif isinstance(gaps, (tuple, list)):
            gaps = ConstantGaps(*gaps)
        elif not isinstance(gaps, GapModel):
            raise TypeError(f"gaps must be a lac.gaps.GapModel or a pair (open, extend), got {type(gaps).__name__}")
        self.gaps = gaps
        self.temperature = temperature
        self.backend = backend

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, backend={self.backend!r}"

    def penalties(
        self,
        scores: Tensor,
        z1: Tensor | None = None,
        z2: Tensor | None = None,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
    ) -> Penalties:
        """The gap model's (gap_open, gap_extend) for these pairs, broadcastable to the scores."""
        batched = scores if scores.dim() == 3 else scores.unsqueeze(0)
        b, n, m = batched.shape
        if times1 is None:
            times1 = torch.arange(n, device=scores.device, dtype=torch.float32).expand(b, n)
        if times2 is None:
            times2 = torch.arange(m, device=scores.device, dtype=torch.float32).expand(b, m)
        z1 = batched.new_zeros((b, n, 0)) if z1 is None else z1.reshape(b, n, -1)
        z2 = batched.new_zeros((b, m, 0)) if z2 is None else z2.reshape(b, m, -1)
        gap_open, gap_extend = self.gaps(z1, z2, times1.reshape(b, n), times2.reshape(b, m))
        if scores.dim() == 2:
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
        gap_open, gap_extend = self.penalties(scores, z1, z2, times1, times2)
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
