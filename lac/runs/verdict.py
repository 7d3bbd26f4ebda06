"""A verdict in words: what an embedding is better at than the best of its controls, what not, and what to try next.

Figures of few clips are noisy. Two of them count as level where they differ by less than `margin`: two standard errors
of a mean over the labelled validation clips, of differences that vary from clip to clip by `SPREAD`, and for
progression, whose R^2 has no lower limit, by twice that. Clips of one person are not independent, and one seed is one
draw: a difference above the margin can be told apart, and has still to be seen again with another seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lac.data.doubts import more_frames, rate_of_videos

if TYPE_CHECKING:
    from lac.data import Dataset
    from lac.runs.alignment_quality import AlignmentQuality
    from lac.runs.config import TrainConfig
    from lac.runs.evaluate import EvalResult

SPREAD = 0.2
CONTROLS = ("time index", "raw features", "random encoder")
FEW_CLIPS = 20  # to train on, or to judge by: more are worth more than any setting
FEW_STEPS = 1000


class Known(NamedTuple):
    """What advice rests on beside the figures.

    Attributes:
        train, val: number of clips.
        labelled: those of `val` that have phases.
        trained_on_labels: whether any training clip has phases.
        frames: of the median training clip.
        people: whether it is known whose each validation clip is.
        view: frames that a view takes, `augment.frames`; 0 where nothing was trained.
        steps: of the training; 0 where nothing was trained.
        rate: frames a second that are kept of videos, 0 for data that are none.
        size: greatest side of their frames in pixels.
    """

    train: int
    val: int
    labelled: int
    trained_on_labels: bool
    frames: float
    people: bool
    view: int = 0
    steps: int = 0
    rate: float = 0.0
    size: int = 0

    @classmethod
    def of(cls, dataset: Dataset, config: TrainConfig | None = None) -> Known:
        """What is known of a data set, and of the settings of a run on it."""
        train, val = ([_has_phases(clip.labels) for clip in part] for part in (dataset.train, dataset.val))
        known = cls(
            len(train),
            len(val),
            sum(val),
            any(train),
            float(np.median([len(clip) for clip in dataset.train])),
            all(clip.person for clip in dataset.val),
        )
        if config is None:
            return known
        size = config.data.options.get("size") or 0
        return known._replace(
            view=config.augment["frames"],
            steps=config.train.steps,
            rate=rate_of_videos(config.data.options),
            size=size if isinstance(size, int) else max(size),
        )


class _Compared(NamedTuple):
    """A figure of the embedding beside the best control: `gain` is how much better it is, NaN where it has no value."""

    figure: str
    value: float
    gain: float
    control: str
    margin: float

    def kind(self) -> str:
        """In which sentence it stands: better, level or worse. An R^2 below 0 is never better."""
        if abs(self.gain) <= self.margin:
            return "level"
        return "better" if self.gain > 0 and (self.value > 0 or self.figure != "progression") else "worse"

    def __str__(self) -> str:
        if math.isnan(self.gain):
            return f"{self.figure} (no number)"
        if self.gain > 0 and self.kind() == "worse":
            return f"{self.figure} (R² below 0)"
        return f"{self.figure} (by {abs(self.gain):.2f}, {self.control})"


def margin(clips: int, figure: str = "") -> float:
    """How far figures of so many validation clips must differ not to count as level; see the module."""
    return 2 * SPREAD * (2 if figure == "progression" else 1) / math.sqrt(max(clips, 1))


def verdict(rows: Mapping[str, EvalResult], known: Known) -> list[str]:
    """Two to four sentences on a table of results.

    Args:
        rows: the embedding and its controls by name, as `lac.runs.controls.controls` calls them. With controls alone
            "raw features" are judged. Empty: nothing was evaluated.
        known: of the data and the run.
    """
    if not rows:
        return _needed(known)
    judged = next((name for name in rows if name not in CONTROLS), CONTROLS[1])
    compared: dict[str, list[_Compared]] = {"better": [], "level": [], "worse": []}
    for figure, values in _figures(rows).items():
        value, others = values.pop(judged), {name: value for name, value in values.items() if not math.isnan(value)}
        if others:
            best = max(others, key=lambda name: others[name])
            one = _Compared(figure, value, value - others[best], best, margin(known.labelled, figure))
            compared[one.kind()].append(one)
    better, level, worse = compared.values()
    count, beats = f"{known.labelled} clips", "beat" if judged.endswith("s") else "beats"
    what = _listed(better) if better else f"nothing, as far as {count} can tell"
    sentences = [f"The {judged} {beats} the best control in {what}."]
    if level:
        names = _listed([f"{one.figure} ({one.control})" for one in level])
        near = f"{margin(known.labelled):.2f}"
        if any(one.figure == "progression" for one in level):
            near += f" ({margin(known.labelled, 'progression'):.2f} for progression)"
        sentences.append(f"Level, nearer than the {near} that {count} tell apart: {names}.")
    if worse:
        sentences.append(f"Below the best control: {_listed(worse)}.")
    return [*sentences, *_advice(better, level + worse, known)]


def verdict_on_matching(quality: AlignmentQuality) -> str:
    """One sentence on the table of alignment quality: LACLoss against the best of what has learned nothing."""
    ours = quality.rows["LACLoss"]
    others = {
        name: row for name, row in quality.rows.items() if name == "linear stretching" or name.endswith("DTW, raw")
    }
    parts = []
    for figure, sign in (("hit", 1), ("error", -1)):
        value = getattr(ours, figure)
        values = {name: getattr(row, figure) for name, row in others.items()}
        values = {name: other for name, other in values.items() if not math.isnan(other)}
        if math.isnan(value) or not values:
            continue
        best = max(values, key=lambda name: sign * values[name])
        gain = sign * (value - values[best])
        near = margin(len(quality.clips))
        word = "level" if abs(gain) <= near else "better" if gain > 0 else "worse"
        parts.append(f"{figure} {value:.2f} against {values[best]:.2f} ({best}), {word}")
    if not parts:
        return "Matching: LACLoss found nothing to match."
    return f"Matching, LACLoss beside the best without learning: {'; '.join(parts)}."


def _needed(known: Known) -> list[str]:
    """What it takes to judge anything."""
    if known.val < 2:
        return [
            f"Nothing was judged: that takes two validation clips with phases, and there is {known.val}; give more."
        ]
    if known.labelled < 2:
        return [
            f"Nothing was judged: that takes phases (labels/NAME.csv) of two validation clips, {known.labelled} of "
            f"{known.val} have some.",
            "Of training clips they are needed for accuracy and progression only.",
        ]
    return ["Nothing was judged: that takes labels of two phases at least."]


def _figures(rows: Mapping[str, EvalResult]) -> dict[str, dict[str, float]]:
    """By figure the values of all rows."""
    first = next(iter(rows.values()))
    k = min(first.retrieval)
    read: dict[str, Callable[[EvalResult], float]] = {
        "accuracy": lambda row: row.classification[max(row.classification)],
        "progression": lambda row: row.event_completion[max(row.event_completion)],
        "tau": lambda row: row.kendalls_tau,
        f"AP@{k}": lambda row: row.retrieval[k],
    }
    if first.retrieval_other_people:
        read["AP among other people"] = lambda row: row.retrieval_other_people[min(row.retrieval_other_people)]
    return {figure: {name: value(row) for name, row in rows.items()} for figure, value in read.items()}


def _advice(better: Sequence[_Compared], others: Sequence[_Compared], known: Known) -> list[str]:
    """A sentence on what to try next, of two things at most, each for a reason in the figures or the data."""
    short = {one.figure for one in others} - {"tau"}  # which decides nothing, and the time index has by construction
    retrieval = any(figure.startswith("AP") for figure in short)
    within = any(one.figure.startswith("AP@") for one in better) and "AP among other people" in short
    by_time = [one for one in others if one.figure in short and one.control == "time index"]
    advice = []
    if len(by_time) > 1:
        advice.append(
            "clips that begin before the action and end after it (in trimmed ones time alone tells the phase)"
        )
    if known.view and short and known.frames < known.view:
        advice.append(f"{more_frames(known.frames, known.view, known.rate)} (views take up to {known.view})")
    if short and known.view and known.train < FEW_CLIPS:
        advice.append(f"more clips ({known.train} to train on are few)")
    if within:
        advice.append("clips of more people (neighbours are found within a person)")
    if retrieval and known.rate and known.size < 224:
        advice.append("--set data.options.size=224")
    if short and known.steps and known.steps < FEW_STEPS:
        advice.append(f"--set train.steps={FEW_STEPS}")
    if not known.trained_on_labels:
        advice.append("labels of some train clips, for accuracy and progression")
    if known.labelled < FEW_CLIPS:
        advice.append(
            f"phases of more validation clips ({known.labelled} tell differences of {margin(known.labelled):.2f})"
        )
    if not known.people:
        advice.append("clips.csv with persons (is it the same among other people?)")
    if retrieval and known.view:
        advice.append("lac-align with more than two clips (their consensus needs no training)")
    if known.view:
        advice += ["a run with another --seed, to see it again", "lac-eval RUN --alignment, for the matching itself"]
    return [f"To try next: {'; '.join(advice[:2])}."] if advice else []


def _listed(texts: Sequence[object]) -> str:
    return ", ".join(map(str, texts))


def _has_phases(labels: np.ndarray | None) -> bool:
    return labels is not None and bool((labels >= 0).any())
