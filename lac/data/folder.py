"""Plain folders of NumPy files: the quickest way to bring your own features."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lac.data.base import Clip, Dataset


def load(root: str | Path | None = None, *, rate: float = 25.0, val_share: float = 0.3, seed: int = 0) -> Dataset:
    """A folder with one NumPy file a clip::

        root/features/NAME.npy   (T, ...) real numbers
        root/labels/NAME.npy     (T,) whole numbers, -1 = no phase           optional
        root/times/NAME.npy      (T,) seconds, increasing                    optional
        root/split.json          {"train": [NAME, ...], "val": [NAME, ...]}  optional
        root/label_names.json    ["first phase", ...]                        optional

    Files are read with ``allow_pickle=False``: reading them never runs code.

    Args:
        root: the folder.
        rate: frames a second where there is no ``times`` folder.
        val_share: share of the clips to validate on where there is no ``split.json``; at least one, rounded.
        seed: of that split; the same seed and names give the same split.

    Raises:
        FileNotFoundError: no root, no ``features`` folder, or no ``.npy`` file in it.
        ValueError: labels or times without features or the reverse, shapes that do not fit, values that are
            not finite, a file that is not a plain array, or a split that names a missing clip. The message
            names it.
    """
    if root is None:
        raise FileNotFoundError("the data set 'folder' needs root= (--root): a folder with features/*.npy")
    base = Path(root)
    if not rate > 0:
        raise ValueError(f"rate must be > 0 frames a second, got {rate}")
    features = _arrays(base, "features")
    if not features:
        raise FileNotFoundError(f"no features: expected files {base / 'features'}/*.npy")
    labels = _partners(base, "labels", features)
    times = _partners(base, "times", features)

    def clip(name: str) -> Clip:
        frames = _read(features[name])
        at = _read(times[name]) if times else np.arange(len(frames) if frames.ndim else 0) / rate
        return Clip(name, frames, at, _read(labels[name]) if labels else None)

    train, val = _split(base, sorted(features), val_share, seed)
    clips = {name: clip(name) for name in train + val}
    found = [int(one.labels.max()) for one in clips.values() if one.labels is not None]
    return Dataset(
        base.resolve().name,
        [clips[name] for name in train],
        [clips[name] for name in val],
        _label_names(base, max(found, default=-1) + 1),
    )


def read_features(root: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """``root/features/NAME.npy`` for each of ``names``, such as embeddings made elsewhere.

    Raises:
        FileNotFoundError: a clip has no file; the message names it.
        ValueError: a file that is not a plain array.
    """
    found = _arrays(Path(root), "features")
    for name in names:
        if name not in found:
            raise FileNotFoundError(f"there is no {Path(root, 'features', name + '.npy')} for clip {name!r}")
    return {name: _read(found[name]) for name in names}


def _arrays(base: Path, kind: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((base / kind).glob("*.npy"))}


def _partners(base: Path, kind: str, features: dict[str, Path]) -> dict[str, Path]:
    """The files of ``kind``: none at all, or one for each file of features."""
    found = _arrays(base, kind)
    if not found:
        return found
    lonely = sorted(set(features) ^ set(found))
    if lonely:
        have, lack = ("features", kind) if lonely[0] in features else (kind, "features")
        raise ValueError(
            f"clip {lonely[0]!r} has {have} but no {lack}: there is no {base / lack / (lonely[0] + '.npy')} "
            f"({len(lonely)} such clips); give {kind} for every clip or for none"
        )
    return found


def _read(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is not a plain NumPy array (object arrays are not read, because that "
            f"would run code from the file): {error}"
        ) from error
    return np.asarray(array)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _strings(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{where} must be a list of strings, got {value!r}")
    return value


def _split(base: Path, names: list[str], val_share: float, seed: int) -> tuple[list[str], list[str]]:
    path = base / "split.json"
    if path.is_file():
        given = _json(path)
        if not isinstance(given, dict) or set(given) != {"train", "val"}:
            raise ValueError(f'{path} must be {{"train": [...], "val": [...]}}')
        splits = [_strings(given[split], f"{path}: {split}") for split in ("train", "val")]
        for name in splits[0] + splits[1]:
            if name not in names:
                raise ValueError(f"{path} names {name!r}, but there is no features/{name}.npy")
        return splits[0], splits[1]
    if not 0 < val_share < 1:
        raise ValueError(f"val_share must lie between 0 and 1, got {val_share}")
    if len(names) < 2:
        raise ValueError(f"{base} has one clip only; a split into train and val needs two")
    count = min(max(1, math.floor(val_share * len(names) + 0.5)), len(names) - 1)
    chosen = {names[k] for k in np.random.default_rng(seed).permutation(len(names))[:count]}
    return [name for name in names if name not in chosen], sorted(chosen)


def _label_names(base: Path, count: int) -> list[str]:
    path = base / "label_names.json"
    return _strings(_json(path), str(path)) if path.is_file() else [str(label) for label in range(count)]
