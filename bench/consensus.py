"""Controls of the claim that the consensus of local alignments teaches: each changes one thing of it.

A control is a loss that takes the place of `LACLoss` in training, or a way to draw clips and their groups. The oracle
and the supervised control are told the labels by way of the guide: they measure how much there is to be gained.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.losses import LOSSES
from lac import LACLoss, LACTerms
from lac.call import Batch as Call
from lac.checks import Length
from lac.consensus import AlignedTogether, Consensus, Recordings, Thirds
from lac.data import Clip, Dataset
from lac.data.augment import Batch
from lac.runs.aligners import softmax_both_ways
from lac.runs.config import TrainConfig
from lac.runs.matching import phase_positions
from lac.runs.sampling import Sampler
from lac.runs.warping import soft_dtw_cells
from lac.sequences import Sequences
from lac_kernels.problem import valid_frames

SPREAD_OF_THE_ORACLE = 0.3  # of a phase: wide targets teach better than sharp ones, also when all are right
SOFT_DTW_GAMMA, SOFTMAX_TEMPERATURE = 0.3, 0.3  # in units of the root mean square of the similarity


class Once(Consensus):
    """Not aligned again."""

    def again(self, agreed: Tensor, seen: Sequences, i: Tensor, j: Tensor, backend: str) -> Tensor:
        return agreed


class Trusting(Consensus):
    """Every target is trusted."""

    def trusted(self, information: Tensor, partners: Tensor) -> Tensor:
        return partners.to(information.dtype)


class Alone(Trusting):
    """Without consistency: the alignment of the two recordings is the target, aligned again as it is, and trusted."""

    def agreed(self, posteriors: Tensor, partners: Tensor, thirds: Thirds | None) -> tuple[Tensor, Tensor]:
        return posteriors, posteriors


class RowSoftmaxThenAligned(Consensus):
    """softmax over the frames of the other recording, the mean of both directions, in place of the first alignment."""

    def matched(self, similarity: Tensor, seen: Sequences, i: Tensor, j: Tensor, backend: str) -> Tensor:
        rows, columns = softmax_both_ways(similarity / SOFTMAX_TEMPERATURE, seen.valid[i], seen.valid[j])
        return 0.5 * (rows + columns)


class RowSoftmax(Once, Trusting, RowSoftmaxThenAligned):
    """The same in place of both alignments."""


class SoftDTW(Once, Trusting):
    """The path of soft-DTW, which leaves no frame out, in place of the alignments; rows add up to 1 at most."""

    def matched(self, similarity: Tensor, seen: Sequences, i: Tensor, j: Tensor, backend: str) -> Tensor:
        cells = soft_dtw_cells(-similarity, seen.lengths[i], seen.lengths[j], SOFT_DTW_GAMMA)
        most = torch.maximum(cells.sum(2, keepdim=True), cells.sum(1, keepdim=True))
        inside = seen.valid[i][:, :, None] & seen.valid[j][:, None, :]
        return torch.where(inside, cells / most.clamp(min=1e-6), 0)


class Labels(Consensus):
    """Targets from the guides of `with_phases`: Gaussian in the difference of phase positions, rows normalised."""

    def align(self, given: Recordings, backend: str) -> AlignedTogether:
        assert given.guide is not None
        labelled = given.guide.norm(dim=2) > 0.5
        position = torch.atan2(given.guide[:, :, 1], given.guide[:, :, 0]) / _RADIANS
        apart = position[:, None, :, None] - position[None, :, None, :]
        groups = given.groups
        partners = (groups[:, None] == groups[None, :]) & ~torch.eye(len(groups), dtype=torch.bool)
        inside = labelled[:, None, :, None] & labelled[None, :, None, :] & partners[:, :, None, None]
        near = torch.where(inside, torch.exp(-(apart**2) / (2 * SPREAD_OF_THE_ORACLE**2)), 0)
        return AlignedTogether(near / near.sum(3, keepdim=True).clamp(min=1e-3), partners.to(near.dtype))


_RADIANS = math.pi / 64  # an angle for each phase position: room for 64 phases


def with_phases(clips: Sequence[Clip]) -> list[Clip]:
    """The clips with the phase positions of their frames for a guide: (cos, sin) of an angle, 0 where there is none."""
    told = []
    for clip in clips:
        labels = np.full(len(clip), -1) if clip.labels is None else clip.labels
        position = phase_positions(labels)
        angle = np.nan_to_num(position) * _RADIANS
        guide = np.stack([np.cos(angle), np.sin(angle)], axis=1) * ~np.isnan(position)[:, None]
        told.append(dataclasses.replace(clip, guide=guide.astype(np.float32)))
    return told


class Supervised(nn.Module):
    """Cross-entropy of a linear layer over the phases, which `with_phases` tells, on the first views."""

    def __init__(self, phases: int, embed_dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(embed_dim, phases)

    def learned(self) -> dict[str, Tensor]:
        return {}

    def terms(self, z1: Tensor, z2: Tensor, *, guide1: Tensor, lengths1: Length = None, **others: Any) -> LACTerms:
        lengths = torch.as_tensor(lengths1)
        labelled = (guide1.norm(dim=2) > 0.5) & valid_frames(lengths, z1.shape[1])
        phase = (torch.atan2(guide1[:, :, 1], guide1[:, :, 0]) / _RADIANS).floor().long().clamp(min=0)
        each = cross_entropy(self.head(z1).mT, phase, reduction="none")
        total = torch.where(labelled, each, 0).sum(1) / labelled.sum(1).clamp(min=1)
        return LACTerms(total, *(torch.zeros_like(total),) * 4)


def shuffled(sampler: Sampler) -> Sampler:
    """Groups drawn at random: clips of a group share nothing but by chance."""
    assert sampler.groups is not None
    order = np.random.default_rng(sampler.seed).permutation(len(sampler.groups))
    return dataclasses.replace(sampler, groups=sampler.groups[order])


def other_actions(sampler: Sampler) -> Sampler:
    """Groups of clips of different actions: the k-th clip of each action makes group k."""
    assert sampler.groups is not None
    number = np.zeros(len(sampler.groups), dtype=np.int64)
    for group in np.unique(sampler.groups):
        own = sampler.groups == group
        number[own] = np.arange(own.sum())
    return dataclasses.replace(sampler, groups=number)


VIEWS_OF_A_CLIP = 4


class _ManyViews(Sampler):
    def _chosen(self, rng: np.random.Generator) -> list[int]:
        return [k for k in super()._chosen(rng)[: -(-self.batch // VIEWS_OF_A_CLIP)] for _ in range(VIEWS_OF_A_CLIP)]


def third_views(sampler: Sampler) -> Sampler:
    """Each clip several times in a batch, and a group of its own: more views of one recording, no other recordings."""
    return _as(_ManyViews, sampler, groups=np.arange(len(sampler.clips)))


def partner_views(sampler: Sampler) -> Sampler:
    """Two clips of an action in the place of two views of a clip."""
    return _as(PartnerViews, sampler)


def _as(kind: type[Sampler], sampler: Sampler, **changes: Any) -> Sampler:
    """The same settings in another kind of sampler."""
    return kind(**{field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)} | changes)


class PartnerViews(Sampler):
    """Second views of another clip of the action, of the same clip where there is none, as some losses pair them."""

    def __call__(self, step: int) -> tuple[Batch, Batch]:
        rng = np.random.default_rng([self.seed, step, 1])
        chosen = self._chosen(np.random.default_rng([self.seed, step]))
        partners = [self._partner(k, rng) for k in chosen]
        return self._views(chosen, step)[0], self._views(partners, step)[1]

    def _partner(self, k: int, rng: np.random.Generator) -> int:
        others = [j for j, clip in enumerate(self.clips) if clip.action == self.clips[k].action and j != k]
        return others[int(rng.integers(len(others)))] if others else k


SIZE = 0.32  # about the root mean square of the similarity of centred embeddings, in whose unit the consensus counts


class OwnGaps(LACLoss):
    """The first alignment by the gaps and the margin that the loss has learned from views of one clip."""

    def _consensus_part(self, batch: Call) -> Tensor:
        learned = {name: value.item() for name, value in self.learned().items()}
        gap_open, gap_extend = (learned[name] / learned["scale"] / SIZE for name in ("gap_open", "gap_extend"))
        self.consensus = Consensus(margin=learned["margin"] / SIZE, gap_open=gap_open, gap_extend=gap_extend)
        return super()._consensus_part(batch)


@dataclasses.dataclass(frozen=True)
class Side:
    """What takes the place of `LACLoss` in a run of lac-train.

    Attributes:
        make_loss: from the settings and the data set what makes the loss; `None`: `LACLoss` as the settings say.
        sampler: what is changed in the views.
        groups: whether the loss takes groups, guides and a teacher.
        published: whether it is another author's.
    """

    make_loss: Callable[[TrainConfig, Dataset], Callable[[], nn.Module]] | None = None
    sampler: Callable[[Sampler], Sampler] = lambda sampler: sampler
    groups: bool = False
    published: bool = False


def _with(make: Callable[..., Consensus], sampler: Callable[[Sampler], Sampler] = lambda sampler: sampler) -> Side:
    return Side(lambda config, _: lambda: LACLoss(consensus=make(), **config.loss), sampler, groups=True)


def told_the_labels(sampler: Sampler) -> Sampler:
    """The same with the labels for guides."""
    return dataclasses.replace(sampler, clips=with_phases(sampler.clips))


def _supervised(config: TrainConfig, dataset: Dataset) -> Callable[[], nn.Module]:
    return lambda: Supervised(len(dataset.label_names), config.model["embed_dim"])


SIDES: dict[str, Side] = {
    "row softmax for p": _with(RowSoftmax),
    "row softmax for p, aligned again": _with(RowSoftmaxThenAligned),
    "soft-DTW for p": _with(SoftDTW),
    "no consistency": _with(Alone),
    "not aligned again": _with(Once),
    "every target trusted": _with(Trusting),
    "gaps and margin learned from views": Side(lambda config, _: lambda: OwnGaps(**config.loss), groups=True),
    "groups shuffled": _with(Consensus, shuffled),
    "partners of other actions": _with(Consensus, other_actions),
    "third views of the clip": _with(Consensus, third_views),
    "oracle": _with(Labels, told_the_labels),
    "trained on the labels": Side(_supervised, told_the_labels, groups=True),
}


def side(loss: str, consensus: dict[str, Any] | None = None) -> Side:
    """The side of a name: one of SIDES, a published loss, or LACLoss, where `consensus` names settings with these."""
    if consensus is not None:
        return _with(lambda: Consensus(**consensus))
    published = LOSSES.get(loss)
    if published is None:
        return SIDES.get(loss, Side())
    partners = published.views == "action"
    return Side(lambda *_: published, partner_views if partners else lambda sampler: sampler, published=True)
