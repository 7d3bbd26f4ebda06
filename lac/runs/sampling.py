"""The pairs of views that the steps of training see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lac.data import Clip
from lac.data.augment import Batch, view_batches
from lac.guides import groups_of, with_guides
from lac.runs import processes
from lac.runs.config import TrainConfig

TOGETHER = 8  # clips of an action in a batch: fewer would have few others to agree with


def learning_groups(config: TrainConfig, clips: Sequence[Clip]) -> np.ndarray | None:
    """`groups_of` the training clips where the settings ask for a consensus part; else `None`."""
    return groups_of(clips) if config.loss["consensus_weight"] > 0 else None


@dataclass(frozen=True, eq=False)
class Sampler:
    """Two views each of some clips, on the CPU. Those of a step depend on the seed and the step only.

    Args:
        clips: to draw from, without repetition as far as there are enough.
        batch: pairs in a step.
        seed: of every draw.
        augment: the options of `lac.data.augment.two_views`.
        groups: (C,) int64, equal for clips that learn from their consensus: clips of a group are drawn by TOGETHER at a
            time, and the batches say their groups. `None`: there are none.
        part: (k, n), where n processes share a batch and this is number k: the pairs are neighbours in the batch, and
            the same ones whatever n is. Some processes may have one pair more than others.
    """

    clips: Sequence[Clip]
    batch: int
    seed: int
    augment: Mapping[str, Any]
    groups: np.ndarray | None = None
    part: tuple[int, int] = (0, 1)

    @classmethod
    def of(cls, config: TrainConfig, clips: Sequence[Clip]) -> Sampler:
        """The sampler of a run, whose clips have guides where its settings ask for the consensus; of this process."""
        groups, part = learning_groups(config, clips), (processes.rank(), processes.count())
        if groups is not None:
            clips = with_guides(clips, config.train.reach)
        return cls(clips, config.train.batch, config.train.seed, config.augment, groups, part)

    def __call__(self, step: int) -> tuple[Batch, Batch]:
        """The first and the second views of a step."""
        return self._views(self._chosen(np.random.default_rng([self.seed, step])), step)

    def _views(self, chosen: list[int], step: int) -> tuple[Batch, Batch]:
        """Two views each of the clips of these numbers, as far as they are of this process's part."""
        number, count = self.part
        places = range(len(chosen) * number // count, len(chosen) * (number + 1) // count)
        chosen = [chosen[place] for place in places]
        options = {**self.augment, "distractors": self.clips if self.augment["max_distractors"] else ()}
        first, second = view_batches(self.clips, chosen, seed=self.seed, step=step, places=places, **options)
        if self.groups is None:
            return first, second
        groups = torch.from_numpy(self.groups[chosen])
        return first._replace(groups=groups), second._replace(groups=groups)

    def _chosen(self, rng: np.random.Generator) -> list[int]:
        """Numbers of the clips of a batch."""
        rounds = [rng.permutation(len(self.clips)) for _ in range(-(-self.batch // len(self.clips)))]
        left = np.concatenate(rounds)
        if self.groups is None:
            return [int(k) for k in left[: self.batch]]
        chosen: list[int] = []
        while len(chosen) < self.batch:
            places = np.flatnonzero(self.groups[left] == self.groups[left[0]])[:TOGETHER]
            chosen.extend(int(k) for k in left[places])
            left = np.delete(left, places)
        return chosen[: self.batch]
