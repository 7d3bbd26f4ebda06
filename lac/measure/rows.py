"""Rows of results: what stands in each, the file they are added to, and the context that all share."""

import csv
import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import lac
from lac.measure.problem import Shape
from lac.system import device_name, package_version

FIELDS = [
    "date", "device", "threads", "dtype", "mode", "batch", "n", "m", "side", "computes", "version",
    "ms_p20", "ms_p50", "ms_p80", "ms_estimated", "mcells_per_s", "peak_bytes", "error", "rounds", "skipped",
    "torch", "triton", "lac", "python", "platform", "commit", "command",
]  # fmt: skip

# A row of the results, as it stands in the file: FIELDS by name, empty where there is nothing to say.
Row = dict[str, str]


def context(device: torch.device, command: str) -> Row:
    """What every row of a run says: date, machine, versions, commit, command."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device_name(device),
        "threads": str(torch.get_num_threads()) if device.type == "cpu" else "",
        "torch": torch.__version__,
        "triton": package_version("triton") or "",
        "lac": lac.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "commit": commit(),
        "command": command,
    }


def commit() -> str:
    """The commit of the checkout the code runs from, "-dirty" if lac differs from it; "" for an installed package."""
    root = Path(lac.__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = [*git, "status", "--porcelain", "--untracked-files=no", "--", "lac", "kernels"]
        changed = subprocess.run(changes, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def append_rows(path: str | Path, rows: Iterable[Mapping[str, Any]], fields: Sequence[str] = FIELDS) -> None:
    """Add rows to a CSV file, with a first line of names if it is new.

    Raises:
        ValueError: the file has other columns.
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        names = next(csv.reader(file), None)
        if names not in (None, list(fields)):
            raise ValueError(f"{path} has other columns than these rows; choose another file")
        file.seek(0, os.SEEK_END)
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        if names is None:
            writer.writeheader()
        writer.writerows(rows)


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a file of `append_rows`; of rows that measure the same, the last one."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        last = {
            tuple(row[name] for name in ("device", "threads", "dtype", "mode", "batch", "n", "m", "side")): row
            for row in csv.DictReader(file)
        }
    return list(last.values())


def shape_of(row: Row) -> Shape:
    """The shape that a row of one is about."""
    lengths1, lengths2 = (tuple(map(int, row[name].split())) for name in "nm")
    if len(lengths1) > 1:
        return Shape.ragged(lengths1, lengths2)
    return Shape(int(row["batch"]), lengths1[0], lengths2[0])


def speed_up(row: Row, rows: Iterable[Row], naive: str) -> float | None:
    """How many times faster than the naive side; None unless that one was measured on the same problem."""
    same = ("device", "threads", "dtype", "mode", "batch", "n", "m")
    for other in rows:
        if other["side"] == naive and other.get("ms_p50") and all(other.get(k) == row.get(k) for k in same):
            return float(other["ms_p50"]) / float(row["ms_p50"])
    return None
