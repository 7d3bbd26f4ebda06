"""Folders of videos, or of images of their frames, with or without a split and labels."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from lac.data.convert.plain import Content, Item, LeftOut, Source
from lac.data.labels import Numbering, Phases, read_phases
from lac.data.video import IMAGES, count_frames, frame_times, natural
from lac.errors import DataError, is_of_machine

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

    `labels.csv` says which phase of the video NAME (with or without its ending) begins when: see `lac.data.labels`.
    A video whose lines cannot be right goes without labels.
    """
    path = root / LABELS
    phases = read_phases(path, of_videos=True) if path.is_file() else {}
    numbering = Numbering.of(phases.values())
    files = [file for file in _visible(root) if file.is_dir() or file.suffix.lower() not in (".csv", ".json", ".txt")]
    items = []
    for file in files:
        lines = sorted(line for name in {file.name, _stem(file)} if name in phases for line in phases[name].phases)
        own = (next(iter(phases.values()))._replace(phases=lines), numbering) if phases else None
        items.append(Item(_stem(file), "", "", functools.partial(_load, file, own)))
    known = {name for file in files for name in (file.name, _stem(file))}
    for name in phases:
        if name not in known:
            items.append(Item(name, "", "", functools.partial(_missing, root / name)))
    return Source(items, len(items), {"": [] if numbering.numbers else numbering.names})


def _visible(folder: Path, *, folders_only: bool = False) -> list[Path]:
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted((path for path in paths if path.is_dir() or not folders_only), key=natural)


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _missing(path: Path) -> Content:
    raise LeftOut("video is missing", f"{path}, which {LABELS} names")


def _load(path: Path, labels: tuple[Phases, Numbering] | None) -> Content:
    images = (
        sorted((file for file in path.iterdir() if file.suffix.lower() in IMAGES), key=natural) if path.is_dir() else []
    )
    video = images if path.is_dir() else path
    if labels is None or not (images or (path.is_file() and path.stat().st_size)):
        return Content(video)
    phases, numbering = labels
    try:
        times = frame_times(path) if phases.unit == "time" else np.arange(len(images) or count_frames(path))
    except (ValueError, OSError) as error:
        if is_of_machine(error):
            raise
        raise LeftOut("video cannot be read", str(error)) from None
    try:
        return Content(video, phases.labels(times, np.arange(len(times)), numbering))
    except DataError as error:
        return Content(video, unlabelled=str(error))
