"""The pairs of clips that the steps of training see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lac.data import Clip
from lac.data.augment import Batch, collate, two_views, view, view_batches
from lac.runs.config import TrainConfig


@dataclass(frozen=True, eq=False)
class Sampler:
    """Pairs of views of clips, on the CPU. Those of a step depend on the seed and the step only.

    Args:
        clips: to draw from, without repetition as far as there are enough.
        batch: pairs in a step.
        views: "same": two views of a clip; "action": the second is of another clip of the same action (of the same
            clip where the action has no other).
        seed: of every draw.
        augment: the options of `lac.data.augment.two_views`.
    """

    clips: Sequence[Clip]
    batch: int
    views: str
    seed: int
    augment: Mapping[str, Any]

    @classmethod
    def of(cls, config: TrainConfig, clips: Sequence[Clip]) -> Sampler:
        return cls(clips, config.train.batch, config.train.views, config.train.seed, config.augment)

    def __call__(self, step: int) -> tuple[Batch, Batch]:
        """The first and the second views of a step."""
        rng = np.random.default_rng([self.seed, step])
        rounds = [rng.permutation(len(self.clips)) for _ in range(-(-self.batch // len(self.clips)))]
        chosen = np.concatenate(rounds)[: self.batch].tolist()
        options = {**self.augment, "distractors": self.clips if self.augment["max_distractors"] else ()}
        if self.views == "same":
            return view_batches(self.clips, chosen, seed=self.seed, step=step, **options)
        alone = {name: value for name, value in options.items() if name != "offset"}
        pairs = [
            (
                view(self.clips[k], np.random.default_rng([self.seed, step, place]), **alone),
                two_views(
                    self.clips[self._partner(k, rng)], np.random.default_rng([self.seed, step, place]), **options
                )[1],
            )
            for place, k in enumerate(chosen)
        ]
        return collate([first for first, _ in pairs]), collate([second for _, second in pairs])

    def _partner(self, k: int, rng: np.random.Generator) -> int:
        others = [j for j, clip in enumerate(self.clips) if clip.action == self.clips[k].action and j != k]
        return others[int(rng.integers(len(others)))] if others else k
