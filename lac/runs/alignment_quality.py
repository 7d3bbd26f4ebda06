"""The table of alignment quality: how well the validation clips of each action are matched with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lac.consensus import Consensus, consistent_alignments
from lac.data.base import Clip, Dataset
from lac.errors import DataError
from lac.guides import with_guides
from lac.loss import LACLoss
from lac.runs.aligners import ActionClips, aligners
from lac.runs.all_pairs import Consistency, Matched, match_all, match_together, with_consensus
from lac.runs.evaluate import Embed, checked_embeddings
from lac.runs.matching import Matching, judge, mean, phase_positions

CLIPS = 24  # of the table by default: under a minute on a CPU thread for clips of some 150 frames
FRAMES = 6000  # of an action, its clips padded to the longest: bounds memory, some 60 FRAMES^2 bytes, to 2.1 GB


class AlignmentQuality(NamedTuple):
    """The table of alignment quality.

    Attributes:
        rows: the figures of each aligner, mean over the ordered pairs of clips.
        clips: the names of the clips.
        people: of how many people they are; 0 where that is not known, or all are of one person: then each clip is
            matched with all others of its action.
        pairs: how many ordered pairs of clips were judged.
    """

    rows: dict[str, Matching]
    clips: list[str]
    people: int
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return self._asdict() | {"rows": {name: row._asdict() for name, row in self.rows.items()}}


def alignment_quality(
    dataset: Dataset,
    embed: Embed,
    loss: LACLoss,
    *,
    count: int = CLIPS,
    device: torch.device | str = "cpu",
    reach: float = 0.8,
    consistency: Consistency = consistent_alignments,
) -> AlignmentQuality:
    """Match validation clips of one action by each of `lac.runs.aligners.aligners`, and judge the matching by phases.

    Each ordered pair of clips of different people counts, or of different clips where people are not known. Each
    aligner has a second row, "+ consensus": its posteriors made consistent over all chosen clips of the action. Rows
    "Consensus, ..." align these clips by `lac.Consensus`, by what `consensus_rows` says.

    Args:
        dataset: its validation clips are matched, see `choose_clips`.
        embed: the encoder, as `lac.runs.evaluate.evaluate_dataset` takes it.
        loss: that of the run.
        count: of the clips, >= 2; fewer where they are long, see `choose_clips`.
        device: where the clips are aligned.
        reach: of the frames' self-similarity, in seconds, see `lac.self_similarity`; 0: rows that need it are left out.
        consistency: see `lac.runs.all_pairs.with_consensus`.

    Raises:
        ValueError: there is no pair of validation clips of one action with phases, or an embedding is not what it must
            be; the message says why.
    """
    actions = choose_clips(dataset, count)
    clips = [clip for members in actions for clip in members]
    persons = {clip.person for clip in clips}
    people = len(persons) if len(persons) > 1 and all(persons) else 0
    rows: dict[str, list[Matching]] = {}
    for members in actions:
        padded = _padded(members, embed, reach, device)
        for name, aligner in aligners(loss).items():
            matched = match_all(aligner, padded)
            rows.setdefault(name, []).extend(_judged(members, matched, people))
            consistent = with_consensus(matched.posteriors, padded.lengths, consistency)
            rows.setdefault(f"{name} + consensus", []).extend(_judged(members, consistent, people))
        for name, guide_weight in consensus_rows(loss.consensus, padded).items():
            matched = match_together(loss.consensus, padded, guide_weight)
            rows.setdefault(name, []).extend(_judged(members, matched, people))
    pairs = len(next(iter(rows.values())))
    if pairs == 0:
        raise DataError(
            f"data set {dataset.name!r}: alignment quality compares clips of one action by different people, and the "
            f"{len(clips)} validation clips chosen have none; give more clips"
        )
    figures = {name: mean(matchings) for name, matchings in rows.items()}
    return AlignmentQuality(figures, [clip.name for clip in clips], people, pairs)


def consensus_rows(consensus: Consensus, clips: ActionClips) -> dict[str, float]:
    """The rows of `lac.Consensus`, and the weight of the self-similarity beside the embeddings in each."""
    if clips.guide is None:
        return {"Consensus, embeddings": 0.0}
    return {
        "Consensus, self-similarity": 1.0,
        "Consensus, embeddings": 0.0,
        "Consensus, both": consensus.guide_weight,
    }


def choose_clips(dataset: Dataset, count: int) -> list[list[Clip]]:
    """Up to `count` validation clips that have phases, by action: always the same, spread over people.

    Of `count` each action gets an equal share, and no more clips than `FRAMES` frames when all are padded to their
    longest; but 2 at least. Its people are gone through in the order of the data set, again and again,
    and each gives its next clip. Actions with a single clip are left out.

    Raises:
        ValueError: `count` is no whole number >= 2, or no action has two validation clips with phases.
    """
    if not isinstance(count, int) or count < 2:
        raise DataError(f"count must be a whole number of clips, at least 2, got {count!r}")
    with_phases = [clip for clip in dataset.val if clip.labels is not None and (clip.labels >= 0).any()]
    by_action: dict[str, list[Clip]] = {}
    for clip in with_phases:
        by_action.setdefault(clip.action, []).append(clip)
    actions = [clips for clips in by_action.values() if len(clips) > 1]
    if not actions:
        raise DataError(
            f"data set {dataset.name!r}: alignment quality is judged by phase labels, in two validation clips of one "
            f"action at least; of its {len(dataset.val)} validation clips {len(with_phases)} have labelled frames, in "
            f"{len(by_action)} actions"
        )
    return [_fitting(_spread(clips)[: max(2, count // len(actions))]) for clips in actions]


def _fitting(clips: Sequence[Clip]) -> list[Clip]:
    """As many of the first clips as are `FRAMES` frames when all are padded to their longest; but 2 at least."""
    longest = np.maximum.accumulate([len(clip) for clip in clips])
    return list(clips[: max(2, int((np.arange(1, len(clips) + 1) * longest <= FRAMES).sum()))])


def _spread(clips: Sequence[Clip]) -> list[Clip]:
    """The first clip of each person, then the second of each, and so on."""
    turn: dict[str, int] = {}
    turns = []
    for clip in clips:
        turn[clip.person] = turn.get(clip.person, 0) + (1 if clip.person else 0)
        turns.append(turn[clip.person])
    return [clips[k] for k in sorted(range(len(clips)), key=lambda k: turns[k])]


def _padded(clips: Sequence[Clip], embed: Embed, reach: float, device: torch.device | str) -> ActionClips:
    def batch(arrays: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
        return pad_sequence([torch.from_numpy(array).to(dtype) for array in arrays], batch_first=True).to(device)

    guides = [clip.guide for clip in with_guides(clips, reach) if clip.guide is not None]
    return ActionClips(
        batch([clip.frames.reshape(len(clip), -1) for clip in clips], torch.float32),
        batch(checked_embeddings(embed, clips), torch.float32),
        batch([clip.times - clip.times[0] for clip in clips], torch.float64),
        torch.tensor([len(clip) for clip in clips], device=device),
        batch(guides, torch.float32) if len(guides) == len(clips) else None,
    )


def _judged(clips: Sequence[Clip], matched: Matched, people: int) -> list[Matching]:
    """The figures of each ordered pair of clips, of different people where they are known."""
    positions = [phase_positions(clip.labels) for clip in clips if clip.labels is not None]
    matchings = []
    for i, first in enumerate(clips):
        for j, second in enumerate(clips):
            if i == j or (people and first.person == second.person):
                continue
            posterior = matched.posteriors[i, j, : len(first), : len(second)].cpu().numpy()
            matchings.append(judge(positions[i], positions[j], posterior, matched.paths.get((i, j))))
    return matchings
