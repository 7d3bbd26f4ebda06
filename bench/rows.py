"""Rows of results in bench/results: where they lie, how they are added and what they say of themselves."""

import csv
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lac.measure.rows import Row, append_rows, commit
from lac.system import device_name

__all__ = ["RESULTS", "ROOT", "Row", "append_rows", "command_line", "commit", "destination", "machine", "read"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def command_line(module: str) -> str:
    """The command that runs now, as it is to be repeated: `python -m bench.MODULE ARGUMENTS`."""
    return shlex.join(["python", "-m", f"bench.{module}", *sys.argv[1:]])


def machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of where it was made, of what `lac.system.describe` says."""
    return {key: environment[key] for key in ("device", "torch", "lac")}


def destination(device: str) -> Path:
    """The file of this machine: bench/results/TYPE-NAME.csv."""
    machine = re.sub(r"[^a-z0-9]+", "-", device_name(torch.device(device)).lower()).strip("-")
    return RESULTS / f"{torch.device(device).type}-{machine}.csv"


def read(path: Path) -> list[Row]:
    """All rows of a file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
