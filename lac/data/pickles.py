"""Pickles without running code from them: arrays, tensors, lists, dicts, text and numbers, nothing else."""

from __future__ import annotations

import codecs
import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from lac.errors import DataError


class ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays, torch tensors, lists, dicts, text and numbers.

    Anything else that the file asks for is refused before it is called: `pickle.UnpicklingError` names it.
    """

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_pickle(path: str | Path) -> Any:
    """What a pickle of arrays and tensors holds, see `ArraysOnly`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a pickle, is cut short, or asks for something else; the message names both.
    """
    with open(path, "rb") as file:
        try:
            return ArraysOnly(file).load()
        except Exception as error:  # a damaged pickle can raise anything
            raise DataError(
                f"{path} is not a pickle of plain arrays and tensors, and nothing else is read, because that would "
                f"run code from the file: {str(error) or type(error).__name__}"
            ) from error


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return codecs.encode(text, "latin1")


def _storage(content: bytes) -> Any:
    # torch's own function of this name unpickles the bytes without any restriction.
    import torch

    storage = torch.load(io.BytesIO(content), weights_only=True)
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError(f"{type(storage).__name__} in place of the numbers of a tensor")
    return storage


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    import torch

    numbers = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)  # its public name warns of the class
    return numbers.as_strided(size, stride, offset)  # refuses to leave the storage


_array = np.zeros(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
}
