"""From the clips of a format to plain folders, whole or not at all, and again from where it was cut off."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from lac.bounds import open_file
from lac.data.reading import file_name, read_json
from lac.data.video import count_frames, frame_times
from lac.errors import DataError, is_of_machine, printable
from lac.files import atomic_path, write_json

REPORT = "conversion.json"
SPLITS = ("train", "val")
_LONGEST_NAME = 255  # bytes, of every common file system
_IMAGES = (b"\xff\xd8", b"\x89PNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8", b"BM", b"RIFF")


class LeftOut(Exception):
    """A clip that cannot be converted: `LeftOut(reason, detail)`; clips are counted by `reason`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, printable(detail)


@dataclass(frozen=True)
class Content:
    """The video and the labels of a clip.

    Args:
        video: a file, or the images of the frames in order, as files or as the bytes of JPEG files.
        labels: (T,) whole numbers, one a frame, negative for no phase, or `None`.
        note: what the format itself changed, for the report.
        unlabelled: why it has no labels, where some were meant for it.
    """

    video: Path | Sequence[Path | bytes]
    labels: np.ndarray | None = None
    note: str = ""
    unlabelled: str = ""


@dataclass(frozen=True)
class Item:
    """One clip as its format has it.

    Args:
        name: of the clip, unique within its task.
        split: "train", "val", or "" where the format has no split.
        task: the folder under the output that it goes to, "" for the output itself.
        load: gives its content when its turn comes, or raises `LeftOut`.
    """

    name: str
    split: str
    task: str
    load: Callable[[], Content]


@dataclass(frozen=True)
class Source:
    """The clips of a source folder.

    Args:
        items: the clips; those of one split in the order in which they are to be listed.
        count: how many there are.
        label_names: for each task the names of labels 0, 1, ..., where they are known.
        notes: what a reader of the report should know of the source.
    """

    items: Iterable[Item]
    count: int
    label_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def convert(
    format: str,
    source: str | Path,
    out: str | Path,
    *,
    read: Callable[[Path], Source],
    tell: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> dict[str, Any]:
    """Turn a data set into plain folders, one for each task, that `lac.data.folder.load` reads.

    Writes `videos/NAME.*` (a hard link where the file system allows it, else a copy) or `videos/NAME/000000.jpg`,
    `labels/NAME.npy` (one int64 a frame), `split.json`, `label_names.json` where the names are known, and at
    the top `conversion.json`: what was converted, what was left out and why. Every file appears whole or not at
    all; a second call keeps what is there and goes on.

    A clip is left out, and the others go on, where its video is missing or damaged, where it has not as many labels
    as frames, or where its name is taken or not a file name. A clip without labels beside others that have some gets
    -1 for every frame.

    Args:
        format: name of the format, for the report.
        source: folder of the data set.
        out: folder to write; new, empty, or an earlier conversion of the same source.
        read: the format.
        tell: is called before each clip with the number of clips that are done, of all clips, and its name.

    Returns:
        The content of `conversion.json`.

    Raises:
        FileNotFoundError: no source, or a file that the format needs.
        ValueError: `out` holds something else; a file that is not what the format says; no clip is left.
        ImportError: a package that the format or the video needs.
        OSError: a file cannot be written.
    """
    source, out = Path(source), Path(out)
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder: give the folder of the data set")
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{out} lies in the data set {source} itself: choose a folder outside")
    origin = {"format": format, "source": str(source.resolve())}
    _check_origin(out, origin)
    clips = read(source)
    write_json(out / REPORT, origin | {"complete": False})

    converted = _Converted({}, [], {})
    for number, item in enumerate(clips.items):
        tell(number, clips.count, _shown(item.name))
        converted.add(item, out)
    if not converted.clips:
        raise DataError(f"{source}: no clip could be converted as {format}: {converted.why_none()}")
    report = origin | {"complete": True} | converted.finish(out, clips)
    write_json(out / REPORT, report)
    return report


class _Converted(NamedTuple):
    """What has been done so far: clips by task and name, what was left out, and how many frames have which label."""

    clips: dict[tuple[str, str], dict[str, Any]]
    left_out: list[dict[str, str]]
    labels: dict[str, Counter[int]]

    def add(self, item: Item, out: Path) -> None:
        """Write the files of a clip, or note why it is left out."""
        about = {"clip": _shown(item.name), "split": item.split, "task": item.task}
        try:
            _check_name(item, self.clips)
            clip = item.load()
            frames = _frames(clip)
            _check_labels(clip.labels, frames)
        except LeftOut as error:
            detail = {"detail": error.detail} if error.detail else {}
            self.left_out.append(about | {"reason": error.reason} | detail)
            return
        root = out / item.task
        _write_video(clip.video, root / "videos", item.name)
        if clip.labels is not None:
            _write_labels(root, item.name, clip.labels)
            self.labels.setdefault(item.task, Counter()).update(clip.labels.tolist())
        said = {key: text for key in ("note", "unlabelled") if (text := getattr(clip, key))}
        self.clips[item.task, item.name] = about | {"frames": frames} | said

    def why_none(self) -> str:
        """The reasons for which no clip is left, and an example."""
        reasons = "; ".join(f"{reason}: {count}" for reason, count in _reasons(self.left_out).items())
        first = self.left_out[0] if self.left_out else None
        return (reasons or "there is none") + (f", such as {first['clip']}: {first.get('detail', '')}" if first else "")

    def finish(self, out: Path, source: Source) -> dict[str, Any]:
        """Write what each task's folder says of its clips; the rest of the report."""
        notes = list(source.notes)
        tasks = {}
        for task in dict.fromkeys(task for task, _ in self.clips):
            clips = [clip for clip in self.clips.values() if clip["task"] == task]
            names = source.label_names.get(task, ())
            tasks[task or "."] = _finish(out / task, clips, self.labels.get(task), names, notes)
        return {
            "tasks": tasks,
            "left_out_by_reason": _reasons(self.left_out),
            "left_out": self.left_out,
            "notes": notes,
            "clips": list(self.clips.values()),
        }


def safe_path(root: Path, name: object) -> Path:
    """`root / name` for a name that comes from a file.

    Raises:
        LeftOut: the name would lead out of the folder.
    """
    try:
        parts = [file_name(part) for part in PurePosixPath(name if isinstance(name, str) else "").parts]
    except ValueError:
        parts = []
    if not parts:
        raise LeftOut("video outside the data set", repr(name))
    return root.joinpath(*parts)


def whole_numbers(values: object) -> np.ndarray:
    """(T,) int64 labels from an array or tensor of whole numbers of any type.

    Raises:
        LeftOut: they are something else.
    """
    try:
        given = np.asarray(values)
        with np.errstate(invalid="ignore"):  # of NaN, which the comparison below refuses
            numbers = given.astype(np.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LeftOut("labels are not numbers", str(error)) from None
    if given.ndim != 1 or given.dtype.kind not in "iuf" or (numbers != given).any():
        raise LeftOut("labels are not whole numbers", f"shape {given.shape}, {given.dtype}")
    return numbers


def _shown(name: object) -> str:
    """The name of a clip, which is not checked yet, in a report or on a terminal."""
    return printable(str(name).replace("\n", " "))[:_LONGEST_NAME]


def _check_origin(out: Path, origin: dict[str, str]) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        given = read_json(out / REPORT)
        before = {key: given[key] for key in origin}
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(f"{out} is there already and not an earlier conversion: choose a new or empty folder") from None
    if before != origin:
        raise DataError(
            f"{out} holds the conversion of another data set, {before['source']} as {before['format']}: choose a new "
            "or empty folder"
        )


def _check_name(item: Item, done: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    try:
        for name in (item.name, item.task) if item.task else (item.name,):
            file_name(name)
    except ValueError as error:
        raise LeftOut("name is not a file name", str(error)) from None
    if (item.task, item.name) in done:
        raise LeftOut("name is taken", f"by a clip of the split {done[item.task, item.name]['split']!r}")


def _frames(clip: Content) -> int:
    """Number of frames of the video; exact where it differs from the number of labels."""
    if not isinstance(clip.video, Path):
        if not clip.video:
            raise LeftOut("video is empty", "no frames")
        for image in clip.video:
            if isinstance(image, Path):
                _check_image(image)
        return len(clip.video)
    try:
        if clip.video.stat().st_size == 0:
            raise LeftOut("video is empty", str(clip.video))
        count = count_frames(clip.video)
        if clip.labels is not None and count != len(clip.labels):
            count = len(frame_times(clip.video))
    except FileNotFoundError:
        raise LeftOut("video is missing", str(clip.video)) from None
    except (ValueError, OSError) as error:
        if is_of_machine(error):
            raise
        raise LeftOut("video cannot be read", str(error)) from None
    return count


def _check_image(path: Path) -> None:
    """Whether a file begins as an image: what is not one, and may lie elsewhere by a link, is not copied."""
    try:
        with open_file(path) as file:
            begin = file.read(4)
    except (ValueError, OSError) as error:
        raise LeftOut("video cannot be read", str(error)) from None
    if not begin.startswith(_IMAGES):
        raise LeftOut("video cannot be read", f"{path} is {'no image' if begin else 'empty'}")


def _check_labels(labels: np.ndarray | None, frames: int) -> None:
    if labels is not None and len(labels) != frames:
        reason = "labels off by one" if abs(len(labels) - frames) == 1 else "labels do not fit"
        raise LeftOut(reason, f"{len(labels)} labels, {frames} frames")


def _write_video(video: Path | Sequence[Path | bytes], folder: Path, name: str) -> None:
    if isinstance(video, Path):
        target = folder / (name + video.suffix.lower())
        if not target.is_file() or target.stat().st_size != video.stat().st_size:
            with atomic_path(target) as temporary:
                temporary.unlink()
                _link(video, temporary)
        return
    target = folder / name
    if target.is_dir() and sum(1 for _ in target.iterdir()) == len(video):
        return
    if target.exists():
        shutil.rmtree(target)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=folder))
    partial.chmod(folder.stat().st_mode & 0o777)  # mkdtemp makes it for the user alone
    try:
        for number, image in enumerate(video):
            if isinstance(image, Path):
                _link(image, partial / f"{number:06d}{image.suffix.lower()}")
            else:
                (partial / f"{number:06d}.jpg").write_bytes(image)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _link(source: Path, target: Path) -> None:
    source = source.resolve()  # a link to a link could dangle
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _write_labels(root: Path, name: str, labels: np.ndarray) -> None:
    with atomic_path(root / "labels" / f"{name}.npy") as temporary:
        np.save(temporary, labels.astype(np.int64), allow_pickle=False)


def _finish(
    root: Path,
    clips: Sequence[dict[str, Any]],
    labels: Counter[int] | None,
    names: Sequence[str],
    notes: list[str],
) -> dict[str, Any]:
    """The files of a task beside its clips; returns its counts."""
    for left in (*root.glob("videos/.*"), *root.glob("labels/.*")):  # half of a file, by a kill
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    if labels is not None:
        for clip in clips:
            if not (root / "labels" / f"{clip['clip']}.npy").is_file():
                _write_labels(root, clip["clip"], np.full(clip["frames"], -1))
                labels[-1] += clip["frames"]
    splits = {split: [clip["clip"] for clip in clips if clip["split"] == split] for split in SPLITS}
    if any(splits.values()):
        write_json(root / "split.json", splits)
        for split in SPLITS:
            if not splits[split]:
                notes.append(f"{root}: no clip of the split {split!r} is left; to load the folder, edit its split.json")
    if names:
        if max(labels or (), default=-1) < len(names):
            write_json(root / "label_names.json", list(names))
        else:
            notes.append(f"{root}: labels up to {max(labels or ())}, but {len(names)} known names: none are written")
            with contextlib.suppress(FileNotFoundError):
                (root / "label_names.json").unlink()
    return {
        "clips": len(clips),
        **{split: len(members) for split, members in splits.items()},
        "frames": sum(clip["frames"] for clip in clips),
        "labels": {str(label): labels[label] for label in sorted(labels)} if labels is not None else None,
    }


def _reasons(left_out: Iterable[dict[str, str]]) -> dict[str, int]:
    return dict(Counter(one["reason"] for one in left_out).most_common())
