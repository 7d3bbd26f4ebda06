"""``lac-align``: what two clips have in common, as numbers, as a picture, and as a video."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lac.cli.common import run
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np


_STILL = "does not change from frame to frame: any path through it is as good as another"

_EXAMPLES = """examples:
  lac-align runs/mine clip03 clip07                       clips of the run's data set
  lac-align runs/mine clip03 elsewhere/features.npy       a clip and an array (T, D)
  lac-align runs/pour a.mp4 b.mp4 --video both.mp4        a run that was trained on videos
"""


def entry() -> NoReturn:
    """The installed command."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """``lac-align`` with the arguments ``argv``; returns the exit code."""
    return run(_command, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lac-align",
        description="Align two clips by a trained encoder: score, matched segment, gaps, heat map.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="run folder of lac-train")
    for name in ("first", "second"):
        parser.add_argument(
            name,
            metavar="AB"[name == "second"],
            help="file (.npy or video), folder of images, or name of a clip of the run's data set",
        )
    parser.add_argument("--root", metavar="DIR", help="where the data set lies (default: as in the run)")
    parser.add_argument("--out", metavar="DIR", help="for alignment.png and alignment.json (default: RUN/align/A-B)")
    parser.add_argument("--video", metavar="FILE.mp4", help="write A, and B in A's timing, side by side")
    parser.add_argument(
        "--rate",
        metavar="HZ",
        type=float,
        help="frames a second of .npy files and folders of images (default: the run's)",
    )
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda... (default: auto)")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _command(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.rate is not None and not arguments.rate > 0:
        raise UsageError(f"--rate must be > 0 frames a second, got {arguments.rate}")
    if arguments.video and not arguments.video.lower().endswith(".mp4"):
        raise UsageError(f"--video must end in .mp4, got {arguments.video}")

    from lac.cli.clips import check_frames, read_clips
    from lac.data.doubts import still
    from lac.data.video import RATE, write_side_by_side
    from lac.files import write_json
    from lac.pairs import align_clips, draw_aligned
    from lac.plots import save_figure
    from lac.runs.checkpoint import read_encoder, read_loss
    from lac.runs.config import TrainConfig
    from lac.system import pick_device

    folder = Path(arguments.run)
    config = TrainConfig.of_run(folder)
    options = config.data.options | ({} if arguments.rate is None else {"rate": arguments.rate})
    root = arguments.root or config.data.root
    data = replace(config.data, root=root, options=options)
    device = pick_device(arguments.device)
    encoder, loss = read_encoder(folder, device), read_loss(folder, config, device)
    given = (arguments.first, arguments.second)
    sources = read_clips(given, data, device)
    for name, source in zip(given, sources, strict=True):
        check_frames(name, source.clip, encoder.config)
    films = [_video(name, source.video) for name, source in zip(given, sources, strict=True)] if arguments.video else []
    first, second = (source.clip for source in sources)

    aligned = align_clips(encoder, loss, first, second)
    if not aligned.best_score.isfinite():
        raise DataError(
            f"the scores of {given[0]} and {given[1]} are not finite; the encoder has diverged, or the frames are too "
            "large for it"
        )
    path = aligned.path.cpu().numpy()
    times = (first.times[path[:, 0]], second.times[path[:, 1]])
    report = {
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
                "matched_segment": [at[0], at[-1]] if len(path) else None,
            }
            for name, clip, at in zip(given, (first, second), times, strict=True)
        ],
        "gaps": find_gaps(path, first.times, second.times),
        "path": path.tolist(),
        "path_seconds": [list(pair) for pair in zip(*(at.tolist() for at in times), strict=True)],
        "doubts": [f"{clip.name} {_STILL}" for clip in (first, second) if still(clip)],
    }
    out = Path(arguments.out or folder / "align" / f"{first.name}-{second.name}")
    title = f"score {report['score']:.2f}, soft {report['soft_score']:.2f}" + (
        "" if len(path) else ": nothing in common"
    )
    save_figure(draw_aligned(aligned, first, second, title=title), out / "alignment.png")
    write_json(out / "alignment.json", report)
    _show(report, out)
    if arguments.video and len(path):
        write_side_by_side(arguments.video, films[0], films[1], times[0], times[1], rate=options.get("rate", RATE))
        print(f"video           {arguments.video}")
    elif arguments.video:
        print(f"video           none: there is no match to follow; {arguments.video} is not written")
    return 0


def find_gaps(path: np.ndarray, times1: np.ndarray, times2: np.ndarray) -> list[dict[str, Any]]:
    """The frames between the first and the last match that are skipped in one clip or the other.

    Args:
        path: (K, 2) matched frames, both columns increasing.
        times1, times2: (N,), (M,) seconds of the frames.

    Returns:
        For each gap, in order: ``clip`` 0 or 1, ``after`` the second of the match before it, ``frames`` that are
        skipped, and ``seconds`` from that match to the last of them (the sum of their intervals, which is what a gap
        penalty by time charges).
    """
    gaps = []
    for before, after in pairwise(path):
        for clip, times in enumerate((times1, times2)):
            start, end = int(before[clip]), int(after[clip]) - 1
            if end > start:
                gaps.append(
                    {
                        "clip": clip,
                        "after": float(times[start]),
                        "frames": end - start,
                        "seconds": float(times[end] - times[start]),
                    }
                )
    return gaps


def _video(name: str, video: Path | None) -> Path:
    if video is None:
        raise UsageError(f"--video needs two videos, but there is none of {name!r}")
    return video


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    verdict = "" if report["path"] else "   not above 0: nothing in common"
    console.print(f"score           {report['score']:.3f}   (soft {report['soft_score']:.3f}){verdict}")
    console.print(f"matched         {report['matched_frames']} frames")
    for letter, clip in zip("AB", report["clips"], strict=True):
        whole, part = clip["seconds"], clip["matched_segment"]
        segment = f"{part[0]:.2f} to {part[1]:.2f} s" if part else "nothing"
        segment += f", of {whole[0]:.2f} to {whole[1]:.2f} s"
        console.print(f"{letter}               {segment}   {clip['name']}")
    console.print(f"gaps            {len(report['gaps'])}")
    for gap in report["gaps"]:
        frames = f"{gap['frames']} frame" + "s" * (gap["frames"] > 1)
        console.print(f"  {'AB'[gap['clip']]} skips {frames} ({gap['seconds']:.2f} s) after {gap['after']:.2f} s")
    for doubt in report["doubts"]:
        console.print(f"doubt           {doubt}")
    for name in ("alignment.png", "alignment.json"):
        console.print(f"{name:<16}{out / name}")


if __name__ == "__main__":
    entry()
