"""Videos with the times of their frames, read with PyAV.

A video is a file that FFmpeg can decode, or a folder of images, one a frame. PyAV and Pillow are imported only
when they are needed: `pip install ".[video]"` in a clone of lac.
"""

from __future__ import annotations

import importlib
import math
import operator
import re
import struct
from collections import deque
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lac.bounds import MOST_PIXELS, open_file
from lac.errors import DataError, how_to_install

RATE = 25.0  # of folders of images, which have no times of their own
IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")  # whatever the name says
_MOST_ARE_READ = f"at most {MOST_PIXELS} are read"
_Size = tuple[int, int]
_LIMITED = 1  # FFmpeg's number for grey from 16 to 235
_FULL = 2  # PyAV before 17 asks for it, though the frame says so
_BITS, _WHITE = 258, 262  # tags of TIFF


class ShownFrame(NamedTuple):
    """A frame that is decoded but not yet an array: `picture(size)` is (H, W, 3) uint8; `shape` its own (H, W)."""

    time: float
    shape: _Size
    picture: Callable[[_Size | None], np.ndarray]


class Box(NamedTuple):
    """A part of a picture in its proportions, in shares of its height and width: 0, 0, 1 is all of it."""

    top: float
    left: float
    side: float


class Frames(NamedTuple):
    """What `read_frames` returns, and which of the video's `total` frames they are: numbers (T,) int64."""

    frames: np.ndarray
    times: np.ndarray
    numbers: np.ndarray
    total: int


def read_frames(
    path: str | Path,
    *,
    indices: Sequence[int] | None = None,
    fps: float | None = None,
    size: int | tuple[int, int] | None = None,
    rate: float = RATE,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a video, and when each of them is shown.

    Args:
        path: a video file, or a folder of .jpg, .jpeg, .png, .tif or .tiff files, taken in the order of the numbers in
            their names (2.png before 10.png).
        indices: numbers of the frames to return, from 0, in any order. `None`: all frames, or as `fps` says.
        fps: frames a second to keep: the first frame in each interval of 1 / fps seconds since the first frame,
            by the real times of the frames, so that a variable frame rate is thinned evenly. Where the video has fewer,
            all are kept. Not together with `indices`.
        size: (height, width), or one number for a square. Frames are averaged down (or blown up) to it and do not
            keep their proportions, as is usual for image encoders. `None`: as they are.
        rate: frames a second of a folder of images, which has no times of its own.

    Returns:
        frames (T, H, W, 3) uint8, RGB, turned upright if the file asks for a rotation; times (T,) float64, seconds,
        increasing, as the container gives them (for images: index / rate). Of 16 bits the high byte is kept, of 10 and
        12 bits a video's highest eight. Parts that are transparent are blended with black.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a video, is damaged or cut short, holds no frames, or its times do not increase;
            an image of floats or of 32-bit numbers, which say not what is white, or a file of several images; an index
            beyond the last frame; frames of different sizes and no `size`; an argument out of its range.
            The message names the file. A cut is sure to be noticed in mp4 and mov, which say how many frames they
            hold; mkv, webm, ts and avi may seem to end where they were cut.
        ImportError: PyAV, or for images Pillow, is not installed.
    """
    return read_numbered(path, indices=indices, fps=fps, size=size, rate=rate)[:2]


def read_numbered(
    path: str | Path,
    *,
    indices: Sequence[int] | None = None,
    fps: float | None = None,
    size: int | tuple[int, int] | None = None,
    rate: float = RATE,
    box: Box | None = None,
) -> Frames:
    """`read_frames` with the numbers of the frames; `total` ends at the last one of `indices`. Of `box` alone."""
    if indices is not None and fps is not None:
        raise DataError("indices and fps exclude each other: give one of them")
    numbers = None if indices is None else [operator.index(number) for number in indices]
    if numbers is not None and (not numbers or min(numbers) < 0):
        raise DataError(f"indices must be frame numbers from 0, at least one, got {numbers}")

    kept: dict[int, np.ndarray] = {}
    times: dict[int, float] = {}
    wanted = None if numbers is None else set(numbers)
    count = 0
    with closing(each_frame(path, fps=fps, size=size, rate=rate, only=wanted, box=box)) as source:
        for number, (time, picture) in enumerate(source):
            count = number + 1
            if picture is None:
                continue
            kept[number], times[number] = picture, time
            if picture.shape != next(iter(kept.values())).shape:
                raise DataError(
                    f"{path}: frame {number} has {_text(picture.shape[:2])} pixels, the first one has another size; "
                    "give size= to bring all frames to one"
                )
            if len(kept) == len(wanted or ()):
                break
    missing = sorted((wanted or set()) - set(kept))
    if missing:
        raise DataError(f"{path} has {count} frames: index {missing[0]} is out of range")
    order = list(kept) if numbers is None else numbers
    return Frames(
        np.stack([kept[number] for number in order]),
        np.array([times[number] for number in order]),
        np.array(order, dtype=np.int64),
        count,
    )


def each_frame(
    path: str | Path,
    *,
    fps: float | None = None,
    size: int | tuple[int, int] | None = None,
    rate: float = RATE,
    only: Container[int] | None = None,
    box: Box | None = None,
) -> Generator[tuple[float, np.ndarray | None]]:
    """The frames of a video one after the other, so that a long one need not fit into memory.

    Args:
        path, fps, size, rate: as in `read_frames`.
        only: numbers of the frames to keep; `None`: all.
        box: the part of the pictures to keep; `None`: the whole.

    Yields:
        For every frame of the video its time, and its picture (H, W, 3) uint8, or `None` where it is not kept.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `read_frames`.
    """
    for name, value in (("fps", fps), ("rate", rate)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise DataError(f"{name} must be > 0 frames a second, got {value}")
    target = _size(size)
    start, interval = math.nan, -1
    with closing(shown_frames(Path(path), rate)) as source:
        for number, frame in enumerate(source):
            start = frame.time if number == 0 else start
            keep = only is None or number in only
            if fps is not None:
                # Times are rounded to the container's clock; a hundredth keeps a frame in its own interval.
                before, interval = interval, math.floor((frame.time - start) * fps + 0.01)
                keep = keep and interval != before
            yield frame.time, _part(frame, target, box) if keep else None


def _part(frame: ShownFrame, size: _Size | None, box: Box | None) -> np.ndarray:
    """The part `box` of a frame, at this size."""
    if box is None:
        return frame.picture(size)
    whole = frame.shape if size is None else (max(1, round(size[0] / box.side)), max(1, round(size[1] / box.side)))
    height, width = size or (max(1, round(whole[0] * box.side)), max(1, round(whole[1] * box.side)))
    top = min(round(box.top * whole[0]), whole[0] - height)
    left = min(round(box.left * whole[1]), whole[1] - width)
    return np.ascontiguousarray(frame.picture(whole if size else None)[top : top + height, left : left + width])


def frame_times(path: str | Path, *, rate: float = RATE) -> np.ndarray:
    """When each frame of a video is shown: (T,) float64 seconds, as `read_frames` gives them with its errors."""
    with closing(shown_frames(Path(path), rate)) as source:
        return np.array([frame.time for frame in source])


def count_frames(path: str | Path) -> int:
    """Number of frames of a video file, without decoding them where an mp4 or mov lists them.

    Such a list can count a few frames that the decoder then drops: where the exact number matters, ask
    `frame_times` if this one does not fit.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `read_frames`.
    """
    path, av = Path(path), package("av", "PyAV")
    packets = shown = 0
    with _opened(path) as (container, stream, promised):
        if promised:
            try:
                for packet in container.demux(stream):
                    there = packet.size > 0 or packet.dts is not None
                    packets, shown = packets + there, shown + (there and not packet.is_discard)
            except (av.FFmpegError, OSError) as error:
                raise DataError(f"{_cut(path, packets, promised)}: {error.strerror}") from error
            if packets < promised:
                raise DataError(_cut(path, packets, promised))
    return shown or len(frame_times(path))


class Outline(NamedTuple):
    """What a video says of itself: how long it is, how many frames a second it has, and their (H, W)."""

    seconds: float
    rate: float
    shape: _Size


def outline(path: str | Path, *, rate: float = RATE) -> Outline:
    """What a video says of itself, without a look at its frames; `rate` is that of a folder of images.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `read_frames`.
    """
    path = Path(path)
    if path.is_dir():
        with closing(shown_frames(path, rate)) as images:
            shape = next(images).shape
        return Outline(sum(file.suffix.lower() in IMAGES for file in path.iterdir()) / rate, rate, shape)
    with _opened(path) as (container, stream, _):
        if stream.duration is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / package("av", "PyAV").time_base
        else:
            times = frame_times(path)
            seconds = float(times[-1] - times[0])
        shape = stream.codec_context.height, stream.codec_context.width
        return Outline(seconds, float(stream.average_rate or stream.guessed_rate or RATE), shape)


def frames_at(
    path: str | Path, seconds: Sequence[float], *, height: int | None = None, rate: float = RATE
) -> np.ndarray:
    """What a video shows at some times, as a stack of pictures in its own proportions.

    Args:
        path: a video as in `read_frames`. Nothing is decoded after the last of the times.
        seconds: K >= 1 times on the video's own clock, in any order. The first frame is shown before its time too, the
            last one ever after.
        height: greatest height in pixels; lower videos keep theirs. `None`: as it is.
        rate: as in `read_frames`.

    Returns:
        (K, H, W, 3) uint8, RGB.

    Raises:
        FileNotFoundError, ValueError, ImportError: the video cannot be read (see `read_frames`), or no time is
            asked for.
    """
    if len(seconds) == 0 or not np.isfinite(seconds).all():
        raise DataError(f"seconds must be finite times, at least one, got {list(seconds)}")
    pictures: dict[int, np.ndarray] = {}
    with closing(shown_frames(Path(path), rate)) as source:
        shown, upcoming = next(source), next(source, None)
        tall, wide = shown.shape
        size = None if height is None or height >= tall else (height, max(1, round(height * wide / tall)))
        for k in np.argsort(seconds, kind="stable").tolist():
            while upcoming is not None and upcoming.time <= seconds[k] + 1e-6:
                shown, upcoming = upcoming, next(source, None)
            pictures[k] = shown.picture(size)
    return np.stack([pictures[k] for k in range(len(seconds))])


def shown_frames(path: Path, rate: float) -> Generator[ShownFrame]:
    """The frames in order, at least one, with increasing times."""
    before = -math.inf
    for frame in _images(path, rate) if path.is_dir() else _decoded(path):
        if not frame.time > before:
            raise DataError(
                f"{path}: a frame at {frame.time:g} s comes after one at {before:g} s; write the video anew, for "
                "instance with ffmpeg -i OLD -fps_mode vfr NEW.mp4"
            )
        before = frame.time
        yield frame
    if before == -math.inf:
        raise DataError(f"{path} holds no frames")


def _decoded(path: Path) -> Generator[ShownFrame]:
    av = package("av", "PyAV")
    with _opened(path) as (container, stream, promised):
        stream.thread_type = "AUTO"
        # An avi has no times, only an order. For these codecs FFmpeg makes up some that go back and forth, while those
        # of the packets, in the order in which they lie in the file, are the moments at which a frame is shown.
        ordered = container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")
        moments: deque[int] = deque()
        packets = decoded = 0
        try:
            for packet in container.demux(stream):
                packets += packet.size > 0 or packet.dts is not None  # the last one only says that the file ends
                if packet.size > 0:
                    moments.append(packet.dts)
                for frame in packet.decode():
                    decoded += 1
                    at = moments.popleft() if ordered and moments else frame.pts
                    if at is None:
                        raise DataError(f"{path}: frame {decoded - 1} has no time; put the stream into an mp4 first")
                    yield _video_frame(frame, at)
        except (av.FFmpegError, OSError) as error:
            raise DataError(f"{_cut(path, decoded, promised)}: {error.strerror}") from error
        # Packets, since a trimmed video holds some that are decoded but not shown.
        if packets < promised:
            raise DataError(_cut(path, decoded, promised))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any, int]]:
    """The container, its first video stream, and how many frames it promises, 0 if it does not say."""
    av = package("av", "PyAV")
    with ExitStack() as closing_all:
        file = closing_all.enter_context(open_file(path))
        try:
            # FFmpeg is given the content and no way to more: a playlist names further files, or addresses.
            options = {"protocol_whitelist": "none", "max_pixels": str(MOST_PIXELS)}
            container = closing_all.enter_context(av.open(file, options=options, buffer_size=1 << 20))
        except (av.FFmpegError, ValueError, OSError) as error:  # of text that is none, of places outside the file
            reason = getattr(error, "strerror", None) or error
            raise DataError(
                f"{path} is not a video that FFmpeg can read, or was cut short before its index: {reason}"
            ) from error
        if not container.streams.video:
            raise DataError(f"{path} holds no video stream, or was cut short before the end of its index")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DataError(f"{path} holds a video that FFmpeg has no decoder for")
        codec = stream.codec_context
        if codec.width * codec.height > MOST_PIXELS:
            raise DataError(f"{path}: its frames have {codec.height} x {codec.width} pixels; {_MOST_ARE_READ}")
        codec.options = {"max_pixels": str(MOST_PIXELS)}  # they may change their size
        # Other containers do not say it, or count the moments at which a frame could be shown (avi).
        yield container, stream, stream.frames if "mp4" in container.format.name else 0


def _cut(path: Path, decoded: int, promised: int) -> str:
    of = f"{decoded} of {promised} frames" if promised else f"{decoded} frames"
    return f"{path} is damaged or cut short: {of} could be decoded"


def _video_frame(frame: Any, at: int) -> ShownFrame:
    turned, down, right = _turns(frame)
    shape = (frame.width, frame.height) if turned else (frame.height, frame.width)

    def picture(size: _Size | None) -> np.ndarray:
        height, width = (size or shape)[:: -1 if turned else 1]
        solid = _over_black(frame) if any(part.is_alpha for part in frame.format.components) else frame
        limits = (
            {"src_color_range": _FULL} if frame.color_range == _FULL and frame.format.name.startswith("yuv") else {}
        )
        pixels = solid.to_ndarray(format="rgb24", height=height, width=width, interpolation="AREA", **limits)
        if frame.format.name.startswith("gray") and frame.color_range == _LIMITED:  # which FFmpeg takes for full
            pixels = np.clip((pixels.astype(np.float32) - 16) * (255 / 219) + 0.5, 0, 255).astype(np.uint8)
        upright = pixels.swapaxes(0, 1) if turned else pixels
        return np.ascontiguousarray(upright[:: -1 if down else 1, :: -1 if right else 1])

    return ShownFrame(float(at * frame.time_base), shape, picture)


def _turns(frame: Any) -> tuple[bool, bool, bool]:
    """How a frame is to be shown: rows and columns exchanged, then upside down, then left and right exchanged."""
    for part in frame.side_data:
        if part.type.name == "DISPLAYMATRIX":  # (a b u, c d v, x y w): x' = a x + c y, y' = b x + d y
            a, b, _, c, d = struct.unpack("=5i", bytes(part)[:20])
            return (True, b < 0, c < 0) if abs(b) > abs(a) else (False, d < 0, a < 0)
    return False, False, False


def _over_black(frame: Any) -> Any:
    pixels = frame.to_ndarray(format="rgba").astype(np.uint16)
    solid = (pixels[..., :3] * pixels[..., 3:] + 127) // 255
    return type(frame).from_ndarray(solid.astype(np.uint8), format="rgb24")


def _images(path: Path, rate: float) -> Generator[ShownFrame]:
    image_module = package("PIL.Image", "Pillow")
    files = [file for file in path.iterdir() if file.suffix.lower() in IMAGES]
    for number, file in enumerate(sorted(files, key=natural)):
        try:
            # By default Pillow hands some kinds to other programs, such as PostScript to Ghostscript.
            with open_file(file) as content, image_module.open(content, formats=_FORMATS) as opened:
                if math.prod(opened.size) > MOST_PIXELS:
                    raise _Unclear(f"it has {_text(opened.size[::-1])} pixels; {_MOST_ARE_READ}")
                image = _rgb(opened)
        except _Unclear as error:
            raise DataError(f"{file}: {error}") from error
        except Exception as error:  # a damaged image can raise anything
            known = not isinstance(error, image_module.UnidentifiedImageError)
            reason = error if known else f"it is none of {', '.join(_FORMATS)}"
            raise DataError(f"{file} is not an image that Pillow can read, or it is cut short: {reason}") from error

        def picture(size: _Size | None, image: Any = image) -> np.ndarray:
            return np.asarray(image if size is None else image.resize(size[::-1], image_module.Resampling.BOX))

        yield ShownFrame(number / rate, (image.height, image.width), picture)


class _Unclear(ValueError):
    """An image that is whole, but does not say what is white, or which of several it means, or is too large."""


def _rgb(opened: Any) -> Any:
    """A Pillow image upright and in 8 bits a colour: of 16 bits the high byte, of transparent parts their share of
    black."""
    image_module = package("PIL.Image", "Pillow")
    count = getattr(opened, "n_frames", 1)
    if count > 1 and opened.format != "MPO":  # where a camera puts previews behind its picture
        raise _Unclear(f"it holds {count} images; write each into a file of its own, or all into a video")
    tags = getattr(opened, "tag_v2", {})
    odd = tags.get(_BITS, (16,)) != (16,) or tags.get(_WHITE) == 0  # 12 bits, or 0 for white, which Pillow passes over
    image = package("PIL.ImageOps", "Pillow").exif_transpose(opened)
    if (image.mode.startswith("I;16") and not odd) or (
        image.mode == "I" and opened.format == "PNG"
    ):  # Pillow before 11
        return image_module.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode[0] in "IF":
        raise _Unclear(
            f"an image of Pillow's mode {image.mode} and {tags.get(_BITS, ('?',))[0]} bits does not say what is white; "
            "write it with 8 or 16 bits, 0 for black"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return image_module.alpha_composite(image_module.new("RGBA", image.size, "black"), image).convert("RGB")


def natural(path: Path) -> list[int | str]:
    """To sort by: 2.png comes before 10.png."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _size(size: int | tuple[int, int] | None) -> _Size | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise DataError(f"size must be (height, width) or one number of pixels, at least 1, got {size!r}")
    return pair


def _text(shape: _Size) -> str:
    return f"{shape[0]} x {shape[1]}"


def package(module: str, name: str) -> Any:
    """An optional package.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"reading videos needs {name}: {how_to_install('video')}") from error
