"""`lac-align`: what two clips have in common, alone or by the word of others, or what all of them have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
from lac.errors import DataError, UsageError
from lac.search import shown_chance

if TYPE_CHECKING:
    import numpy as np

    from lac.cli.way import Given
    from lac.data import Clip
    from lac.pairs import AlignedClips

_LETTERS = ("A", "B")  # the two clips, as the help and the report call them
_CLIP = "file (.npy or video), folder of images, or name of a clip of the run's data set"
_STILL = "does not change from frame to frame: any path through it is as good as another"

_EXAMPLES = """examples:
  lac-align runs/mine clip03 clip07                    clips of the data set
  lac-align runs/mine clip03 elsewhere/features.npy    a clip and an array
  lac-align runs/mine clip03 clip07 clip01 clip05      by what all four agree on
  lac-align runs/pour a.mp4 b.mp4 --video both.mp4     of a run on videos
  lac-align raw a.mp4 b.mp4 c.mp4                      nothing trained
  lac-align runs/mine --all                            all validation clips
  lac-align raw --all *.mp4 --video grid.mp4           on one timeline
"""
_WRITES = """RUN may be the word raw (a folder of that name: ./raw): clips are then aligned
by raw features and their self-similarity; files, or clips of --data, --root.

what is written to --out (default: RUN/align/A-B; A-B+n with n others;
./align-A-B for raw):
  alignment.png        scores, soft alignment, best path; with others: the soft
                       alignment and path of A and B alone, and with the others
  frames.png           frames of A above frames of B, lines where they match
  alignment.json       scores, matched segments, gaps, path; with others: trust
and of --all (default: RUN/align/all; ./align-all for raw):
  all.png              all pairs, and all clips on one timeline
  pairs.csv            for each pair how much is matched, and the trust
  matches.csv          second_a, second_b, probability of every match
  timeline.csv         second of every clip at each frame of the reference
  all.json             all of it
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-align",
        "Align two clips, or all of several, by a trained encoder or by raw features: what matches when, and how far "
        "it is to be trusted.",
        examples=_EXAMPLES,
        writes=_WRITES,
        usage="lac-align RUN (A B [C ...] | --all [CLIP ...]) [option ...]",
    )
    what = parser.add_argument_group("what to align")
    add_run(what)
    for letter in _LETTERS:
        what.add_argument(f"clip_{letter.lower()}", metavar=letter, nargs="?", help=_CLIP)
    what.add_argument(
        "others",
        metavar="C",
        nargs="*",
        help="more clips of the same action: A and B are aligned by what all of them agree about",
    )
    what.add_argument(
        "--all",
        action="store_true",
        help="align all clips given with each other, three at least (default: the validation clips of the run's data "
        "set, of the action that most of them show)",
    )
    add_data(what)
    add_root(what)
    settings = parser.add_argument_group("settings")
    add_chance(settings)
    add_set(settings)
    add_device(settings)
    output = parser.add_argument_group("output")
    add_out(output)
    output.add_argument("--video", metavar="FILE.mp4", help="write A, and B and all others beside it in A's timing")
    add_general(parser)
    return parser


def _align(arguments: argparse.Namespace) -> int:
    if arguments.video and not arguments.video.lower().endswith(".mp4"):
        raise UsageError(f"--video must end in .mp4, got {arguments.video}")
    check_chance(arguments.chance)
    names = [name for name in (arguments.clip_a, arguments.clip_b, *arguments.others) if name is not None]
    _check_given_once(names, arguments.all)
    if arguments.all:
        from lac.cli.align_all import align_all

        return align_all(arguments, names)
    if len(names) < 2:
        raise UsageError("two clips at least are required (lac-align RUN A B), or --all: see lac-align --help")
    return _align_two(arguments, names)


def _align_two(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    from lac.cli.videos import check_videos, write_video
    from lac.files import write_json
    from lac.moments import draw_moments
    from lac.pairs import align_by, draw_aligned
    from lac.plots import save_figure
    from lac.system import pick_device

    device = pick_device(arguments.device or "auto")
    given = way_of(arguments, device)
    sources = given.read(names, device)
    if arguments.video:
        check_videos(names[:2], sources[:2])
    first, second, *others = (source.clip for source in sources)

    aligned = align_by(given.way, first, second, others)
    _check_finite(names, aligned)
    together = aligned.together
    if together is None and aligned.chance > arguments.chance:
        aligned = aligned._replace(path=aligned.path[:0])
    path = (aligned.path if together is None else together.path).cpu().numpy()
    report = _report(given, names, (first, second), aligned, path)
    if together is not None:
        report |= {"trust": together.trust.item(), "others": _others(names[2:], others)}
    with_others = f"+{len(others)}" if others else ""
    out = given.folder(arguments.out, "align", f"{first.name}-{second.name}{with_others}")
    title = f"score {report['score']:.2f}, chance {shown_chance(aligned.chance)}"
    if together is not None:
        title += f", trust {report['trust']:.2f}"
    if not len(path):
        title += ": nothing in common"
    save_figure(draw_aligned(aligned, first, second, title=title), out / "alignment.png")
    try:
        moments = draw_moments(sources[0], sources[1], path, rate=given.rate(), title=title)
    except (ImportError, DataError, FileNotFoundError) as error:  # features, beside a video that cannot be read
        (out / "frames.png").unlink(missing_ok=True)
        report["doubts"].append(f"frames.png is not drawn: {error}")
    else:
        save_figure(moments, out / "frames.png")
    write_json(out / "alignment.json", report)
    _show(report, out)
    if arguments.video:
        write_video(arguments.video, names, sources, _soft_paths(aligned), given)
    return 0


def _soft_paths(aligned: AlignedClips) -> list[np.ndarray]:
    """Of A and each other clip the path along the ridge of their posterior, empty where they have nothing in common."""
    from lac.paths import expected_paths

    if not len(aligned.path) and aligned.together is None:
        return [aligned.path.cpu().numpy()]
    together = aligned.together
    paths = expected_paths(aligned.posterior[None]) if together is None else [together.path, *together.others]
    return [path.cpu().numpy() for path in paths]


def _check_given_once(clips: Sequence[str], together: bool) -> None:
    """Others that are one of the clips already would confirm whatever is matched; A and B alone may be one clip.

    Raises:
        UsageError: a clip is given twice.
    """
    for place, name in enumerate(clips):
        if name in clips[:place] and (place >= 2 or together):
            raise UsageError(f"{name!r} is given twice: it cannot confirm its own alignment; leave it out once")


def _check_finite(names: Sequence[str], aligned: AlignedClips) -> None:
    """Raises:
    DataError: the scores, or what others make of them, are not finite.
    """
    together = aligned.together
    if aligned.best_score.isfinite() and (together is None or together.posterior.isfinite().all()):
        return
    whose = " and ".join(names[:2]) if not aligned.best_score.isfinite() else "the others"
    raise DataError(f"the scores of {whose} are not finite; an encoder has diverged, or the frames are too large")


def _others(names: Sequence[str], clips: Sequence[Clip]) -> list[dict[str, Any]]:
    return [{"given": name, "name": clip.name, "frames": len(clip)} for name, clip in zip(names, clips, strict=True)]


def _report(
    given: Given, names: Sequence[str], clips: tuple[Clip, Clip], aligned: AlignedClips, path: np.ndarray
) -> dict[str, Any]:
    """What stands in `alignment.json`."""
    from lac.data.doubts import still
    from lac.pairs import find_gaps

    first, second = clips
    matched_times = (first.times[path[:, 0]].tolist(), second.times[path[:, 1]].tolist())
    return {
        "run": None if given.run is None else str(given.run),
        "aligned_by": given.by(),
        "score": aligned.best_score.item(),
        "soft_score": aligned.score.item(),
        "chance": aligned.chance,
        "matched_frames": len(path),
        "clips": [
            {
                "given": name,
                "name": clip.name,
                "frames": len(clip),
                "seconds": [clip.times[0], clip.times[-1]],
                "matched_segment": [times[0], times[-1]] if times else None,
            }
            for name, clip, times in zip(names[:2], clips, matched_times, strict=True)
        ],
        "gaps": find_gaps(path, first.times, second.times),
        "path": path.tolist(),
        "path_seconds": [list(pair) for pair in zip(*matched_times, strict=True)],
        "doubts": [f"{clip.name} {_STILL}" for clip in clips if still(clip)],
    }


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    alone = "trust" not in report
    if report["run"] is None:
        console.print("aligned by      raw features and their self-similarity; nothing is trained")
    whose = "" if alone else "   of the two alone"
    console.print(f"score           {report['score']:.3f}   (soft {report['soft_score']:.3f}){whose}")
    meaning = _verdict(report) if alone else "of the two alone"
    console.print(f"chance          {shown_chance(report['chance'])}   {meaning}")
    if not alone:
        number = len(report["others"])
        whose = "1 other clip" if number == 1 else f"{number} other clips"
        agreed = "" if report["path"] else "   nothing in common"
        console.print(f"trust           {report['trust']:.2f}   from 0 to 1, by {whose}{agreed}")
    console.print(f"matched         {report['matched_frames']} frames")
    for letter, clip in zip(_LETTERS, report["clips"], strict=True):
        whole, part = clip["seconds"], clip["matched_segment"]
        segment = f"{part[0]:.2f} to {part[1]:.2f} s" if part else "nothing"
        segment += f", of {whole[0]:.2f} to {whole[1]:.2f} s"
        console.print(f"{letter}               {segment}   {clip['name']}")
    console.print(f"gaps            {len(report['gaps'])}")
    for gap in report["gaps"]:
        frames = "1 frame" if gap["frames"] == 1 else f"{gap['frames']} frames"
        letter = _LETTERS[gap["clip"]]
        console.print(f"  {letter} skips {frames} ({gap['seconds']:.2f} s) after {gap['after']:.2f} s")
    for doubt in report["doubts"]:
        console.print(f"doubt           {doubt}")
    for name in ("alignment.png", "frames.png", "alignment.json"):
        if (out / name).exists():
            console.print(f"{name:<16}{out / name}")


def _verdict(report: dict[str, Any]) -> str:
    """What the chance of two clips alone means, in words."""
    if report["path"]:
        return "that frames of B, shuffled, match A as well"
    if report["score"] <= 0:
        return "nothing in common: no match is worth anything"
    return "nothing in common beyond chance: B, shuffled, matches A as well; --chance 1 shows the path all the same"


COMMAND = Command("lac-align", _parser, showing_features(_align))
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
