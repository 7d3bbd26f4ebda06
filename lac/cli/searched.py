"""What `lac-find` makes of what it has searched: the surest of all recordings, and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lac.errors import DataError

if TYPE_CHECKING:
    from lac.cli.recordings import Recording
    from lac.cli.way import Given
    from lac.data import Clip
    from lac.hits import Hit
    from lac.search import Occurrence


class Candidate(NamedTuple):
    """What may have been found.

    Attributes:
        occurrence: its `chance` is not known yet.
        row: as `lac.hits.described`.
        expected: how many as good are expected by chance, in its recording.
    """

    occurrence: Occurrence
    row: dict[str, Any]
    expected: float


class Searched(NamedTuple):
    """A recording that was searched; its frames are let go.

    Attributes:
        recording: see there.
        candidates: best first.
        own: how many were left out, because they are the query itself.
        full: whether there may be more, since no more were asked for.
        still: whether nothing changes in it.
    """

    recording: Recording
    candidates: list[Candidate]
    own: int
    full: bool
    still: bool


def search(given: Given, query: Clip, recording: Recording, most: int) -> Searched:
    """The at most so many candidates of a recording.

    Raises:
        DataError: the scores are not finite.
    """
    from lac.data.doubts import still
    from lac.hits import described
    from lac.search import candidates

    clip = recording.clip()
    compared = given.way.compared(query, clip)
    try:
        every, null = candidates(compared, most + recording.itself)
    except ValueError as error:
        why = "an encoder has diverged, or frames are too large"
        raise DataError(f"{query.name} in {recording.name}: {error}; {why}") from error
    middle = (float(query.times[0]) + float(query.times[-1])) / 2
    others = [one for one in every if not (recording.itself and one.start < middle < one.end)]
    found = [
        Candidate(one, described(one, query, clip) | {"recording": recording.name}, null.expected(one.score))
        for one in others[:most]
    ]
    return Searched(recording, found, len(every) - len(others), len(others) >= most, still(clip))


def ranked(searched: Sequence[Searched], chance: float) -> tuple[list[Hit], list[dict[str, Any]]]:
    """What is found in all recordings and is not chance, the surest first, and the same as `hits.json` says it; its
    `chance` holds for all together."""
    from lac.hits import FIELDS, Hit
    from lac.search import shares_of_chance

    total = sum(one.recording.frames for one in searched)
    every = [(place, candidate) for place, one in enumerate(searched) for candidate in one.candidates]
    expected = [candidate.expected * total / searched[place].recording.frames for place, candidate in every]
    shares = shares_of_chance(expected)
    order = sorted(range(len(every)), key=lambda k: (shares[k], expected[k], -every[k][1].occurrence.score))
    hits: list[Hit] = []
    rows: list[dict[str, Any]] = []
    for rank, k in enumerate((k for k in order if shares[k] <= chance), start=1):
        place, candidate = every[k]
        hits.append(Hit(rank, place, candidate.occurrence._replace(chance=shares[k])))
        row = candidate.row | {"rank": rank, "chance": shares[k]}
        rows.append({name: row[name] for name in (*FIELDS, "path")})
    return hits, rows


def verdict(searched: Sequence[Searched], hits: Sequence[Hit], chance: float) -> str:
    """In words what is found."""
    among = "1 recording" if len(searched) == 1 else f"{len(searched)} recordings"
    if hits:
        number = "1 occurrence" if len(hits) == 1 else f"{len(hits)} occurrences"
        within = len({hit.recording for hit in hits})
        where = f"in {among}" if len(searched) == 1 else f"in {within} of {among}"
        return f"{number} {where}; a share of {chance:g} at most may be chance"
    some = [one for one in searched if one.candidates]
    if not some:
        return f"nothing in common: no frames of {among} match the query at all"
    total = sum(one.recording.frames for one in searched)
    best = min(some, key=lambda one: one.candidates[0].expected / one.recording.frames)
    name, (start, end) = best.recording.name, best.recording.span
    occurrence, _, expected = best.candidates[0]
    by_chance = min(expected * total / best.recording.frames, 1.0)
    text = f"nothing in common beyond chance in {among}; "
    text += f"the best, {name} at {occurrence.start:.2f} s, has a chance of {by_chance:.2f}"
    covered = sum(one.end - one.start for one, _, _ in best.candidates)
    if covered > 0.5 * (end - start) > 0:
        text += f"; but the query fits all over {name}, where chance has nothing to compare with: see --chance 1"
    return text


def doubts(query: Clip, searched: Sequence[Searched], hits: Sequence[Hit], most: int) -> list[str]:
    """What may be wrong with what was searched, or with what was found."""
    from lac.data.doubts import still

    said = [f"{one.recording.name} does not change from frame to frame" for one in searched if one.still]
    if still(query):
        said.append(f"{query.name} does not change from frame to frame: it is found nowhere, or everywhere")
    number = [sum(hit.recording == place for hit in hits) for place in range(len(searched))]
    said += [
        f"{one.recording.name}: {most} found, as many as --most: there may be more"
        for one, hits_there in zip(searched, number, strict=True)
        if one.full and hits_there == most
    ]
    return said
