"""The recordings that `lac-find` searches: each looked at before the first is searched, and told apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lac.errors import UsageError

if TYPE_CHECKING:
    import torch

    from lac.cli.way import Given
    from lac.data import Clip, Dataset
    from lac.pictures import Source

_KEPT = 1 << 30  # bytes of recordings that are not read a second time to be searched


class Recording(NamedTuple):
    """A recording that can be searched.

    Attributes:
        name: of the clip; where two are called the same, as it was given.
        video: if it is one.
        span: its first and last second.
        frames: how many.
        itself: whether it is the clip of the query.
        clip: reads it.
    """

    name: str
    video: Path | None
    span: tuple[float, float]
    frames: int
    itself: bool
    clip: Callable[[], Clip]


def look_at(
    names: Sequence[str],
    given: Given,
    query: tuple[str, Source],
    device: torch.device,
    dataset: Dataset | None,
    tell: Callable[[int, int, str], None],
) -> list[Recording]:
    """The recordings of these names.

    Args:
        names: as in `lac.cli.clips.read_clips`.
        given: see `lac.cli.way`.
        query: the name that the clip of the query was given by, and the clip.
        device: where the features of videos are computed.
        dataset: where names are looked up.
        tell: is told how many there have been, of how many, and the next name.

    Raises:
        UsageError: two are one recording.
        DataError, OSError: one cannot be read, or compared with the query.
    """
    found: list[Recording] = []
    seen: dict[str, str] = {}
    own, kept = _marks(*query), 0

    def read(name: str) -> Source:
        return given.read([name], device, dataset)[0]

    def look(name: str) -> Recording:
        nonlocal kept
        source = read(name)
        given.check([query[0], name], [query[1].clip, source.clip])
        marks = _marks(name, source)
        twice = next((seen[mark] for mark in marks if mark in seen), None)
        if twice is not None:
            raise UsageError(f"{name!r} is given twice, before as {twice!r}: leave it out once")
        seen.update(dict.fromkeys(marks, name))
        clip = source.clip
        kept += clip.frames.nbytes
        held = dataset is not None or kept <= _KEPT
        span = float(clip.times[0]), float(clip.times[-1])
        again = (lambda: clip) if held else (lambda: read(name).clip)
        return Recording(clip.name, source.video, span, len(clip), bool(marks & own), again)

    for place, name in enumerate(names):
        tell(place, len(names), name)
        found.append(look(name))
    tell(len(names), len(names), "")
    called = Counter(one.name.casefold() for one in found)
    return [
        one._replace(name=name) if called[one.name.casefold()] > 1 else one
        for name, one in zip(names, found, strict=True)
    ]


def _marks(name: str, source: Source) -> set[str]:
    """What a clip is known by, however it is called: the file, and the name with a digest of all frames and times."""
    clip, path = source.clip, Path(name) if Path(name).exists() else source.video
    digest = hashlib.sha256(repr((clip.frames.shape, clip.frames.dtype.str)).encode())
    for part in (clip.frames, clip.times):
        digest.update(np.ascontiguousarray(part).data)
    return {f"{clip.name}/{digest.hexdigest()}"} | ({str(path.resolve())} if path is not None else set())
