"""From a folder of videos to matched seconds. `pip install ".[video]" && python examples/folder_of_videos.py [FOLDER]`

FOLDER holds `videos/NAME.mp4` (docs/guide.md, Videos). Without one, eight small videos of a growing disc are drawn.
The same from the command line: `lac-train --data folder --root FOLDER`, then `lac-align RUN NAME1 NAME2`.
"""

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lac.pairs import align_clips, draw_pair
from lac.plots import save_figure
from lac.runs.checkpoint import read_loss
from lac.runs.config import TrainConfig
from lac.runs.run import load_run, train


def draw_videos(root: Path) -> None:
    """Eight videos of a disc that grows and turns red, each at a tempo of its own."""
    (root / "videos").mkdir(parents=True)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    for k in range(8):
        with av.open(str(root / "videos" / f"disc{k}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(10))
            stream.height, stream.width, stream.pix_fmt = x.shape[0], x.shape[1], "yuv420p"
            for phase in np.linspace(0, 1, 20 + 2 * k) ** (0.7 + 0.1 * k):
                disc = (x**2 + y**2 < (0.2 + 0.7 * phase) ** 2)[:, :, None]
                picture = np.where(disc, [255 * phase, 80, 255 * (1 - phase)], 30).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())


def main(root: Path, run: Path, steps: int, size: int) -> np.ndarray:
    """The matched frames of two validation clips, (K, 2)."""
    settings = {
        "data": {"name": "folder", "root": str(root), "options": {"size": size}},
        "augment": {"frames": 24},
        "train": {"steps": steps, "batch": 8},
    }
    train(TrainConfig.from_mapping(settings), run)
    encoder, _, data = load_run(run)
    loss = read_loss(run)
    first, second = data.val[:2]
    aligned = align_clips(encoder, loss, first, second)
    for i, j in aligned.path[::4].tolist():
        print(f"{first.name} at {first.times[i]:.2f} s matches {second.name} at {second.times[j]:.2f} s")
    picture = save_figure(draw_pair(encoder, loss, first, second), run / "pair.png")
    print(f"picture: {picture}; table of the run: {run / 'metrics.json'}")
    return np.asarray(aligned.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("--run", type=Path, help="default: a new folder")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=64, help="pixels of a frame's sides, as the network sees it")
    arguments = parser.parse_args()
    new = Path(tempfile.mkdtemp(prefix="lac-"))
    if arguments.root is None:
        draw_videos(new / "discs")
    main(arguments.root or new / "discs", arguments.run or new / "run", arguments.steps, arguments.size)
