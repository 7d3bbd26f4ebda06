"""Videos of a few drawn pixels: no camera has seen them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, pictures, times, **options: str) -> Path:
    """An H.264 video of pictures (T, H, W, 3) uint8 that are shown at ``times`` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "5", "preset": "ultrafast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def grey(levels, height: int = 16, width: int = 16) -> np.ndarray:
    """One plain picture for each level, so that a frame tells which one it is."""
    pictures = np.asarray(levels, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(pictures, (len(levels), height, width, 3)).copy()


def disc(phase, side: int = 16) -> np.ndarray:
    """A disc for each phase from 0 to 1, which grows and turns from blue to red."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1) - 0.5
    pictures = []
    for p in phase:
        inside = (x**2 + y**2 < (0.1 + 0.4 * p) ** 2)[:, :, None]
        pictures.append(np.where(inside, [255 * p, 80, 255 * (1 - p)], [30, 30, 30]).astype(np.uint8))
    return np.stack(pictures)


def write_videos(root: Path) -> Path:
    """Eight clips of the same growing disc at different tempos, with the times at which its three phases begin."""
    (root / "labels").mkdir(parents=True)
    for k in range(8):
        times = np.arange(30 + 2 * k) / 25
        phase = np.linspace(0, 1, len(times)) ** (0.7 + 0.1 * k)
        write_video(root / "videos" / f"clip{k}.mp4", disc(phase), times)
        begins = [times[np.argmax(phase >= border)] for border in (0, 1 / 3, 2 / 3)]
        rows = [f"{begin:.3f},{label}" for label, begin in enumerate(begins)]
        (root / "labels" / f"clip{k}.csv").write_text("\n".join(["time,label", *rows, ""]))
    return root
