"""Files and names from anybody: nothing in them is run as code, and nothing is believed before it is checked.

Every function raises a `ValueError` that names the file, whatever is wrong with its content, and an `OSError` where
it cannot be opened.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np

from lac.bounds import check_nested, open_file, read_text
from lac.errors import DataError, printable

MOST_UNPACKED = 1 << 30  # bytes that an .npz may unpack to, where it is not larger itself
_LONGEST_HEADER = 10_000  # bytes of an .npy; NumPy takes no longer ones either
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|:|$)", re.IGNORECASE)
_SEPARATORS = ",;\t"  # a file without names of columns is tried by the last one first: the comma may be of decimals


def file_name(name: object) -> str:
    """`name`, if it can be the name of a file, or of a clip, on any system and leads to no other folder.

    Raises:
        ValueError: it is not text, empty, `.` or `..`, begins with a dot or a drive (`C:`), is one of the devices that
            Windows has everywhere (`NUL`), or holds a separator (`/` or `\\`) or a control character.
    """
    if (
        not isinstance(name, str)
        or name.startswith(".")
        or not name == PureWindowsPath(name).name == PurePosixPath(name).name
        or _DEVICE.match(name)
        or not is_plain(name)
        or not name
    ):
        raise DataError(
            f"{name!r:.200} cannot be a name: no /, \\, drive or control character, no device, and no dot at its start"
        )
    return name


def is_plain(text: str) -> bool:
    """Whether text is a line without control characters, which a terminal would obey."""
    return printable(text) == text and "\n" not in text and "\t" not in text


def place_of(root: str | Path | None, variable: str, name: str, missing: str) -> Path:
    """Where a data set lies: at `root`, or where the environment variable says.

    Args:
        root: file or folder, or `None`.
        variable: of the environment, in the place of `root`.
        name: of the data set, for the message.
        missing: the message where neither is given.

    Raises:
        FileNotFoundError: no place was given, or nothing is there.
    """
    given = root if root is not None else os.environ.get(variable)
    if not given:
        raise FileNotFoundError(missing)
    if not Path(given).exists():
        raise FileNotFoundError(f"{name}: there is no file or folder {given}")
    return Path(given)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Whatever is wrong with the content of a file becomes a ValueError that names it."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        if not isinstance(error, TypeError) and str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def read_npy(path: Path) -> np.ndarray:
    """The array of an `.npy` of plain numbers or text, of any byte order, by rows or by columns.

    Raises:
        ValueError: it is damaged, cut short or longer than its header says, or it holds objects or named columns.
    """
    with open_file(path) as file:
        try:
            return _array(file, path.stat().st_size)
        except Exception as error:  # a damaged header can raise anything
            raise DataError(f"{path} is not a plain NumPy array: {str(error) or type(error).__name__}") from error


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of these names in an `.npz`, each as `read_npy` reads one.

    Raises:
        ValueError: it is damaged or lacks a name, or the arrays unpack to more than the size of the file and more than
            `MOST_UNPACKED`.
    """
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {name: archive.getinfo(f"{name}.npy") for name in names}
                total = sum(member.file_size for member in members.values())
                if total > max(MOST_UNPACKED, path.stat().st_size):
                    raise DataError(f"its arrays unpack to {total} bytes; at most {MOST_UNPACKED} are taken")
                found = {}
                for name, member in members.items():
                    with archive.open(member) as part:
                        found[name] = _array(part, member.file_size)
                return found
        except Exception as error:  # a damaged archive can raise anything
            reason = error.args[0] if isinstance(error, KeyError) else str(error) or type(error).__name__
            raise DataError(f"{path} is not an archive of the arrays {', '.join(names)}: {reason}") from error


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array in a file of `size` bytes, after a look at its header."""
    version = np.lib.format.read_magic(file)
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if length > _LONGEST_HEADER:  # which is made room for before it is read
        raise DataError(f"its header claims to be {length} bytes long")
    file.seek(len(np.lib.format.MAGIC_PREFIX) + 2)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # 3.0 is for named columns
        raise DataError(f"it has NumPy's format {'.'.join(map(str, version))}; save one array of numbers")
    if dtype.hasobject:
        raise DataError("it holds Python objects, which are not read, because that would run code from the file")
    if dtype.fields is not None or dtype.subdtype is not None:
        raise DataError(f"it has named columns, {', '.join(dtype.names or ())}; save one array of numbers")
    promised, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or promised != there:
        raise DataError(f"its header promises {promised} bytes, but {there} follow: it is cut short or damaged")
    if not dtype.itemsize:
        raise DataError("its header promises entries of no bytes; save one array of numbers")
    file.seek(0)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def read_json(path: Path) -> Any:
    """What a JSON file holds; in UTF-8, with or without its mark (BOM)."""
    try:
        found = json.loads(read_text(path))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    with naming(path):
        check_nested(found)
    return found


def read_table(
    path: Path, *headers: Sequence[str], bare: Sequence[str] = (), numeric: str = ""
) -> tuple[Sequence[str], list[tuple[int, Mapping[str, str]]]]:
    """The lines of a CSV file whose first line names its columns, in any order and among others.

    Cells are separated by comma, semicolon or tab, may stand in quotes, and are stripped of blanks; names of columns
    may be in capitals. Lines without any text are passed over.

    Args:
        path: the file, in UTF-8 with or without its mark (BOM).
        headers: the columns that are needed, or several such sets; the first that is there is taken.
        bare: the columns of a file that does not name them, in this order and without others; none: it must.
        numeric: one of them. The first line holds no names if it has a number there.

    Returns:
        The columns of `headers` that are there, and for each line its number, from 1, and the text in each of them.
    """
    try:
        lines = [(n, line) for n, line in enumerate(read_text(path).splitlines(), 1)]
        lines = [(n, line) for n, line in lines if line.strip(_SEPARATORS + ' "')]
        first = lines[0][1] if lines else ""
        for separator in _SEPARATORS:
            names = [name.lower() for name in _cells(first, separator)]
            for header in headers:
                if all(names.count(name) == 1 for name in header):
                    return header, list(_rows(path, lines[1:], separator, names, header))
        for separator in reversed(_SEPARATORS) if bare else ():
            cells = _cells(first, separator, len(bare))
            if len(cells) >= len(bare) and _is_number(cells[bare.index(numeric)]):
                return bare, list(_rows(path, lines, separator, bare, bare))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}") from error
    wanted = " or ".join(",".join(header) for header in headers)
    without = f", or with cells in the order {','.join(bare)}" if bare else ""
    raise DataError(
        f"{path} must start with the line {wanted}, got {first[:80]!r}; more columns, another order, and semicolons or "
        f"tabs instead of commas are read too{without}"
    )


def _cells(line: str, separator: str, least: int = 0) -> list[str]:
    """The cells of a line; with `least` those that are empty at its end are left out, down to so many."""
    (row,) = csv.reader([line], delimiter=separator) if line else ([],)
    cells = [cell.strip() for cell in row]
    while least and len(cells) > least and not cells[-1]:
        cells.pop()
    return cells


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


def _rows(
    path: Path, lines: Iterable[tuple[int, str]], separator: str, names: Sequence[str], header: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    for number, line in lines:
        cells = _cells(line, separator, len(names))
        if len(cells) != len(names):
            raise DataError(
                f"{path}, line {number}: expected {len(names)} cells, {separator.join(names)!r}, got {line[:80]!r}"
            )
        yield number, {name: cells[names.index(name)] for name in header}


def number(text: str) -> float:
    """A finite number; where no comma separates the cells it may stand for the decimal point.

    Raises:
        ValueError: it is none.
    """
    value = float(text.replace(",", ".")) if text.count(",") == 1 and "." not in text else float(text)
    if not math.isfinite(value):
        raise DataError(f"{text!r} is not finite")
    return value
