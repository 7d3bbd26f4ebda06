"""Gap models: what it costs to skip frames.

Penalties are kept non-negative by softplus(p) = log(1 + exp p). A learned penalty needs a loss that it
can both raise and lower: the score of a pair never grows with a penalty, so maximised alone it pushes them to zero.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lac import checks

Penalties = tuple[Tensor, Tensor]


def inverse_softplus(name: str, value: float) -> float:
    """p with softplus(p) = value, which must be > 0."""
    value = checks.positive(name, value, " to be learned through softplus")
    return value + math.log(-math.expm1(-value))


def _parameter(name: str, value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(inverse_softplus(name, value)))


class GapModel(nn.Module):
    """Maps the two sequences of each pair to the two penalties of the recursion; derive your own from it.

    Examples:
        >>> class Dear(GapModel):  # a gap in the first ten rows costs more
        ...     def forward(self, z1, z2, times1, times2):
        ...         rows = torch.arange(times1.shape[1])[None, :, None]
        ...         return torch.where(rows < 10, 2.0, 1.0), torch.tensor(0.5)
    """

    def forward(self, z1: Tensor | None, z2: Tensor | None, times1: Tensor, times2: Tensor) -> Penalties:
        """The penalties of a batch of pairs.

        Args:
            z1: (B, N, E) embeddings, 0 at padding; None where none were given: a model that needs them raises
                ValueError then. Of unit length within `LACLoss`.
            z2: (B, M, E), likewise.
            times1: (B, N) in the user's unit (seconds or frames; frame numbers by default), float32 or float64, from
                any start: take differences before anything else. Padded frames repeat the last time.
            times2: (B, M), likewise.

        Returns:
            (gap_open, gap_extend), both >= 0, floating point, broadcastable to (B, N, M), in the unit of the scores,
            taken at the cell that a gap steps into.
        """
        raise NotImplementedError

    def learned(self) -> dict[str, Tensor]:
        """Detached 0-d tensors of what is learned, by name, for logging."""
        return {}


class ConstantGaps(GapModel):
    """Fixed penalties: o = gap_open, e = gap_extend.

    Args:
        gap_open: o >= 0, in the unit of the scores; infinity forbids gaps. Default 1.
        gap_extend: e, likewise. Default 0.5.

    Raises:
        ValueError, TypeError: a penalty that is negative, or no number.
    """

    gap_open: Tensor
    gap_extend: Tensor

    def __init__(self, gap_open: float = 1.0, gap_extend: float = 0.5) -> None:
        super().__init__()
        for name, value in (("gap_open", gap_open), ("gap_extend", gap_extend)):
            self.register_buffer(name, torch.tensor(checks.cost(name, value)))

    def forward(self, z1: Tensor | None, z2: Tensor | None, times1: Tensor, times2: Tensor) -> Penalties:
        return self.gap_open, self.gap_extend


class LearnedGaps(GapModel):
    """Learned scalars: o = softplus(p), e = softplus(q).

    Args:
        gap_open: o to start from, > 0, in the unit of the scores. Default 1.
        gap_extend: e to start from, likewise. Default 0.5.

    Raises:
        ValueError, TypeError: a penalty that is not positive and finite, or no number.
    """

    def __init__(self, gap_open: float = 1.0, gap_extend: float = 0.5) -> None:
        super().__init__()
        self.open = _parameter("gap_open", gap_open)
        self.extend = _parameter("gap_extend", gap_extend)

    def forward(self, z1: Tensor | None, z2: Tensor | None, times1: Tensor, times2: Tensor) -> Penalties:
        return softplus(self.open), softplus(self.extend)

    def learned(self) -> dict[str, Tensor]:
        return {
            "gap_open": softplus(self.open.detach()),
            "gap_extend": softplus(self.extend.detach()),
        }


class ContextualGaps(GapModel):
    """Penalties per cell from what the two frames show: o[i,j] = softplus(z1_i' W z2_j / sqrt(E) + p), e likewise.

    Source: F. Llinares-Lopez et al., "Deep embedding and alignment of protein sequences", 2023. W starts at 0, so the
    model starts as `LearnedGaps`.

    Args:
        embed_dim: E.
        gap_open: softplus(p), o to start from, > 0, in the unit of the scores. Default 1.
        gap_extend: e to start from, likewise. Default 0.5.

    Raises:
        ValueError, TypeError: a penalty that is not positive and finite, or no number; when called, embeddings that
            are missing or of another size.
    """

    def __init__(self, embed_dim: int, gap_open: float = 1.0, gap_extend: float = 0.5) -> None:
        super().__init__()
        self.open = _parameter("gap_open", gap_open)
        self.extend = _parameter("gap_extend", gap_extend)
        embed_dim = checks.count("embed_dim", embed_dim)
        self.weight = nn.Parameter(torch.zeros(2, embed_dim, embed_dim))

    def forward(self, z1: Tensor | None, z2: Tensor | None, times1: Tensor, times2: Tensor) -> Penalties:
        z1, z2 = self._embeddings("z1", z1), self._embeddings("z2", z2)
        dtype = torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), self.weight.dtype)
        left = torch.einsum("bne,kef->kbnf", z1.to(dtype), self.weight.to(dtype))
        logits = left @ z2.to(dtype).mT / math.sqrt(z1.shape[-1])
        return softplus(logits[0] + self.open), softplus(logits[1] + self.extend)

    def _embeddings(self, name: str, z: Tensor | None) -> Tensor:
        size = self.weight.shape[-1]
        if z is None:
            raise ValueError(f"ContextualGaps looks at embeddings, but none came: pass {name}= of {size} dimensions")
        if z.shape[-1] != size:
            raise ValueError(
                f"ContextualGaps was made for embeddings of {size} dimensions, got {z.shape[-1]} in {name}"
            )
        return z

    def learned(self) -> dict[str, Tensor]:
        return {
            "gap_open": softplus(self.open.detach()),
            "gap_extend": softplus(self.extend.detach()),
            "gap_context": self.weight.detach().norm(),
        }


class IntervalGaps(GapModel):
    """A gap costs o + r (time skipped): the same gap in seconds costs the same at any sampling rate.

    With the time that cell (i, j) skips, dt[i,j] = (times1_i - times1_{i-1} + times2_j - times2_{j-1}) / 2,

        gap_extend[i,j] = r dt[i,j],    gap_open[i,j] = o + r dt[i,j],

    so that a gap of k frames costs o + r (sum of its k intervals). o and r are learned through softplus. The recursion
    has one penalty per cell for gaps in either sequence, hence the mean of the two intervals: the cost per second is
    exact where the two sequences are sampled alike, and the mean of the two where they are not.

    Args:
        gap_open: o to start from, > 0, in the unit of the scores. Default 1.
        gap_rate: r to start from, > 0, in the unit of the scores per unit of the times. Default 0.5.

    Raises:
        ValueError, TypeError: an argument that is not positive and finite, or no number.
    """

    def __init__(self, gap_open: float = 1.0, gap_rate: float = 0.5) -> None:
        super().__init__()
        self.open = _parameter("gap_open", gap_open)
        self.rate = _parameter("gap_rate", gap_rate)

    def forward(self, z1: Tensor | None, z2: Tensor | None, times1: Tensor, times2: Tensor) -> Penalties:
        dtype = torch.promote_types(times1.dtype, self.rate.dtype)
        step1, step2 = (torch.diff(t, dim=1, prepend=t[:, :1]).clamp(min=0).to(dtype) for t in (times1, times2))
        extend = softplus(self.rate) * 0.5 * (step1[:, :, None] + step2[:, None, :])
        return softplus(self.open) + extend, extend

    def learned(self) -> dict[str, Tensor]:
        return {"gap_open": softplus(self.open.detach()), "gap_rate": softplus(self.rate.detach())}


def gap_model(gaps: str | GapModel, embed_dim: int | None, gap_open: float, gap_extend: float) -> GapModel:
    """A gap model by name, with penalties to start from; a gap model as it is."""
    if embed_dim is not None:
        checks.count("embed_dim", embed_dim)
    if isinstance(gaps, GapModel):
        return gaps
    checks.choice("gaps", gaps, ("constant", "learned", "contextual", "interval"))
    if gaps == "contextual":
        if embed_dim is None:
            raise ValueError("gaps='contextual' needs the size of the embeddings: pass embed_dim")
        return ContextualGaps(embed_dim, gap_open, gap_extend)
    models = {"constant": ConstantGaps, "learned": LearnedGaps, "interval": IntervalGaps}
    return models[gaps](gap_open, gap_extend)
