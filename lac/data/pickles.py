"""Pickles without running code from them: arrays, tensors, lists, dicts, text and numbers, nothing else.

What a pickle calls to make an array is not NumPy's own here: that believes every shape and every type that it is told,
and an array of numbers that says that it holds objects makes Python follow numbers as addresses.
"""

from __future__ import annotations

import codecs
import collections
import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lac.bounds import check_nested, open_file
from lac.errors import DataError

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_TYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{0,6}|O8?)")


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]  # none of them can be changed by what a pickle says of it
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def unpickled(content: bytes) -> Any:
    """NumPy arrays, torch tensors, lists, dicts, text and numbers from a pickle.

    Raises:
        UnpicklingError: it asks for anything else, which is refused before it is called; the message names it.
        Exception: it is damaged; any kind.
    """
    for number, (operation, argument, _) in enumerate(pickletools.genops(content)):
        # Python makes room for all numbers up to it.
        if operation.name in _PUTS and isinstance(argument, int) and argument > number:
            raise pickle.UnpicklingError("it numbers its parts as no pickler does")
    found = _ArraysOnly(io.BytesIO(content)).load()
    check_nested(found)
    return found


def read_pickle(path: str | Path) -> Any:
    """What a pickle of arrays and tensors holds, see `unpickled`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a pickle, is cut short, or asks for something else; the message names both.
    """
    with open_file(path) as file:
        try:
            return unpickled(file.read())
        except Exception as error:  # a damaged pickle can raise anything
            raise DataError(
                f"{path} is not a pickle of plain arrays and tensors, and nothing else is read, because that would "
                f"run code from the file: {str(error) or type(error).__name__}"
            ) from error


class _Type:
    """In the place of a `numpy.dtype`."""

    def __init__(self, text: object, *_: object) -> None:
        if not isinstance(text, str) or not _TYPE.fullmatch(text):
            raise pickle.UnpicklingError(f"an array of the type {text!r:.80}")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple[object, ...]) -> None:
        # Version, byte order, and then what the name has said already, and what would make of numbers addresses.
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(str(state[1]))  # type: ignore[arg-type]


class _Array(np.ndarray):
    """An array that takes no more than its bytes, or its list of objects, fill."""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        dtype, count = kind.dtype, _count(shape)
        if not isinstance(content, list if dtype.hasobject else bytes) or not dtype.itemsize:
            raise pickle.UnpicklingError(f"an array of {type(content).__name__}")
        if len(content) != count * (1 if dtype.hasobject else dtype.itemsize):
            raise pickle.UnpicklingError(f"an array of the shape {shape!r:.80} that holds another number of entries")
        super().__setstate__((1, shape, dtype, bool(by_columns), content))  # type: ignore[arg-type]


def _count(shape: Any) -> int:
    """The entries of an array of a shape."""
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise pickle.UnpicklingError(f"an array of the shape {shape!r:.80}")
    return math.prod(shape)


def _array(kind: object, shape: object, *_: object) -> np.ndarray:
    """In the place of `numpy._reconstruct`: nothing yet, `_Array.__setstate__` fills it."""
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError("an array that no array was pickled as")
    return np.zeros(0, np.uint8).view(_Array)


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r:.80}")
    return codecs.encode(text, "latin1")


def _storage(content: bytes) -> Any:
    # torch's own function of this name unpickles the bytes without any restriction.
    import torch

    storage = torch.load(io.BytesIO(content), weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage) or storage._untyped_storage.nbytes() > len(content):
        raise pickle.UnpicklingError(f"{type(storage).__name__} in place of the numbers of a tensor")
    return storage


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    import torch

    numbers = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)  # its public name warns of the class
    if _count(size) > len(numbers):
        raise pickle.UnpicklingError(f"a tensor of the shape {size!r:.80} with {len(numbers)} numbers")
    return numbers.as_strided(size, stride, offset)  # refuses to leave the storage


class _Maker(NamedTuple):
    """A function, as something without attributes."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


_NDARRAY = "in the place of numpy.ndarray, which makes an array of any size"
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Maker(_array),  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _Maker(_array),
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Maker(_Type),
    ("_codecs", "encode"): _Maker(_latin1),
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_tensor),
    ("torch.storage", "_load_from_bytes"): _Maker(_storage),
}
