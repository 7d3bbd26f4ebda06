"""What a frame looks like: an image, a pose, or signals around its moment; and a grid of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lac.data.base import Clip, Dataset
from lac.plots import BLUE, GREY, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW = 1.0  # seconds of signals before and after a frame that has no picture
_HEIGHT = 240  # pixels of a video's frame, as tall as a panel
_MOST_LINES = 8  # signals that can still be told apart in a panel
_COMPONENTS = 3
_SAMPLE = 2000  # frames whose variance is looked at
_BOLD = 2.0
# Colour and width of the border, by whether the phase agrees.
_BORDERS = {True: ("#1a9850", _BOLD), False: ("#d73027", _BOLD), None: (GREY, 0.8)}
# Right and up of a pose: one of two coordinates has the second downwards, as in an image; one of three is seen half
# from the front and half from the side, the third coordinate up.
_VIEWS = {2: np.array([[1, 0], [0, -1]]), 3: np.array([[0.71, 0], [0.71, 0], [0, 1]])}


class Joints(NamedTuple):
    """A pose to draw: points (J, 2), right and up, and the pairs of them that are joined."""

    points: np.ndarray
    bones: Sequence[tuple[int, int]] = ()


class Window(NamedTuple):
    """Signals to draw around a moment: seconds (W,), which are 0 at the moment, and values (W, D)."""

    seconds: np.ndarray
    values: np.ndarray


Picture = np.ndarray | Joints | Window


class Source(NamedTuple):
    """A clip, its video (a file or a folder of images) if it has one, and of poses what `Dataset` says of them."""

    clip: Clip
    video: Path | None = None
    bones: Sequence[tuple[int, int]] = ()
    upwards: bool = False

    @classmethod
    def of(cls, clip: Clip, dataset: Dataset) -> Source:
        """A clip of a data set."""
        return cls(clip, dataset.videos.get(clip.name), dataset.bones, dataset.upwards)


class Signals:
    """Features of clips as few lines: up to eight as they are, of more the first three principal components.

    Args:
        clips: whose principal components they are; computed when they are first asked for.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = clips
        self._axes: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, clip: Clip) -> np.ndarray:
        """(T, D) of a clip of T frames, D <= 8."""
        features = clip.frames.reshape(len(clip), -1)
        if features.shape[1] <= _MOST_LINES:
            return features
        if self._axes is None:
            self._axes = _principal_axes([other.frames.reshape(len(other), -1) for other in self._clips])
        mean, axes = self._axes
        return np.asarray((features - mean) @ axes)


def _principal_axes(clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) of features (T, D) of clips, and the axes (D, 3) of their greatest variance, the greatest first."""
    from sklearn.decomposition import PCA

    step = -(-sum(map(len, clips)) // _SAMPLE)
    features = np.concatenate([clip[::step] for clip in clips])
    if len(features) <= _COMPONENTS or (features == features[0]).all():  # no directions to vary in
        return features.mean(axis=0), np.eye(features.shape[1], _COMPONENTS)
    fitted = PCA(_COMPONENTS, random_state=0).fit(features)
    return fitted.mean_, fitted.components_.T


def frame_pictures(source: Source, frames: Sequence[int], signals: Signals, *, rate: float) -> list[Picture]:
    """Pictures of some frames of a clip: from its video where there is one, else of what the frames are.

    Images (3, H, W) are shown from the darkest to the brightest value of the clip; poses (J, 2) with the first
    coordinate to the right and the second downwards, as in an image, or upwards where the source says so; poses
    (J, 3) with the third coordinate up, half from the front and half from the side; anything else as signals around
    the frame.

    Args:
        source: the clip, with its video, bones and direction.
        frames: K indices of its frames.
        signals: how features are shown that are neither an image nor a pose.
        rate: frames a second of a video that is a folder of images.

    Raises:
        ValueError, OSError, ImportError: the video cannot be read, see `lac.data.video.frames_at`.
    """
    from lac.data.video import frames_at

    clip, video, bones, upwards = source
    frames = list(frames)
    if video is not None:
        return list(frames_at(video, clip.times[frames].tolist(), height=_HEIGHT, rate=rate))
    shape = clip.frames.shape[1:]
    if len(shape) == 3 and shape[0] == 3:
        low, high = clip.frames.min(), clip.frames.max()
        images = (clip.frames[frames] - low) * (255 / max(high - low, 1e-9))
        return list(images.transpose(0, 2, 3, 1).astype(np.uint8))
    if len(shape) == 2 and shape[0] > 1 and shape[1] in _VIEWS:
        view = np.eye(2) if upwards and shape[1] == 2 else _VIEWS[shape[1]]
        return [Joints(points, bones) for points in clip.frames[frames] @ view]
    values = signals(clip)
    return [_window(clip.times - clip.times[frame], values) for frame in frames]


def _window(seconds: np.ndarray, values: np.ndarray) -> Window:
    near = np.abs(seconds) <= WINDOW
    return Window(seconds[near], values[near])


def plot_retrieval(
    pictures: Sequence[Sequence[Picture]],
    captions: Sequence[Sequence[str]],
    agree: Sequence[Sequence[bool | None]] | None = None,
    *,
    title: str = "",
) -> Figure:
    """A grid of frames: in each row a query, then what was found for it.

    Args:
        pictures: R rows of C pictures, the query first; each an image (H, W, 3) uint8, `Joints`, or a
            `Window`. Poses have one scale in all panels, so have windows.
        captions: for each picture a few lines to stand over it.
        agree: for each picture whether it has the query's phase: a green border if true, red if false, grey if
            `None` (not known). The queries' own are not looked at. `None`: grey for all.
        title: a line above the grid.

    Raises:
        ValueError: no picture, or rows that differ in length.
    """
    rows, columns = len(pictures), len(pictures[0]) if len(pictures) else 0
    for what in (pictures, captions, agree or captions):
        if columns == 0 or [len(row) for row in what] != [columns] * rows:
            raise ValueError(
                f"pictures, captions and agree must have rows of one length >= 1, got rows of "
                f"{[len(row) for row in pictures]}, {[len(row) for row in captions]} and "
                f"{None if agree is None else [len(row) for row in agree]}"
            )
    lines = max(caption.count("\n") + 1 for row in captions for caption in row)
    limits = common_limits([picture for row in pictures for picture in row])
    tall = max(tallness(picture, limits) for row in pictures for picture in row)
    figure = new_figure(1.55 * columns, (1.4 * tall + 0.14 * lines + 0.1) * rows + (0.3 if title else 0))
    grid = figure.subplots(rows, columns, squeeze=False)
    for r, row in enumerate(pictures):
        for c, picture in enumerate(row):
            axes = grid[r, c]
            draw_picture(axes, picture, limits)
            axes.set_title(captions[r][c], fontsize=7, color=INK, pad=3, linespacing=1.15, parse_math=False)
            if c == 0:
                _border(axes, INK, _BOLD)
            else:
                _border(axes, *_BORDERS[None if agree is None else agree[r][c]])
    if title:
        figure.suptitle(title, fontsize=9, color=INK, parse_math=False)
    return figure


Limits = tuple[np.ndarray, np.ndarray]


def _border(axes: Axes, colour: str, width: float) -> None:
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(width)


def tallness(picture: Picture, limits: Limits) -> float:
    """Height by width of a panel."""
    if isinstance(picture, Window):
        return 0.75
    width, height = limits[1] - limits[0] if isinstance(picture, Joints) else picture.shape[1::-1]
    return float(np.clip(height / width, 0.5, 1.4))


def common_limits(pictures: Sequence[Picture]) -> Limits:
    """Lowest and highest coordinates of all poses, or values of all windows."""
    points = [x.points for x in pictures if isinstance(x, Joints)]
    points += [x.values.reshape(-1, 1).repeat(2, axis=1) for x in pictures if isinstance(x, Window)]
    everything = np.concatenate(points) if points else np.zeros((1, 2))
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = 0.08 * max(float((high - low).max()), 1e-6)
    return low - margin, high + margin


def draw_picture(axes: Axes, picture: Picture, limits: Limits, *, faint: bool = False) -> None:
    """A picture in axes of its own, without numbers; `limits` as of `common_limits`, `faint`: pale."""
    low, high = limits
    axes.set_xticks([])
    axes.set_yticks([])
    if isinstance(picture, Joints):
        for start, end in picture.bones:
            axes.plot(*picture.points[[start, end]].T, color=BLUE, linewidth=1.8, solid_capstyle="round")
        if not picture.bones:
            axes.plot(*picture.points.T, ".", color=BLUE, markersize=3)
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set_aspect("equal")
    elif isinstance(picture, Window):
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.plot(picture.seconds, picture.values, linewidth=1.0)
        reach = max(float(np.abs(picture.seconds).max()), 1e-6)
        axes.set(xlim=(-reach, reach), ylim=(low[1], high[1]))
    else:
        axes.imshow(picture)
    if faint:
        for drawn in (*axes.lines, *axes.images):
            drawn.set_alpha(0.3)
