"""Frames of a clip as queries, and what is found for them in other clips: as plain values, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lac.data.base import Clip
from lac.pictures import Picture, Signals, Source, frame_pictures, plot_retrieval
from lac.plots import without_middle
from lac.retrieval import nearest_frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDEST = 24  # characters of a caption that fit over a panel


def even_seconds(clip: Clip, count: int) -> np.ndarray:
    """(count,) seconds of a clip: the middles of so many equal parts."""
    first, last = float(clip.times[0]), float(clip.times[-1])
    return first + (last - first) * (np.arange(count) + 0.5) / count


def frames_near(clip: Clip, seconds: Sequence[float] | np.ndarray) -> list[int]:
    """The frames of a clip that are nearest to some seconds, each once."""
    frames: list[int] = np.abs(clip.times - np.asarray(seconds)[:, None]).argmin(axis=1).tolist()
    return list(dict.fromkeys(frames))


def find_nearest(
    clip: Clip,
    frames: Sequence[int],
    others: Sequence[Clip],
    embeddings: Sequence[np.ndarray],
    label_names: Sequence[str],
    *,
    k: int,
) -> list[dict[str, Any]]:
    """For frames of a clip the nearest ones of `k` other clips, see `lac.retrieval.nearest_frames`.

    Args:
        clip: of the queries.
        frames: Q of its frames.
        others: the clips to search in.
        embeddings: (T, E) of `clip`, then of each of the others.
        label_names: of phase 0, 1 ...
        k: clips for each query, >= 1.

    Returns:
        For each query what `retrieval.json` says of it: `clip`, `frame`, `seconds`, `label`, `phase`, and a list
        `nearest` of the same with `distance` and `same_phase`.
    """
    nearest = nearest_frames(embeddings[0][list(frames)], embeddings[1:], k)
    return [
        {
            **_described(clip, frame, label_names),
            "nearest": [
                {
                    **_described(others[answer.clip], answer.frame, label_names),
                    "distance": answer.distance,
                    "same_phase": _same_phase(clip, frame, others[answer.clip], answer.frame),
                }
                for answer in answers
            ],
        }
        for frame, answers in zip(frames, nearest, strict=True)
    ]


def _described(clip: Clip, frame: int, label_names: Sequence[str]) -> dict[str, Any]:
    label = None if clip.labels is None else int(clip.labels[frame])
    return {
        "clip": clip.name,
        "frame": frame,
        "seconds": float(clip.times[frame]),
        "label": label,
        "phase": None if label is None or label < 0 else label_names[label],
    }


def _same_phase(clip: Clip, frame: int, other: Clip, other_frame: int) -> bool | None:
    """Whether both frames have one phase; `None` where the query has none."""
    if clip.labels is None or other.labels is None or clip.labels[frame] < 0:
        return None
    return bool(clip.labels[frame] == other.labels[other_frame])


def draw_found(queries: Sequence[dict[str, Any]], source: Source, searched: Sequence[Source], *, rate: float) -> Figure:
    """A row for each query of `find_nearest`, which is a frame of `source`: it, then what was found for it.

    Raises:
        ValueError, OSError, ImportError: a video cannot be read, see `lac.pictures.frame_pictures`.
    """
    rows = [[query, *query["nearest"]] for query in queries]
    # Each clip is opened once, for all of its frames.
    frames_by_clip: dict[str, set[int]] = {}
    for frame in (frame for row in rows for frame in row):
        frames_by_clip.setdefault(frame["clip"], set()).add(frame["frame"])
    pictures: dict[tuple[str, int], Picture] = {}
    signals = Signals([other.clip for other in searched])
    for shown in (source, *searched):
        name = shown.clip.name
        frames = sorted(frames_by_clip.get(name, ()))
        if frames:
            drawn = frame_pictures(shown, frames, signals, rate=rate)
            pictures |= {(name, k): picture for k, picture in zip(frames, drawn, strict=True)}
    return plot_retrieval(
        [[pictures[frame["clip"], frame["frame"]] for frame in row] for row in rows],
        [[_caption(frame) for frame in row] for row in rows],
        [[frame.get("same_phase") for frame in row] for row in rows],
        title=f"{without_middle(source.clip.name, _WIDEST)}: nearest frames of other clips",
    )


def _caption(frame: dict[str, Any]) -> str:
    lines = [without_middle(frame["clip"], _WIDEST), f"{frame['seconds']:.2f} s"]
    if "distance" in frame:
        lines[1] += f", distance {frame['distance']:.3g}"
    if frame["label"] is not None:
        lines.append(without_middle(frame["phase"] or "no phase", _WIDEST))
    return "\n".join(lines)
