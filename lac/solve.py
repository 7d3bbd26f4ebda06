"""Checked problems and their solutions: what the functions, the module and the loss share.

`Pairs` are scores and lengths that were checked, once; each function here takes them with penalties, and gives results
of the whole batch in their dtype.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lac import checks
from lac_kernels import dispatch, ops, reference
from lac_kernels.problem import Problem

Lengths = tuple[checks.Length, checks.Length]
Gap = float | Tensor

_REFERENCE = "backend='reference' decides cell by cell; use backend='eager'"


class Pairs(NamedTuple):
    """Scores (B, N, M), floating point, and the valid rows and columns, (B,) int32 contiguous, or both None.

    single: whether they came as (N, M), of one pair.
    """

    scores: Tensor
    lengths1: Tensor | None
    lengths2: Tensor | None
    single: bool = False

    @classmethod
    def checked(cls, scores: Tensor, lengths: Lengths | None) -> "Pairs":
        """The scores (B, N, M) or (N, M) and lengths of a user.

        Raises:
            ValueError: scores of the wrong shape, lengths of the wrong shape or out of range.
            TypeError: scores that are no floating-point tensor, lengths that are no integers.
        """
        checks.scores(scores)
        single = scores.dim() == 2
        batched = scores.unsqueeze(0) if single else scores
        lengths1, lengths2 = (None, None) if lengths is None else checks.length_pair(lengths, batched)
        return cls(batched, lengths1, lengths2, single)

    def result_dtype(self) -> torch.dtype:
        """Of the results: float64 for float64 scores, else float32."""
        return reference.compute_dtype(self.scores.dtype)

    def batch(self) -> "Pairs":
        """The same where penalties come for a batch (B, N, M), also of a single pair."""
        return self._replace(single=False)

    def full_lengths(self) -> tuple[Tensor, Tensor]:
        """The lengths, those of the scores where none were given."""
        if self.lengths1 is not None and self.lengths2 is not None:
            return self.lengths1, self.lengths2
        b, n, m = self.scores.shape
        lengths1, lengths2 = (torch.full((b,), k, dtype=torch.int32, device=self.scores.device) for k in (n, m))
        return lengths1, lengths2

    def _problem(self, gap_open: Gap, gap_extend: Gap, temperature: float | Tensor) -> Problem:
        scores, dtype = self.scores, self.result_dtype()
        if isinstance(temperature, Tensor) and dispatch.differentiated(temperature) and scores.device.type != "mps":
            # The derivative by T is a small difference of score / T and E[S] / T, which float32 does not hold.
            dtype = torch.float64
            scores = scores.to(dtype)
        return Problem(
            scores,
            checks.gap_tensor("gap_open", gap_open, scores, self.single, dtype),
            checks.gap_tensor("gap_extend", gap_extend, scores, self.single, dtype),
            checks.temperature_tensor(temperature, scores, dtype),
            self.lengths1,
            self.lengths2,
        )


def score(pairs: Pairs, gap_open: Gap, gap_extend: Gap, temperature: float | Tensor, backend: str) -> Tensor:
    """The soft score (B,)."""
    p = pairs._problem(gap_open, gap_extend, temperature)
    if 0 in p.scores.shape:
        value = p.scores.sum((1, 2), dtype=p.temperature.dtype)
    elif backend == "reference":
        _in_python(_REFERENCE, *p)
        value = reference.smith_waterman(*p)
    else:
        value, _ = ops.forward(*p, _differentiated(p), backend)
    return value.to(pairs.result_dtype())


def score_and_posterior(
    pairs: Pairs, gap_open: Gap, gap_extend: Gap, temperature: float | Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """The soft score (B,) and the posterior (B, N, M), which is its derivative by the scores, of one forward.

    Both are differentiable, to any order.
    """
    p = pairs._problem(gap_open, gap_extend, temperature)
    if 0 in p.scores.shape:
        value, posterior = p.scores.sum((1, 2), dtype=p.temperature.dtype), p.scores.to(p.temperature.dtype)
    elif backend == "reference":
        value, posterior = _reference_posterior(p)
    else:
        value, saved = ops.forward(*p, True, backend)
        ones = torch.ones_like(p.temperature).expand(p.scores.shape[0])
        posterior, _, _ = ops.gradient(ones, *p, saved, p.temperature.dtype, False, backend)
    return value.to(pairs.result_dtype()), posterior.to(pairs.result_dtype())


def best(pairs: Pairs, gap_open: Gap, gap_extend: Gap, backend: str) -> tuple[Tensor, list[Tensor]]:
    """The score (B,) of the best alignment and its matched cells, B LongTensors (K, 2); without derivatives."""
    value, path, count = hard(hard_problem(pairs, gap_open, gap_extend, backend), backend)
    return value, [x[:k] for x, k in zip(path.unbind(), count.tolist(), strict=True)]


def hard_problem(pairs: Pairs, gap_open: Gap, gap_extend: Gap, backend: str) -> Problem:
    """What `hard` is asked.

    Raises:
        ValueError, RuntimeError: there is no hard alignment on this backend, or here.
    """
    p = pairs._problem(gap_open, gap_extend, 1.0)
    _in_python("hard alignments are paths and not traced; call it outside", p.scores)
    if backend == "reference":
        raise ValueError("backend='reference' has no hard alignment; use 'eager', which runs everywhere")
    return p


def shut(p: Problem, closed: Tensor, *, gaps: bool = True) -> Problem:
    """The problem without matches where `closed`, bool and broadcastable to (B, N, M), is true.

    Args:
        p: see there.
        closed: see above.
        gaps: whether no gap steps into what is closed either.
    """
    scores = p.scores.masked_fill(closed, -torch.inf)
    if not gaps:
        return p._replace(scores=scores)
    gap_open, gap_extend = (gap.masked_fill(closed, torch.inf) for gap in (p.gap_open, p.gap_extend))
    return p._replace(scores=scores, gap_open=gap_open, gap_extend=gap_extend)


def hard(p: Problem, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """The best score (B,), its cells (B, min(N, M), 2) filled up with -1, their number (B,); without derivatives."""
    b, n, m = p.scores.shape
    if 0 in p.scores.shape:
        nothing = p.scores.new_zeros(b, dtype=torch.int64)
        return p.scores.new_zeros(b, dtype=p.temperature.dtype), nothing.new_empty((b, min(n, m), 2)), nothing
    with torch.no_grad():
        value, path, count = ops.hard_op(*p, backend)
    return value, path, count


def in_common(best_score: Tensor, paths: list[Tensor]) -> list[Tensor]:
    """The paths of `best`, empty where the score is not above 0: an alignment has one match at least, however bad."""
    above = (best_score > 0).tolist()
    return [path if some else path[:0] for path, some in zip(paths, above, strict=True)]


def _differentiated(p: Problem) -> bool:
    return dispatch.differentiated(p.scores, p.gap_open, p.gap_extend, p.temperature)


def _in_python(why: str, *tensors: Tensor | None) -> None:
    """torch.compile breaks its graph here; what else cannot read values is told."""
    if not torch.compiler.is_compiling() and not all(x is None or dispatch.readable(x) for x in tensors):
        raise RuntimeError(f"{why}: torch.vmap, fake tensors and tracing have no values to decide by")


def _reference_posterior(p: Problem) -> tuple[Tensor, Tensor]:
    _in_python(_REFERENCE, *p)
    differentiable = _differentiated(p)
    with torch.enable_grad():
        scores = p.scores.to(p.temperature.dtype)
        scores = scores if scores.requires_grad else scores.detach().requires_grad_()
        value = reference.smith_waterman(*p._replace(scores=scores))
        (posterior,) = torch.autograd.grad(value.sum(), scores, create_graph=differentiable)
    return value if differentiable else value.detach(), posterior
