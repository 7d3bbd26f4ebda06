"""Drawn pixels: small videos of a stick figure that moves as people did, to try the whole way from video to result.

    python -m bench.render videos/squat                          # all deep squats of UI-PRMD, untrimmed
    python -m bench.render videos/sit --movement sit_to_stand --clips 20

The motion is real (UI-PRMD, found through LAC_UIPRMD); the pixels are drawn, and no camera has seen them. Every person
has a camera (direction, size, place), colours and a background of their own, the same in all of their clips, so that
people whom an encoder has not seen look different. The folder is one that `lac.data.load("folder", ...)` reads:
videos/NAME.mp4 (H.264, 25 frames a second), labels/NAME.npy (one label a frame of the file), split.json (the people
of the data set's own split), label_names.json.
"""

import argparse
import colorsys
import json
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lac.data import Clip, Dataset, load
from lac.data.uiprmd import BONES, JOINTS, RATE
from lac.files import atomic_path, write_json

SIZE = 128  # pixels of a side of the square picture
FINER = 2  # drawn this much larger and averaged down, so that edges are smooth
_FEET = [JOINTS.index(joint) for joint in ("la", "ra", "lt", "rt")]
_WIDTHS = {"neck pel": 0.17, "lh lk": 0.13, "rh rk": 0.13, "pel lh": 0.15, "pel rh": 0.15}  # leg lengths, others 0.09


class Look(NamedTuple):
    """How one person is filmed: camera and colours (RGB, 0 to 255)."""

    yaw: float  # radians; 0 from the front
    pitch: float  # radians; > 0 from above
    scale: float  # leg lengths to shares of the picture's side
    place: tuple[float, float]  # of the middle of the feet, shares of the picture
    limbs: tuple[tuple[int, int, int], ...]  # left, right, trunk, head
    background: np.ndarray  # (SIZE * FINER,) * 2 + (3,) uint8


def look(person: int, size: int = SIZE) -> Look:
    """The look of a person, the same for the same number."""
    rng = np.random.default_rng([20180102, person])
    colours = []
    hue = rng.uniform()
    for turn, value in ((0, 0.95), (0.12, 0.7), (rng.uniform(0.35, 0.65), 0.8), (0.05, 0.9)):
        colours.append(_colour((hue + turn) % 1, rng.uniform(0.5, 0.9), value))
    return Look(
        yaw=float(rng.uniform(-1.1, 1.1)),
        pitch=float(rng.uniform(0.0, 0.35)),
        scale=float(rng.uniform(0.27, 0.34)),
        place=(float(rng.uniform(0.42, 0.58)), float(rng.uniform(0.86, 0.94))),
        limbs=tuple(colours),
        background=_background(rng, size * FINER),
    )


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A wall that is brighter on one side, a floor, and a few pieces of furniture."""
    from PIL import Image, ImageDraw

    hue = rng.uniform()
    image = Image.new("RGB", (side, side), _colour(hue, 0.15, rng.uniform(0.25, 0.55)))
    draw = ImageDraw.Draw(image)
    floor = int(side * rng.uniform(0.72, 0.82))
    draw.rectangle((0, floor, side, side), fill=_colour(rng.uniform(), 0.2, rng.uniform(0.2, 0.4)))
    for _ in range(int(rng.integers(2, 5))):
        x, width, height = rng.uniform(0, 1), rng.uniform(0.08, 0.25), rng.uniform(0.1, 0.5)
        box = [side * x, floor - side * height, side * (x + width), floor]
        draw.rectangle(box, fill=_colour(rng.uniform(), 0.25, rng.uniform(0.2, 0.6)))
    light = np.linspace(0.8, 1.2, side)[None, :, None]
    shaded = np.asarray(image) * (light if rng.uniform() < 0.5 else light[:, ::-1])
    return np.clip(shaded + rng.normal(0, 4, (side, side, 1)), 0, 255).astype(np.uint8)


def draw_frames(poses: np.ndarray, look: Look, size: int = SIZE) -> np.ndarray:
    """Pictures (T, size, size, 3) uint8 of poses (T, 17, 3) as the loader of UI-PRMD gives them."""
    from PIL import Image, ImageDraw

    side = size * FINER
    # The pelvis is at 0 in every frame: the figure is put back onto its feet.
    ground = poses[:, _FEET, 2].min(axis=1)
    cos, sin = np.cos(look.yaw), np.sin(look.yaw)
    # From the front a person's left (the second axis) is on the right of the picture; towards the camera is the first.
    right = poses[..., 1] * cos - poses[..., 0] * sin
    near = poses[..., 0] * cos + poses[..., 1] * sin
    up = (poses[..., 2] - ground[:, None]) * np.cos(look.pitch) - near * np.sin(look.pitch)
    xs = side * (look.place[0] + look.scale * right)
    ys = side * (look.place[1] - look.scale * up)
    names = [f"{JOINTS[start]} {JOINTS[end]}" for start, end in BONES]
    pictures = []
    for x, y, depth in zip(xs, ys, near, strict=True):
        image = Image.fromarray(look.background)
        draw = ImageDraw.Draw(image)
        for k in np.argsort([depth[start] + depth[end] for start, end in BONES]):
            start, end = BONES[k]
            if names[k] == "head neck":
                continue
            joint = JOINTS[end]
            colour = look.limbs[2 if joint == "pel" else 0 if joint.startswith("l") else 1]
            half = side * look.scale * _WIDTHS.get(names[k], 0.09) / 2
            draw.line([x[start], y[start], x[end], y[end]], fill=colour, width=max(1, round(2 * half)))
            for at in (start, end):
                draw.ellipse([x[at] - half, y[at] - half, x[at] + half, y[at] + half], fill=colour)
        head, radius = JOINTS.index("head"), side * look.scale * 0.15
        draw.ellipse([x[head] - radius, y[head] - radius, x[head] + radius, y[head] + radius], fill=look.limbs[3])
        pictures.append(np.asarray(image.reduce(FINER)))
    return np.stack(pictures)


def write_mp4(path: Path, pictures: np.ndarray, rate: float = RATE) -> None:
    """An H.264 video of pictures (T, H, W, 3) uint8; H and W even."""
    import av

    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "20"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def person(clip: Clip) -> int:
    """Number of the person in a name such as m01_s07_e03."""
    found = re.search(r"_s(\d+)_", clip.name)
    return int(found[1]) if found else 0


def render(dataset: Dataset, root: Path, *, clips: int | None = None, size: int = SIZE) -> Path:
    """Draw the clips of a data set of poses into a new folder; of each split its share of `clips`, evenly taken."""
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not an empty folder; choose another one")
    everything = len(dataset.train) + len(dataset.val)
    chosen = {}
    for split, given in (("train", dataset.train), ("val", dataset.val)):
        count = len(given) if clips is None else min(len(given), max(2, round(clips * len(given) / everything)))
        chosen[split] = [given[k] for k in np.linspace(0, len(given) - 1, count).round().astype(int)]
    for clip in chosen["train"] + chosen["val"]:
        pictures = draw_frames(clip.frames, look(person(clip), size), size)
        write_mp4(root / "videos" / f"{clip.name}.mp4", pictures)
        if clip.labels is not None:
            with atomic_path(root / "labels" / f"{clip.name}.npy") as temporary:
                np.save(temporary, clip.labels)
    write_json(root / "label_names.json", dataset.label_names)
    write_json(root / "split.json", {split: [clip.name for clip in given] for split, given in chosen.items()})
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DIR", help="new folder")
    parser.add_argument("--movement", default="deep_squat", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--clips", type=int, metavar="N", help="about so many (default: all)")
    parser.add_argument("--size", type=int, default=SIZE, metavar="PIXELS", help="even; default: %(default)s")
    options = parser.parse_args()
    began = time.perf_counter()
    render(load("uiprmd", movement=options.movement), options.out, clips=options.clips, size=options.size)
    count = len(json.loads((options.out / "split.json").read_text())["train"])
    print(f"{options.out}: drawn pixels, {count} clips to train on, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
