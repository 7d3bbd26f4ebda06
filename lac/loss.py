"""The local-alignment contrastive loss."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from lac import checks
from lac.alignment import SmithWaterman, pair_times, valid_frames
from lac.checks import Length
from lac.gaps import ConstantGaps, ContextualGaps, GapModel, IntervalGaps, LearnedGaps, inverse_softplus

_FORMS = ("contrast", "score", "posterior")
_NEGATIVES = ("reversed", "batch", "both")


class LACTerms(NamedTuple):
    """The parts of the loss, each (B,) float32, one value per pair, not yet weighted or averaged.

    total: alignment_weight * alignment + contrastive_weight * contrastive.
    alignment: the alignment part, by its form.
    contrastive: the contrastive part, mean over the valid frames of both sequences.
    score: soft Smith-Waterman score of the pair per frame of its shorter sequence, in units of the similarity
        (not a loss: larger is better).
    """

    total: Tensor
    alignment: Tensor
    contrastive: Tensor
    score: Tensor


class LACLoss(nn.Module):
    r"""Local-alignment contrastive loss between two batches of embedded sequences.

    Sequence k of `z1` and sequence k of `z2` are a pair that shows the same thing: two views of one video, or two
    videos of one action. The loss of a pair is a weighted sum of two parts.

    *Contrastive*, frame by frame: with times t in units of the mean interval between frames,

        P[i,j] = exp(-(t1_i - t2_j)^2 / (2 sigma^2)), rows normalised,   Q[i,j] = softmax_j(cos(z1_i, z2_j) / tau),

    KL(P || Q), averaged over the valid frames, in both directions (the sequence contrastive loss of Chen et al.).

    *Alignment*, sequence by sequence: scores S[i,j] = scale (cos(z1_i, z2_j) - margin) are signed, so that the best
    *local* alignment ends where frames stop to match. a(z1, z2) is the soft Smith-Waterman score of S divided by the
    length of the shorter sequence, and

        "contrast":  -log exp(a(z1_k, z2_k) / c) / sum over candidates y of exp(a(z1_k, y) / c), the candidates being
                     the partner and the negatives: "reversed", sequences of the batch played backwards (its own
                     partner first), "batch", the other sequences of the batch, or "both";
        "score":     -a(z1_k, z2_k), the plain form;
        "posterior": cross-entropy of the soft alignment p against the clock, P above, in both directions: the mean of
                     -mean_i sum_j P[i,j] log p[i,j] and of the same from sequence 2 to sequence 1. p comes from the
                     whole alignment, so a frame that looks alike elsewhere is told apart by what surrounds it.

    Gap penalties, margin and scale are learned with the encoder: give `loss.parameters()` to the optimiser, too. That
    is well posed in "contrast" and "posterior"; in "score" penalties can only fall, since a pair's own score never
    grows with a penalty. The default form is the one that measured best (docs/results.md).

    Args:
        alignment: the form of the alignment part. Default "posterior".
        gaps: "constant", "learned", "contextual", "interval", or a gap model of `lac.gaps`.
        embed_dim: E, needed by gaps="contextual" only.
        gap_open, gap_extend: penalties to start from, in units of the similarity, when `gaps` is a name; for
            "interval" gap_extend is the rate per unit of the times.
        temperature: of the alignment, > 0, in units of the similarity.
        margin: the cosine above which two frames match, to start from.
        scale: factor of the similarity, > 0, to start from.
        learn_similarity: whether margin and scale are learned.
        negatives: of the form "contrast".
        n_negatives: how many reversed sequences each pair is contrasted with; capped at the batch size.
        contrast_temperature: c above, > 0.
        tau: temperature of the contrastive part, > 0.
        sigma: width of P, > 0, in mean intervals between frames. Default 1.3; the publications have sqrt(10).
        alignment_weight, contrastive_weight: of the two parts, >= 0; a part of weight 0 is not computed.
        backend: of the alignment, as in `lac.smith_waterman`.

    Raises:
        ValueError: an argument out of its range, or an unknown name.

    Shape: z1 (B, T1, E), z2 (B, T2, E), any floating dtype, computed in float32 also inside autocast; times (B, T1),
    (B, T2) non-decreasing, frame indices or seconds, default the frame index; lengths (B,) integers. Padded frames may
    hold anything, also NaN. A sequence without a valid frame adds nothing to the loss. A NaN in a valid frame makes
    the loss NaN: nothing is hidden.

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
        alignment: str = "posterior",
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
        contrast_temperature: float = 0.02,
        tau: float = 0.1,
        sigma: float = 1.3,
        alignment_weight: float = 1.0,
        contrastive_weight: float = 1.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.form = checks.choice("alignment", alignment, _FORMS)
        self.negatives = checks.choice("negatives", negatives, _NEGATIVES)
        self.n_negatives = checks.count("n_negatives", n_negatives)
        self.contrast_temperature = checks.positive("contrast_temperature", contrast_temperature)
        self.tau = checks.positive("tau", tau)
        self.sigma = checks.positive("sigma", sigma)
        self.alignment_weight = checks.weight("alignment_weight", alignment_weight)
        self.contrastive_weight = checks.weight("contrastive_weight", contrastive_weight)
        self.aligner = SmithWaterman(_gap_model(gaps, embed_dim, gap_open, gap_extend), temperature, backend)
        learned = checks.flag("learn_similarity", learn_similarity)
        self.margin = nn.Parameter(torch.tensor(checks.finite("margin", margin)), requires_grad=learned)
        self.raw_scale = nn.Parameter(torch.tensor(inverse_softplus("scale", scale)), requires_grad=learned)

    def extra_repr(self) -> str:
        return (
            f"alignment={self.form!r}, negatives={self.negatives!r}, n_negatives={self.n_negatives}, "
            f"contrast_temperature={self.contrast_temperature}, tau={self.tau}, sigma={self.sigma:.4g}, "
            f"alignment_weight={self.alignment_weight}, contrastive_weight={self.contrastive_weight}"
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
            alignment = contrastive = score = one.z.new_zeros(one.z.shape[0])
            if self.contrastive_weight > 0:
                contrastive = _contrastive(one, two, clock, self.tau)
            if self.alignment_weight > 0:
                alignment, score = self._alignment(one, two, clock)
            total = self.alignment_weight * alignment + self.contrastive_weight * contrastive
        return LACTerms(total, alignment, contrastive, score.detach()), one.lengths > 0

    def _alignment(self, one: "_Sequences", two: "_Sequences", clock: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if self.form == "contrast":
            return self._contrast(one, two)
        if self.form == "score":
            score = self._score(one, two)
            return -score, score
        scores = self._signed(one.z, two.z)
        posterior = self.aligner.soft_alignment(scores, **_given(one, two))
        own = scores / self.aligner.temperature
        forward = _cross_entropy(clock[0], posterior, own, one, two)
        backward = _cross_entropy(clock[1], posterior.mT, own.mT, two, one)
        with torch.no_grad():  # for the report only
            score = self._score(one, two)
        return 0.5 * (forward + backward), score

    def _score(self, one: "_Sequences", two: "_Sequences") -> Tensor:
        score = self.aligner(self._signed(one.z, two.z), **_given(one, two))
        per_frame: Tensor = score / torch.minimum(one.lengths, two.lengths).clamp(min=1)
        return per_frame

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
        score = self._score(one.repeated(k), against).reshape(b, k)
        there = against.lengths.reshape(b, k) > 0
        logits = (score / self.contrast_temperature).masked_fill(~there, -1e30)
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
        source = torch.where(self.valid, self.lengths[:, None] - 1 - frames, frames)
        times = self.times[:, :1] + self.times[:, -1:] - self.times.gather(1, source)
        z = self.z.gather(1, source[:, :, None].expand_as(self.z))
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


def _given(one: _Sequences, two: _Sequences) -> dict[str, Any]:
    """What the aligner takes beside the scores."""
    return {
        "z1": one.z, "z2": two.z, "times1": one.times, "times2": two.times, "lengths": (one.lengths, two.lengths),
    }  # fmt: skip


def _compute_dtype(z1: Tensor, z2: Tensor) -> torch.dtype:
    return torch.promote_types(torch.promote_types(z1.dtype, z2.dtype), torch.float32)


_SMALL = 1e-4  # the norm below which an embedding has less and less of a direction


def _unit(z: Tensor) -> Tensor:
    """z / sqrt(|z|^2 + 1e-8), smooth everywhere; computed on z over its largest component, which cannot overflow."""
    largest = z.detach().abs().amax(dim=-1, keepdim=True).clamp(min=_SMALL)
    z = z / largest
    return z / (z.square().sum(dim=-1, keepdim=True) + (_SMALL / largest).square()).sqrt()


def _target(one: _Sequences, two: _Sequences, sigma: float) -> Tensor:
    """P (B, T1, T2): where each frame of `one` lies in `two` by the clock. Rows sum to 1, or 0 at padding."""
    spans = sum(s.times[:, -1] - s.times[:, 0] for s in (one, two))
    unit = spans / (one.lengths + two.lengths - 2).clamp(min=1)
    unit = torch.where(unit > 0, unit, 1)
    apart = (one.times[:, :, None] - two.times[:, None, :]) / unit[:, None, None]
    logits = (-(apart**2) / (2 * sigma**2)).masked_fill(~two.valid[:, None, :], -1e30)
    inside = one.valid[:, :, None] & two.valid[:, None, :]
    return (torch.softmax(logits, dim=2) * inside).to(one.z.dtype)


_SHARE = 1e-3  # of the frames' own similarities in what the alignment is judged by


def _cross_entropy(clock: Tensor, posterior: Tensor, own: Tensor, one: _Sequences, two: _Sequences) -> Tensor:
    """-sum_j P[i,j] log q[i,j] per pair, mean over the frames of `one`: q = (1 - e) p + e softmax_j(own), e = _SHARE.

    In log space: where p underflows, the second term alone is left, and it has a gradient at any distance. A p below
    1e-30 counts as none, so that no gradient is divided by less.
    """
    log_own = log_softmax(own.masked_fill(~two.valid[:, None, :], -1e30), dim=2) + math.log(_SHARE)
    there = posterior > 1e-30
    log_posterior = torch.where(there, posterior, 1.0).log() + math.log1p(-_SHARE)
    log_q = torch.where(there, torch.logaddexp(log_posterior, log_own), log_own)
    return -(clock * torch.where(clock > 0, log_q, 0.0)).sum((1, 2)) / one.lengths.clamp(min=1)


def _contrastive(one: _Sequences, two: _Sequences, clock: tuple[Tensor, Tensor], tau: float) -> Tensor:
    """Mean of the two directions of KL(clock || softmax(cos / tau)) per pair."""
    logits = one.z @ two.z.mT / tau
    return 0.5 * (_divergence(clock[0], logits, one, two) + _divergence(clock[1], logits.mT, two, one))


def _divergence(target: Tensor, logits: Tensor, one: _Sequences, two: _Sequences) -> Tensor:
    """KL(target || softmax(logits)) per pair, mean over the valid frames of `one`."""
    log_q = log_softmax(logits.masked_fill(~two.valid[:, None, :], -1e30), dim=2)
    inside = target > 0
    kl = target * (torch.where(inside, target, 1.0).log() - torch.where(inside, log_q, 0.0))
    return kl.sum((1, 2)) / one.lengths.clamp(min=1)


def _gap_model(gaps: str | GapModel, embed_dim: int | None, gap_open: float, gap_extend: float) -> GapModel:
    if isinstance(gaps, GapModel):
        return gaps
    checks.choice("gaps", gaps, ("constant", "learned", "contextual", "interval"))
    if gaps == "contextual":
        if embed_dim is None:
            raise ValueError("gaps='contextual' needs the size of the embeddings: pass embed_dim")
        return ContextualGaps(embed_dim, gap_open, gap_extend)
    models = {"constant": ConstantGaps, "learned": LearnedGaps, "interval": IntervalGaps}
    return models[gaps](gap_open, gap_extend)
