"""`lac-find`: where in some recordings happens what a clip shows: a table, files of it, a timeline, cut-outs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lac.cli.common import (
    Command,
    add_chance,
    add_data,
    add_device,
    add_general,
    add_out,
    add_root,
    add_run,
    add_set,
    check_chance,
    new_parser,
)
from lac.cli.progress import showing_features
from lac.cli.way import way_of
from lac.errors import UsageError
from lac.search import shown_chance

if TYPE_CHECKING:
    import torch

    from lac.cli.recordings import Recording
    from lac.cli.searched import Searched
    from lac.cli.way import Given
    from lac.data import Clip, Dataset
    from lac.hits import Hit

_CLIP = "file (.npy or video), folder of images, or name of a clip of the run's data set"
_LISTED = 30
CUTS = "cuts"

_EXAMPLES = """examples:
  lac-find runs/mine clip03                             in all other clips
  lac-find runs/mine clip03 long.npy --chance 0.2       less sure ones, too
  lac-find raw a.mp4 b.mp4 c.mp4 --cut                  nothing trained
  lac-find raw day.mp4 --from 62 --to 65 day.mp4        repeats in a recording
"""
_WRITES = """RUN may be the word raw (a folder of that name: ./raw): recordings are then
searched by raw features and their self-similarity.

what is written to --out (default: RUN/find/QUERY; ./find-QUERY for raw):
  hits.csv             a line for each occurrence, best first
  hits.json            the same, with the path of each, and what was asked
  timeline.png         where they are
  cuts/*.mp4           with --cut, of recordings that are videos
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-find",
        "Find where recordings show what a clip shows: seconds, scores, and how far each may be chance.",
        examples=_EXAMPLES,
        writes=_WRITES,
        usage="lac-find RUN QUERY [RECORDING ...] [option ...]",
    )
    what = parser.add_argument_group("what to find, and where")
    add_run(what)
    what.add_argument("query", metavar="QUERY", help=_CLIP)
    what.add_argument(
        "recordings",
        metavar="RECORDING",
        nargs="*",
        help="likewise, minutes or hours long (default: all other clips of the data set)",
    )
    what.add_argument("--from", dest="begin", metavar="SECONDS", type=float, help="where the query begins in its clip")
    what.add_argument("--to", dest="end", metavar="SECONDS", type=float, help="where it ends")
    add_data(what)
    add_root(what)
    settings = parser.add_argument_group("settings")
    settings.add_argument("--most", metavar="N", type=int, default=20, help="in a recording (default: 20)")
    add_chance(settings)
    add_set(settings)
    add_device(settings)
    output = parser.add_argument_group("output")
    add_out(output)
    output.add_argument("--cut", action="store_true", help="cut what is found out of the videos")
    add_general(parser)
    return parser


def _find(arguments: argparse.Namespace) -> int:
    if arguments.most < 1:
        raise UsageError(f"--most must be at least 1, got {arguments.most}")
    check_chance(arguments.chance)

    from lac.cli.progress import clip_progress
    from lac.cli.recordings import look_at
    from lac.cli.searched import ranked, search
    from lac.data.video import package
    from lac.data.write import write_csv
    from lac.files import write_json
    from lac.hits import FIELDS, cut_out, draw_timeline
    from lac.plots import save_figure
    from lac.system import describe, pick_device

    if arguments.cut:
        package("av", "PyAV")
    device = pick_device(arguments.device or "auto")
    given = way_of(arguments, device)
    dataset, names = _names(arguments, given, device)
    (whole,) = given.read([arguments.query], device, dataset)
    query = _part(whole.clip, arguments.begin, arguments.end)
    with clip_progress() as tell:
        recordings = look_at(names, given, (arguments.query, whole), device, dataset, tell)
        if not arguments.recordings:
            recordings = [one for one in recordings if not one.itself]
        if not recordings:
            raise UsageError("there is no clip but the query: give recordings to search")
        searched = []
        for place, recording in enumerate(recordings):
            tell(place, len(recordings), f"searching {recording.name}")
            searched.append(search(given, query, recording, arguments.most))
    hits, rows = ranked(searched, arguments.chance)
    out = given.folder(arguments.out, "find", _called(query, arguments))
    cuts = _cuts(recordings, hits) if arguments.cut else {}
    report = _report(given, arguments, query, searched, hits, rows, cuts)
    report |= {"left_out": {} if dataset is None or arguments.recordings else dict(dataset.left_out)}
    report |= {"environment": describe(device)}
    spans = [(one.name, *one.span) for one in recordings]
    lasts = float(query.times[-1] - query.times[0])
    _remove_cuts(out)
    write_csv(out / "hits.csv", [FIELDS, *([row[name] for name in FIELDS] for row in rows)])
    save_figure(draw_timeline(spans, hits, (query.name, lasts), report["verdict"]), out / "timeline.png")
    write_json(out / "hits.json", report)  # before the cuts that it names, so that none is ever without it
    for hit in hits:
        if hit.rank in cuts:
            video, found = recordings[hit.recording].video, hit.occurrence
            assert video is not None
            cut_out(out / CUTS / cuts[hit.rank], video, found.start, found.end, rate=given.rate())
    _show(report, out, arguments.cut)
    return 0


def _names(arguments: argparse.Namespace, given: Given, device: torch.device) -> tuple[Dataset | None, Sequence[str]]:
    """The data set, where it is needed, and the recordings to search.

    Raises:
        UsageError: there is none.
    """
    names: list[str] = arguments.recordings
    if names and all(Path(name).exists() for name in (arguments.query, *names)):
        return None, names
    if given.run is None and given.files_alone():
        if not names:
            raise UsageError("which recordings are to be searched? Give them after QUERY, or --data NAME or --root DIR")
        return None, names
    dataset = given.data.load(device)
    return dataset, names or [clip.name for clip in dataset.train + dataset.val]


def _part(clip: Clip, begin: float | None, end: float | None) -> Clip:
    """The frames of a clip from one second to another.

    Raises:
        UsageError: there are none.
    """
    first, last = float(clip.times[0]), float(clip.times[-1])
    start, stop = (first if begin is None else begin), (last if end is None else end)
    inside = (clip.times >= start - 1e-9) & (clip.times <= stop + 1e-9)
    if not inside.any() or not start <= stop:
        raise UsageError(
            f"--from {start:g} --to {stop:g}: no frame; {clip.name!r} lasts from {first:.2f} to {last:.2f} s"
        )
    labels = None if clip.labels is None else clip.labels[inside]
    return replace(clip, frames=clip.frames[inside], times=clip.times[inside], labels=labels, guide=None)


def _called(query: Clip, arguments: argparse.Namespace) -> str:
    """The name of the folder: of the query, and of which part of it."""
    if arguments.begin is None and arguments.end is None:
        return query.name
    return f"{query.name}-from-{query.times[0]:.2f}-to-{query.times[-1]:.2f}"


def _report(
    given: Given,
    arguments: argparse.Namespace,
    query: Clip,
    searched: Sequence[Searched],
    hits: Sequence[Hit],
    rows: list[dict[str, Any]],
    cuts: dict[int, str],
) -> dict[str, Any]:
    """What stands in `hits.json`."""
    from lac.cli.searched import doubts, verdict

    return {
        "run": None if given.run is None else str(given.run),
        "compared_by": given.by(),
        "query": {
            "given": arguments.query,
            "name": query.name,
            "frames": len(query),
            "seconds": [float(query.times[0]), float(query.times[-1])],
        },
        "chance": arguments.chance,
        "most": arguments.most,
        "recordings": [
            {"name": name, "frames": frames, "seconds": list(span), "left_out_as_the_query": own}
            for (name, _, span, frames, *_), _, own, *_ in searched
        ],
        "verdict": verdict(searched, hits, arguments.chance),
        "hits": [row | {"cut": cuts.get(row["rank"])} for row in rows],
        "doubts": doubts(query, searched, hits, arguments.most),
    }


def _cuts(recordings: Sequence[Recording], hits: Sequence[Hit]) -> dict[int, str]:
    """The names of the cut-outs of what was found in videos, by rank."""
    places = {hit.rank: (recordings[hit.recording], hit.occurrence.start) for hit in hits}
    return {
        rank: f"{rank:03d}-{Path(one.name).stem}-at-{start:.2f}.mp4"
        for rank, (one, start) in places.items()
        if one.video is not None
    }


def _remove_cuts(out: Path) -> None:
    """Remove the cut-outs that the `hits.json` of an earlier search names, and nothing else."""
    from lac.data.reading import file_name, read_json

    try:
        names = [file_name(hit["cut"]) for hit in read_json(out / "hits.json")["hits"] if hit.get("cut") is not None]
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return  # there was none, or it is no such file
    for name in names:
        (out / CUTS / name).unlink(missing_ok=True)


def _show(report: dict[str, Any], out: Path, cut: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True, markup=False)
    hits = report["hits"]
    if hits:
        table = Table(
            box=box.SIMPLE, padding=(0, 1), caption="from, to: where the whole query lies; of it: what is matched"
        )
        for name in ("", "recording", "from s", "to s", "of it", "score", "chance"):
            table.add_column(
                name, justify="left" if name == "recording" else "right", no_wrap=True, overflow="ellipsis"
            )
        for row in hits[:_LISTED]:
            share = 100 * row["matched_frames"] / report["query"]["frames"]
            numbers = (f"{row['start']:.2f}", f"{row['end']:.2f}", f"{share:.0f} %", f"{row['score']:.2f}")
            table.add_row(str(row["rank"]), Text(row["recording"]), *numbers, shown_chance(row["chance"]))
        Console().print(table)
    if len(hits) > _LISTED:
        console.print(f"and {len(hits) - _LISTED} more in hits.csv")
    console.print(report["verdict"])
    own = sum(one["left_out_as_the_query"] for one in report["recordings"])
    if own:
        console.print("left out        the query itself, in its own recording")
    for name, reason in report["left_out"].items():
        console.print(f"not searched    {name}: {reason}")
    for doubt in report["doubts"]:
        console.print(f"doubt           {doubt}")
    for name in ("hits.csv", "hits.json", "timeline.png"):
        console.print(f"{name:<16}{out / name}")
    if cut and hits:
        cuts = sum(row["cut"] is not None for row in hits)
        where = f"{cuts} in {out / CUTS}" if cuts else "none: of what was found there is no video"
        console.print(f"cuts            {where}")


COMMAND = Command("lac-find", _parser, showing_features(_find))
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
