"""Folders of videos, or of images of their frames, with or without a split and labels."""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path

import numpy as np

from lac.data.convert.plain import Content, Item, LeftOut, Source
from lac.data.reading import number, read_table
from lac.data.video import IMAGES, count_frames, frame_times, natural
from lac.errors import DataError

LABELS = "labels.csv"


def read_lav(root: Path) -> Source:
    """`{train,val}/VIDEO/NNNNNN.jpg`; `test` serves as val. Where both have a VIDEO, names begin with the split.

    Haresh, Kumar, Coskun, Syed, Konin, Zia, Tran, "Learning by Aligning Videos in Time", CVPR 2021.
    """
    val = "val" if (root / "val").is_dir() else "test"
    splits = {"train": root / "train", "val": root / val}
    for folder in splits.values():
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{root} has no folder {folder.name!r}; it should hold train/VIDEO/000001.jpg and val/"
            )
    found = {split: _visible(folder, folders_only=True) for split, folder in splits.items()}
    shared = {path.name for path in found["train"]} & {path.name for path in found["val"]}
    items = [
        Item(f"{split}-{path.name}" if shared else path.name, split, "", functools.partial(_load, path, None))
        for split, paths in found.items()
        for path in paths
    ]
    return Source(items, len(items))


def read_videos(root: Path) -> Source:
    """Videos or folders of images, `NAME.*`, and labels.csv where it is there.

    `labels.csv` has the columns `video,time,label` or `video,frame,label`, see
    `lac.data.reading.read_table`: the phase of the video NAME (with or without its ending) from that second, or
    from that frame, counted from 0, on. Labels are all whole numbers, or else names, which are numbered as they first
    appear; -1 and empty ones are no phase.
    """
    path = root / LABELS
    rows, unit, names = _read_labels(path) if path.is_file() else ([], "", [])
    files = [file for file in _visible(root) if file.is_dir() or file.suffix.lower() not in (".csv", ".json", ".txt")]
    items = []
    for file in files:
        phases = [(at, label) for video, at, label in rows if video in (file.name, _stem(file))]
        items.append(Item(_stem(file), "", "", functools.partial(_load, file, (unit, phases) if unit else None)))
    known = {name for file in files for name in (file.name, _stem(file))}
    for name in dict.fromkeys(video for video, _, _ in rows if video not in known):
        items.append(Item(name, "", "", functools.partial(_missing, root / name)))
    return Source(items, len(items), {"": names})


def _visible(folder: Path, *, folders_only: bool = False) -> list[Path]:
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted((path for path in paths if path.is_dir() or not folders_only), key=natural)


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _missing(path: Path) -> Content:
    raise LeftOut("video is missing", f"{path}, which {LABELS} names")


def _load(path: Path, phases: tuple[str, list[tuple[float, int]]] | None) -> Content:
    images = (
        sorted((file for file in path.iterdir() if file.suffix.lower() in IMAGES), key=natural) if path.is_dir() else []
    )
    video = images if path.is_dir() else path
    if phases is None or not (images or (path.is_file() and path.stat().st_size)):
        return Content(video)
    unit, rows = phases
    try:
        times = frame_times(path) if unit == "time" else np.arange(len(images) or count_frames(path))
    except (ValueError, OSError) as error:
        raise LeftOut("video cannot be read", str(error)) from None
    begins = [begin for begin, _ in rows]
    if any(b <= a for a, b in pairwise(begins)):
        raise LeftOut("labels do not increase", f"{unit} of its lines in {LABELS}: {begins}")
    # As lac.data.folder does it: times in a file are rounded.
    at = np.searchsorted(begins, times + 1e-6, side="right")
    return Content(video, np.array([-1, *(label for _, label in rows)])[at])


def _read_labels(path: Path) -> tuple[list[tuple[str, float, int]], str, list[str]]:
    """Lines of video, begin, label; the unit of the begins; the names of the labels if they have some."""
    (_, unit, _), rows = read_table(path, ("video", "time", "label"), ("video", "frame", "label"))
    parsed: list[tuple[str, float, str]] = []
    for line, row in rows:
        try:
            parsed.append((row["video"], number(row[unit]), row["label"]))
        except ValueError:
            raise DataError(
                f"{path}, line {line}: expected a video, a {unit} and a label, like a,12,3, got "
                f"{','.join(row.values())!r}"
            ) from None
    texts = list(dict.fromkeys(label for _, _, label in parsed if label not in ("", "-1")))
    numbered = all(text.isdecimal() for text in texts)
    values = {text: int(text) if numbered else number for number, text in enumerate(texts)}
    lines = [(video, begin, values.get(label, -1)) for video, begin, label in parsed]
    return lines, unit, [] if numbered else texts
