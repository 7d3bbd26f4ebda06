"""Penn Action as it is published, with the phase labels of TCC and CARL where they are there.

Zhang, Zhu, Derpanis, "From Actemes to Action: A Strongly-supervised Representation for Detailed Action Understanding",
ICCV 2013.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from lac.data.convert.mat import read_mat
from lac.data.convert.penn_events import ACTIONS, phases
from lac.data.convert.plain import Content, Item, LeftOut, Source, whole_numbers
from lac.data.reading import read_npy
from lac.data.video import IMAGES, natural
from lac.errors import is_of_machine

PHASE_LABELS = "penn_action_labels"


def read(root: Path) -> Source:
    """`frames/NNNN/NNNNNN.jpg`, `labels/NNNN.mat` and `penn_action_labels/SPLIT/ACTION/NNNN*.npy`.

    The phase labels lie in the folder of the data set or beside it; their folders give the split, and videos without
    are left out. Where there are no phase labels at all, the split is the one of the .mat files, without labels.
    strum_guitar and jump_rope, which have no phases, are left out.
    """
    folders = sorted(path for path in (root / "frames").glob("*") if path.is_dir())
    if not folders:
        raise FileNotFoundError(f"{root / 'frames'} has no folder of frames such as 0001")
    given = {path.name[:4]: path for path in _label_files(root)}
    items = []
    for folder in folders:
        name, split, problem = folder.name, "", None
        label = given.get(name[:4])
        try:
            action, trained = _read_mat(root / "labels" / f"{folder.name}.mat")
            name = f"{folder.name}_{action}"
            split = "train" if trained else "val"
            if action not in ACTIONS:
                raise LeftOut(f"action {action} has no phases")
            if given and label is None:
                raise LeftOut("no phase labels")
            if label is not None:
                split = label.parent.parent.name
                split = "val" if split == "test" else split
        except LeftOut as error:
            problem, action = error, ""
        items.append(Item(name, split, action, functools.partial(_load, folder, label, problem)))
    return Source(items, len(items), {action: phases(action) for action in ACTIONS})


def _label_files(root: Path) -> list[Path]:
    for folder in (root / PHASE_LABELS, root.resolve().parent / PHASE_LABELS):
        if folder.is_dir():
            files = sorted(path for split in ("train", "val", "test") for path in folder.glob(f"{split}/*/*.npy"))
            if not files:
                raise FileNotFoundError(f"{folder} has no file such as train/squat/1234.npy")
            return files
    return []


def _read_mat(path: Path) -> tuple[str, bool]:
    """The action, and whether the video is for training."""
    if not path.is_file():
        raise LeftOut("no .mat file", str(path))
    try:
        content = read_mat(path)
    except (ValueError, OSError) as error:
        if is_of_machine(error):
            raise
        raise LeftOut(".mat file cannot be read", str(error)) from None
    action, trained = content.get("action"), content.get("train")
    if not isinstance(action, str) or not isinstance(trained, np.ndarray) or len(trained) != 1:
        raise LeftOut(".mat file cannot be read", f"{path}: it needs a text `action` and a number `train`")
    return action, bool(trained[0] > 0)


def _load(folder: Path, label: Path | None, problem: LeftOut | None) -> Content:
    if problem is not None:
        raise problem
    images = sorted((path for path in folder.iterdir() if path.suffix.lower() in IMAGES), key=natural)
    if label is None or not images:
        return Content(images)
    try:
        labels = whole_numbers(read_npy(label))
    except (ValueError, OSError) as error:
        if is_of_machine(error):
            raise
        raise LeftOut("phase labels cannot be read", str(error)) from None
    if len(labels) == 0:
        raise LeftOut("no phase labels", str(label))
    note = f"{len(images)} frames and {len(labels)} labels, resampled" if len(images) != len(labels) else ""
    length = min(len(images), len(labels))
    return Content(_shortened(images, length), np.array(_shortened(list(labels), length)), note)


def _shortened(longer: list[Any], length: int) -> list[Any]:
    """As TCC and CARL do it: entry floor(j longer / shorter) for j = 0, 1, ..."""
    return [longer[j * len(longer) // length] for j in range(length)]
