"""`lac-retrieve`: the frames of other clips that are nearest to some frames of one, as numbers and as a picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lac.cli.common import (
    Command,
    add_device,
    add_general,
    add_out,
    add_root,
    add_run,
    add_set,
    config_of_run,
    new_parser,
)
from lac.cli.progress import showing_features
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    from lac.data import Clip, Dataset

_EXAMPLES = """examples:
  lac-retrieve runs/mine                            the first validation clip
  lac-retrieve runs/mine clip03 --at 0.5 2.25 4     frames at these seconds
  lac-retrieve runs/pour a.mp4 --queries 8 --k 3    a file, as for lac-align
"""
_WRITES = """what is written to --out (default: RUN/retrieve/CLIP):
  retrieval.png        the frames, a row for each query
  retrieval.json       clips, seconds, distances, phases
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-retrieve",
        "For frames of one clip, the nearest frame of each of the other validation clips, nearest first.",
        examples=_EXAMPLES,
        writes=_WRITES,
        usage="lac-retrieve RUN [CLIP] [option ...]",
    )
    what = parser.add_argument_group("what to look for")
    add_run(what)
    what.add_argument(
        "clip",
        metavar="CLIP",
        nargs="?",
        help="file (.npy or video), folder of images, or name of a clip of the run's data set "
        "(default: the first validation clip)",
    )
    which = what.add_mutually_exclusive_group()
    which.add_argument("--at", metavar="SECONDS", nargs="+", type=float, help="of the query frames in the clip")
    which.add_argument(
        "--queries", metavar="N", type=int, default=5, help="query frames, evenly through the clip (default: 5)"
    )
    add_root(what)
    settings = parser.add_argument_group("settings")
    settings.add_argument("--k", metavar="K", type=int, default=5, help="clips shown for each query (default: 5)")
    add_set(settings)
    add_device(settings)
    add_out(parser.add_argument_group("output"))
    add_general(parser)
    return parser


def _retrieve(arguments: argparse.Namespace) -> int:
    for name in ("queries", "k"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} must be at least 1, got {getattr(arguments, name)}")

    from lac.cli.clips import check_embeddings, check_frames, read_clips
    from lac.data.video import RATE
    from lac.embed import embed_clips
    from lac.files import write_json
    from lac.pictures import Source
    from lac.plots import save_figure
    from lac.queries import draw_found, find_nearest
    from lac.runs.checkpoint import read_encoder
    from lac.system import pick_device

    folder = Path(arguments.run)
    data = config_of_run(arguments).data
    device = pick_device(arguments.device or "auto")
    encoder = read_encoder(folder, device)
    dataset = data.load(device)
    name = arguments.clip or dataset.val[0].name
    (source,) = read_clips([name], data, device, dataset)
    clip = source.clip
    check_frames(name, clip, encoder.config)
    others = [other for other in dataset.val if other.name != clip.name]
    if not others:
        raise DataError(f"{dataset.name} has no validation clip but {clip.name!r}: there is nothing to search in")
    check_frames(others[0].name, others[0], encoder.config)
    frames = _query_frames(clip, arguments.at, arguments.queries)

    embeddings = embed_clips(encoder, [clip, *others], device)
    check_embeddings([clip, *others], embeddings)
    queries = find_nearest(clip, frames, others, embeddings, dataset.label_names, k=arguments.k)
    report = _report(folder, name, clip, dataset, len(others), queries)
    out = Path(arguments.out or folder / "retrieve" / clip.name)
    searched = [Source.of(other, dataset) for other in others]
    figure = draw_found(queries, source, searched, rate=data.options.get("rate", RATE))
    save_figure(figure, out / "retrieval.png")
    write_json(out / "retrieval.json", report)
    _show(report, out)
    return 0


def _query_frames(clip: Clip, at: Sequence[float] | None, count: int) -> list[int]:
    """The frames nearest to some seconds, or frames from the middles of `count` equal parts of the clip."""
    from lac.queries import even_seconds, frames_near

    first, last = clip.times[[0, -1]]
    for second in at or ():
        if not first <= second <= last:
            raise UsageError(f"--at {second:g}: the clip {clip.name!r} lasts from {first:.2f} to {last:.2f} s")
    return frames_near(clip, at or even_seconds(clip, count))


def _report(
    folder: Path, name: str, clip: Clip, dataset: Dataset, searched: int, queries: list[dict[str, Any]]
) -> dict[str, Any]:
    """What stands in `retrieval.json`."""
    from lac.data.doubts import still

    doubt = f"{clip.name} does not change from frame to frame: all of it finds the same"
    return {
        "run": str(folder),
        "given": name,
        "data": dataset.name,
        "clips_searched": searched,
        "queries": queries,
        "doubts": [doubt] if still(clip) else [],
    }


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    agreement = [frame["same_phase"] for query in report["queries"] for frame in query["nearest"]]
    known = [same for same in agreement if same is not None]
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


COMMAND = Command("lac-retrieve", _parser, showing_features(_retrieve))
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
