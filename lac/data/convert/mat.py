"""Texts and numbers of MATLAB's .mat files of version 5, the form of MATLAB 5 to 7.2.

Every length is checked before it is used: SciPy's reader, in C, takes damaged files at their word and ends the process.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from lac.bounds import open_file
from lac.errors import DataError

_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32", 4: "utf-16", 2: "latin-1", 1: "latin-1"}
_CHARACTERS = 4  # class of an array of text; those of numbers are 6 to 15
_MOST = 1 << 26  # bytes of a variable that is unpacked


def read_mat(path: Path) -> dict[str, str | np.ndarray]:
    """The variables of a file by name: texts, and numbers flattened by columns; others are passed over.

    Raises:
        ValueError: it is another kind of file, or damaged.
        OSError: it cannot be opened.
    """
    with open_file(path) as file:
        content = file.read()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or content[124:126] != struct.pack(order + "H", 0x0100):
        raise DataError(f"{path} is not a .mat file of version 5")
    found: dict[str, str | np.ndarray] = {}
    try:
        for kind, part in _elements(content[128:], order):
            if kind == _COMPRESSED:
                kind, part = next(_elements(zlib.decompressobj().decompress(part, _MOST), order), (0, b""))
            if kind == _MATRIX:
                found.update(_variable(part, order))
    except (ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    return found


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element: eight bytes of type and length before it, or four where it has four at most."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        start, end = at + 8, at + 8 + size
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            end = start + size
        if end > len(content) or (start == at + 4 and size > 4):
            raise DataError("an element is longer than what holds it")
        yield kind, content[start:end]
        at = end if kind == _COMPRESSED else start + size + (-(start + size) % 8)


def _variable(content: bytes, order: str) -> dict[str, str | np.ndarray]:
    parts = list(islice(_elements(content, order), 4))
    if len(parts) < 4 or len(parts[0][1]) < 4:
        return {}
    kind = struct.unpack_from(order + "I", parts[0][1])[0] & 0xFF
    name, (stored, data) = parts[2][1].decode("ascii"), parts[3]
    if kind == _CHARACTERS and stored in _TEXTS:
        ending = {"<": "-le", ">": "-be"}[order] if _TEXTS[stored] in ("utf-16", "utf-32") else ""
        return {name: data.decode(_TEXTS[stored] + ending)}
    if 6 <= kind <= 15 and stored in _TYPES:
        return {name: np.frombuffer(data, order + _TYPES[stored])}
    return {}
