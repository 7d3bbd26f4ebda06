"""The local-alignment contrastive loss."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, softplus

from lac.alignment import SmithWaterman
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
        _choice("alignment", alignment, _FORMS)
        _choice("negatives", negatives, _NEGATIVES)
        positive = {"temperature": temperature, "scale": scale, "contrast_temperature": contrast_temperature}
        positive |= {"tau": tau, "sigma": sigma, "n_negatives": n_negatives}
        for name, value in positive.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        for name, value in {
            "alignment_weight": alignment_weight,
            "contrastive_weight": contrastive_weight,
        }.items():
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        self.form = alignment
        self.negatives = negatives
        self.n_negatives = n_negatives
        self.contrast_temperature = contrast_temperature
        self.tau = tau
        self.sigma = sigma
        self.alignment_weight = alignment_weight
        self.contrastive_weight = contrastive_weight
        self.aligner = SmithWaterman(_gap_model(gaps, embed_dim, gap_open, gap_extend), temperature, backend)
        self.margin = nn.Parameter(torch.tensor(float(margin)), requires_grad=learn_similarity)
        raw_scale = torch.tensor(inverse_softplus("scale", scale))
        self.raw_scale = nn.Parameter(raw_scale, requires_grad=learn_similarity)

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
        return softplus(self.raw_scale) * (_unit(z1) @ _unit(z2).mT - self.margin)

    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths1: Tensor | None = None,
        lengths2: Tensor | None = None,
    ) -> Tensor:
        """The loss, a 0-d float32 tensor: the mean of `terms(...).total` over the pairs."""
        terms = self.terms(z1, z2, times1=times1, times2=times2, lengths1=lengths1, lengths2=lengths2)
        return terms.total.mean()

    def terms(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths1: Tensor | None = None,
        lengths2: Tensor | None = None,
    ) -> LACTerms:
        """The parts of the loss for each pair; arguments as in the call."""
        _check("z1", z1, times1, lengths1)
        _check("z2", z2, times2, lengths2)
        if z1.shape[0] != z2.shape[0] or z1.shape[2] != z2.shape[2]:
            raise ValueError(
                f"z1 and z2 must agree in batch and embedding size, got {tuple(z1.shape)} and {tuple(z2.shape)}"
            )
        with torch.autocast(device_type=z1.device.type, enabled=False):
            one = _Sequences.of(z1, times1, lengths1)
            two = _Sequences.of(z2, times2, lengths2)
            clock = (_target(one, two, self.sigma), _target(two, one, self.sigma))
            alignment = contrastive = score = one.z.new_zeros(one.z.shape[0])
            if self.contrastive_weight > 0:
                contrastive = _contrastive(one, two, clock, self.tau)
            if self.alignment_weight > 0:
                alignment, score = self._alignment(one, two, clock)
            total = self.alignment_weight * alignment + self.contrastive_weight * contrastive
        return LACTerms(total, alignment, contrastive, score.detach())

    def _alignment(self, one: "_Sequences", two: "_Sequences", clock: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        if self.form == "contrast":
            return self._contrast(one, two)
        if self.form == "score":
            score = self._score(one, two)
            return -score, score
        posterior = self.aligner.soft_alignment(
            self.scores(one.z, two.z),
            z1=one.z, z2=two.z, times1=one.times, times2=two.times, lengths=(one.lengths, two.lengths),
        )  # fmt: skip
        inside = one.valid[:, :, None] & two.valid[:, None, :]
        log_posterior = torch.where(inside, posterior, 1.0).clamp(min=1e-6).log()
        forward = -(clock[0] * log_posterior).sum((1, 2)) / one.lengths.clamp(min=1)
        backward = -(clock[1] * log_posterior.mT).sum((1, 2)) / two.lengths.clamp(min=1)
        with torch.no_grad():  # for the report only
            score = self._score(one, two)
        return 0.5 * (forward + backward), score

    def _score(self, one: "_Sequences", two: "_Sequences") -> Tensor:
        score = self.aligner(
            self.scores(one.z, two.z),
            z1=one.z, z2=two.z, times1=one.times, times2=two.times, lengths=(one.lengths, two.lengths),
        )  # fmt: skip
        per_frame: Tensor = score / torch.minimum(one.lengths, two.lengths).clamp(min=1)
        return per_frame

    def _contrast(self, one: "_Sequences", two: "_Sequences") -> tuple[Tensor, Tensor]:
        b = one.z.shape[0]
        candidates = torch.arange(b, device=one.z.device)[:, None]
        everyone = two
        if self.negatives != "batch":
            everyone = two.joined(two.reversed())
        shifts = torch.arange(min(self.n_negatives, b), device=one.z.device)
        parts = [candidates]
        if self.negatives != "reversed" and b > 1:
            parts.append((candidates + torch.arange(1, b, device=one.z.device)) % b)
        if self.negatives != "batch":
            parts.append(b + (candidates + shifts) % b)
        candidates = torch.cat(parts, dim=1)
        k = candidates.shape[1]
        score = self._score(one.repeated(k), everyone.selected(candidates.flatten())).reshape(b, k)
        contrast: Tensor = -log_softmax(score / self.contrast_temperature, dim=1)[:, 0]
        return contrast, score[:, 0]


class _Sequences(NamedTuple):
    """A batch of embedded sequences: unit vectors, 0 at padding."""

    z: Tensor  # (B, T, E) float32 (float64 for float64)
    times: Tensor  # (B, T)
    lengths: Tensor  # (B,)
    valid: Tensor  # (B, T) bool

    @classmethod
    def of(cls, z: Tensor, times: Tensor | None, lengths: Tensor | None) -> "_Sequences":
        b, t, _ = z.shape
        frames = torch.arange(t, device=z.device)
        if lengths is None:
            lengths = torch.full((b,), t, device=z.device)
        lengths = lengths.to(z.device).clamp(0, t)
        valid = frames < lengths[:, None]
        dtype = z.dtype if z.dtype == torch.float64 else torch.float32
        z = torch.where(valid[:, :, None], z, 0).to(dtype)
        times = frames.expand(b, t) if times is None else times.to(z.device)
        return cls(_unit(z), torch.where(valid, times, 0).to(dtype), lengths, valid)

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
        first, last = self.times[:, :1], self.times.gather(1, (self.lengths[:, None] - 1).clamp(min=0))
        times = torch.where(self.valid, first + last - self.times.gather(1, source), 0)
        z = self.z.gather(1, source[:, :, None].expand_as(self.z))
        return _Sequences(z, times, self.lengths, self.valid)


def _unit(z: Tensor) -> Tensor:
    return normalize(z, dim=-1, eps=1e-6)


def _target(one: _Sequences, two: _Sequences, sigma: float) -> Tensor:
    """P (B, T1, T2): where each frame of `one` lies in `two` by the clock. Rows sum to 1, or 0 at padding."""
    spans = [s.times.gather(1, (s.lengths[:, None] - 1).clamp(min=0))[:, 0] - s.times[:, 0] for s in (one, two)]
    intervals = (one.lengths + two.lengths - 2).clamp(min=1)
    unit = ((spans[0] + spans[1]) / intervals).clamp(min=1e-6)
    apart = (one.times[:, :, None] - two.times[:, None, :]) / unit[:, None, None]
    logits = (-(apart**2) / (2 * sigma**2)).masked_fill(~two.valid[:, None, :], -1e30)
    inside = one.valid[:, :, None] & two.valid[:, None, :]
    return torch.softmax(logits, dim=2) * inside


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
    _choice("gaps", gaps, ("constant", "learned", "contextual", "interval"))
    if gaps == "contextual":
        if embed_dim is None:
            raise ValueError("gaps='contextual' needs the size of the embeddings: pass embed_dim")
        return ContextualGaps(embed_dim, gap_open, gap_extend)
    models = {"constant": ConstantGaps, "learned": LearnedGaps, "interval": IntervalGaps}
    return models[gaps](gap_open, gap_extend)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def _check(name: str, z: Tensor, times: Tensor | None, lengths: Tensor | None) -> None:
    number = name[-1]
    if not isinstance(z, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(z).__name__}")
    if z.dim() != 3 or 0 in z.shape[:2]:
        raise ValueError(f"{name} must be (batch, frames, embedding) with at least one frame, got {tuple(z.shape)}")
    if not z.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {z.dtype}")
    if times is not None and times.shape != z.shape[:2]:
        raise ValueError(f"times{number} must be {tuple(z.shape[:2])} like {name}, got {tuple(times.shape)}")
    if lengths is not None and lengths.shape != z.shape[:1]:
        raise ValueError(f"lengths{number} must be ({z.shape[0]},), one per sequence, got {tuple(lengths.shape)}")
