"""The alignment as a module that owns its gap model."""

import torch
from torch import Tensor, nn

from lac import checks, solve
from lac.functional import HardAlignment
from lac.gaps import ConstantGaps, GapModel, LearnedGaps, Penalties
from lac.precision import without_autocast
from lac.sequences import pair_times
from lac.solve import Lengths, Pairs
from lac_kernels.problem import valid_frames


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
        RuntimeError: a backend was named that cannot run here; the message says what to do.

    Examples:
        >>> aligner = SmithWaterman(gaps=(1.0, 0.4))
        >>> aligner(torch.tensor([[1, -.5, .2, 0], [.3, .8, -.2, .1], [-.4, .6, 1.2, .5]]))
        tensor(4.3033)
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
        """The gap model's (gap_open, gap_extend) for these pairs, broadcastable to the scores.

        Arguments as in the call.
        """
        pairs, gap_open, gap_extend = self._problem(scores, z1, z2, times1, times2, lengths)
        if pairs.single:
            gap_open, gap_extend = (x[0] if x.dim() == 3 else x for x in (gap_open, gap_extend))
        return gap_open, gap_extend

    def _problem(
        self,
        scores: Tensor,
        z1: Tensor | None,
        z2: Tensor | None,
        times1: Tensor | None,
        times2: Tensor | None,
        lengths: Lengths | None,
    ) -> tuple[Pairs, Tensor, Tensor]:
        """Everything checked, and the penalties, which broadcast to the batch (B, N, M) also of a single pair."""
        pairs = Pairs.checked(scores, lengths)
        lengths1, lengths2 = pairs.full_lengths()
        b, n, m = pairs.scores.shape
        rows, columns = ((n,), (m,)) if pairs.single else ((b, n), (b, m))
        like = ("the rows of scores", "the columns of scores")
        times = pair_times(times1, times2, rows, columns, like, lengths1, lengths2)
        first, second = _embeddings("z1", z1, rows, lengths1), _embeddings("z2", z2, columns, lengths2)
        with without_autocast(pairs.scores):
            gap_open, gap_extend = self.gaps(first, second, *times)
        return pairs, gap_open, gap_extend

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
        """The soft score at the model's penalties; see `lac.smith_waterman`.

        Args:
            scores: (B, N, M), or (N, M) for a single pair, floating point.
            z1: as in the class, and so are all others.
            z2: likewise.
            times1: likewise.
            times2: likewise.
            lengths: likewise.

        Returns:
            (B,), or 0-d for a single pair; float64 for float64 scores, else float32.
        """
        pairs, gap_open, gap_extend = self._problem(scores, z1, z2, times1, times2, lengths)
        score = solve.score(pairs.batch(), gap_open, gap_extend, self.temperature, self.backend)
        return score[0] if pairs.single else score

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
        """The posterior at the model's penalties; see `lac.soft_alignment`.

        Arguments as in the call.

        Returns:
            (B, N, M), or (N, M) for a single pair; float64 for float64 scores, else float32; 0 at padding.
        """
        pairs, gap_open, gap_extend = self._problem(scores, z1, z2, times1, times2, lengths)
        _, posterior = solve.score_and_posterior(pairs.batch(), gap_open, gap_extend, self.temperature, self.backend)
        return posterior[0] if pairs.single else posterior

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
        """The best alignment at the model's penalties, without a gradient; see `lac.hard_alignment`.

        Arguments as in the call.

        Returns:
            HardAlignment(score, paths): score (B,), or 0-d for a single pair; paths a list of LongTensors (K, 2).
        """
        pairs, gap_open, gap_extend = self._problem(scores, z1, z2, times1, times2, lengths)
        score, paths = solve.best(pairs.batch(), gap_open, gap_extend, self.backend)
        return HardAlignment(score[0] if pairs.single else score, paths)


def _embeddings(name: str, z: Tensor | None, shape: tuple[int, ...], lengths: Tensor) -> Tensor | None:
    """Embeddings as a batch (B, T, E), 0 beyond the lengths."""
    if z is None:
        return None
    checks.embeddings(name, z, shape)
    checks.same_device(name, z, "scores", lengths.device)
    batched = z.unsqueeze(0) if z.dim() == 2 else z
    return torch.where(valid_frames(lengths, shape[-1])[:, :, None], batched, 0)
