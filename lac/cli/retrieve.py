"""``lac-retrieve``: the frames of other clips that are nearest to some frames of one, as numbers and as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from lac.cli.common import run
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from lac.cli.clips import Source
    from lac.data import Clip
    from lac.plots import Picture

WINDOW = 1.0  # seconds of signals before and after a frame that has no picture
_HEIGHT = 240  # pixels of a video's frame, as tall as a panel

_EXAMPLES = """examples:
  lac-retrieve runs/mine                                  five frames of the first validation clip
  lac-retrieve runs/mine clip03 --at 0.5 2.25 4           frames of a clip at these seconds
  lac-retrieve runs/pour a.mp4 --queries 8 --k 3          a file, as lac-align takes it
"""


def entry() -> NoReturn:
    """The installed command."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """``lac-retrieve`` with the arguments ``argv``; returns the exit code."""
    return run(_command, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lac-retrieve",
        description="For frames of one clip, the nearest frame of each of the other validation clips, nearest first.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="run folder of lac-train")
    parser.add_argument(
        "clip",
        metavar="CLIP",
        nargs="?",
        help="file (.npy or video), folder of images, or name of a clip of the run's data set "
        "(default: the first validation clip)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--at", metavar="SECONDS", nargs="+", type=float, help="of the query frames in the clip")
    which.add_argument(
        "--queries", metavar="N", type=int, default=5, help="query frames, evenly through the clip (default: 5)"
    )
    parser.add_argument("--k", metavar="K", type=int, default=5, help="clips shown for each query (default: 5)")
    parser.add_argument("--root", metavar="DIR", help="where the data set lies (default: as in the run)")
    parser.add_argument(
        "--out", metavar="DIR", help="for retrieval.png and retrieval.json (default: RUN/retrieve/CLIP)"
    )
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda... (default: auto)")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


class Found(NamedTuple):
    """A frame: the place of its clip, its index there, and its distance to the query."""

    clip: int
    frame: int
    distance: float


def nearest_frames(queries: np.ndarray, clips: Sequence[np.ndarray], k: int) -> list[list[Found]]:
    """For each query the nearest frame of each of the ``k`` clips that come nearest, nearest first.

    Args:
        queries: (Q, E) embeddings.
        clips: for each clip (T, E).
        k: at least 1; all clips where there are fewer.

    Returns:
        Q lists. Distances are Euclidean, in float64; of equal ones the earlier clip and frame come first.
    """
    import numpy as np
    from scipy.spatial.distance import cdist

    distances = [cdist(queries.astype(np.float64), clip.astype(np.float64)) for clip in clips]
    best = [distance.argmin(axis=1) for distance in distances]
    found = []
    for q in range(len(queries)):
        row = [Found(c, int(best[c][q]), float(distances[c][q, best[c][q]])) for c in range(len(clips))]
        found.append(sorted(row, key=lambda one: one.distance)[:k])
    return found


def _command(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    for name in ("queries", "k"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} must be at least 1, got {getattr(arguments, name)}")

    from lac.cli.clips import Source, check_embeddings, check_frames, read_clips
    from lac.data.doubts import still
    from lac.data.video import RATE
    from lac.embed import embed_clips
    from lac.files import write_json
    from lac.plots import plot_retrieval, save_figure
    from lac.runs.checkpoint import read_encoder
    from lac.runs.config import TrainConfig
    from lac.system import pick_device

    folder = Path(arguments.run)
    config = TrainConfig.of_run(folder)
    data = replace(config.data, root=arguments.root or config.data.root)
    device = pick_device(arguments.device)
    encoder = read_encoder(folder, device)
    dataset = data.load(device)
    given = arguments.clip or dataset.val[0].name
    (source,) = read_clips([given], data, device, dataset)
    clip = source.clip
    check_frames(given, clip, encoder.config)
    others = [other for other in dataset.val if other.name != clip.name]
    if not others:
        raise DataError(f"{dataset.name} has no validation clip but {clip.name!r}: there is nothing to search in")
    check_frames(others[0].name, others[0], encoder.config)
    frames = _query_frames(clip, arguments.at, arguments.queries)

    embedding, *embeddings = embed_clips(encoder, [clip, *others], device)
    check_embeddings([clip, *others], [embedding, *embeddings])
    found = nearest_frames(embedding[frames], embeddings, arguments.k)
    queries: list[dict[str, Any]] = [
        {
            **_described(clip, frame, dataset.label_names),
            "nearest": [
                {
                    **_described(others[one.clip], one.frame, dataset.label_names),
                    "distance": one.distance,
                    "same_phase": _same(clip, frame, others[one.clip], one.frame),
                }
                for one in row
            ],
        }
        for frame, row in zip(frames, found, strict=True)
    ]
    report: dict[str, Any] = {
        "run": str(folder),
        "given": given,
        "data": dataset.name,
        "clips_searched": len(others),
        "queries": queries,
        "doubts": [f"{clip.name} does not change from frame to frame: all of it finds the same"] if still(clip) else [],
    }
    answers = [[query, *query["nearest"]] for query in queries]
    # Each clip is opened once, for all of its frames.
    wanted: dict[str, set[int]] = {}
    for answer in (answer for row in answers for answer in row):
        wanted.setdefault(answer["clip"], set()).add(answer["frame"])
    pictures: dict[tuple[str, int], Picture] = {}
    signals = _Signals(others)
    for shown in (source, *(Source(other, dataset.videos.get(other.name)) for other in others)):
        name = shown.clip.name
        if name in wanted:
            numbers = sorted(wanted[name])
            drawn = _pictures(shown, numbers, dataset.bones, data.options.get("rate", RATE), signals)
            pictures |= {(name, k): picture for k, picture in zip(numbers, drawn, strict=True)}
    figure = plot_retrieval(
        [[pictures[answer["clip"], answer["frame"]] for answer in row] for row in answers],
        [[_caption(answer) for answer in row] for row in answers],
        [[answer.get("same_phase") for answer in row] for row in answers],
        title=f"{_short(clip.name)}: nearest frames of other clips",
    )
    out = Path(arguments.out or folder / "retrieve" / clip.name)
    save_figure(figure, out / "retrieval.png")
    write_json(out / "retrieval.json", report)
    _show(report, out)
    return 0


def _query_frames(clip: Clip, at: Sequence[float] | None, count: int) -> list[int]:
    """The frames nearest to some seconds, or frames from the middles of ``count`` equal parts of the clip."""
    import numpy as np

    first, last = float(clip.times[0]), float(clip.times[-1])
    for second in at or ():
        if not first <= second <= last:
            raise UsageError(f"--at {second:g}: the clip {clip.name!r} lasts from {first:.2f} to {last:.2f} s")
    seconds = np.array(at) if at else first + (last - first) * (np.arange(count) + 0.5) / count
    frames: list[int] = np.abs(clip.times - seconds[:, None]).argmin(axis=1).tolist()
    return list(dict.fromkeys(frames))


def _described(clip: Clip, frame: int, label_names: Sequence[str]) -> dict[str, Any]:
    label = None if clip.labels is None else int(clip.labels[frame])
    return {
        "clip": clip.name,
        "frame": frame,
        "seconds": float(clip.times[frame]),
        "label": label,
        "phase": None if label is None or label < 0 else label_names[label],
    }


def _same(query: Clip, frame: int, other: Clip, found: int) -> bool | None:
    """Whether both frames have one phase; ``None`` where the query has none."""
    if query.labels is None or other.labels is None or query.labels[frame] < 0:
        return None
    return bool(query.labels[frame] == other.labels[found])


def _caption(answer: dict[str, Any]) -> str:
    lines = [_short(answer["clip"]), f"{answer['seconds']:.2f} s"]
    if "distance" in answer:
        lines[1] += f", distance {answer['distance']:.3g}"
    if answer["label"] is not None:
        lines.append(_short(answer["phase"] or "no phase"))
    return "\n".join(lines)


def _short(text: str, length: int = 24) -> str:
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def _pictures(
    source: Source,
    frames: list[int],
    bones: Sequence[tuple[int, int]],
    rate: float,
    signals: Callable[[Clip], np.ndarray],
) -> list[Picture]:
    """Pictures of frames of a clip: from its video where there is one, else of what the frames are.

    Images (3, H, W) are shown from the darkest to the brightest value of the clip; poses (J, 2) with the first
    coordinate to the right and the second downwards, as in an image; poses (J, 3) with the third coordinate up, half
    from the front and half from the side; anything else as ``signals(clip)`` (T, D) around the frame.
    """
    import numpy as np

    from lac.data.video import frames_at
    from lac.plots import Joints, Window

    clip, video = source
    if video is not None:
        return list(frames_at(video, clip.times[frames].tolist(), height=_HEIGHT, rate=rate))
    shape = clip.frames.shape[1:]
    if len(shape) == 3 and shape[0] == 3:
        low, high = clip.frames.min(), clip.frames.max()
        images = (clip.frames[frames] - low) * (255 / max(high - low, 1e-9))
        return list(images.transpose(0, 2, 3, 1).astype(np.uint8))
    if len(shape) == 2 and shape[0] > 1 and shape[1] in (2, 3):
        turned = [[1, 0], [0, -1]] if shape[1] == 2 else [[0.71, 0], [0.71, 0], [0, 1]]
        return [Joints(points, bones) for points in clip.frames[frames] @ np.array(turned)]
    windows: list[Picture] = []
    values = signals(clip)
    for frame in frames:
        seconds = clip.times - clip.times[frame]
        near = np.abs(seconds) <= WINDOW
        windows.append(Window(seconds[near], values[near]))
    return windows


class _Signals:
    """Features of a clip as few lines: up to eight as they are, of more the first three principal components.

    The components are those of ``clips``, and computed when they are first asked for.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = clips
        self.components: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, clip: Clip) -> np.ndarray:
        import numpy as np

        features = clip.frames.reshape(len(clip), -1)
        if features.shape[1] <= 8:
            return features
        if self.components is None:
            everything = np.concatenate([one.frames.reshape(len(one), -1) for one in self.clips]).astype(np.float64)
            self.components = everything.mean(axis=0), np.linalg.eigh(np.cov(everything.T))[1][:, :-4:-1]
        mean, axes = self.components
        return np.asarray((features - mean) @ axes)


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    same = [found["same_phase"] for query in report["queries"] for found in query["nearest"]]
    known = [one for one in same if one is not None]
    console.print(f"queries         {len(report['queries'])} frames of {report['queries'][0]['clip']}")
    console.print(f"searched        {report['clips_searched']} other validation clips")
    if known:
        console.print(f"same phase      {sum(known)} of {len(known)} frames found")
    for query in report["queries"]:
        phase = "" if query["label"] is None else f" ({query['phase'] or 'no phase'})"
        nearest = query["nearest"][0]
        console.print(
            f"  {query['seconds']:.2f} s{phase}: nearest {nearest['clip']} at {nearest['seconds']:.2f} s, "
            f"distance {nearest['distance']:.3g}"
        )
    for doubt in report["doubts"]:
        console.print(f"doubt           {doubt}")
    for name in ("retrieval.png", "retrieval.json"):
        console.print(f"{name:<16}{out / name}")


if __name__ == "__main__":
    entry()
