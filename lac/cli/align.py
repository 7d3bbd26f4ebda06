"""`lac-align`: what two clips have in common, alone or by the word of others: numbers, a picture, a video."""

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
    import numpy as np

    from lac.data import Clip
    from lac.pairs import AlignedClips
    from lac.pictures import Source

_LETTERS = ("A", "B")  # the two clips, as the help and the report call them
_CLIP = "file (.npy or video), folder of images, or name of a clip of the run's data set"
_STILL = "does not change from frame to frame: any path through it is as good as another"

_EXAMPLES = """examples:
  lac-align runs/mine clip03 clip07                    clips of the data set
  lac-align runs/mine clip03 elsewhere/features.npy    a clip and an array
  lac-align runs/mine clip03 clip07 clip01 clip05      by what all four agree on
  lac-align runs/pour a.mp4 b.mp4 --video both.mp4     of a run on videos
"""
_WRITES = """what is written to --out (default: RUN/align/A-B; A-B+n with n others):
  alignment.png        scores, soft alignment, best path; with others: the soft
                       alignment and path of A and B alone, and with the others
  frames.png           frames of A above frames of B, lines where they match
  alignment.json       scores, matched segments, gaps, path; with others: trust
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-align",
        "Align two clips by a trained encoder: score, matched segment, gaps, heat map.",
        examples=_EXAMPLES,
        writes=_WRITES,
        usage="lac-align RUN A B [C ...] [option ...]",
    )
    what = parser.add_argument_group("what to align")
    add_run(what)
    for letter in _LETTERS:
        what.add_argument(f"clip_{letter.lower()}", metavar=letter, help=_CLIP)
    what.add_argument(
        "others",
        metavar="C",
        nargs="*",
        help="more clips of the same action: A and B are aligned by what all of them agree about",
    )
    add_root(what)
    settings = parser.add_argument_group("settings")
    add_set(settings)
    add_device(settings)
    output = parser.add_argument_group("output")
    add_out(output)
    output.add_argument("--video", metavar="FILE.mp4", help="write A, and B in A's timing, side by side")
    add_general(parser)
    return parser


def _align(arguments: argparse.Namespace) -> int:
    if arguments.video and not arguments.video.lower().endswith(".mp4"):
        raise UsageError(f"--video must end in .mp4, got {arguments.video}")
    _check_given_once((arguments.clip_a, arguments.clip_b, *arguments.others))

    from lac.cli.clips import check_frames, read_clips
    from lac.data.side_by_side import write_side_by_side
    from lac.data.video import RATE
    from lac.files import write_json
    from lac.moments import draw_moments
    from lac.pairs import align_clips, draw_aligned
    from lac.plots import save_figure
    from lac.runs.checkpoint import read_encoder, read_loss
    from lac.system import pick_device

    folder = Path(arguments.run)
    config = config_of_run(arguments)
    device = pick_device(arguments.device or "auto")
    encoder, loss = read_encoder(folder, device), read_loss(folder, device)
    names = (arguments.clip_a, arguments.clip_b, *arguments.others)
    sources = read_clips(names, config.data, device)
    for name, source in zip(names, sources, strict=True):
        check_frames(name, source.clip, encoder.config)
    videos = (
        [_video(name, source) for name, source in zip(names[:2], sources[:2], strict=True)] if arguments.video else []
    )
    first, second, *others = (source.clip for source in sources)

    aligned = align_clips(encoder, loss, first, second, others, reach=config.train.reach)
    _check_finite(names, aligned)
    together = aligned.together
    path = (aligned.path if together is None else together.path).cpu().numpy()
    report = _report(folder, names, (first, second), aligned, path)
    if together is not None:
        report |= {"trust": together.trust.item(), "others": _others(names[2:], others)}
    with_others = f"+{len(others)}" if others else ""
    out = Path(arguments.out or folder / "align" / f"{first.name}-{second.name}{with_others}")
    title = f"score {report['score']:.2f}, soft {report['soft_score']:.2f}"
    if together is not None:
        title += f", trust {report['trust']:.2f}"
    if not len(path):
        title += ": nothing in common"
    save_figure(draw_aligned(aligned, first, second, title=title), out / "alignment.png")
    rate = config.data.options.get("rate", RATE)
    try:
        moments = draw_moments(sources[0], sources[1], path, rate=rate, title=title)
    except (ImportError, DataError, FileNotFoundError) as error:  # features, beside a video that cannot be read
        (out / "frames.png").unlink(missing_ok=True)
        report["doubts"].append(f"frames.png is not drawn: {error}")
    else:
        save_figure(moments, out / "frames.png")
    write_json(out / "alignment.json", report)
    _show(report, out)
    if arguments.video and len(path):
        times = (first.times[path[:, 0]], second.times[path[:, 1]])
        write_side_by_side(arguments.video, videos[0], videos[1], times[0], times[1], rate=rate)
        print(f"video           {arguments.video}")
    elif arguments.video:
        print(f"video           none: there is no match to follow; {arguments.video} is not written")
    return 0


def _check_given_once(clips: Sequence[str]) -> None:
    """Others that are one of the clips already would confirm whatever is matched.

    Raises:
        UsageError: a clip is given twice, beside the two to be aligned.
    """
    for place, name in enumerate(clips[2:], start=2):
        if name in clips[:place]:
            raise UsageError(f"{name!r} is given twice: it cannot confirm its own alignment; leave it out once")


def _check_finite(names: Sequence[str], aligned: AlignedClips) -> None:
    """Raises:
    DataError: the scores, or what others make of them, are not finite.
    """
    together = aligned.together
    if aligned.best_score.isfinite() and (together is None or together.posterior.isfinite().all()):
        return
    whose = " and ".join(names[:2]) if not aligned.best_score.isfinite() else "the others"
    raise DataError(
        f"the scores of {whose} are not finite; the encoder has diverged, or the frames are too large for it"
    )


def _others(names: Sequence[str], clips: Sequence[Clip]) -> list[dict[str, Any]]:
    return [{"given": name, "name": clip.name, "frames": len(clip)} for name, clip in zip(names, clips, strict=True)]


def _video(name: str, source: Source) -> Path:
    if source.video is None:
        raise UsageError(f"--video needs two videos, but there is none of {name!r}")
    return source.video


def _report(
    folder: Path, names: Sequence[str], clips: tuple[Clip, Clip], aligned: AlignedClips, path: np.ndarray
) -> dict[str, Any]:
    """What stands in `alignment.json`."""
    from lac.data.doubts import still
    from lac.pairs import find_gaps

    first, second = clips
    matched_times = (first.times[path[:, 0]].tolist(), second.times[path[:, 1]].tolist())
    return {
        "run": str(folder),
        "score": aligned.best_score.item(),
        "soft_score": aligned.score.item(),
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
    verdict = "   not above 0: nothing in common" if alone and not report["path"] else ""
    whose = "" if alone else "   of the two alone"
    console.print(f"score           {report['score']:.3f}   (soft {report['soft_score']:.3f}){whose}{verdict}")
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


COMMAND = Command("lac-align", _parser, showing_features(_align))
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
