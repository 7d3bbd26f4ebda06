"""`lac-find`: where in some recordings happens what a clip shows: a table, files of it, a timeline, cut-outs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    shown_chance,
)
from lac.cli.progress import showing_features
from lac.cli.way import way_of
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

    from lac.cli.way import Given
    from lac.data import Clip, Dataset
    from lac.hits import Hit
    from lac.pictures import Source
    from lac.search import Occurrence

_CLIP = "file (.npy or video), folder of images, or name of a clip of the run's data set"
_LISTED = 30

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


class _Candidate(NamedTuple):
    """What may have been found.

    Attributes:
        occurrence: its `chance` is not known yet.
        row: as `lac.hits.described`.
        expected: how many as good are expected by chance, in its recording.
    """

    occurrence: Occurrence
    row: dict[str, Any]
    expected: float


class _Searched(NamedTuple):
    """A recording that was searched; its frames are let go.

    Attributes:
        name: of the clip.
        video: if it is one.
        span: its first and last second.
        candidates: best first.
        frames: of the recording.
        own: how many were left out, because they are the query itself.
        still: whether nothing changes in it.
    """

    name: str
    video: Path | None
    span: tuple[float, float]
    candidates: list[_Candidate]
    frames: int
    own: int
    still: bool


def _find(arguments: argparse.Namespace) -> int:
    if arguments.most < 1:
        raise UsageError(f"--most must be at least 1, got {arguments.most}")
    check_chance(arguments.chance)

    from lac.data.doubts import still
    from lac.data.write import write_csv
    from lac.files import write_json
    from lac.hits import FIELDS, draw_timeline
    from lac.plots import save_figure
    from lac.system import pick_device

    device = pick_device(arguments.device or "auto")
    given = way_of(arguments, device)
    dataset, names = _names(arguments, given, device)
    (whole,) = given.read([arguments.query], device, dataset)
    query = _part(whole.clip, arguments.begin, arguments.end)
    searched = []
    for name in names:
        (source,) = given.read([name], device, dataset)
        given.check([arguments.query, name], [query, source.clip])
        searched.append(_search(given, query, source, arguments, name == arguments.query))
    hits, rows = _ranked(searched, arguments.chance)
    out = given.folder(arguments.out, "find", query.name)
    report = _report(given, arguments, query, searched, hits, rows)
    if still(query):
        report["doubts"].append(f"{query.name} does not change from frame to frame: it is found nowhere, or everywhere")
    write_csv(out / "hits.csv", [FIELDS, *([row[name] for name in FIELDS] for row in rows)])
    spans = [(one.name, *one.span) for one in searched]
    lasts = float(query.times[-1] - query.times[0])
    save_figure(draw_timeline(spans, hits, (query.name, lasts), report["verdict"]), out / "timeline.png")
    written = _cut(searched, hits, out, given) if arguments.cut else []
    write_json(out / "hits.json", report)
    _show(report, out, written)
    return 0


def _names(arguments: argparse.Namespace, given: Given, device: torch.device) -> tuple[Dataset | None, Sequence[str]]:
    """The data set, where it is needed, and the recordings to search.

    Raises:
        UsageError: there is none, or one is given twice.
    """
    names: list[str] = arguments.recordings
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UsageError(f"{name!r} is given twice: leave it out once")
    if names and all(Path(name).exists() for name in (arguments.query, *names)):
        return None, names
    if given.run is None and given.files_alone():
        if not names:
            raise UsageError("which recordings are to be searched? Give them after QUERY, or --data NAME or --root DIR")
        return None, names
    dataset = given.data.load(device)
    if not names:
        names = [clip.name for clip in dataset.train + dataset.val if clip.name != arguments.query]
        if not names:
            raise UsageError(f"{dataset.name} has no clip but the query: give recordings to search")
    return dataset, names


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


def _search(given: Given, query: Clip, source: Source, arguments: argparse.Namespace, itself: bool) -> _Searched:
    """Search a recording.

    Raises:
        DataError: the scores are not finite.
    """
    from lac.data.doubts import still
    from lac.hits import described
    from lac.search import candidates

    clip = source.clip
    try:
        every, null = candidates(given.way.compared(query, clip), arguments.most + itself)
    except ValueError as error:
        why = "an encoder has diverged, or frames are too large"
        raise DataError(f"{query.name} in {clip.name}: {error}; {why}") from error
    start, end = float(query.times[0]), float(query.times[-1])
    found = [one for one in every if not (itself and one.start < (start + end) / 2 < one.end)][: arguments.most]
    return _Searched(
        clip.name,
        source.video,
        (float(clip.times[0]), float(clip.times[-1])),
        [_Candidate(one, described(one, query, clip), null.expected(one.score)) for one in found],
        len(clip),
        len(every) - len(found) if itself else 0,
        still(clip),
    )


def _ranked(searched: Sequence[_Searched], chance: float) -> tuple[list[Hit], list[dict[str, Any]]]:
    """What is found in all recordings and is not chance, the surest first, and the same as `hits.json` says it; its
    `chance` holds for all together."""
    from lac.hits import FIELDS, Hit
    from lac.search import shares_of_chance

    total = sum(one.frames for one in searched)
    every = [(place, candidate) for place, one in enumerate(searched) for candidate in one.candidates]
    expected = [candidate.expected * total / searched[place].frames for place, candidate in every]
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


def _report(
    given: Given,
    arguments: argparse.Namespace,
    query: Clip,
    searched: Sequence[_Searched],
    hits: Sequence[Hit],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """What stands in `hits.json`."""
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
        "recordings": [
            {"name": one.name, "frames": one.frames, "seconds": list(one.span), "left_out_as_the_query": one.own}
            for one in searched
        ],
        "verdict": _verdict(searched, hits, arguments.chance),
        "hits": rows,
        "doubts": [f"{one.name} does not change from frame to frame" for one in searched if one.still],
    }


def _verdict(searched: Sequence[_Searched], hits: Sequence[Hit], chance: float) -> str:
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
    total = sum(one.frames for one in searched)
    best = min(some, key=lambda one: one.candidates[0].expected / one.frames)
    occurrence, _, expected = best.candidates[0]
    by_chance = min(expected * total / best.frames, 1.0)
    text = f"nothing in common beyond chance in {among}; "
    text += f"the best, {best.name} at {occurrence.start:.2f} s, has a chance of {by_chance:.2f}"
    covered = sum(one.end - one.start for one, _, _ in best.candidates)
    if covered > 0.5 * (best.span[1] - best.span[0]) > 0:
        text += f"; but the query fits all over {best.name}, where chance has nothing to compare with: see --chance 1"
    return text


def _cut(searched: Sequence[_Searched], hits: Sequence[Hit], out: Path, given: Given) -> list[Path]:
    """The cut-outs of what was found in videos; those of an earlier search are removed."""
    from lac.hits import cut_out

    folder, written = out / "cuts", []
    for hit in hits:
        one = searched[hit.recording]
        if one.video is None:
            continue
        path = folder / f"{hit.rank:03d}-{one.name}-at-{hit.occurrence.start:.2f}.mp4"
        cut_out(path, one.video, hit.occurrence.start, hit.occurrence.end, rate=given.rate())
        written.append(path)
    for old in folder.glob("[0-9][0-9][0-9]*-*-at-*.mp4"):
        if old not in written:
            old.unlink()
    return written


def _show(report: dict[str, Any], out: Path, cuts: Sequence[Path]) -> None:
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
    for doubt in report["doubts"]:
        console.print(f"doubt           {doubt}")
    for name in ("hits.csv", "hits.json", "timeline.png"):
        console.print(f"{name:<16}{out / name}")
    if cuts:
        console.print(f"cuts            {len(cuts)} in {out / 'cuts'}")


COMMAND = Command("lac-find", _parser, showing_features(_find))
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
