"""`lac-align --all`: clips of one action aligned with each other, and one timeline for all of them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lac.cli.way import Given, way_of
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

    from lac.data import Clip
    from lac.pictures import Source
    from lac.together import AlignedGroup, Timeline

_PAIRS = ("clip_a", "clip_b", "trust", "matched_frames", "seconds_a", "seconds_b", "mean_probability", "share")
_MATCHES = ("clip_a", "clip_b", "second_a", "second_b", "probability")


def align_all(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    """The work of `lac-align RUN --all`, for the clips of these names or those of the data set."""
    from lac.cli.videos import check_videos, write_video
    from lac.data.write import check_names, write_csv
    from lac.files import write_json
    from lac.plots import save_figure
    from lac.system import pick_device
    from lac.timeline_picture import plot_group
    from lac.together import align_group, common_timeline

    device = pick_device(arguments.device or "auto")
    given = way_of(arguments, device)
    sources, chosen = (given.read(names, device), "as given") if names else _of_data_set(given, device)
    clips = [source.clip for source in sources]
    if len(clips) < 3:
        raise UsageError(
            f"--all needs three clips at least, got {len(clips)}: two have no third to confirm what they have in "
            "common; lac-align RUN A B aligns two"
        )
    check_names([clip.name for clip in clips])
    if arguments.video:
        check_videos(names or [clip.name for clip in clips], sources)

    group = align_group(given.way, clips)
    if not group.trust >= 0:
        raise DataError(
            "the scores of these clips are not finite; an encoder has diverged, or the frames are too large"
        )
    timeline = common_timeline(group, clips)
    report = _report(given, names, chosen, clips, group, timeline)
    out = given.folder(arguments.out, "align", "all")
    title = f"{len(clips)} clips, trust {group.trust:.2f}"
    save_figure(plot_group(group, timeline, clips, title), out / "all.png")
    write_csv(out / "pairs.csv", [_PAIRS, *([pair[name] for name in _PAIRS] for pair in report["pairs"])])
    write_csv(out / "matches.csv", [_MATCHES, *_matches(report)])
    _write_timeline(out / "timeline.csv", report["timeline"])
    write_json(out / "all.json", report)
    _show(report, out)
    if arguments.video and timeline is None:
        print(f"video           none: there is no timeline; {arguments.video} is not written")
    elif arguments.video and timeline is not None:
        order = _reference_first(timeline.reference, len(clips))
        paths = [group.pairs[timeline.reference, k].path for k in order[1:]]
        write_video(arguments.video, [clips[k].name for k in order], [sources[k] for k in order], paths, given)
    return 0


def _reference_first(reference: int, count: int) -> list[int]:
    return [reference, *(k for k in range(count) if k != reference)]


def _of_data_set(given: Given, device: torch.device) -> tuple[list[Source], str]:
    """The validation clips of the action that most of them show, and a line that says so."""
    from lac.cli.way import RAW
    from lac.pictures import Source

    if given.run is None and given.files_alone():
        raise UsageError(f"{RAW} --all needs clips (lac-align {RAW} --all CLIP ...), or a data set by --data or --root")
    dataset = given.data.load(device)
    counts = Counter(clip.action for clip in dataset.val)
    action, count = counts.most_common(1)[0]
    clips = [clip for clip in dataset.val if clip.action == action]
    given.check([clip.name for clip in clips], clips)
    chosen = f"the validation clips of {dataset.name}"
    if len(counts) > 1:
        chosen += f" of action {action!r}, {count} of {len(dataset.val)}; it has the most of {len(counts)} actions"
    return [Source.of(clip, dataset) for clip in clips], chosen


def _report(
    given: Given,
    names: Sequence[str],
    chosen: str,
    clips: Sequence[Clip],
    group: AlignedGroup,
    timeline: Timeline | None,
) -> dict[str, Any]:
    """What stands in `all.json`."""
    from lac.data.doubts import still

    return {
        "run": None if given.run is None else str(given.run),
        "aligned_by": given.by(),
        "given": list(names),
        "chosen": chosen,
        "clips": [
            {"name": clip.name, "frames": len(clip), "seconds": [clip.times[0], clip.times[-1]]} for clip in clips
        ],
        "trust": group.trust,
        "pairs": [_pair(clips, group, i, j) for i, j in group.pairs if i < j],
        "timeline": None if timeline is None else _timeline(clips, group, timeline),
        "doubts": [f"{clip.name} does not change from frame to frame" for clip in clips if still(clip)],
    }


def _pair(clips: Sequence[Clip], group: AlignedGroup, i: int, j: int) -> dict[str, Any]:
    pair = group.pairs[i, j]
    times = (clips[i].times[pair.path[:, 0]].tolist(), clips[j].times[pair.path[:, 1]].tolist())
    return {
        "clip_a": clips[i].name,
        "clip_b": clips[j].name,
        "trust": group.trust,
        "matched_frames": len(pair.path),
        "seconds_a": times[0][-1] - times[0][0] if len(pair.path) else 0.0,
        "seconds_b": times[1][-1] - times[1][0] if len(pair.path) else 0.0,
        "mean_probability": float(pair.probability.mean()) if len(pair.path) else None,
        "share": pair.share,
        "matches": [list(match) for match in zip(*times, pair.probability.tolist(), strict=True)],
    }


def _timeline(clips: Sequence[Clip], group: AlignedGroup, timeline: Timeline) -> dict[str, Any]:
    order = _reference_first(timeline.reference, len(clips))
    return {
        "reference": clips[timeline.reference].name,
        "expected_matches": float(group.matches[timeline.reference]),
        "seconds": {clips[k].name: [_number(second) for second in timeline.seconds[:, k]] for k in order},
    }


def _number(second: float) -> float | None:
    return float(second) if second == second else None


def _matches(report: dict[str, Any]) -> list[list[Any]]:
    return [[pair["clip_a"], pair["clip_b"], *match] for pair in report["pairs"] for match in pair["matches"]]


def _write_timeline(path: Path, timeline: dict[str, Any] | None) -> None:
    """A column for each clip, the reference first; without a timeline none is left from an earlier call."""
    from lac.data.write import write_csv

    if timeline is None:
        path.unlink(missing_ok=True)
        return
    columns = timeline["seconds"]
    write_csv(path, [list(columns), *zip(*columns.values(), strict=True)])


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    if report["run"] is None:
        console.print("aligned by      raw features and their self-similarity; nothing is trained")
    console.print(f"clips           {len(report['clips'])}, {report['chosen']}")
    matched = sorted(pair["matched_frames"] for pair in report["pairs"])
    confirmed = "" if report["timeline"] else "   nothing is confirmed: no common timeline"
    console.print(f"trust           {report['trust']:.2f}   from 0 to 1, of all clips together{confirmed}")
    console.print(f"pairs           {len(matched)}, {matched[0]} to {matched[-1]} matched frames each")
    if report["timeline"]:
        _show_timeline(console.print, report["timeline"])
    for doubt in report["doubts"]:
        console.print(f"doubt           {doubt}")
    for name in ("all.png", "pairs.csv", "matches.csv", *(["timeline.csv"] if report["timeline"] else []), "all.json"):
        console.print(f"{name:<16}{out / name}")


def _show_timeline(say: Any, timeline: dict[str, Any]) -> None:
    reference = timeline["reference"]
    say(f"timeline        that of {reference}, which has the most in common with the others")
    times = timeline["seconds"][reference]
    for name, seconds in timeline["seconds"].items():
        there = [k for k, second in enumerate(seconds) if second is not None]
        if name == reference:
            continue
        line = "no match"
        if there:
            first, last = there[0], there[-1]
            line = f"{seconds[first]:.2f} to {seconds[last]:.2f} s   at {times[first]:.2f} to {times[last]:.2f} s"
        say(f"  {name:<14}{line}")
