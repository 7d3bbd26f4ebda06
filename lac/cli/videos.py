"""`--video` of `lac-align`: the videos of clips, all in the timing of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lac.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from lac.cli.way import Given
    from lac.pictures import Source


def check_videos(names: Sequence[str], sources: Sequence[Source]) -> None:
    """Whether there is a video of each of these clips.

    Raises:
        UsageError: there is none of one; the message names it as it was given.
    """
    for name, source in zip(names, sources, strict=True):
        if source.video is None:
            raise UsageError(f"--video needs videos, but there is none of {name!r}")


def write_video(
    file: str, names: Sequence[str], sources: Sequence[Source], paths: Sequence[np.ndarray], given: Given
) -> None:
    """Write the videos of clips side by side, in the timing of the first one, and say so in a line.

    Args:
        file: to be written; it is not where there is no match to follow.
        names: of the clips, as they were given.
        sources: the clips; those behind the second that have no video are left out.
        paths: of the first clip and each of the others the matched frames (K, 2).
        given: see `lac.cli.way`.
    """
    from lac.data.side_by_side import Following, write_side_by_side

    (first, film, *_), *others = sources
    assert film is not None
    following, without = [], []
    for name, (clip, video, *_), path in zip(names[1:], others, paths, strict=True):
        if video is None:
            without.append(name)
        else:
            following.append(Following(video, clip.name, first.times[path[:, 0]], clip.times[path[:, 1]]))
    if not any(len(one.times1) for one in following):
        print(f"video           none: there is no match to follow; {file} is not written")
        return
    write_side_by_side(file, film, first.name, following, rate=given.rate())
    left_out = f"   without {', '.join(without)}, of which there is no video" if without else ""
    print(f"video           {file}{left_out}")
