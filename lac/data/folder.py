"""Plain folders of NumPy files or videos: the quickest way to bring your own data.

A folder has one file a clip, of features or of video:

    root/features/NAME.npy   (T, ...) real numbers
    root/videos/NAME.mp4     or any other video, or a folder of images, where there is no `features`
    root/labels/NAME.npy     (T,) whole numbers, -1 = no phase           optional, for each clip
    root/labels/NAME.csv     time,label: the phase from that second on   optional, instead of the .npy
    root/times/NAME.npy      (T,) seconds, increasing                    optional, with `features` only
    root/clips.csv           name,action,person: a line for each clip    optional
    root/split.json          {"train": [NAME, ...], "val": [NAME, ...]}  optional
    root/label_names.json    ["first phase", ...]                        optional

Reading these files never runs code from them. What a CSV of labels may look like is said in `lac.data.labels`; frames
before its first time have no phase. `labels/NAME.npy` counts the frames of the file: of a video all that it shows, of a
folder all its images. Where `fps` thins the frames, their labels are thinned with them.

`clips.csv` says what a clip shows and whose it is: clips of one action are aligned with each other, and retrieval over
other people knows who they are. One of the two columns may be missing; without an action in it, or without the file,
all clips show the same action. It has a line for each clip; a person who is not known is left empty, an action is not.

A clip is left out, and the others go on, where its file or that of its times is damaged or cut short, holds no frames,
has values that are not finite, or another number of times than of frames: see `Dataset.left_out`. Where its labels
alone are missing, damaged, or not as many as its frames, it is trained on without them and not judged: see
`Dataset.unlabelled`.

Videos become features (T, D) by a network that stays as it is. They are computed once and kept in the user's cache
folder (see `lac.data.features.FrameFeatures`). With `backbone=None` videos become images (T, 3, size, size), RGB from
-1 to 1, for a backbone that is trained with the encoder (`FrameEncoder(backbone=...)`), and are held in memory: 150 kB
a frame of 112 x 112.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from lac.data.base import Clip, Dataset
from lac.data.choice import FPS, SIZE, choose
from lac.data.crop import moving_box
from lac.data.features import FrameFeatures, to_images
from lac.data.labels import MOST, Numbering, read_phases
from lac.data.reading import file_name, naming, read_json, read_npy, read_table
from lac.data.video import RATE, read_numbered
from lac.errors import ConfigError, DataError, is_of_machine
from lac.model.backbone import PRETRAINED


def load(
    root: str | Path | None = None,
    *,
    rate: float = RATE,
    fps: float | None = None,
    size: int | Sequence[int] | None = None,
    crop: Literal["moving"] | None = None,
    backbone: str | None = PRETRAINED,
    val_share: float = 0.3,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> Dataset:
    """The clips of a plain folder; the module says what it holds.

    Args:
        root: the folder.
        rate: frames a second of features without `times`, and of folders of images.
        fps: frames a second that are kept of a video, see `lac.data.video.read_frames`; `None`: chosen from the lengths
            of the videos, see `lac.data.choice`. `Dataset.chosen` says what was chosen.
        size: of the frames of videos in pixels: one number for a square, or (height, width); `None`: chosen.
        crop: "moving" keeps of each video one fixed part around what moves, see `lac.data.crop`; `None`: all of it.
        backbone: a name that `lac.model.backbone` knows, of a trained network, or None for images.
        val_share: share of the clips to validate on where there is no `split.json`; at least one, rounded.
        seed: of that split; the same seed and names give the same split.
        device: where the backbone computes; "auto" is CUDA where there is one, else the CPU.

    Raises:
        FileNotFoundError: no root, neither features nor videos in it.
        DataError: labels or times without a clip, times of some clips only, two files for one clip, a line of
            `clips.csv` without a clip or a clip without a line, clips of different features, a split or names of labels
            that do not fit, a single clip, or a split of which all clips are left out. The message names the file.
        ConfigError: an option out of range.
        ImportError: videos, and PyAV or the package of the backbone is not installed.
    """
    if root is None:
        raise FileNotFoundError("the data set 'folder' needs root= (--root): a folder with features/*.npy or videos/*")
    base = Path(root)
    _check_rate(rate)
    files = _Files.of(base)
    chosen: dict[str, Any] = {}
    if files.kind == "videos":
        videos = [files.sources[name] for name in sorted(files.sources)]
        chosen = choose(videos, rate=rate, fps=fps, size=size, images=backbone is None)
    how = _How(rate, chosen.get("fps", fps) or FPS, chosen.get("size", size) or SIZE, crop)
    network = how.network(backbone, device) if files.kind == "videos" else None
    train, val = _split(base, files.kind, sorted(files.sources), val_share, seed)
    numbering = _numbering(files)
    clips, left_out, unlabelled = _read_all(files, train + val, numbering, how, network)
    for split, names in (("train", train), ("val", val)):
        if names and not any(name in clips for name in names):
            raise DataError(
                f"{base}: no clip of the split {split!r} can be read, {len(names)} left out; the first: "
                f"{left_out[names[0]]}"
            )
    highest = max((int(clip.labels.max()) for clip in clips.values() if clip.labels is not None), default=-1)
    return Dataset(
        base.resolve().name,
        [clips[name] for name in train if name in clips],
        [clips[name] for name in val if name in clips],
        list(numbering.names) or [str(label) for label in range(highest + 1)],
        left_out,
        unlabelled,
        videos=_files(base, "videos"),
        chosen=chosen,
    )


class _Files(NamedTuple):
    """The files of a folder by the name of their clip."""

    base: Path
    kind: str  # of the sources: "features" or "videos"
    sources: dict[str, Path]
    labels: dict[str, Path]
    times: dict[str, Path]
    shown: dict[str, _Shown]

    @classmethod
    def of(cls, base: Path) -> _Files:
        kind, sources = "features", _files(base, "features", ".npy")
        if not sources:
            kind, sources = "videos", _files(base, "videos")
        if not sources:
            raise FileNotFoundError(
                f"no features: expected files {base / 'features'}/*.npy, or videos in {base / 'videos'}"
            )
        labels = _partners(base, "labels", kind, sources, ".npy", ".csv")
        times = _partners(base, "times", kind, sources, ".npy")
        if times and len(times) < len(sources):
            path = base / "times" / f"{min(set(sources) - set(times))}.npy"
            raise DataError(f"clip {path.stem!r} has no {path}; give times for every clip or for none")
        if times and kind == "videos":
            raise DataError(
                f"{base / 'times'} is for features: a video brings the times of its frames; remove the folder"
            )
        return cls(base, kind, sources, labels, times, _shown(base, kind, sources))


class _Shown(NamedTuple):
    """What a clip shows, and whose it is; "" where that is not said."""

    action: str = ""
    person: str = ""


def _shown(base: Path, kind: str, sources: Mapping[str, Path]) -> dict[str, _Shown]:
    """The lines of `clips.csv` by clip, each of `sources` among them; none without that file."""
    path = base / "clips.csv"
    if not path.is_file():
        return {}
    shown: dict[str, _Shown] = {}
    columns, lines = read_table(path, ("name", "action", "person"), ("name", "action"), ("name", "person"))
    for line, row in lines:
        name = row["name"]
        if name not in sources:
            ending = ".npy" if kind == "features" else ".*"
            raise DataError(f"{path}, line {line} names {name!r}, but there is no {kind}/{name}{ending}")
        if name in shown:
            raise DataError(f"{path}, line {line}: clip {name!r} has a line already; remove one of them")
        if "action" in columns and not row["action"]:
            raise DataError(f"{path}, line {line}: clip {name!r} has no action; say what it shows")
        shown[name] = _Shown(row.get("action", ""), row.get("person", ""))
    silent = sorted(set(sources) - set(shown))
    if silent:
        raise DataError(f"{path} has no line for clip {silent[0]!r} ({len(silent)} such clips); give one for each clip")
    return shown


def _read_all(
    files: _Files,
    names: Sequence[str],
    numbering: Numbering,
    how: _How,
    network: FrameFeatures | None,
) -> tuple[dict[str, Clip], dict[str, str], dict[str, str]]:
    """The clips by name; of those that cannot be read, and of those whose labels cannot, the reasons."""
    clips: dict[str, Clip] = {}
    left_out: dict[str, str] = {}
    unlabelled: dict[str, str] = {}
    with network.counting(len(names)) if network else nullcontext():
        for name in names:
            try:
                numbered = _with_times(name, files, how, network)
            except (ValueError, OSError) as error:
                if is_of_machine(error):
                    raise
                left_out[name] = str(error)
                continue
            clips[name] = numbered.clip
            try:
                if files.labels:
                    clips[name] = _labelled(numbered, files, numbering)
            except (ValueError, OSError) as error:
                if is_of_machine(error):
                    raise
                unlabelled[name] = str(error)
    return clips, left_out, unlabelled


def _with_times(name: str, files: _Files, how: _How, network: FrameFeatures | None) -> _Numbered:
    with naming(files.sources[name]):
        numbered = _read_clip(name, files.sources[name], how, network)
    clip = replace(numbered.clip, **files.shown.get(name, _Shown())._asdict())
    if files.times:
        with naming(files.times[name]):
            clip = replace(clip, times=read_npy(files.times[name]))
    return numbered._replace(clip=clip)


def _labelled(numbered: _Numbered, files: _Files, numbering: Numbering) -> Clip:
    clip, numbers, total = numbered
    if clip.name not in files.labels:
        raise FileNotFoundError(f"there is no {files.base / 'labels' / clip.name}.npy or .csv")
    path = files.labels[clip.name]
    with naming(path):
        return replace(clip, labels=_labels(path, clip.times, numbers, total, numbering))


def read_clip(
    path: str | Path,
    *,
    rate: float = RATE,
    fps: float = FPS,
    size: int | Sequence[int] = SIZE,
    crop: Literal["moving"] | None = None,
    backbone: str | None = PRETRAINED,
    device: str | torch.device = "auto",
) -> Clip:
    """One file as a clip without labels: features if it ends in `.npy`, else a video. Options: see `load`; to go with
    clips of a folder, `fps` and `size` must be the same, as `Dataset.chosen` says them.

    Raises:
        ValueError, FileNotFoundError, ImportError: the file cannot be read; the message names it.
    """
    path = Path(path)
    _check_rate(rate)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    how = _How(rate, fps, size, crop)
    network = None if path.suffix == ".npy" else how.network(backbone, device)
    name = Path(os.path.abspath(path)).stem  # of . and .. too
    with naming(path):
        return _read_clip(name, path, how, network).clip


def _check_rate(rate: float) -> None:
    if not 0 < rate < math.inf:
        raise ConfigError(f"rate must be > 0 frames a second, got {rate}")


class _Numbered(NamedTuple):
    """A clip, and which of the `total` frames of its file it holds: numbers (T,)."""

    clip: Clip
    numbers: np.ndarray
    total: int


class _How(NamedTuple):
    """Which frames are kept of a file, and how: options of `load`."""

    rate: float
    fps: float
    size: int | Sequence[int]
    crop: str | None

    def network(self, backbone: str | None, device: str | torch.device) -> FrameFeatures | None:
        """What makes features of videos with these options; `None` where they stay images."""
        if backbone is None:
            return None
        options: dict[str, Any] = self._asdict() | {"size": self.square()}
        return FrameFeatures(backbone, **options, device=device)

    def square(self) -> Any:
        """The size as `lac.data.video` takes it."""
        return self.size if isinstance(self.size, int) else tuple(self.size)


def _read_clip(name: str, path: Path, how: _How, network: FrameFeatures | None) -> _Numbered:
    if path.suffix == ".npy":
        frames = read_npy(path)
        count = len(frames) if frames.size and frames.ndim else 0  # a million rows of nothing are nothing
        return _Numbered(Clip(name, frames, np.arange(count) / how.rate), np.arange(count), count)
    if network is None:
        box = moving_box(path, rate=how.rate) if how.crop else None
        found = read_numbered(path, fps=how.fps, size=how.square(), rate=how.rate, box=box)
        found = found._replace(frames=to_images(found.frames))
    else:
        found = network.read(path)
    return _Numbered(Clip(name, found.frames, found.times), found.numbers, found.total)


def read_features(root: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """`root/features/NAME.npy` for each of `names`, such as embeddings made elsewhere.

    Raises:
        FileNotFoundError: a clip has no file; the message names it.
        ValueError: a file that is not a plain array.
    """
    found = _files(Path(root), "features", ".npy")
    for name in names:
        if name not in found:
            raise FileNotFoundError(f"there is no {Path(root, 'features', name + '.npy')} for clip {name!r}")
    return {name: read_npy(found[name]) for name in names}


def _files(base: Path, kind: str, *suffixes: str) -> dict[str, Path]:
    """The files of `base / kind` by clip: those with one of `suffixes`, or without any given all of them."""
    found: dict[str, Path] = {}
    for path in sorted((base / kind).glob("*")):
        if path.name.startswith(".") or (suffixes and path.suffix not in suffixes):
            continue
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise DataError(f"clip {name!r} has two files of {kind}: {found[name]} and {path}; remove one of them")
        found[name] = path
    return found


def _partners(base: Path, kind: str, of: str, sources: dict[str, Path], *suffixes: str) -> dict[str, Path]:
    """The files of `kind`, each for one of `sources`, which are the files of `of`."""
    found = _files(base, kind, *suffixes)
    lonely = sorted(set(found) - set(sources))
    if lonely:
        ending = ".*" if of == "videos" else ".npy"
        raise DataError(
            f"clip {lonely[0]!r} has {kind} but no {of}: there is no {base / of / (lonely[0] + ending)} "
            f"({len(lonely)} such clips); remove its {kind}"
        )
    return found


def _labels(path: Path, times: np.ndarray, numbers: np.ndarray, count: int, numbering: Numbering) -> np.ndarray:
    """Labels of the frames at `times`, which are `numbers` of `count` in the file of the clip: from a .npy with
    one label for each of the `count`, or from a CSV of times at which phases begin."""
    if path.suffix == ".csv":
        return read_phases(path)[""].labels(times, numbers, numbering)
    stored = read_npy(path)
    if stored.shape != (count,):
        given = f"{len(stored)} labels" if stored.ndim == 1 else f"labels of shape {stored.shape}"
        near = " (off by one)" if stored.ndim == 1 and abs(len(stored) - count) == 1 else ""
        raise DataError(
            f"{path} holds {given}, but the clip has {count} frames{near}; give one label for each frame of the "
            "file, -1 where a frame has no phase"
        )
    labels: np.ndarray = stored[numbers]
    if labels.dtype.kind in "biuf" and (labels > MOST).any():
        raise DataError(f"{path}: a label must be at most {MOST}, got {labels.max()}")
    return labels


def _numbering(files: _Files) -> Numbering:
    """Which number a label of a CSV of the folder has."""
    path = files.base / "label_names.json"
    names = _strings(read_json(path), str(path)) if path.is_file() else []
    tables = [files.labels[name] for name in sorted(files.labels) if files.labels[name].suffix == ".csv"]
    phases = []
    for table in tables:
        with suppress(ValueError, OSError):  # which are told when the clip is read
            phases.append(read_phases(table)[""])
    return Numbering.of(phases, names, numbers=len(tables) < len(files.labels))


def _strings(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{where} must be a list of strings, got {value!r}")
    return value


def _split(base: Path, kind: str, names: list[str], val_share: float, seed: int) -> tuple[list[str], list[str]]:
    path = base / "split.json"
    if path.is_file():
        given = read_json(path)
        if not isinstance(given, dict) or set(given) != {"train", "val"}:
            raise DataError(f'{path} must be {{"train": [...], "val": [...]}}')
        splits = [_strings(given[split], f"{path}: {split}") for split in ("train", "val")]
        for name in splits[0] + splits[1]:
            with naming(path):
                file_name(name)
            if name not in names:
                raise DataError(
                    f"{path} names {name!r}, but there is no {kind}/{name}{'.npy' if kind == 'features' else '.*'}"
                )
        return splits[0], splits[1]
    if not 0 < val_share < 1:
        raise ConfigError(f"val_share must lie between 0 and 1, got {val_share}")
    if len(names) < 2:
        raise DataError(f"{base} has one clip only; a split into train and val needs two")
    count = min(max(1, math.floor(val_share * len(names) + 0.5)), len(names) - 1)
    chosen = {names[k] for k in np.random.default_rng(seed).permutation(len(names))[:count]}
    return [name for name in names if name not in chosen], sorted(chosen)
