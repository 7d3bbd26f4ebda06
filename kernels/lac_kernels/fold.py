"""Many problems under `torch.vmap` as one batch of an engine."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lac_kernels.problem import Problem
from lac_kernels.reference import FORBIDDEN


class Dims(NamedTuple):
    """The dimension of each tensor of a problem that counts the problems; None where they share the tensor."""

    scores: int | None
    gap_open: int | None
    gap_extend: int | None
    temperature: int | None
    lengths1: int | None
    lengths2: int | None


class Fold:
    """V problems of B pairs become one of V B pairs, and results go apart again.

    The engines take one temperature; if each problem has its own, the pairs are solved in units of theirs (`rate`).

    Args:
        size: V.
        p: the problem, of which `torch.vmap` has put V into the tensors that have a dimension for them.
        dims: these dimensions.
    """

    def __init__(self, size: int, p: Problem, dims: Dims) -> None:
        self.size, self.p, self.dims = size, p, dims
        self.b = len(p.scores) if dims.scores is None else p.scores.movedim(dims.scores, 0).shape[1]
        self.rate: Tensor | float = 1.0
        if dims.temperature is not None:
            self.rate = p.temperature.repeat_interleave(self.b)

    @classmethod
    def of(cls, info: Any, tensors: Any, dims: Any) -> "Fold":
        """What a rule for `torch.vmap` knows of a problem: its tensors and their dimensions, in order."""
        return cls(info.batch_size, Problem(*tensors), Dims(*dims))

    def pairs(self, x: Tensor, dim: int | None) -> Tensor:
        """(B, ...) or (1, ...) of each problem -> (V B, ...)."""
        x = x.unsqueeze(0) if dim is None else x.movedim(dim, 0)
        return x.expand(self.size, self.b, *x.shape[2:]).reshape(self.size * self.b, *x.shape[2:])

    def whole(self, x: Tensor | None, dim: int | None) -> Tensor | None:
        """The same in memory of its own, as engines want lengths and what they saved."""
        return None if x is None else self.pairs(x, dim).contiguous()

    def problem(self) -> Problem:
        """The problem of all pairs."""
        p, dims = self.p, self.dims
        scores = self.pairs(p.scores, dims.scores)
        gap_open, gap_extend = self.pairs(p.gap_open, dims.gap_open), self.pairs(p.gap_extend, dims.gap_extend)
        temperature = p.temperature
        if isinstance(self.rate, Tensor):
            scores = torch.where(scores <= FORBIDDEN, -torch.inf, scores)
            scores, gap_open, gap_extend = (x / self.rate[:, None, None] for x in (scores, gap_open, gap_extend))
            temperature = torch.ones_like(self.rate[0])
        lengths1, lengths2 = self.whole(p.lengths1, dims.lengths1), self.whole(p.lengths2, dims.lengths2)
        return Problem(scores, gap_open, gap_extend, temperature, lengths1, lengths2)

    def apart(self, x: Tensor) -> Tensor:
        """(V B, ...) -> (V, B, ...)."""
        return x.reshape(self.size, self.b, *x.shape[1:])

    def gaps_apart(self, d_open: Tensor, d_extend: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives by the gaps for each problem: summed over its pairs if they share the gap."""
        p, dims = self.p, self.dims
        return self._gap(d_open, p.gap_open, dims.gap_open), self._gap(d_extend, p.gap_extend, dims.gap_extend)

    def _gap(self, d: Tensor, gap: Tensor, dim: int | None) -> Tensor:
        shared = (gap if dim is None else gap.movedim(dim, 0)[0]).shape[0] == 1
        d = self.apart(d)
        return d.sum(1, keepdim=True) if shared else d
