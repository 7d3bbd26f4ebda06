"""Phases from CSV files: one set of rules for `labels/NAME.csv` of a folder and `labels.csv` of recordings to convert.

A line says which phase begins when, and lasts up to the next line; what lies before the first has no phase. The first
line may name the columns, in any order and among others: `time` (seconds) or `frame` (from 0), and `label`; in
`labels.csv` also `video`. Without such a line the order is time,label, or video,time,label. See
`lac.data.reading.read_table` for separators and marks.

A label is a whole number or a name. An empty one, or a negative number, is no phase. Names are numbered as
`label_names.json` has them, else as they first appear. Where there is no such file, and a clip has numbers only, names
are refused: nothing says which number they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lac.data.reading import number, read_table
from lac.errors import DataError

MOST = 10_000  # a greater label is no phase but a mistake
_WHOLE = re.compile(r"([+-]?\d+)(?:[.,]0*)?")


class Phase(NamedTuple):
    """A line: the phase called `label` begins at this time or frame."""

    line: int
    at: float
    label: str


class Phases(NamedTuple):
    """The phases of a clip: when they begin by `unit`, "time" or "frame"."""

    path: Path
    unit: str
    phases: list[Phase]

    def labels(self, times: np.ndarray, numbers: np.ndarray, numbering: Numbering) -> np.ndarray:
        """Labels (T,) of frames shown at `times`, seconds, which are `numbers` in their file, from 0.

        Raises:
            ValueError: lines that do not increase, or a label that has no number; the message names the line.
        """
        labels = [-1]
        for before, phase in zip([None, *self.phases], self.phases, strict=False):
            where = f"{self.path}, line {phase.line}"
            if before is not None and phase.at <= before.at:
                raise DataError(f"{where}: {self.unit}s must increase, got {phase.at:g} after {before.at:g}")
            try:
                labels.append(numbering(phase.label))
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
        at = times + 1e-6 if self.unit == "time" else numbers  # times in a file are rounded
        return np.array(labels)[np.searchsorted([phase.at for phase in self.phases], at, side="right")]


def read_phases(path: Path, *, of_videos: bool = False) -> dict[str, Phases]:
    """The phases of a file by video, or without `of_videos`, where there is no such column, of "" alone.

    Raises:
        ValueError, OSError: it cannot be read; the message names the file, and the line where it is one.
    """
    first = ("video",) if of_videos else ()
    headers = [(*first, unit, "label") for unit in ("time", "frame")]
    columns, lines = read_table(path, *headers, bare=headers[0], numeric="time")
    unit = columns[-2]
    found = {} if of_videos else {"": Phases(path, unit, [])}
    for line, row in lines:
        try:
            phase = Phase(line, number(row[unit]), row["label"])
        except ValueError as error:
            raise DataError(
                f"{path}, line {line}: expected {', '.join(columns)}, like {'a,' if of_videos else ''}12,3 with a "
                f"number for the {unit}, got {','.join(row.values())!r}"
            ) from error
        found.setdefault(row.get("video", ""), Phases(path, unit, [])).phases.append(phase)
    return found


class Numbering(NamedTuple):
    """Which number a label has.

    Attributes:
        names: of the labels 0, 1, ... where they are known, else empty.
        numbers: whether whole numbers stand for themselves.
    """

    names: Sequence[str]
    numbers: bool

    @classmethod
    def of(cls, clips: Iterable[Phases], given: Sequence[str] = (), *, numbers: bool = False) -> Numbering:
        """The rule of the module.

        Args:
            clips: the phases of each.
            given: what `label_names.json` holds.
            numbers: whether other clips have numbers already.
        """
        texts = [[phase.label for phase in clip.phases if not _nothing(phase.label)] for clip in clips]
        if given or numbers or any(clip and all(map(_WHOLE.fullmatch, clip)) for clip in texts):
            return cls(given, True)
        return cls(list(dict.fromkeys(text for clip in texts for text in clip)), False)

    def __call__(self, label: str) -> int:
        """The number of a label, -1 for no phase.

        Raises:
            ValueError: a name that has none, or a number that is too large.
        """
        if _nothing(label):
            return -1
        whole = _WHOLE.fullmatch(label) if self.numbers else None
        if whole is not None:
            if len(whole[1]) > len(str(MOST)) or int(whole[1]) > MOST:
                raise DataError(f"a label must be at most {MOST}, got {label[:80]}")
            return int(whole[1])
        if label in self.names:
            return self.names.index(label)
        known = ", ".join(self.names)
        raise DataError(
            f"the label {label[:80]!r} is no whole number, and "
            + (f"not one of label_names.json: {known}" if known else "others are; list the names in label_names.json")
        )


def _nothing(label: str) -> bool:
    """Whether a label says that there is no phase."""
    return not label or (label.startswith("-") and _WHOLE.fullmatch(label) is not None)
