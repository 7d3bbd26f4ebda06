"""``lac-align``: what two clips have in common, as numbers, as a picture, and as a video."""

from __future__ import annotations

import argparse
import difflib
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lac.cli.common import UsageError, run

if TYPE_CHECKING:
    import numpy as np

    from lac.config import TrainConfig
    from lac.data import Clip

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

    from lac.checkpoint import read_encoder, read_loss
    from lac.config import CONFIG, TrainConfig
    from lac.data.video import RATE, write_side_by_side
    from lac.files import write_json
    from lac.plots import save_figure
    from lac.train import align_clips, draw_aligned, pick_device

    folder = Path(arguments.run)
    config = TrainConfig.read(folder / CONFIG)
    options = config.data.options | ({} if arguments.rate is None else {"rate": arguments.rate})
    root = arguments.root or config.data.root
    config = replace(config, data=replace(config.data, root=root, options=options))
    device = pick_device(arguments.device)
    encoder, loss = read_encoder(folder, device), read_loss(folder, config, device)
    given = (arguments.first, arguments.second)
    films = [_video(name, config) for name in given] if arguments.video else []
    first, second = _clips(given, config)
    for name, clip in zip(given, (first, second), strict=True):
        _check(name, clip, encoder.config)

    aligned = align_clips(encoder, loss, first, second)
    path = aligned.path.cpu().numpy()
    times = (first.times[path[:, 0]], second.times[path[:, 1]])
    report = {
        "run": str(folder),
        "score": aligned.best_score.item(),
        "matched_frames": len(path),
        "clips": [
            {
                "given": name,
                "name": clip.name,
                "frames": len(clip),
                "seconds": [clip.times[0], clip.times[-1]],
                "matched_segment": [at[0], at[-1]] if len(at) else None,
            }
            for name, clip, at in zip(given, (first, second), times, strict=True)
        ],
        "gaps": find_gaps(path, first.times, second.times),
        "path": path.tolist(),
        "path_seconds": [list(pair) for pair in zip(*(at.tolist() for at in times), strict=True)],
    }
    out = Path(arguments.out or folder / "align" / f"{first.name}-{second.name}")
    save_figure(draw_aligned(aligned, first, second, title=f"score {report['score']:.2f}"), out / "alignment.png")
    write_json(out / "alignment.json", report)
    _show(report, out)
    if arguments.video:
        if not len(path):
            raise ValueError(f"no video written: {first.name} and {second.name} have no match to follow")
        write_side_by_side(arguments.video, films[0], films[1], times[0], times[1], rate=options.get("rate", RATE))
        print(f"video           {arguments.video}")
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


def _clips(given: tuple[str, str], config: TrainConfig) -> list[Clip]:
    """The two clips: files are read as the run's folder of data would be, names are looked up in its data set."""
    import lac.data
    from lac.data.folder import read_clip

    known: dict[str, Clip] = {}
    if not all(Path(name).exists() for name in given):
        dataset = lac.data.load(config.data.name, config.data.root, **config.data.options)
        known = {clip.name: clip for clip in dataset.train + dataset.val}
    options = {name: value for name, value in config.data.options.items() if name in ("rate", "fps", "size")}
    clips = []
    for name in given:
        if Path(name).exists():
            clips.append(read_clip(name, **options))
        elif name in known:
            clips.append(known[name])
        else:
            close = difflib.get_close_matches(name, known, n=1) or list(known)[:1]
            raise UsageError(
                f"{name!r} is neither a file nor one of the {len(known)} clips of {dataset.name}; "
                f"a name there is {close[0]!r}"
            )
    return clips


def _video(name: str, config: TrainConfig) -> Path:
    """The video of a clip: the file itself, or the one of that name beside the features of the run's data set."""
    from lac.data.folder import videos

    path = Path(name)
    if path.exists() and path.suffix != ".npy":
        return path
    found = videos(config.data.root) if config.data.name == "folder" and config.data.root else {}
    if path.exists() or name not in found:
        raise UsageError(f"--video needs two videos, but there is none of {name!r}")
    return found[name]


def _check(name: str, clip: Clip, encoder: dict[str, Any]) -> None:
    shape, features = clip.frames.shape[1:], clip.frames[0].size
    if encoder["backbone"] is not None and len(shape) != 3:
        raise ValueError(f"{name}: the run was trained on images (3, H, W), a frame here has shape {shape}")
    if encoder["backbone"] is None and features != encoder["input_dim"]:
        raise ValueError(
            f"{name}: the encoder of the run takes {encoder['input_dim']} features a frame, a frame here has "
            f"{features} (shape {shape})"
        )


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"score           {report['score']:.3f}")
    console.print(f"matched         {report['matched_frames']} frames")
    for letter, clip in zip("AB", report["clips"], strict=True):
        whole, part = clip["seconds"], clip["matched_segment"]
        segment = f"{part[0]:.2f} to {part[1]:.2f} s" if part else "nothing"
        console.print(f"{letter}               {segment}, of {whole[0]:.2f} to {whole[1]:.2f} s   {clip['name']}")
    console.print(f"gaps            {len(report['gaps'])}")
    for gap in report["gaps"]:
        frames = f"{gap['frames']} frame" + "s" * (gap["frames"] > 1)
        console.print(f"  {'AB'[gap['clip']]} skips {frames} ({gap['seconds']:.2f} s) after {gap['after']:.2f} s")
    for name in ("alignment.png", "alignment.json"):
        console.print(f"{name:<16}{out / name}")
