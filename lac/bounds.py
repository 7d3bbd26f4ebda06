"""What a file from anybody may ask for: looked at before it is opened, unpacked or walked through."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from lac.errors import DataError

MOST_TEXT = 1 << 26  # bytes of a file that is read as text, which takes several times as many
MOST_PARTS = 1 << 24  # of nested lists and dicts together, each counted as often as it appears
MOST_PIXELS = 1 << 27  # of a picture; 16k video has as many
_DEEPEST = 64
_LONGEST = 4096  # bits of a number: of many more Python refuses to write the digits


def open_file(path: str | Path, most: int | None = None) -> IO[bytes]:
    """Open a file to read it; nothing else that has a name, such as a pipe, which might never end.

    Args:
        path: links are followed.
        most: its greatest size in bytes; `None`: any.

    Raises:
        DataError: it is a pipe, a socket or a device, or larger. The message names it.
        OSError: it cannot be opened.
    """
    about = Path(path).stat()
    if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):  # of a folder the system says so itself
        raise DataError(f"{path} is no file but a pipe or a device")
    if most is not None and about.st_size > most:
        raise DataError(f"{path} has {about.st_size} bytes; at most {most} are read of such a file")
    return open(path, "rb")


def read_text(path: str | Path, most: int = MOST_TEXT) -> str:
    """The text of a file in UTF-8, with or without its mark (BOM), lines ended as everywhere.

    Raises:
        DataError, OSError: see `open_file`.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_file(path, most) as file:
        return file.read().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def check_nested(value: Any) -> None:
    """Whether lists, tuples and dicts in each other are few and not deep, and tensors not larger than what they hold.

    A part that appears twice counts twice, as it would when it is written out: ten lists of ten times the list before,
    ten levels deep, take a few bytes in a file and would be ten thousand million numbers.

    Raises:
        DataError: they are not.
    """
    sizes: dict[int, int] = {}

    def size(part: Any, depth: int) -> int:
        if isinstance(part, Tensor):
            _check_tensor(part)
        if type(part) is int and part.bit_length() > _LONGEST:
            raise DataError(f"it holds a number of {part.bit_length()} bits")
        objects = isinstance(part, np.ndarray) and part.dtype.hasobject
        if not objects and not isinstance(part, Mapping | list | tuple | set | frozenset):
            return 1
        if depth > _DEEPEST:
            raise DataError(f"it is nested more than {_DEEPEST} levels deep")
        if id(part) not in sizes:
            inside = part.ravel().tolist() if objects else part
            inside = [*part.keys(), *part.values()] if isinstance(part, Mapping) else inside
            sizes[id(part)] = 1 + sum(size(one, depth + 1) for one in inside)
        if sizes[id(part)] > MOST_PARTS:
            raise DataError(f"written out it would have more than {MOST_PARTS} parts")
        return sizes[id(part)]

    size(value, 0)


def _check_tensor(tensor: Tensor) -> None:
    whole = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not whole or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise DataError(f"a tensor of shape {tuple(tensor.shape)} has more numbers than the file holds of it")


def check_archive(file: IO[bytes]) -> None:
    """Whether the parts of what may be a zip lie in it as they are, as `torch.save` puts them: none is to be unpacked.

    Raises:
        DataError: some are packed, or claim to be larger than the file.
    """
    start = file.tell()
    if zipfile.is_zipfile(file):
        end = file.seek(0, 2)
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
        packed = [part.filename for part in parts if part.compress_type != zipfile.ZIP_STORED]
        if packed or sum(part.file_size for part in parts) > end:
            raise DataError("its parts are packed, or larger than it is: torch does not write so")
    file.seek(start)
