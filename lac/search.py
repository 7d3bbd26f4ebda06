"""Where in a recording does happen what a query shows? Every occurrence, with how likely it is to be chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lac import checks, solve
from lac_kernels.problem import Problem

LONGEST = 3  # times the query's length that an occurrence may last
_CELLS = 1 << 22  # that are aligned at a time, and numbers of the recording's frames that are picked for them
_SHUFFLES, _WINDOWS, _MOST_WINDOWS = 4, 64, 1000  # of the shuffled recording: at least, at least, and at most


class Compared(NamedTuple):
    """A query of N frames beside a recording of T, to be compared piece by piece.

    Attributes:
        query_times: (N,) float64 seconds.
        times: (T,) float64 seconds of the recording.
        problem: takes frames of the recording (P, L) int64 and where they stand (P, L) int64, and returns the signed
            scores (P, N, L) of the query with these frames, and both penalties, which broadcast to them.
        frames: what is compared, (N, E) of the query and (T, E) of the recording, without what is common to each.
        backend: of the alignments, as in `lac.smith_waterman`.
    """

    query_times: np.ndarray
    times: np.ndarray
    problem: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    frames: tuple[Tensor, Tensor]
    backend: str = "auto"


class Occurrence(NamedTuple):
    """Where a recording shows what a query shows.

    Attributes:
        score: of the local alignment, in units of the similarity.
        chance: of the occurrences found that are at least as good, the share that is expected where nothing is, from 0
            to 1, see `Chance`; of the best one nearly the probability that it is chance.
        path: (K, 2) int64 matched frames of the query and of the recording, both increasing.
        start: second of the recording at which the query's first frame would lie, by the time before its first match.
        end: that of its last frame; both within the recording.
    """

    score: float
    chance: float
    path: np.ndarray
    start: float
    end: float


class Chance(NamedTuple):
    r"""How well a query matches where it does not occur: the law of extreme values, fitted to a shuffled recording.

    The recording is cut into blocks of half the query's length, which are shuffled: frames are as alike and as smooth
    as they were, and the order that an occurrence needs is lost. Of windows of twice the query's length the best scores
    S are taken; they follow about a Gumbel law,

        P(S > s) = 1 - exp(-exp(-(s - location) / scale)),

    whose location and scale are given by their mean and deviation (S. Karlin and S. Altschul, "Methods for assessing
    the statistical significance of molecular sequence features by using general scoring schemes", 1990). Backwards the
    recording is no such null: many a movement is its own mirror image. Where most of a recording is occurrences, so are
    most of its shuffled halves, and little is beyond chance.

    Attributes:
        location: see above.
        scale: see above, >= 0.
        windows: how many the recording has: (T - L) / (W - L) of W frames, since an alignment of L, the mean of those
            found, lies across a border elsewhere.
    """

    location: float
    scale: float
    windows: float

    def expected(self, score: float) -> float:
        """How many windows score more where nothing is: windows P(S > score)."""
        above = (score - self.location) / max(self.scale, 1e-12)
        return self.windows * -math.expm1(-math.exp(-min(max(above, -700.0), 700.0)))


def find(compared: Compared, k: int = 20, *, chance: float = 0.05) -> list[Occurrence]:
    """The at most k best occurrences of a query in a recording, best first: local alignments that keep apart.

    They are those of `lac.local_alignments` of the whole, as long as none lasts longer than `LONGEST` times the query,
    but the recording is aligned in overlapping pieces, so that memory does not grow with it and time only by its
    length. An alignment that lies for more than half within an occurrence found before is a part of that one. Equal
    scores come in the order of time.

    Args:
        compared: query and recording.
        k: >= 1.
        chance: the greatest share of what is found that may be chance, in (0, 1]; 1 gives all that score above 0. Where
            nothing is, anything is found with about this probability.

    Raises:
        ValueError, TypeError: an argument out of its range, or scores that are not finite.
    """
    if not 0 < checks.finite("chance", chance) <= 1:
        raise ValueError(f"chance must lie in (0, 1], got {chance}")
    found, null = candidates(compared, k)
    shares = shares_of_chance([null.expected(here.score) for here in found])
    return [here._replace(chance=share) for here, share in zip(found, shares, strict=True) if share <= chance]


def candidates(compared: Compared, k: int) -> tuple[list[Occurrence], Chance]:
    """The at most k best, be they chance or not (their `chance` is 1 throughout), and what chance gives.

    Raises:
        ValueError, TypeError: as `find`.
    """
    checks.count("k", k)
    null = by_chance(compared)
    found: list[Occurrence] = []
    for score, path in _alignments(compared):
        here = Occurrence(score, 1.0, path, *_extent(path, compared))
        if all(_overlap(here, other) <= 0.5 for other in found):
            found.append(here)
        if len(found) == k:
            break
    return found, null


def shares_of_chance(expected: Sequence[float]) -> list[float]:
    """Of the matches at least as good as each, the share that is expected where nothing is, at most 1.

    Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", 1995.

    Args:
        expected: for each match how many as good are expected by chance, see `Chance.expected`.
    """
    order = np.argsort(expected, kind="stable")
    shares = np.minimum(np.asarray(expected, dtype=np.float64)[order] / np.arange(1, len(order) + 1), 1.0)
    result = np.empty(len(order))
    result[order] = np.minimum.accumulate(shares[::-1])[::-1]  # a better one is no less sure
    return [float(share) for share in result]


def shown_chance(chance: float) -> str:
    """A chance in seven characters at most."""
    return "< .0001" if chance < 1e-4 else f"{chance:.4f}".removeprefix("0")


def by_chance(compared: Compared) -> Chance:
    """How well the query matches where it does not occur; see `Chance`.

    Raises:
        ValueError: scores that are not finite.
    """
    n, t = len(compared.query_times), len(compared.times)
    width, block = min(2 * n, t), max(1, n // 2)
    each = t // width
    shuffles = max(_SHUFFLES, math.ceil(_WINDOWS / each))
    rng = np.random.default_rng(0)
    places = np.arange(each * width).reshape(each, width)
    scores: list[np.ndarray] = []
    spans: list[np.ndarray] = []
    for _ in range(shuffles):
        order = _shuffled(t, block, rng)
        windows = places if each * shuffles <= _MOST_WINDOWS else rng.permutation(places)[: _MOST_WINDOWS // shuffles]
        for score, path, count in _solved(compared, order[windows], windows):
            scores.append(score)
            spans.append(path[np.arange(len(path)), np.maximum(count - 1, 0), 1] - path[:, 0, 1] + 1)
    values = np.concatenate(scores).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the scores of the query with the recording are not finite")
    scale = float(values.std()) * math.sqrt(6) / math.pi
    span = min(float(np.concatenate(spans).mean()), width - 1)
    return Chance(float(values.mean()) - np.euler_gamma * scale, scale, max((t - span) / (width - span), 1.0))


def _shuffled(frames: int, block: int, rng: np.random.Generator) -> np.ndarray:
    """The numbers of so many frames, in blocks of which none follows the one that it followed."""
    blocks = np.split(np.arange(frames), range(1 + int(rng.integers(block)), frames, block))
    order = rng.permutation(len(blocks))
    while len(order) > 1 and (np.diff(order) == 1).any():  # a third of all permutations will do
        order = rng.permutation(len(blocks))
    return np.concatenate([blocks[b] for b in order])


def _alignments(compared: Compared) -> Iterator[tuple[float, np.ndarray]]:
    """Local alignments that share no column, best first: score, and matched frames (K, 2) of query and recording."""
    t = len(compared.times)
    span = min(LONGEST * len(compared.query_times), t)
    length = min(4 * span, t)
    starts = np.append(np.arange(0, t - length, max(length - span, 1)), t - length)
    frames = starts[:, None] + np.arange(length)
    taken = np.zeros(t, dtype=bool)
    scores, paths = np.empty(len(starts)), [np.empty((0, 2), np.int64)] * len(starts)

    def solve_again(pieces: np.ndarray) -> None:
        place = 0
        for score, path, count in _solved(compared, frames[pieces], frames[pieces], taken):
            for k, n in enumerate(count.tolist()):
                piece = pieces[place + k]
                scores[piece] = score[k]
                paths[piece] = path[k, :n] + [0, starts[piece]]
            place += len(score)

    solve_again(np.arange(len(starts)))
    if not np.isfinite(scores).all():
        raise ValueError("the scores of the query with the recording are not finite")
    while scores[best := int(scores.argmax())] > 0:
        path = paths[best]
        yield float(scores[best]), path
        first, last = path[0, 1], path[-1, 1]
        taken[first : last + 1] = True
        solve_again(np.flatnonzero((starts <= last) & (starts + length > first)))


def _solved(
    compared: Compared, frames: np.ndarray, places: np.ndarray, taken: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The best alignment of the query with each of these pieces (P, L), some at a time: what `solve.hard` returns.

    Args:
        compared: see there.
        frames: of the recording.
        places: where they stand.
        taken: (T,) frames that must be neither matched nor skipped.
    """
    width = max(len(compared.query_times), compared.frames[1].shape[1])
    at_a_time = max(1, _CELLS // (width * frames.shape[1]))
    for k in range(0, len(frames), at_a_time):
        here, there = (torch.from_numpy(x[k : k + at_a_time]).to(compared.frames[1].device) for x in (frames, places))
        scores, gap_open, gap_extend = compared.problem(here, there)
        opened, extended = (_three(gap, scores) for gap in (gap_open, gap_extend))
        problem = Problem(scores, opened, extended, scores.new_ones(()), None, None)
        if taken is not None and (closed := taken[frames[k : k + at_a_time]]).any():
            problem = solve.shut(problem, torch.from_numpy(closed).to(scores.device)[:, None, :])
        score, path, count = solve.hard(problem, compared.backend)
        yield score.cpu().numpy(), path.cpu().numpy(), count.cpu().numpy()


def _three(gap: Tensor, scores: Tensor) -> Tensor:
    gap = gap.detach().to(scores)
    return gap.reshape((1,) * (3 - gap.dim()) + tuple(gap.shape))


def _extent(path: np.ndarray, compared: Compared) -> tuple[float, float]:
    """`start` and `end` of `Occurrence`."""
    query, times = compared.query_times, compared.times
    (first, start), (last, end) = path[0], path[-1]
    begin = times[start] - (query[first] - query[0])
    until = times[end] + (query[-1] - query[last])
    return float(max(begin, times[0])), float(min(until, times[-1]))


def _overlap(one: Occurrence, other: Occurrence) -> float:
    """The share of the shorter of two occurrences that lies within the other."""
    common = min(one.end, other.end) - max(one.start, other.start)
    shorter = min(one.end - one.start, other.end - other.start)
    return max(common, 0.0) / shorter if shorter > 0 else float(common >= 0)
