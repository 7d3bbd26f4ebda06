"""Data sets as CARL, and LAC after it, process them: pickles of labels beside videos.

Chen, Wei, Li, Cai, "Frame-wise Action Representations for Long Videos via Sequence Contrastive Learning", CVPR 2022.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from lac.data.convert.penn_events import ACTIONS, phases
from lac.data.convert.plain import SPLITS, Content, Item, LeftOut, Source, safe_path, whole_numbers
from lac.data.pickles import read_pickle
from lac.errors import DataError


def read_pouring(root: Path) -> Source:
    """`{train,val}.pkl`: a list with a dict for each video: name, video_file, frame_label, seq_len, id."""
    items = [
        _item(root, path, entry, split, "")
        for split, path in ((split, root / f"{split}.pkl") for split in SPLITS)
        for entry in _entries(path, read_pickle(path))
    ]
    return Source(items, len(items), {"": phases("pouring")})


def read_penn(root: Path) -> Source:
    """`{train,val}.pkl`: (list, indices of each action), where the dicts of the list have an action_label too."""
    items = []
    for split in SPLITS:
        path = root / f"{split}.pkl"
        content = read_pickle(path)
        if not isinstance(content, tuple) or len(content) != 2:
            raise DataError(
                f"{path} should hold a pair, of a list of clips and the indices of each action, got "
                f"{type(content).__name__}; a list alone is the format carl-pouring"
            )
        for entry in _entries(path, content[0]):
            label = entry.get("action_label")
            if not isinstance(label, int) or not 0 <= label < len(ACTIONS):
                raise DataError(
                    f"{path}: action_label of clip {entry.get('name')!r} must be 0 to {len(ACTIONS) - 1}, got {label!r}"
                )
            items.append(_item(root, path, entry, split, ACTIONS[label]))
    return Source(items, len(items), {action: phases(action) for action in ACTIONS})


def read_finegym(root: Path) -> Source:
    """`gym{99,288}_train_v1.0.pkl` and `_val.pkl`: lists as of Pouring; labels are floats, -1 for no element."""
    items = []
    for task in ("gym99", "gym288"):
        paths = {"train": root / f"{task}_train_v1.0.pkl", "val": root / f"{task}_val.pkl"}
        if any(path.is_file() for path in paths.values()):
            for split, path in paths.items():
                items += [_item(root, path, entry, split, task) for entry in _entries(path, read_pickle(path))]
    if not items:
        raise FileNotFoundError(f"{root} has neither gym99_train_v1.0.pkl nor gym288_train_v1.0.pkl")
    extra = root / "additional_v1.0.pkl"
    notes = [f"{extra.name} is not converted: its clips belong to no split"] if extra.is_file() else []
    return Source(items, len(items), notes=notes)


def _entries(path: Path, content: Any) -> list[dict[str, Any]]:
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        kind = type(content).__name__
        hint = "; a pair is the format carl-penn" if isinstance(content, tuple) else ""
        raise DataError(f"{path} should hold a list with a dict for each clip, got {kind}{hint}")
    for number, entry in enumerate(content):
        missing = [key for key in ("name", "video_file", "frame_label") if key not in entry]
        if missing:
            raise DataError(f"{path}: clip {number} has no {missing[0]!r}, only {', '.join(map(str, entry))}")
    return content


def _item(root: Path, path: Path, entry: dict[str, Any], split: str, task: str) -> Item:
    return Item(entry["name"], split, task, functools.partial(_load, root, entry))


def _load(root: Path, entry: dict[str, Any]) -> Content:
    video = safe_path(root, entry["video_file"])
    if not video.is_file():
        raise LeftOut("video is missing", str(video))
    return Content(video, whole_numbers(entry["frame_label"]))
