"""The local-alignment contrastive loss."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

from lac import checks, processes, solve
from lac.alignment import SmithWaterman
from lac.call import Batch, centred_pairs, checked_call, unit_pairs
from lac.checks import Length
from lac.consensus import Consensus, Recordings, recordings
from lac.gaps import GapModel, gap_model, inverse_softplus
from lac.joint import group_by_group, with_others
from lac.parts import agreement, candidates, consensus_part, cross_entropy, frame_part, frame_target, per_frame
from lac.precision import without_autocast
from lac.sequences import NEVER, Sequences
from lac.solve import Pairs

_FORMS = ("posterior", "contrast", "score")
_NEGATIVES = ("reversed", "batch", "both")
_REDUCTIONS = ("mean", "sum", "none")


class LACTerms(NamedTuple):
    """The parts of the loss, each (B,), one value per pair, not yet weighted or reduced.

    float64 where z1 or z2 is float64, else float32. All are 0 for a pair in which a sequence has no frame.

    Attributes:
        total: sequence_weight * sequence + frame_weight * frame + consensus_weight * consensus.
        sequence: the sequence part, by its form; 0 where its weight is 0.
        frame: the frame part, mean over the valid frames of both sequences; 0 without one clock, or where its weight is
            0.
        consensus: the consensus part of the pair's recordings; 0 without groups, or where its weight is 0.
        score: soft Smith-Waterman score of the pair per frame of its shorter sequence, in units of the similarity
            (not a loss: larger is better). Detached. 0 where sequence_weight is 0: then nothing is aligned.
    """

    total: Tensor
    sequence: Tensor
    frame: Tensor
    consensus: Tensor
    score: Tensor


class Aligned(NamedTuple):
    """How the sequences of each pair align, for N and M frames; float64 where z1 or z2 is float64, else float32.

    Attributes:
        scores: (B, N, M) the signed similarity of each frame of sequence 1 and each of sequence 2; 0 at padding.
        posterior: (B, N, M) the probability that two frames are matched; 0 at padding.
        path: a LongTensor (K, 2) for each pair, on the device of the embeddings: the K matched frames (i, j) of the
            best alignment, in order. Empty where `best_score` is not above 0: an alignment has one match at least,
            however bad, and one that costs more than it gives is no match; the two have nothing in common.
        score: (B,) the soft score, T log sum over all alignments of exp(their score / T), which the loss is made of.
        best_score: (B,) the score of the best alignment, without a gradient; not above `score`.

    Both scores are in units of the similarity, not divided by any length, and 0 for a pair in which a sequence has no
    frame. `scores`, `posterior` and `score` are differentiable.
    """

    scores: Tensor
    posterior: Tensor
    path: list[Tensor]
    score: Tensor
    best_score: Tensor


class LACLoss(nn.Module):
    r"""Local-alignment contrastive loss between two batches of embedded sequences.

    Sequence k of `z1` and sequence k of `z2` are a pair that shows the same thing. What is known about them decides
    what is learned:

        loss(z1, z2)                                  Two recordings, of one action say. The alignment decides.
        loss(z1, z2, times1=t1, times2=t2)            Two views of one recording: frames of equal time match.
        loss(..., times1=t1, times2=t2, same_clock=False)  Each its own clock: times serve the gap model alone.
        loss(..., groups=g, guide1=d)                 Pairs of equal g show the same action: they also learn from what
                                                      the local alignments of their recordings agree about.

    The loss of a pair is a weighted sum of three parts; a part that does not apply is 0.

    *Frame by frame*, with one clock: with times t in units of the mean interval between frames,

        P[i,j] = exp(-(t1_i - t2_j)^2 / (2 sigma^2)), rows normalised,   Q[i,j] = softmax_j(cos(z1_i, z2_j) / f),

    the frame part is KL(P || Q), averaged over the valid frames, in both directions (the loss of Chen et al.).

    *Sequence by sequence*: scores S[i,j] = scale (cos(u1_i, u2_j) - margin) are signed, so that the best *local*
    alignment ends where frames stop to match; u is the unit embedding minus (1 - 1 / T) times the mean over its
    sequence, so what is the recording's own (a camera, a person) drops out. a(z1, z2) is the soft Smith-Waterman score
    of S divided by the length of the shorter sequence, and

        "contrast":  the default without one clock. -log exp(a(z1_k, z2_k) / c) / sum over candidates y of
                     exp(a(z1_k, y) / c), the candidates being the partner and the negatives: "reversed", sequences of
                     the batch played backwards (its own partner first), "batch", the other sequences of the batch but
                     those of its group, or "both".
        "posterior": the default with one clock, which it needs. Cross-entropy of the soft alignment p against the
                     clock, in both directions: the mean of -mean_i sum_j P[i,j] log q[i,j] and of the same from
                     sequence 2 to 1, with q = p + ((1 - e - r_i)+ + e) softmax_j(S), r_i the mass of row i of
                     p, (x)+ = max(x, 0), e = 1e-6. A frame that looks alike elsewhere is told apart by what surrounds
                     it; one that is let go is guessed by its own similarities, and so it is where p is sure of a wrong
                     match: the gradient never vanishes.
        "score":     -a(z1_k, z2_k), the plain form.

    *By consensus*, with groups: `lac.Consensus` aligns all recordings of a group with each other; true matches agree by
    every third recording, wrong ones scatter. Its posterior q and trust w, without gradient, are the targets of

        -sum_{k,l} w_kl sum_{i,j} q_kl[i,j] log softmax_j(cos(z_k,i, z_l,j) / f)  /  sum q.

    The recordings are sequences 1; without one clock also sequences 2, unless only sequences 1 have a guide. Who is
    alone in a group, or has no third to agree with, has no such part.

    Gap penalties are learned with the encoder: give `loss.parameters()` to the optimiser, too. That is well posed in
    "contrast" and "posterior"; in "score" penalties can only fall, since a pair's own score never grows with a penalty.
    The defaults are what measured best (docs/results.md).

    Args:
        sequence_form: of the sequence part: "posterior", "contrast" or "score". Default: by the clock, see above.
        gaps: "constant", "learned" (default), "contextual", "interval", or a gap model of `lac.gaps`.
        embed_dim: E, needed by gaps="contextual" only.
        gap_open: penalty to start from, in units of the similarity, when `gaps` is a name: > 0, or >= 0 for
            "constant". Default 0.5.
        gap_extend: likewise; for "interval" it is the rate per unit of the times. Default 0.1.
        temperature: T of the alignment, > 0, in units of the similarity. Default 0.2.
        margin: the cosine above which two frames match. Default 0.5.
        scale: factor of the similarity, > 0. Default 1.
        learn_similarity: whether margin and scale are learned, from there. Default False: two views of one recording
            are alike beyond what two recordings ever are, and a margin that is learned from them lets little match
            between recordings.
        negatives: of the form "contrast": "reversed", "batch" or "both". Default: "reversed" without groups, where
            nothing is known about the others of the batch; "both" with them.
        n_negatives: how many reversed sequences each pair is contrasted with, >= 1; capped at the batch size.
            Default 4.
        n_others: with "batch" and "both", how many others of the batch each pair is contrasted with, >= 1: those that
            follow it, from the last on to the first. Default `None`: all.
        sequence_temperature: c above, > 0, of the form "contrast". Default 0.02.
        frame_temperature: f above, > 0. Default 0.1.
        sigma: width of P, > 0, in mean intervals between frames. Default 1.3; the publications have sqrt(10).
        sequence_weight: of the sequence part, >= 0; at 0 it is not computed. Default 1.
        frame_weight: of the frame part, >= 0; at 0 it is not computed. Default 1.
        consensus_weight: of the consensus part, >= 0; at 0 it is not computed. Default 2.
        consensus: how recordings of a group are aligned, a `lac.Consensus`. Default: `lac.Consensus()`.
        reduction: of the call, over the pairs that have frames: "mean" (default), "sum", or "none" for a value per
            pair, (B,).
        gather: whether the processes of `torch.distributed` have a part of one batch each, see below. Default False.
        backend: of the alignments, as in `lac.smith_waterman`. Default "auto".

    Raises:
        ValueError: when it is made, an argument out of its range or an unknown name; when it is called, z1, z2, times,
            lengths, groups or guides of the wrong shape, lengths out of range, times that decrease or are not finite,
            one of the two times, a guide or teacher without groups, a guide that is not finite, the form "posterior"
            without a clock, processes that call it with arguments of different kinds.
        TypeError: arguments of the wrong type.
        RuntimeError: when it is called, a backend was named that cannot run here.

    Shape and dtype: z1 (B, T1, E), z2 (B, T2, E), any floating dtype, computed in float32 also inside autocast, in
    float64 where either is float64. times (B, T1), (B, T2): tensors of any real dtype, both or none, non-decreasing;
    frame numbers or any unit of time from any start, since differences are taken before anything is rounded. lengths
    (B,): integers of any kind (a tensor, a list, or one int for all), default T1 and T2. Times and lengths may be on
    the CPU. Values of tensors on a GPU, or seen by `torch.compile`, are not checked; lengths are clamped there.

    Padded frames may hold anything, also NaN: it reaches neither the value nor a gradient. A pair in which a sequence
    has no frame is left out: it adds nothing, is nobody's negative, takes no part in a consensus, and does not count in
    the mean. A NaN in a valid frame makes the loss NaN: nothing is hidden.

    The cosine is that of z / (|z|^4 + e^4)^(1/4), e = 0.001: the plain one for embeddings of any size but those shorter
    than about e, which have less and less of a direction, down to the zero vector, which has none (cosine 0). So the
    gradient by an embedding is bounded by 1 / e times that by its direction.

    With `gather=True` each process of the default process group has a part of one joint batch, process after process;
    parts may differ in B, T1 and T2. "The batch" above is then the joint one; values are of the own pairs, in `terms`
    and "none" as they are in the joint batch. Of W processes, "sum" is W times the sum over the own pairs, and "mean" W
    times this sum divided by the number of all pairs that have frames: their mean over the processes is the joint loss,
    and the mean of their gradients, which `DistributedDataParallel` takes, the joint gradient. All processes call the
    loss together, with settings and arguments of the same kind, and take the gradient (of any order) together or not
    at all. Process 0 draws for all. `torch.compile` leaves such a loss to PyTorch, hence no fullgraph=True;
    `torch.vmap` is a RuntimeError. Keep groups on the CPU: the host reads them.

    Memory of the consensus part: about ten tensors of (B T1)^2 numbers ((2 B max(T1, T2))^2 without one clock).

    References: K. Oei et al., "Self-Supervised Contrastive Learning for Videos using Differentiable Local Alignment",
    2024; M. Chen et al., "Frame-wise Action Representations for Long Videos via Sequence Contrastive Learning", 2022;
    Z. Xue and K. Grauman, "Learning Fine-grained View-Invariant Representations from Unpaired Ego-Exo Videos via
    Temporal Alignment", 2023 (contrast with the reversed sequence); C. Do et al., "ProbCons: Probabilistic
    consistency-based multiple sequence alignment", 2005.

    Examples:
        >>> loss = LACLoss()
        >>> loss(torch.randn(4, 40, 128), torch.randn(4, 50, 128)).shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        sequence_form: str | None = None,
        gaps: str | GapModel = "learned",
        embed_dim: int | None = None,
        gap_open: float = 0.5,
        gap_extend: float = 0.1,
        temperature: float = 0.2,
        margin: float = 0.5,
        scale: float = 1.0,
        learn_similarity: bool = False,
        negatives: str | None = None,
        n_negatives: int = 4,
        n_others: int | None = None,
        sequence_temperature: float = 0.02,
        frame_temperature: float = 0.1,
        sigma: float = 1.3,
        sequence_weight: float = 1.0,
        frame_weight: float = 1.0,
        consensus_weight: float = 2.0,
        consensus: Consensus | None = None,
        reduction: str = "mean",
        gather: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.sequence_form = (
            sequence_form if sequence_form is None else checks.choice("sequence_form", sequence_form, _FORMS)
        )
        self.negatives = negatives if negatives is None else checks.choice("negatives", negatives, _NEGATIVES)
        self.n_negatives = checks.count("n_negatives", n_negatives)
        self.n_others = None if n_others is None else checks.count("n_others", n_others)
        self.sequence_temperature = checks.positive("sequence_temperature", sequence_temperature)
        self.frame_temperature = checks.positive("frame_temperature", frame_temperature)
        self.sigma = checks.positive("sigma", sigma)
        self.sequence_weight = checks.weight("sequence_weight", sequence_weight)
        self.frame_weight = checks.weight("frame_weight", frame_weight)
        self.consensus_weight = checks.weight("consensus_weight", consensus_weight)
        if not isinstance(consensus, (Consensus, type(None))):
            raise TypeError(f"consensus must be a lac.Consensus or None, got {type(consensus).__name__}")
        self.consensus = consensus or Consensus()
        self.reduction = checks.choice("reduction", reduction, _REDUCTIONS)
        self.gather = checks.flag("gather", gather)
        self.aligner = SmithWaterman(gap_model(gaps, embed_dim, gap_open, gap_extend), temperature, backend)
        learned = checks.flag("learn_similarity", learn_similarity)
        self.margin = nn.Parameter(torch.tensor(checks.finite("margin", margin)), requires_grad=learned)
        self.raw_scale = nn.Parameter(torch.tensor(inverse_softplus("scale", scale)), requires_grad=learned)

    def extra_repr(self) -> str:
        return (
            f"sequence_form={self.sequence_form!r}, negatives={self.negatives!r}, n_negatives={self.n_negatives}, "
            f"n_others={self.n_others}, sequence_temperature={self.sequence_temperature}, "
            f"frame_temperature={self.frame_temperature}, sigma={self.sigma:.4g}, "
            f"sequence_weight={self.sequence_weight}, frame_weight={self.frame_weight}, "
            f"consensus_weight={self.consensus_weight}, {self.consensus}, "
            f"reduction={self.reduction!r}, gather={self.gather}"
        )

    def learned(self) -> dict[str, Tensor]:
        """Detached 0-d tensors of what the loss has learned, by name, for logging.

        The penalties of the gap model (`GapModel.learned`), and "margin" and "scale" where they are learned.
        """
        values = self.aligner.gaps.learned()
        if self.margin.requires_grad:
            values = {**values, "margin": self.margin.detach(), "scale": softplus(self.raw_scale.detach())}
        return values

    def scores(self, z1: Tensor, z2: Tensor, lengths1: Length = None, lengths2: Length = None) -> Tensor:
        """Signed similarity scale (cos(u1_i, u2_j) - margin), see the class: (B, T1, E), (B, T2, E) -> (B, T1, T2).

        float64 where z1 or z2 is float64, else float32. Scores at padding mean nothing.

        Raises:
            ValueError, TypeError: z1, z2 or lengths of the wrong shape or type.
        """
        with without_autocast(z1):
            first, second = centred_pairs(*unit_pairs(z1, z2, None, None, lengths1, lengths2))
            return self.signed(first.z, second.z)

    def signed(self, unit1: Tensor, unit2: Tensor) -> Tensor:
        """`scores` of unit vectors that what is common to each sequence was taken off already."""
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
        same_clock: bool = True,
        groups: Tensor | None = None,
        guide1: Tensor | None = None,
        guide2: Tensor | None = None,
        teacher1: Tensor | None = None,
        teacher2: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch of pairs; shapes and dtypes as in the class.

        Args:
            z1: (B, T1, E) embeddings.
            z2: (B, T2, E) embeddings.
            times1: (B, T1), with `times2`: seconds or frame numbers. Default none: the pair has no clock.
            times2: (B, T2).
            lengths1: (B,) integers, the frames that are no padding; default T1.
            lengths2: likewise; default T2.
            same_clock: whether the times are of one recording, so that equal times match. `False`: each sequence has a
                clock of its own, and times serve the gap model only.
            groups: (B,) integers: pairs of equal number show the same action. Adds the consensus part.
            guide1: (B, T1, K) floating point, with `groups`: what else is known about the frames for aligning, such as
                `lac.self_similarity`. Only the direction of its rows counts.
            guide2: (B, T2, K), likewise. With one clock it is not needed, and not used.
            teacher1: (B, T1, E) embeddings by which the consensus aligns, of a slower copy of the encoder, say; without
                gradient. Default z1 itself.
            teacher2: (B, T2, E), likewise.

        Returns:
            By `reduction` the mean of `terms(...).total` over the pairs that have frames, 0-d, 0 if none has; their
            sum, 0-d; or these values, (B,).

        Raises:
            ValueError, TypeError, RuntimeError: as in the class.
        """
        batch = checked_call(
            z1, z2, (times1, times2), (lengths1, lengths2), same_clock, groups, (guide1, guide2), (teacher1, teacher2)
        )
        total = self._terms(batch).total
        if self.reduction == "none":
            return total
        value = total.sum() * self._processes()
        return value if self.reduction == "sum" else value / self._summed((batch.first.lengths > 0).sum()).clamp(min=1)

    def _processes(self) -> int:
        """How many have a part of the batch."""
        return processes.count() if self.gather else 1

    def _summed(self, x: Tensor) -> Tensor:
        return processes.summed(x) if self._processes() > 1 else x

    def terms(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths1: Length = None,
        lengths2: Length = None,
        same_clock: bool = True,
        groups: Tensor | None = None,
        guide1: Tensor | None = None,
        guide2: Tensor | None = None,
        teacher1: Tensor | None = None,
        teacher2: Tensor | None = None,
    ) -> LACTerms:
        """The parts of the loss for each pair, whatever the `reduction`; arguments and errors as in the call."""
        return self._terms(
            checked_call(
                z1, z2, (times1, times2), (lengths1, lengths2), same_clock, groups, (guide1, guide2),
                (teacher1, teacher2),
            )
        )  # fmt: skip

    def align(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        times1: Tensor | None = None,
        times2: Tensor | None = None,
        lengths1: Length = None,
        lengths2: Length = None,
    ) -> Aligned:
        """Align each pair by the loss's own similarity, gap penalties and temperature.

        Arguments and errors as in the call, for embeddings of which sequence k of z1 and of z2 need not show the
        same thing. Reads values (paths are lists), so it waits for a GPU and cannot be compiled.

        Raises:
            ValueError: also with backend="reference", which has no hard alignment.
            RuntimeError: within `torch.vmap` and tracing.

        Examples:
            >>> aligned = LACLoss().align(torch.randn(4, 40, 128), torch.randn(4, 50, 128))
            >>> aligned.posterior.shape, len(aligned.path)
            (torch.Size([4, 40, 50]), 4)
        """
        first, second = centred_pairs(*unit_pairs(z1, z2, times1, times2, lengths1, lengths2))
        backend = self.aligner.backend
        with without_autocast(z1):
            pairs, gap_open, gap_extend = self._problem(first, second)
            score, posterior = solve.score_and_posterior(pairs, gap_open, gap_extend, self.aligner.temperature, backend)
            with torch.no_grad():
                best_score, best_paths = solve.best(pairs, gap_open, gap_extend, backend)
        path = solve.in_common(best_score, best_paths)
        inside = first.valid[:, :, None] & second.valid[:, None, :]
        return Aligned(torch.where(inside, pairs.scores, 0), posterior, path, score, best_score)

    def _terms(self, batch: Batch) -> LACTerms:
        return self._terms_of_many(batch) if self._processes() > 1 else self._terms_of(batch)

    @processes.untraced
    def _terms_of_many(self, batch: Batch) -> LACTerms:
        contrast = self.sequence_weight > 0 and self._form(batch) == "contrast"
        consensus = self.consensus_weight > 0 and batch.group is not None
        taking_part = consensus, consensus and batch.sides() == 2
        return self._terms_of(with_others(batch, (consensus, contrast or taking_part[1]), taking_part))

    def _form(self, batch: Batch) -> str:
        return self.sequence_form or ("posterior" if batch.clock else "contrast")

    def _terms_of(self, batch: Batch) -> LACTerms:
        first, second = batch.first, batch.second
        with without_autocast(first.z):
            clock = None
            if self.sequence_form == "posterior" and self.sequence_weight > 0 and not batch.clock:
                raise ValueError(
                    "sequence_form='posterior' compares the alignment with the clock, but these pairs have none: give "
                    "times1 and times2, or leave sequence_form out"
                )
            if batch.clock:
                clock = frame_target(first, second, self.sigma), frame_target(second, first, self.sigma)
            sequence = frame = consensus = score = first.z.new_zeros(first.z.shape[0])
            if self.frame_weight > 0 and clock is not None:
                frame = frame_part(first, second, clock, self.frame_temperature)
            if self.sequence_weight > 0:
                sequence, score = self._sequence_part(batch, clock)
            if self.consensus_weight > 0 and batch.group is not None:
                consensus = self._consensus_part(batch)
            total = self.sequence_weight * sequence + self.frame_weight * frame + self.consensus_weight * consensus
        return LACTerms(total, sequence, frame, consensus, score.detach())

    def _sequence_part(self, batch: Batch, clock: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """The sequence part, and the soft score per frame, each (B,)."""
        form = self._form(batch)
        if form == "contrast":
            return self._contrast(batch)
        first, second = centred_pairs(batch.first, batch.second)
        if form == "score":
            score = self._score(first, second)
            return -score, score
        assert clock is not None
        pairs, gap_open, gap_extend = self._problem(first, second)
        score, posterior = solve.score_and_posterior(
            pairs, gap_open, gap_extend, self.aligner.temperature, self.aligner.backend
        )
        there = cross_entropy(clock[0], posterior, pairs.scores, first, second)
        back = cross_entropy(clock[1], posterior.mT, pairs.scores.mT, second, first)
        return 0.5 * (there + back), per_frame(score, first, second)

    def _consensus_part(self, batch: Batch) -> Tensor:
        """(B,); of a pair whose sequences are recordings of their own, the mean of both."""
        b, sides, joint = len(batch.first.z), batch.sides(), batch.joint
        assert joint.group is not None
        taking_part = recordings([s for s in (joint.first, joint.second)[:sides] if s is not None], joint.group)
        if joint.groups is None:
            each, mass = self._agreement(taking_part, slice(None))
        else:
            whole = self.consensus.whole(taking_part)
            each, mass = group_by_group(taking_part, whole, joint, b, sides, self._agreement)
        return consensus_part(each, mass, self._summed).reshape(sides, b).mean(0)

    def _agreement(self, taking_part: Recordings, own: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Of the own ones among recordings that are aligned with each other, see `agreement`."""
        together = self.consensus.align(taking_part, self.aligner.backend)
        targets, trust = together.posterior[own], together.trust[own]
        return agreement(targets, trust, taking_part.z.selected(own), taking_part.z, self.frame_temperature)

    def _problem(self, first: Sequences, second: Sequences) -> tuple[Pairs, Tensor, Tensor]:
        """Scores with lengths, and the penalties; by the aligner's parts, since all is checked already."""
        gap_open, gap_extend = self.aligner.gaps(first.z, second.z, first.times, second.times)
        lengths1, lengths2 = (s.lengths.to(torch.int32) for s in (first, second))
        return Pairs(self.signed(first.z, second.z), lengths1, lengths2), gap_open, gap_extend

    def _score(self, first: Sequences, second: Sequences) -> Tensor:
        """a (B,), the soft score per frame of the shorter sequence."""
        score = solve.score(*self._problem(first, second), self.aligner.temperature, self.aligner.backend)
        return per_frame(score, first, second)

    def _contrast(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """-log softmax_y(a(z1_k, y) / c) at the partner y = z2_k of each pair k, and a(z1_k, z2_k), each (B,)."""
        assert batch.joint.second is not None
        first, second = centred_pairs(batch.first, batch.joint.second)
        groups = None if batch.joint.group is None else batch.joint.group.groups
        own = torch.arange(len(first.z), device=first.z.device) + batch.joint.start
        negatives = self.negatives or ("reversed" if groups is None else "both")
        chosen = candidates(own, len(second.z), negatives, self.n_others, self.n_negatives)
        k = chosen.shape[1]
        them = second.joined(second.reversed()).selected(chosen.flatten())
        score = self._score(first.repeated(k), them).reshape(chosen.shape)
        usable = them.lengths.reshape(chosen.shape) > 0
        if groups is not None:  # another recording of the group is no negative, but backwards it is
            others = (chosen == chosen[:, :1]) | (chosen >= len(groups))
            usable = usable & (others | (groups[chosen % len(groups)] != groups[chosen[:, :1]]))
        logits = (score / self.sequence_temperature).masked_fill(~usable, NEVER)
        contrast = torch.where(first.lengths > 0, -log_softmax(logits, dim=1)[:, 0], 0)
        return contrast, score[:, 0]
