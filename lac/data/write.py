"""Clips written as a plain folder, which `lac.data.folder` reads again."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lac.data.base import Clip
from lac.errors import DataError
from lac.files import atomic_path, write_json


def write_folder(
    folder: str | Path,
    clips: Sequence[Clip],
    *,
    split: Mapping[str, Sequence[str]] | None = None,
    label_names: Sequence[str] = (),
) -> None:
    """Write clips as `features/NAME.npy` and `times/NAME.npy`, and beside them what else is known, all or nothing.

    `labels/NAME.npy` for the clips that have labels, with `label_names.json`; `clips.csv` where actions or persons are
    known; `split.json` where a split is given.

    Args:
        folder: made if missing.
        clips: at least one, each of its own name.
        split: the names of the clips to train on, "train", and of those to validate on, "val". `None`: not written.
        label_names: of label 0, 1, ...

    Raises:
        FileExistsError: the folder holds something already.
        ValueError: two clips share a name, or some have an action and some have none.
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    check_empty(folder)
    check_names([clip.name for clip in clips])
    shown = _shown(clips)
    labels = {clip.name: clip.labels for clip in clips if clip.labels is not None}
    arrays = {f"features/{clip.name}.npy": clip.frames for clip in clips}
    arrays |= {f"times/{clip.name}.npy": clip.times for clip in clips}
    arrays |= {f"labels/{name}.npy": array for name, array in labels.items()}
    with _beside(folder) as new:
        for name, array in arrays.items():
            with atomic_path(new / name) as temporary:
                np.save(temporary, array, allow_pickle=False)
        if len(shown[0]) > 1:
            write_csv(new / "clips.csv", shown)
        if labels:
            write_json(new / "label_names.json", list(label_names))
        if split is not None:
            write_json(new / "split.json", {name: list(names) for name, names in split.items()})


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A new folder in an empty one: what is written there lies in `folder` itself once the block ends well, and nothing
    else does. The features come last: without them a folder is no data set, whenever the process is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder, prefix=".writing."))
    try:
        yield new
        for path in sorted(new.iterdir(), key=lambda path: path.name == "features"):
            path.rename(folder / path.name)
    except OSError as error:
        named = str(error.filename or folder).replace(str(new), str(folder))
        raise OSError(error.errno, error.strerror, named) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_empty(folder: Path) -> None:
    """Whether data can be written to the folder: what lies there would become a part of it, or be lost.

    Raises:
        FileExistsError: it is not empty.
    """
    there = next(folder.iterdir(), None) if folder.is_dir() else folder if folder.exists() else None
    if there is not None:
        raise FileExistsError(f"{folder} is not an empty folder, it holds {there.name}: choose another, or remove it")


def check_names(names: Sequence[str]) -> None:
    """Whether clips of these names can lie in one folder.

    Raises:
        ValueError: two are the same, or differ in capitals only, which some file systems do not tell apart.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.get(name.casefold())
        if other is not None:
            why = "are both called" if other == name else f"differ in capitals only: {other!r},"
            raise DataError(f"two clips {why} {name!r} and would be one file; rename one, or leave it out")
        seen[name.casefold()] = name


def _shown(clips: Sequence[Clip]) -> list[list[str]]:
    """The lines of `clips.csv`, of as many columns as are known."""
    actions = {clip.name: clip.action for clip in clips}
    silent = [name for name, action in actions.items() if not action]
    columns = ["name"]
    if len(silent) < len(clips):
        if silent:
            raise DataError(
                f"clip {silent[0]!r} has no action and others have: a folder says what all of its clips show, or none; "
                "write them to two folders"
            )
        columns.append("action")
    if any(clip.person for clip in clips):
        columns.append("person")
    return [columns, *([getattr(clip, column) for column in columns] for clip in clips)]


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write the rows, the first of which names the columns, whole or not at all; numbers to a millionth."""
    rounded = ([round(cell, 6) if isinstance(cell, float) else cell for cell in row] for row in rows)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rounded)
