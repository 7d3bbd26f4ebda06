"""Soft and hard local alignment as functions: scores in, score or alignment out.

For scores S (N x M), temperature T > 0 and gap penalties o (open) and e (extend), with smax_T(x) = T log sum exp(x/T):

    D[i,j] = S[i,j] + smax_T(0, D[i-1,j-1], X[i-1,j-1], Y[i-1,j-1])
    X[i,j] = smax_T(D[i,j-1] - o[i,j], X[i,j-1] - e[i,j])
    Y[i,j] = smax_T(D[i-1,j] - o[i,j], X[i-1,j] - o[i,j], Y[i-1,j] - e[i,j])
    score  = smax_T over all D[i,j]

so that score = T log sum over all local alignments of exp(their score / T). A local alignment matches an increasing
run of cells and skips whatever lies before and after it at no cost; a gap of k frames within it costs o + (k - 1) e.

References: T. Smith and M. Waterman, "Identification of common molecular subsequences", 1981; O. Gotoh, "An improved
algorithm for matching biological sequences", 1982; F. Llinares-Lopez et al., "Deep embedding and alignment of protein
sequences", 2023; K. Oei et al., "Self-Supervised Contrastive Learning for Videos using Differentiable Local
Alignment", 2024.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lac import checks
from lac_kernels import ops, reference
from lac_kernels.problem import Problem

Lengths = tuple[checks.Length, checks.Length]


_REFERENCE = "backend='reference' decides cell by cell; use backend='eager'"


class HardAlignment(NamedTuple):
    """The best local alignment of each pair.

    Attributes:
        score: (B,), or 0-d for a single pair; float64 for float64 scores, else float32.
        paths: a list of one LongTensor (K, 2) for each pair (of one for a single pair), on the device of the scores:
            the K matched cells (i, j) in order.
    """

    score: Tensor
    paths: list[Tensor]


def _problem(
    scores: Tensor,
    gap_open: float | Tensor,
    gap_extend: float | Tensor,
    temperature: float | Tensor,
    lengths: Lengths | None,
    backend: str,
) -> tuple[Problem, bool, torch.dtype]:
    """The problem as the engines take it, whether it is a single pair, and the dtype of the results."""
    checks.scores(scores)
    checks.backend(backend)
    single = scores.dim() == 2
    if single:
        scores = scores.unsqueeze(0)
    dtype = result_dtype = reference.compute_dtype(scores.dtype)
    if isinstance(temperature, Tensor) and ops.differentiated(temperature) and scores.device.type != "mps":
        # The derivative by T is a small difference of score / T and E[S] / T, which float32 does not hold.
        dtype = torch.float64
        scores = scores.to(dtype)
    lengths1, lengths2 = (None, None) if lengths is None else checks.length_pair(lengths, scores)
    problem = Problem(
        scores,
        checks.gap_tensor("gap_open", gap_open, scores, single, dtype),
        checks.gap_tensor("gap_extend", gap_extend, scores, single, dtype),
        checks.temperature_tensor(temperature, scores, dtype),
        lengths1,
        lengths2,
    )
    return problem, single, result_dtype


def _differentiated(p: Problem) -> bool:
    return ops.differentiated(p.scores, p.gap_open, p.gap_extend, p.temperature)


def smith_waterman(
    scores: Tensor,
    *,
    gap_open: float | Tensor = 1.0,
    gap_extend: float | Tensor = 1.0,
    temperature: float | Tensor = 1.0,
    lengths: Lengths | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Differentiable Smith-Waterman score, T log sum over local alignments of exp(score / T).

    Gradients of any order flow to scores, gap_open, gap_extend and temperature. dscore/dscores[i,j] is the probability
    that i and j are matched; dscore/dgap_open is minus the expected number of gaps (at that cell), dscore/dgap_extend
    minus the expected number of extensions; dscore/dtemperature is the entropy of the alignment. Forward mode,
    torch.compile and torch.func (grad, jacrev, jvp, jacfwd, hessian, and vmap as one batch of the engine) work as well.

    Args:
        scores: (B, N, M), or (N, M) for a single pair; floating point. The similarity of frame i and frame j; it must
            be *signed*, since where every score is positive the best "local" alignment is the longest one. A score
            of -inf, or of -1e30 or less, forbids a cell; NaN gives NaN for its pair, and so do scores beyond the
            engine's exponents (docs/math.md).
        gap_open: cost of the first frame of a gap, >= 0: a float, or a tensor broadcastable to the scores, taken at the
            cell the gap steps into. Tensors are not checked for their sign (that would stall the GPU).
        gap_extend: cost of each further frame of a gap, likewise.
        temperature: a float or 0-d tensor > 0, in the unit of the scores. Small values approach the hard optimum. A
            tensor that requires a gradient (or any tensor within torch.func) is computed in float64, where that
            gradient does not cancel; that takes a few times as long, more on GPUs that are slow in float64.
        lengths: (lengths1, lengths2), each (B,) integers or an int, the number of valid rows and columns of each pair.
            On a GPU they are clamped to the scores' size rather than checked.
        backend: "auto" (the fastest for the device), "reference", "eager", "cpu" or "triton".

    Returns:
        (B,), or 0-d for a single pair. float64 for float64 scores, else float32 (the computation is in float32 also for
        float16 and bfloat16). A pair that allows no alignment (a length of 0) has the score 0 and no gradient.

    Raises:
        ValueError: wrong shapes, negative float penalties, a temperature that is not positive, lengths out of range.
        TypeError: arguments of the wrong type.
        RuntimeError: a backend was named that cannot run here; the message says what to do.

    Examples:
        >>> scores = torch.tensor([[1, -.5, .2, 0], [.3, .8, -.2, .1], [-.4, .6, 1.2, .5]])
        >>> smith_waterman(scores, gap_open=1.0, gap_extend=0.4)
        tensor(4.3033)
    """
    p, single, dtype = _problem(scores, gap_open, gap_extend, temperature, lengths, backend)
    if 0 in p.scores.shape:
        score = p.scores.sum((1, 2), dtype=p.temperature.dtype)
    elif backend == "reference":
        _in_python(_REFERENCE, *p)
        score = reference.smith_waterman(*p)
    else:
        score, _ = ops.forward(*p, _differentiated(p), backend)
    score = score.to(dtype)
    return score[0] if single else score


def soft_alignment(
    scores: Tensor,
    *,
    gap_open: float | Tensor = 1.0,
    gap_extend: float | Tensor = 1.0,
    temperature: float | Tensor = 1.0,
    lengths: Lengths | None = None,
    backend: str = "auto",
) -> Tensor:
    """The posterior: the probability that i and j are matched, dscore/dscores. Differentiable itself.

    P[i,j] = sum of exp(score / T) over the local alignments that match i with j, divided by the sum over all. Each row
    and each column sums to at most 1: what is missing is the probability that the frame is skipped. A loss on the
    alignment (a cross-entropy against a known one, say) may be back-propagated to all arguments.

    Arguments and errors: as `smith_waterman`.

    Returns:
        (B, N, M), or (N, M) for a single pair; float64 for float64 scores, else float32; 0 at padding.
    """
    p, single, dtype = _problem(scores, gap_open, gap_extend, temperature, lengths, backend)
    if 0 in p.scores.shape:
        posterior = p.scores.to(p.temperature.dtype)
    elif backend == "reference":
        posterior = _reference_posterior(p)
    else:
        _, saved = ops.forward(*p, True, backend)
        grad = torch.ones_like(p.temperature).expand(p.scores.shape[0])
        posterior, _, _ = ops.gradient(grad, *p, saved, p.temperature.dtype, False, backend)
    posterior = posterior.to(dtype)
    return posterior[0] if single else posterior


def _in_python(why: str, *tensors: Tensor | None) -> None:
    """torch.compile breaks its graph here; what else cannot read values is told."""
    if not torch.compiler.is_compiling() and not all(x is None or ops.readable(x) for x in tensors):
        raise RuntimeError(f"{why}: torch.vmap, fake tensors and tracing have no values to decide by")


def _reference_posterior(p: Problem) -> Tensor:
    _in_python(_REFERENCE, *p)
    differentiable = _differentiated(p)
    with torch.enable_grad():
        scores = p.scores.to(p.temperature.dtype)
        scores = scores if scores.requires_grad else scores.detach().requires_grad_()
        score = reference.smith_waterman(*p._replace(scores=scores))
        (posterior,) = torch.autograd.grad(score.sum(), scores, create_graph=differentiable)
    return posterior


def hard_alignment(
    scores: Tensor,
    *,
    gap_open: float | Tensor = 1.0,
    gap_extend: float | Tensor = 1.0,
    lengths: Lengths | None = None,
    backend: str = "auto",
) -> HardAlignment:
    """The best local alignment: the limit T -> 0 (Smith-Waterman with Gotoh's affine gaps) and its path.

    Equal alignments are told apart by a rule: the alignment ends at the first best cell in row-major order; going back
    from there, a match prefers to be the first one, then to follow a match, then a gap in X, then one in Y; a gap
    prefers to have opened rather than extended. Not differentiable.

    Arguments and errors: as `smith_waterman`, without a temperature; backend="reference" has no hard form.

    Returns:
        HardAlignment(score, paths): score (B,), or 0-d for a single pair; paths a list of B LongTensors (K, 2) (one
        LongTensor in the list for a single pair) with the matched cells (i, j), both increasing. A pair that allows
        no alignment has the score 0 and an empty path.
    """
    p, single, _ = _problem(scores, gap_open, gap_extend, 1.0, lengths, backend)
    _in_python("hard_alignment gives lists; call it outside", p.scores)
    if backend == "reference":
        raise ValueError("backend='reference' has no hard alignment; use 'eager', which runs everywhere")
    if 0 in p.scores.shape:
        score = p.scores.new_zeros(len(p.scores), dtype=p.temperature.dtype)
        paths = [score.new_empty((0, 2), dtype=torch.int64) for _ in score]
    else:
        with torch.no_grad():
            score, path, count = ops.hard_op(*p, backend)
        paths = [x[:k] for x, k in zip(path.unbind(), count.tolist(), strict=True)]
    return HardAlignment(score[0] if single else score, paths)
