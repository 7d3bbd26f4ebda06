"""The local-alignment contrastive loss."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from lac import checks
from lac.alignment import SmithWaterman, pair_times, valid_frames
from lac.checks import Length
from lac.functional import smith_waterman, soft_alignment
from lac.gaps import ConstantGaps, ContextualGaps, GapModel, IntervalGaps, LearnedGaps, inverse_softplus

_FORMS = ("posterior", "contrast", "score")
_NEGATIVES = ("reversed", "batch", "both")


class LACTerms(NamedTuple):
    """The parts of the loss, each (B,), one value per pair, not yet weighted or averaged.

    float64 where z1 or z2 is float64, else float32. All are 0 for a pair in which a sequence has no frame.

    total: sequence_weight * sequence + frame_weight * frame.
    sequence: the sequence part, by its form; 0 where its weight is 0.
    frame: the frame part, mean over the valid frames of both sequences; 0 where its weight is 0.
    score: soft Smith-Waterman score of the pair per frame of its shorter sequence, in units of the similarity
        (not a loss: larger is better). Detached. 0 where sequence_weight is 0: then nothing is aligned.
    """

    total: Tensor
    sequence: Tensor
    frame: Tensor
    score: Tensor


class LACLoss(nn.Module):
    r"""Local-alignment contrastive loss between two batches of embedded sequences.

    Sequence k of `z1` and sequence k of `z2` are a pair that shows the same thing: two views of one video, or two
    videos of one action. The loss of a pair is a weighted sum of two parts.

    *Frame by frame*: with times t in units of the mean interval between frames,

        P[i,j] = exp(-(t1_i - t2_j)^2 / (2 sigma^2)), rows normalised,   Q[i,j] = softmax_j(cos(z1_i, z2_j) / f),

    the frame part is KL(P || Q), averaged over the valid frames, in both directions (the loss of Chen et al.).

    *Sequence by sequence*: scores S[i,j] = scale (cos(z1_i, z2_j) - margin) are signed, so that the best
    *local* alignment ends where frames stop to match. a(z1, z2) is the soft Smith-Waterman score of S divided by the
    length of the shorter sequence, and

        "contrast":  -log exp(a(z1_k, z2_k) / c) / sum over candidates y of exp(a(z1_k, y) / c), the candidates being
                     the partner and the negatives: "reversed", sequences of the batch played backwards (its own
                     partner first), "batch", the other sequences of the batch, or "both";
        "score":     -a(z1_k, z2_k), the plain form;
        "posterior": cross-entropy of the soft alignment p against the clock, P above, in both directions: the mean of
                     -mean_i sum_j P[i,j] log q[i,j] and of the same from sequence 2 to sequence 1, where
                     q[i,j] = (1 - e) p[i,j] + e softmax_j(S[i,j]), e = 1e-6.
                     p comes from the whole alignment, so a frame that looks alike elsewhere is told apart by what
                     surrounds it. Where the alignment gives the right match no probability, a frame's own similarities
                     are what is left: the gradient never vanishes, however wrong the alignment is.

    Gap penalties, margin and scale are learned with the encoder: give `loss.parameters()` to the optimiser, too. That
    is well posed in "contrast" and "posterior"; in "score" penalties can only fall, since a pair's own score never
    grows with a penalty. The default form is the one that measured best (docs/results.md).

    Args:
        sequence_form: of the sequence part. Default "posterior".
        gaps: "constant", "learned", "contextual", "interval", or a gap model of `lac.gaps`.
        embed_dim: E, needed by gaps="contextual" only.
        gap_open, gap_extend: penalties to start from, in units of the similarity, when `gaps` is a name: > 0, or >= 0
            for "constant"; for "interval" gap_extend is the rate per unit of the times.
        temperature: of the alignment, > 0, in units of the similarity.
        margin: the cosine above which two frames match, to start from.
        scale: factor of the similarity, > 0, to start from.
        learn_similarity: whether margin and scale are learned.
        negatives: of the form "contrast".
        n_negatives: how many reversed sequences each pair is contrasted with, >= 1; capped at the batch size.
        sequence_temperature: c above, > 0, of the form "contrast".
        frame_temperature: f above, > 0.
        sigma: width of P, > 0, in mean intervals between frames. Default 1.3; the publications have sqrt(10).
        sequence_weight, frame_weight: of the two parts, >= 0; a part of weight 0 is not computed.
        backend: of the alignment, as in `lac.smith_waterman`.

    Raises:
        ValueError: when it is made, an argument out of its range or an unknown name; when it is called, z1, z2, times
            or lengths of the wrong shape, lengths out of range, times that decrease or are not finite, `times1` without
            `times2`.
        TypeError: arguments of the wrong type.

    Shape and dtype: z1 (B, T1, E), z2 (B, T2, E), any floating dtype, computed in float32 also inside autocast, in
    float64 where either is float64. times (B, T1), (B, T2): tensors of any real dtype, both or none, non-decreasing;
    frame numbers or any unit of time from any start, since differences are taken before anything is rounded; default
    the frame number. lengths (B,): integers of any kind (a tensor, a list, or one int for all), default T1 and T2.
    Times and lengths may be on the CPU. Values of tensors on a GPU, or seen by `torch.compile`, are not checked;
    lengths are clamped there.

    Padded frames may hold anything, also NaN: it reaches neither the value nor a gradient. A pair in which a sequence
    has no frame is left out: it adds nothing, is nobody's negative, and does not count in the mean. A NaN in a valid
    frame makes the loss NaN: nothing is hidden.

    The cosine is that of z / (|z|^4 + e^4)^(1/4), e = 0.001: the plain one for embeddings of any size but those shorter
    than about e, which have less and less of a direction, down to the zero vector, which has none (cosine 0). So the
    gradient by an embedding is bounded by 1 / e times that by its direction.

    References: K. Oei et al., "Self-Supervised Contrastive Learning for Videos using Differentiable Local Alignment",
    2024; M. Chen et al., "Frame-wise Action Representations for Long Videos via Sequence Contrastive Learning", 2022;
    Z. Xue and K. Grauman, "Learning Fine-grained View-Invariant Representations from Unpaired Ego-Exo Videos via
    Temporal Alignment", 2023 (contrast with the reversed sequence).

    Example:
        >>> loss = LACLoss()
        >>> loss(torch.randn(4, 40, 128), torch.randn(4, 50, 128)).shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        sequence_form: str = "posterior",
        gaps: str | GapModel = "learned",
        embed_dim: int | None = None,
        gap_open: float = 0.5,
        gap_extend: float = 0.1,
        temperature: float = 0.2,
        margin: float = 0.5,
        scale: float = 1.0,
        learn_similarity: bool = True,
        negatives: str = "reversed",
        n_negatives: int = 4,
        sequence_temperature: float = 0.02,
        frame_temperature: float = 0.1,
        sigma: float = 1.3,
        sequence_weight: float = 1.0,
        frame_weight: float = 1.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.sequence_form = checks.choice("sequence_form", sequence_form, _FORMS)
        self.negatives = checks.choice("negatives", negatives, _NEGATIVES)
        self.n_negatives = checks.count("n_negatives", n_negatives)
        self.sequence_temperature = checks.positive("sequence_temperature", sequence_temperature)
        self.frame_temperature = checks.positive("frame_temperature", frame_temperature)
        self.sigma = checks.positive("sigma", sigma)
        self.sequence_weight = checks.weight("sequence_weight", sequence_weight)
        self.frame_weight = checks.weight("frame_weight", frame_weight)
        self.aligner = SmithWaterman(_gap_model(gaps, embed_dim, gap_open, gap_extend), temperature, backend)
        learned = checks.flag("learn_similarity", learn_similarity)
        self.margin = nn.Parameter(torch.tensor(checks.finite("margin", margin)), requires_grad=learned)
        self.raw_scale = nn.Parameter(torch.tensor(inverse_softplus("scale", scale)), requires_grad=learned)

    def extra_repr(self) -> str:
        return (
            f"sequence_form={self.sequence_form!r}, negatives={self.negatives!r}, n_negatives={self.n_negatives}, "
            f"sequence_temperature={self.sequence_temperature}, frame_temperature={self.frame_temperature}, "
            f"sigma={self.sigma:.4g}, "
            f"sequence_weight={self.sequence_weight}, frame_weight={self.frame_weight}"
        )

    def learned(self) -> dict[str, Tensor]:
        """Detached 0-d tensors of what the loss has learned, for logging: penalties, margin, scale."""
        values = self.aligner.gaps.learned()
        if self.margin.requires_grad:
            values = {**values, "margin": self.margin.detach(), "scale": softplus(self.raw_scale.detach())}
        return values

    def scores(self, z1: Tensor, z2: Tensor) -> Tensor:
        """Signed similarity scale (cos(z1_i, z2_j) - margin) of each pair: (B, T1, E), (B, T2, E) -> (B, T1, T2)."""
        checks.embeddings("z1", z1)
        checks.embeddings("z2", z2)
        dtype = _compute_dtype(z1, z2)
        with torch.autocast(device_type=z1.device.type, enabled=False):
            return self._signed(_unit(z1.to(dtype)), _unit(z2.to(dtype)))

    def _signed(self, unit1: Tensor, unit2: Tensor) -> Tensor:
        scores: Tensor = softplus(self.raw_scale) * (unit1 @ unit2.mT - self.margin)
        return scores

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths1: Length = None,
        lengths2: Length = None,
    ) -> Tensor:
        """The loss, 0-d: the mean of `terms(...).total` over the pairs that have frames; 0 if none has."""
        terms, full = self._terms(z1, z2, times1, times2, lengths1, lengths2)
        return terms.total.sum() / full.sum().clamp(min=1)

    def terms(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths1: Length = None,
        lengths2: Length = None,
    ) -> LACTerms:
        """The parts of the loss for each pair; arguments as in the call."""
        return self._terms(z1, z2, times1, times2, lengths1, lengths2)[0]

    def _terms(
        self,
        z1: Tensor,
        z2: Tensor,
        times1: Tensor | None,
        times2: Tensor | None,
        lengths1: Length,
        lengths2: Length,
    ) -> tuple[LACTerms, Tensor]:
        """The terms, and which pairs have frames (B,)."""
        one, two = _pairs(z1, z2, times1, times2, lengths1, lengths2)
        with torch.autocast(device_type=z1.device.type, enabled=False):
            clock = (_target(one, two, self.sigma), _target(two, one, self.sigma))
            sequence = frame = score = one.z.new_zeros(one.z.shape[0])
            if self.frame_weight > 0:
                frame = _frame_part(one, two, clock, self.frame_temperature)
            if self.sequence_weight > 0:
                sequence, score = self._sequence_part(one, two, clock)
            total = self.sequence_weight * sequence + self.frame_weight * frame
        return LACTerms(total, sequence, frame, score.detach()), one.lengths > 0

    def _sequence_part(
        self, one: "_Sequences", two: "_Sequences", clock: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if self.sequence_form == "contrast":
            return self._contrast(one, two)
        scores, given = self._problem(one, two)
        if self.sequence_form == "score":
            score = _per_frame(smith_waterman(scores, **given), one, two)
            return -score, score
        posterior = soft_alignment(scores, **given)
        forward = _cross_entropy(clock[0], posterior, scores, one, two)
        backward = _cross_entropy(clock[1], posterior.mT, scores.mT, two, one)
        with torch.no_grad():  # for the report only
            score = _per_frame(smith_waterman(scores, **given), one, two)
        return 0.5 * (forward + backward), score

    def _problem(self, one: "_Sequences", two: "_Sequences") -> tuple[Tensor, dict[str, Any]]:
        """Scores, and the other arguments of the alignment; by the aligner's parts, since all is checked already."""
        gap_open, gap_extend = self.aligner.gaps(one.z, two.z, one.times, two.times)
        given = {"gap_open": gap_open, "gap_extend": gap_extend, "temperature": self.aligner.temperature}
        given |= {"lengths": (one.lengths, two.lengths), "backend": self.aligner.backend}
        return self._signed(one.z, two.z), given

    def _contrast(self, one: "_Sequences", two: "_Sequences") -> tuple[Tensor, Tensor]:
        b = one.z.shape[0]
        pair = torch.arange(b, device=one.z.device)[:, None]
        candidates, everyone = [pair], two
        if self.negatives != "reversed":
            candidates.append((pair + torch.arange(1, b, device=one.z.device)) % b)
        if self.negatives != "batch":
            everyone = two.joined(two.reversed())
            candidates.append(b + (pair + torch.arange(min(self.n_negatives, b), device=one.z.device)) % b)
        chosen = torch.cat(candidates, dim=1)
        k = chosen.shape[1]
        against = everyone.selected(chosen.flatten())
        repeated = one.repeated(k)
        scores, given = self._problem(repeated, against)
        score = _per_frame(smith_waterman(scores, **given), repeated, against).reshape(b, k)
        there = against.lengths.reshape(b, k) > 0
        logits = (score / self.sequence_temperature).masked_fill(~there, -1e30)
        contrast = torch.where(there[:, 0], -log_softmax(logits, dim=1)[:, 0], 0)
        return contrast, score[:, 0]


class _Sequences(NamedTuple):
    """A batch of embedded sequences: unit vectors, 0 at padding."""

    z: Tensor  # (B, T, E) float32 (float64 for float64)
    times: Tensor  # (B, T), the last one repeated at padding
    lengths: Tensor  # (B,)
    valid: Tensor  # (B, T) bool

    @classmethod
    def of(cls, z: Tensor, times: Tensor, lengths: Tensor, dtype: torch.dtype) -> "_Sequences":
        valid = valid_frames(lengths, z.shape[1])
        return cls(_unit(torch.where(valid[:, :, None], z, 0).to(dtype)), times, lengths, valid)

    def selected(self, index: Tensor) -> "_Sequences":
        return _Sequences(*(x[index] for x in self))

    def repeated(self, k: int) -> "_Sequences":
        return _Sequences(*(x.repeat_interleave(k, dim=0) for x in self))

    def joined(self, other: "_Sequences") -> "_Sequences":
        return _Sequences(*(torch.cat(x) for x in zip(self, other, strict=True)))

    def reversed(self) -> "_Sequences":
        """Each sequence played backwards, its padding kept at the end; times run forward from the same start."""
        t = self.z.shape[1]
        frames = torch.arange(t, device=self.z.device)
        source = torch.where(self.valid, self.lengths[:, None] - 1 - frames, 0)
        times = self.times[:, :1] + self.times[:, -1:] - self.times.gather(1, source)
        z = torch.where(self.valid[:, :, None], self.z.gather(1, source[:, :, None].expand_as(self.z)), 0)
        return _Sequences(z, times, self.lengths, self.valid)


def _pairs(
    z1: Tensor, z2: Tensor, times1: Tensor | None, times2: Tensor | None, lengths1: Length, lengths2: Length
) -> tuple[_Sequences, _Sequences]:
    """The two sequences of each pair; both are empty where one is."""
    one, two = checks.embedding_pair(z1, z2, lengths1, lengths2)
    full = (one > 0) & (two > 0)
    one, two = torch.where(full, one, 0), torch.where(full, two, 0)
    shapes = tuple(z1.shape[:2]), tuple(z2.shape[:2])
    times = pair_times(times1, times2, *shapes, ("z1", "z2"), one, two)
    dtype = _compute_dtype(z1, z2)
    return _Sequences.of(z1, times[0], one, dtype), _Sequences.of(z2, times[1], two, dtype)


def _per_frame(score: Tensor, one: _Sequences, two: _Sequences) -> Tensor:
    return score / torch.minimum(one.lengths, two.lengths).clamp(min=1)


def _compute_dtype(z1: Tensor, z2: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)


_SMALL = 1e-3  # the norm below which an embedding has less and less of a direction


def _unit(z: Tensor) -> Tensor:
    """z / (|z|^4 + e^4)^(1/4), e = 1e-3: z / |z| but near 0, smooth, its derivatives at most 1 / e, 0 where z is 0.

    It is computed on z divided by its largest component, so that no size overflows or underflows.
    """
    largest = z.detach().abs().amax(dim=-1, keepdim=True).clamp(min=_SMALL)
    z = z / largest
    return z / (z.square().sum(dim=-1, keepdim=True).square() + (_SMALL / largest) ** 4).sqrt().sqrt()


def _target(one: _Sequences, two: _Sequences, sigma: float) -> Tensor:
    """P (B, T1, T2): where each frame of `one` lies in `two` by the clock. Rows sum to 1, or 0 at padding."""
    spans = sum(s.times[:, -1] - s.times[:, 0] for s in (one, two))
    unit = spans / (one.lengths + two.lengths - 2).clamp(min=1)
    unit = torch.where(unit > 0, unit, 1)
    apart = (one.times[:, :, None] - two.times[:, None, :]) / unit[:, None, None]
    logits = (-(apart**2) / (2 * sigma**2)).masked_fill(~two.valid[:, None, :], -1e30)
    inside = one.valid[:, :, None] & two.valid[:, None, :]
    return (torch.softmax(logits, dim=2) * inside).to(one.z.dtype)


_SHARE = 1e-6  # of the frames' own similarities in what stands for the alignment


def _cross_entropy(clock: Tensor, posterior: Tensor, scores: Tensor, one: _Sequences, two: _Sequences) -> Tensor:
    """-sum_j P[i,j] log q[i,j] per pair, mean over the frames of `one`: q = (1 - e) p + e softmax_j(S), e = _SHARE.

    Where p underflows the second term alone is left, and it has a gradient at any distance, for its logarithm is taken
    before the exponential. No gradient is divided by less than 1e-30.
    """
    log_own = log_softmax(scores.masked_fill(~two.valid[:, None, :], -1e30), dim=2) + math.log(_SHARE)
    q = (1 - _SHARE) * posterior + log_own.exp()
    log_q = torch.where(q < 1e-30, log_own, q.clamp(min=1e-30).log())
    return -(clock * torch.where(clock > 0, log_q, 0.0)).sum((1, 2)) / one.lengths.clamp(min=1)


def _frame_part(one: _Sequences, two: _Sequences, clock: tuple[Tensor, Tensor], temperature: float) -> Tensor:
    """Mean of the two directions of KL(clock || softmax(cos / temperature)) per pair."""
    logits = one.z @ two.z.mT / temperature
    return 0.5 * (_divergence(clock[0], logits, one, two) + _divergence(clock[1], logits.mT, two, one))


def _divergence(target: Tensor, logits: Tensor, one: _Sequences, two: _Sequences) -> Tensor:
    """KL(target || softmax(logits)) per pair, mean over the valid frames of `one`."""
    log_q = log_softmax(logits.masked_fill(~two.valid[:, None, :], -1e30), dim=2)
    inside = target > 0
    kl = target * (torch.where(inside, target, 1.0).log() - torch.where(inside, log_q, 0.0))
    return kl.sum((1, 2)) / one.lengths.clamp(min=1)


def _gap_model(gaps: str | GapModel, embed_dim: int | None, gap_open: float, gap_extend: float) -> GapModel:
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
