"""What Python and the library say to each other: `batch.h` has the same fields, constants and formula.

`layout` says them in one line and the library says its own; they are compared once, when it is loaded.
"""

import ctypes
from ctypes import c_int64, c_void_p

import torch

TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}

_ROWS = 64  # of a block
_COLUMNS = 192  # steps of a window
_LANES = 16  # the most of any processor
_HEADER = 40  # bytes


class TensorFields(ctypes.Structure):
    """A tensor (1 | batch, 1 | N, 1 | M): strides in elements, 0 where it is broadcast. Without data: there is none."""

    _fields_ = (("data", c_void_p), ("batch", c_int64), ("row", c_int64), ("column", c_int64), ("type", c_int64))


class Batch(ctypes.Structure):
    """A batch of pairs. What is not set is 0: not there. `d_` are gradients, `v_` is the direction of second order."""

    _fields_ = (
        ("pairs", c_int64),
        ("n", c_int64),
        ("m", c_int64),
        ("threads", c_int64),
        ("gaps", c_int64),  # whether their gradients are wanted
        ("scores", TensorFields),
        ("gap_open", TensorFields),
        ("gap_extend", TensorFields),
        ("temperature", c_void_p),
        ("lengths1", c_void_p),
        ("lengths2", c_void_p),
        ("score", c_void_p),
        ("saved", c_void_p),
        ("saved_bytes", c_int64),  # of each pair
        ("grad", c_void_p),
        ("grad_stride", c_int64),
        ("d_scores", TensorFields),
        ("d_gap_open", TensorFields),
        ("d_gap_extend", TensorFields),
        ("v_scores", TensorFields),
        ("v_gap_open", TensorFields),
        ("v_gap_extend", TensorFields),
        ("path", c_void_p),
        ("count", c_void_p),
    )


def saved_bytes(n: int, m: int, number: int) -> int:
    """What the forward keeps of a pair, of numbers of so many bytes: `Room` in `batch.h`."""
    edges = (n + _ROWS - 1) // _ROWS - 1
    windows = (m + _ROWS + _LANES) // _COLUMNS
    lanes = (n + _LANES - 1) // _LANES * _LANES
    return _HEADER + number * (edges * m * 2 + windows * lanes * 4)


def layout() -> str:
    """Every field's offset in bytes and every constant, as `lac_layout` of the library says its own."""
    values = {f"tensor.{name}": getattr(TensorFields, name).offset for name, _ in TensorFields._fields_}
    values |= {name: getattr(Batch, name).offset for name, _ in Batch._fields_}
    values["bytes"] = ctypes.sizeof(Batch)
    values |= {str(dtype).removeprefix("torch."): number for dtype, number in TYPES.items()}
    values |= {"rows": _ROWS, "columns": _COLUMNS, "lanes": _LANES, "header": _HEADER}
    return " ".join(f"{name}:{value}" for name, value in values.items())
