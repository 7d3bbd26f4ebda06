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

from torch import Tensor

from lac import checks, solve
from lac.solve import Lengths, Pairs


class HardAlignment(NamedTuple):
    """The best local alignment of each pair.

    Attributes:
        score: (B,), or 0-d for a single pair; float64 for float64 scores, else float32.
        paths: a list of one LongTensor (K, 2) for each pair (of one for a single pair), on the device of the scores:
            the K matched cells (i, j) in order.
    """

    score: Tensor
    paths: list[Tensor]


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
    pairs = Pairs.checked(scores, lengths)
    score = solve.score(pairs, gap_open, gap_extend, temperature, checks.backend(backend))
    return score[0] if pairs.single else score


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

    Args:
        scores: as in `smith_waterman`, and so are all others.
        gap_open: likewise.
        gap_extend: likewise.
        temperature: likewise.
        lengths: likewise.
        backend: likewise.

    Returns:
        (B, N, M), or (N, M) for a single pair; float64 for float64 scores, else float32; 0 at padding.

    Raises:
        ValueError, TypeError, RuntimeError: as `smith_waterman`.

    Examples:
        >>> soft_alignment(torch.tensor([[1.0, -0.5], [0.3, 0.8]]), gap_open=1.0, gap_extend=0.4, temperature=0.5)
        tensor([[0.8603, 0.0072],
                [0.0356, 0.8127]])
    """
    pairs = Pairs.checked(scores, lengths)
    _, posterior = solve.score_and_posterior(pairs, gap_open, gap_extend, temperature, checks.backend(backend))
    return posterior[0] if pairs.single else posterior


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

    Args:
        scores: as in `smith_waterman`.
        gap_open: likewise.
        gap_extend: likewise.
        lengths: likewise.
        backend: likewise, but for "reference", which has no hard form.

    Returns:
        HardAlignment(score, paths): score (B,), or 0-d for a single pair; paths a list of B LongTensors (K, 2) (one
        LongTensor in the list for a single pair) with the matched cells (i, j), both increasing. A pair that allows
        no alignment has the score 0 and an empty path.

    Raises:
        ValueError, TypeError, RuntimeError: as `smith_waterman`; RuntimeError also within `torch.vmap` and tracing.

    Examples:
        >>> score, (path,) = hard_alignment(torch.tensor([[1.0, -0.5], [0.3, 0.8]]), gap_open=1.0, gap_extend=0.4)
        >>> score, path.tolist()
        (tensor(1.8000), [[0, 0], [1, 1]])
    """
    pairs = Pairs.checked(scores, lengths)
    score, paths = solve.best(pairs, gap_open, gap_extend, checks.backend(backend))
    return HardAlignment(score[0] if pairs.single else score, paths)
