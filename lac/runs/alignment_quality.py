"""The table of alignment quality: how well the validation clips of each action are matched with each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lac.consensus import consistent_alignments
from lac.data.base import Clip, Dataset
from lac.errors import DataError
from lac.functional import hard_alignment
from lac.loss import LACLoss
from lac.runs.aligners import ActionClips, Aligner, aligners
from lac.runs.evaluate import Embed
from lac.runs.matching import Matching, judge, mean, phase_positions

CLIPS = 24  # of the table by default: under a minute on a CPU thread for clips of some 150 frames
LEAST_MATCH = 0.05  # the probability below which the path of a posterior rather leaves two frames out
_PAIRS = 64  # aligned at once, which bounds the memory

Consensus = Callable[[Tensor, Tensor], Tensor]


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


class Matched(NamedTuple):
    """All ordered pairs of C clips aligned.

    Attributes:
        posteriors: (C, C, T, T), [i, j] of the frames of i; or `None`.
        paths: by (i, j) matched frames (., 2); empty where the aligner gives none.
    """

    posteriors: Tensor | None
    paths: dict[tuple[int, int], np.ndarray]


def alignment_quality(
    dataset: Dataset,
    embed: Embed,
    loss: LACLoss,
    *,
    count: int = CLIPS,
    device: torch.device | str = "cpu",
    consensus: Consensus = consistent_alignments,
) -> AlignmentQuality:
    """Match validation clips of one action by each of `lac.runs.aligners.aligners`, and judge the matching by phases.

    Each ordered pair of clips of different people counts, or of different clips where people are not known. An aligner
    with a posterior has a second row, "+ consensus": its posteriors made consistent over all chosen clips of the
    action.

    Args:
        dataset: its validation clips are matched, see `choose_clips`.
        embed: the encoder, as `lac.runs.evaluate.evaluate_dataset` takes it.
        loss: that of the run.
        count: of the clips, >= 2. Memory grows with its square: 16 count^2 T^2 bytes for clips of T frames.
        device: where the clips are aligned.
        consensus: takes symmetric posteriors (C, C, T, T) and groups (C,), as the default does.

    Raises:
        ValueError: there is no pair of validation clips of one action with phases; the message says why.
    """
    actions = choose_clips(dataset, count)
    clips = [clip for members in actions for clip in members]
    persons = {clip.person for clip in clips}
    people = len(persons) if len(persons) > 1 and all(persons) else 0
    rows: dict[str, list[Matching]] = {}
    for members in actions:
        padded = _padded(members, embed, device)
        for name, aligner in aligners(loss).items():
            matched = match_all(aligner, padded)
            rows.setdefault(name, []).extend(_judged(members, matched, people))
            if matched.posteriors is not None:
                consistent = with_consensus(matched.posteriors, padded.lengths, consensus)
                rows.setdefault(f"{name} + consensus", []).extend(_judged(members, consistent, people))
    pairs = len(next(iter(rows.values())))
    if pairs == 0:
        raise DataError(
            f"data set {dataset.name!r}: alignment quality compares clips of one action by different people, and the "
            f"{len(clips)} validation clips chosen have none; give more clips"
        )
    figures = {name: mean(matchings) for name, matchings in rows.items()}
    return AlignmentQuality(figures, [clip.name for clip in clips], people, pairs)


def choose_clips(dataset: Dataset, count: int) -> list[list[Clip]]:
    """Up to `count` validation clips that have phases, by action: always the same, spread over people.

    Of `count` each action gets an equal share, at least 2. Its people are gone through in the order of the data set,
    again and again, and each gives its next clip. Actions with a single clip are left out.

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
    share = max(2, count // len(actions))
    return [_spread(clips)[:share] for clips in actions]


def _spread(clips: Sequence[Clip]) -> list[Clip]:
    """The first clip of each person, then the second of each, and so on."""
    turn: dict[str, int] = {}
    turns = []
    for clip in clips:
        turn[clip.person] = turn.get(clip.person, 0) + (1 if clip.person else 0)
        turns.append(turn[clip.person])
    return [clips[k] for k in sorted(range(len(clips)), key=lambda k: turns[k])]


def _padded(clips: Sequence[Clip], embed: Embed, device: torch.device | str) -> ActionClips:
    def batch(arrays: Sequence[np.ndarray], dtype: torch.dtype) -> Tensor:
        return pad_sequence([torch.from_numpy(array).to(dtype) for array in arrays], batch_first=True).to(device)

    return ActionClips(
        batch([clip.frames.reshape(len(clip), -1) for clip in clips], torch.float32),
        batch(embed(clips), torch.float32),
        batch([clip.times - clip.times[0] for clip in clips], torch.float64),
        torch.tensor([len(clip) for clip in clips], device=device),
    )


def _judged(clips: Sequence[Clip], matched: Matched, people: int) -> list[Matching]:
    """The figures of each ordered pair of clips, of different people where they are known."""
    positions = [phase_positions(clip.labels) for clip in clips if clip.labels is not None]
    matchings = []
    for i, first in enumerate(clips):
        for j, second in enumerate(clips):
            if i == j or (people and first.person == second.person):
                continue
            posterior = None
            if matched.posteriors is not None:
                posterior = matched.posteriors[i, j, : len(first), : len(second)].cpu().numpy()
            matchings.append(judge(positions[i], positions[j], posterior, matched.paths.get((i, j))))
    return matchings


def match_all(aligner: Aligner, clips: ActionClips) -> Matched:
    """Align every pair of the clips, in both directions; a posterior without a path gets `expected_paths`."""
    c, t = clips.raw.shape[:2]
    posteriors, paths = None, {}
    for pairs in torch.triu_indices(c, c, 1).split(_PAIRS, dim=1):
        i, j = pairs
        aligned = aligner(clips, i, j)
        if aligned.rows is not None and aligned.columns is not None:
            if posteriors is None:
                posteriors = aligned.rows.new_zeros(c, c, t, t)
            posteriors[i, j], posteriors[j, i] = aligned.rows, aligned.columns.mT
        if aligned.paths is not None:
            back = aligned.paths_back or [path.flip(1) for path in aligned.paths]
            for a, b, path, path_back in zip(i.tolist(), j.tolist(), aligned.paths, back, strict=True):
                paths[a, b], paths[b, a] = path.cpu().numpy(), path_back.cpu().numpy()
    if posteriors is not None and not paths:
        paths = expected_paths(_symmetric(posteriors), clips.lengths)
    return Matched(posteriors, paths)


def with_consensus(posteriors: Tensor, lengths: Tensor, consensus: Consensus = consistent_alignments) -> Matched:
    """The posteriors of clips of one action made consistent with each other, and the paths of what comes out.

    Where the posteriors of a pair's two directions differ, the lesser of both enters.

    Args:
        posteriors: (C, C, T, T) as in `Matched`.
        lengths: (C,).
        consensus: takes symmetric posteriors and groups (C,) as `lac.consensus.consistent_alignments`.
    """
    consistent = consensus(_symmetric(posteriors), torch.zeros_like(lengths))
    return Matched(consistent, expected_paths(consistent, lengths))


def expected_paths(posteriors: Tensor, lengths: Tensor) -> dict[tuple[int, int], np.ndarray]:
    """The path of every ordered pair that gathers the most probability, less `LEAST_MATCH` for each of its cells.

    The alignment of maximum expected accuracy, as ProbCons has it (Do et al., Genome Research 15, 2005): the hard
    alignment of P - `LEAST_MATCH`, gaps at no cost. Empty where no cell is worth that.

    Args:
        posteriors: (C, C, T, T), [j, i] the transpose of [i, j].
        lengths: (C,).
    """
    paths = {}
    for i, j in torch.triu_indices(len(lengths), len(lengths), 1).split(_PAIRS, dim=1):
        scores = posteriors[i, j] - LEAST_MATCH
        best = hard_alignment(scores, gap_open=0.0, gap_extend=0.0, lengths=(lengths[i], lengths[j]))
        worth = (best.score > 0).tolist()
        for a, b, path, some in zip(i.tolist(), j.tolist(), best.paths, worth, strict=True):
            cells = path.cpu().numpy() if some else np.empty((0, 2), np.int64)
            paths[a, b], paths[b, a] = cells, cells[:, ::-1]
    return paths


def _symmetric(posteriors: Tensor) -> Tensor:
    return torch.minimum(posteriors, posteriors.permute(1, 0, 3, 2))
