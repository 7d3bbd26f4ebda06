"""What a data set is, and where the data sets are looked up by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lac.data.reading import file_name, is_plain
from lac.errors import ConfigError, DataError, DataTypeError
from lac.options import checked_options


@dataclass(frozen=True, eq=False)
class Clip:
    """One sequence of frames with its times and, where there are any, its phase labels.

    Arrays of another real number type are converted when the clip is made.

    Args:
        name: unique within the data set; errors and files are named by it, so it must be able to name a file (see
            `lac.data.reading.file_name`).
        frames: (T, ...) float32, T >= 1: feature vectors, poses or images.
        times: (T,) float64, seconds, strictly increasing.
        labels: (T,) int64 phase of each frame, or `None`. A negative label means "no phase": such frames
            are left out of every metric.
        action: the action that the clip shows; clips of one action may be aligned with each other.
        person: whose clip it is: the person, speaker or place; "" where it is not known.
        guide: (T, K) float32, what else is known about the frames for aligning the clip with others of its action, such
            as features of a frozen network; `None`: training uses `lac.self_similarity` of the frames.

    Raises:
        TypeError: an array is not made of real numbers, or the labels are not whole numbers.
        ValueError: a name that cannot name a file, wrong number of dimensions, no frame, lengths that differ, a value
            that is not finite or too large for the type, or times that do not increase. The message names the clip.
    """

    name: str
    frames: np.ndarray
    times: np.ndarray
    labels: np.ndarray | None = None
    action: str = ""
    person: str = ""
    guide: np.ndarray | None = None

    def __post_init__(self) -> None:
        file_name(self.name)
        for what, text in (("action", self.action), ("person", self.person)):
            if not is_plain(text):
                raise DataError(f"clip {self.name!r}: {what} holds control characters: {text!r:.200}")
        frames = _numbers(self.frames, np.float32, f"clip {self.name!r}: frames")
        times = _numbers(self.times, np.float64, f"clip {self.name!r}: times")
        if frames.ndim < 2 or frames.size == 0:
            raise DataError(
                f"clip {self.name!r}: frames must be (frames, ...) with at least one frame and one feature "
                f"dimension, got shape {frames.shape}; for one number a frame use shape (frames, 1)"
            )
        if times.shape != (len(frames),):
            raise DataError(
                f"clip {self.name!r}: times must have one entry a frame, shape ({len(frames)},), got {times.shape}"
            )
        if len(times) > 1 and not (np.diff(times) > 0).all():
            at = int(np.argmin(np.diff(times) > 0))
            raise DataError(
                f"clip {self.name!r}: times must increase, got {times[at]:g} s and then {times[at + 1]:g} s "
                f"at frames {at} and {at + 1}"
            )
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "times", times)
        if self.guide is not None:
            guide = _numbers(self.guide, np.float32, f"clip {self.name!r}: guide")
            if guide.ndim != 2 or len(guide) != len(frames) or not guide.size:
                raise DataError(
                    f"clip {self.name!r}: guide must have a row for each of {len(frames)} frames, got {guide.shape}"
                )
            object.__setattr__(self, "guide", guide)
        if self.labels is not None:
            labels = _numbers(self.labels, np.int64, f"clip {self.name!r}: labels")
            if labels.ndim != 1 or len(labels) != len(frames):
                more = "longer" if len(labels.ravel()) > len(frames) else "shorter"
                if labels.ndim != 1:
                    more = "of another shape"
                raise DataError(
                    f"clip {self.name!r}: labels are {more} than the features: labels {labels.shape}, "
                    f"features {frames.shape}; give one label a frame, -1 where a frame has no phase"
                )
            object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and validation clips of one task.

    Args:
        name: for reports.
        train: clips to learn from; their labels serve the evaluator only.
        val: clips to judge on.
        label_names: the name of label 0, 1, ...; empty when no clip has labels.
        left_out: for each clip that could not be read the reason, which names the file; it is in neither split.
        unlabelled: for each clip whose labels are missing or could not be read, where others have some, the reason; it
            is in its split with `labels=None`, to be trained on and not to be judged.
        bones: of poses (J, 2) or (J, 3) the pairs of joints that a limb connects, to draw them.
        upwards: the second coordinate of poses (J, 2) points upwards, not downwards as in an image.
        videos: where the video of a clip lies (a file, or a folder of images), by the clip's name.
        chosen: options that the loader chose, since they were not given: with them the data is loaded the same again.

    Raises:
        ValueError: a split is empty, two clips share a name, the clips' features or guides differ in shape, some clips
            have a guide and some none, or a label has no name. The message names the clip.
    """

    name: str
    train: list[Clip]
    val: list[Clip]
    label_names: list[str]
    left_out: Mapping[str, str] = field(default_factory=dict)
    unlabelled: Mapping[str, str] = field(default_factory=dict)
    bones: Sequence[tuple[int, int]] = ()
    upwards: bool = False
    videos: Mapping[str, Path] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, clips in (("train", self.train), ("val", self.val)):
            if not clips:
                raise DataError(f"data set {self.name!r}: the {split} split has no clip")
        for label in (self.name, *self.label_names):
            if not is_plain(label):
                raise DataError(
                    f"data set {self.name!r:.200} or the name of a label holds control characters: {label!r:.200}"
                )
        seen: set[str] = set()
        for clip in self.train + self.val:
            if clip.name in seen:
                raise DataError(f"data set {self.name!r}: two clips are called {clip.name!r}")
            seen.add(clip.name)
            if clip.frames.shape[1:] != self.feature_shape:
                raise DataError(
                    f"data set {self.name!r}: a frame of clip {clip.name!r} has shape "
                    f"{clip.frames.shape[1:]}, a frame of {self.train[0].name!r} {self.feature_shape}; all "
                    "clips of a data set need the same features"
                )
            if _width(clip) != _width(self.train[0]):
                raise DataError(
                    f"data set {self.name!r}: clip {clip.name!r} has {_width(clip) or 'no'} numbers a frame in its "
                    f"guide, {self.train[0].name!r} {_width(self.train[0]) or 'none'}; guides are compared among "
                    "clips: give each clip one of the same width, or none"
                )
            if clip.labels is not None and clip.labels.max() >= len(self.label_names):
                raise DataError(
                    f"data set {self.name!r}: clip {clip.name!r} has label {clip.labels.max()}, but only "
                    f"{len(self.label_names)} labels have a name"
                )

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        return tuple(self.train[0].frames.shape[1:])


def _width(clip: Clip) -> int | None:
    """Numbers a frame in the guide of a clip."""
    return None if clip.guide is None else clip.guide.shape[1]


Loader = Callable[..., Dataset]
_loaders: dict[str, Loader] = {}


def register(name: str, loader: Loader) -> None:
    """Make `loader` known to `load`, and so to the commands, under `name`.

    A loader is any function that takes `root` (a path or `None`) and keyword options and returns a
    `Dataset`:

        def load_mine(root=None, *, rate=25.0):
            clips = [Clip(name, frames, np.arange(len(frames)) / rate, labels) for ... in ...]
            return Dataset("mine", clips[:80], clips[80:], ["reach", "pour", "return"])

        lac.data.register("mine", load_mine)

    Raises:
        ValueError: the name is taken by another loader.
    """
    if _loaders.get(name, loader) is not loader:
        raise DataError(f"a data set called {name!r} exists already; choose another name")
    _loaders[name] = loader


def names() -> list[str]:
    """Names that `load` knows."""
    return sorted(_loaders)


def load(name: str, root: str | Path | None = None, *, device: str | torch.device = "auto", **options: Any) -> Dataset:
    """Load a data set by name.

    Args:
        name: one of `names`.
        root: file or folder of the data; what `None` means is said by each loader.
        device: where a loader that has an argument `device` computes, as the features of videos; "auto" is CUDA where
            there is one, else the CPU.
        options: what the loader offers, see its documentation.

    Raises:
        ConfigError: no data set has that name, or its loader no such option, or not of that type. It is a
            `ValueError`.
        FileNotFoundError: the data is not there.
        ImportError: the data comes with a package that is not installed.
    """
    options = check_options(name, options)
    loader = _loaders[name]
    parameters = inspect.signature(loader).parameters
    return loader(root, **options | ({"device": device} if "device" in parameters else {}))


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a data set, each of the type that its loader wants; nothing is loaded.

    Raises:
        ConfigError: as `load`.
    """
    if name not in _loaders:
        close = difflib.get_close_matches(name, _loaders, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"unknown data set {name!r}: the data sets are {', '.join(names())}{hint}")
    loader = _loaders[name]
    parameters = inspect.signature(loader).parameters
    known = [key for key in parameters if key not in ("root", "device")]
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    wrong = [key for key in options if key not in known]
    if wrong and not free:
        raise ConfigError(f"data set {name!r} has no option {wrong[0]!r}: its options are {', '.join(known) or 'none'}")
    checked = checked_options(loader, options)
    seed = checked.get("seed", 0)
    if isinstance(seed, int) and seed < 0:
        raise ConfigError(f"data.options.seed must not be negative, got {seed}")
    return checked


def _numbers(array: Any, dtype: type[np.generic], what: str) -> np.ndarray:
    """`array` as a contiguous array of `dtype`, after a check that nothing is lost by it."""
    given = np.asarray(array)
    if given.dtype.kind not in "biuf":
        raise DataTypeError(f"{what} must be real numbers, got dtype {given.dtype}")
    whole = np.issubdtype(dtype, np.integer)
    if whole and given.dtype.kind == "f" and (off := np.isfinite(given) & (given != np.floor(given))).any():
        raise DataTypeError(f"{what} must be whole numbers, got {given[off][0]}")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found by the comparison below
        numbers = np.ascontiguousarray(given, dtype=dtype)
    bad = (numbers != given) if whole else ~np.isfinite(numbers)
    if bad.any():
        at = tuple(int(k) for k in np.argwhere(bad)[0])
        must = f"fit into {np.dtype(dtype)}" if np.isfinite(given[at]) else "be finite"
        raise DataError(f"{what} must {must}, got {given[at]} at index {at} ({int(bad.sum())} in all)")
    return numbers
