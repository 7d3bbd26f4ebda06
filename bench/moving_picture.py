"""The moving picture of two recordings aligned: poses of two people, the second in the timing of the first.

    lac-train --data uiprmd --set data.options.movement=sit_to_stand --set data.options.camera=clip \\
        --set train.steps=300 --out runs/sit
    python -m bench.moving_picture runs/sit               # docs/aligned.gif
    python -m bench.moving_picture runs/sit --out mine.gif

The pair is that of the run's own pictures: the first validation clip, and the last one of its action. Where the first
clip has no match the second stands still, in grey, and "no match" is said.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from lac.files import atomic_path
from lac.pairs import align_clips
from lac.paths import expected_paths
from lac.pictures import Joints, Signals, Source, frame_pictures
from lac.plots import BLUE, GREY, INK, new_figure
from lac.runs.checkpoint import read_loss
from lac.runs.drawing import pair_of
from lac.runs.run import load_run

EVERY, DOTS = 2, 80  # frames of the clip to one of the picture; dots an inch


def moments(frames: int, path: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    """Of the first clip's `frames` some, for each that of the second, and whether it is within what is matched."""
    for frame in range(0, frames, EVERY):
        other = int(np.interp(frame, path[:, 0], path[:, 1]).round())
        yield frame, other, bool(path[0, 0] <= frame <= path[-1, 0])


def pictures(first: Source, second: Source, path: np.ndarray) -> list[Image.Image]:
    """The frames of the moving picture."""
    shown = list(moments(len(first.clip), path))
    poses = [poses_of(source, [moment[side] for moment in shown]) for side, source in enumerate((first, second))]
    points = np.concatenate([pose.points for side in poses for pose in side])
    low, high = points.min(axis=0) - 0.15, points.max(axis=0) + 0.15
    drawn = []
    for k, (frame, other, matched) in enumerate(shown):
        figure = new_figure(6.4, 4.0)
        panels = figure.subplots(1, 2)
        for side, (clip, at, dim) in enumerate(((first.clip, frame, False), (second.clip, other, not matched))):
            axes = panels[side]
            person(axes, poses[side][k], GREY if dim else BLUE)
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            words = "   no match" if dim else ""
            axes.set_title(
                f"{clip.name}   {clip.times[at]:.2f} s{words}",
                fontsize=11,
                color=GREY if dim else INK,
                parse_math=False,
            )
        canvas = FigureCanvasAgg(figure)
        figure.set_dpi(DOTS)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())
        drawn.append(picture.quantize(32, dither=Image.Dither.NONE))
    return drawn


def poses_of(source: Source, frames: list[int]) -> list[Joints]:
    """Poses of these frames.

    Raises:
        ValueError: the clip holds no poses.
    """
    shown = frame_pictures(source, frames, Signals([source.clip]), rate=1.0)
    poses = [pose for pose in shown if isinstance(pose, Joints)]
    if len(poses) < len(frames):
        raise ValueError(f"{source.clip.name} holds no poses: the moving picture is drawn of joints")
    return poses


def person(axes: Axes, pose: Joints, colour: str) -> None:
    """A stick figure."""
    for start, end in pose.bones:
        axes.plot(*pose.points[[start, end]].T, color=colour, linewidth=3.2, solid_capstyle="round")
    axes.set_aspect("equal")
    axes.set_axis_off()


def main(argv: list[str] | None = None) -> None:
    """Draw it; prints which pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="run folder of lac-train, on poses")
    parser.add_argument("--out", type=Path, default=Path("docs/aligned.gif"))
    arguments = parser.parse_args(argv)

    encoder, _, data = load_run(arguments.run)
    first, second = pair_of(data.val)
    aligned = align_clips(encoder, read_loss(arguments.run), first, second)
    path = expected_paths(aligned.posterior[None])[0].numpy()
    if not len(path):
        raise ValueError(f"{first.name} and {second.name} have nothing in common")
    frames = pictures(Source.of(first, data), Source.of(second, data), path)
    milliseconds = round(1000 * EVERY * float(np.median(np.diff(first.times))))
    with atomic_path(arguments.out) as temporary:
        more = {"save_all": True, "append_images": frames[1:], "duration": milliseconds, "loop": 0, "optimize": True}
        frames[0].save(temporary, format="GIF", **more)
    matched = f"{first.times[path[0, 0]]:.2f} to {first.times[path[-1, 0]]:.2f} s"
    print(f"{arguments.out}: {first.name} and {second.name}, matched from {matched}, {len(frames)} pictures")


if __name__ == "__main__":
    main()
