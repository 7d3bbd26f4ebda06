"""The engines, and which of them runs.

An engine is a module with these functions; `Problem` and `Direction` are those of `problem.py`:

    unavailable(device) -> str | None       why it cannot run there, with the remedy
    saved_like(problem) -> Tensor           an empty tensor like what `forward` saves
    forward(problem, save) -> score, saved
    gradient(grad, problem, saved, dtype, gaps) -> d_scores, d_open, d_extend
    second(grad, problem, direction) -> h_scores, h_open, h_extend, h_grad      (eager's serves who has none)
    hard(problem) -> score, path, count
"""

import importlib
import warnings
from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch


class _Engine(NamedTuple):
    module: str
    devices: tuple[str, ...] = ()  # the types of device for which "auto" prefers it; eager serves the others


_ENGINES = {
    "eager": _Engine("lac_kernels.eager"),
    "cpu": _Engine("lac_kernels.cpu", ("cpu",)),
    "triton": _Engine("lac_kernels.triton", ("cuda",)),
}
BACKENDS = ("auto", "reference", *_ENGINES)


def unavailable(backend: str, device: torch.device) -> str | None:
    """Why this backend cannot run on this device, with the remedy; None if it can."""
    if backend in ("auto", "reference"):
        return None
    try:
        reason: str | None = importlib.import_module(_ENGINES[backend].module).unavailable(device)
    except ImportError as error:
        return f"{error}; install it, or use backend='eager'"
    return reason


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


@cache
def engine(backend: str, device: torch.device) -> ModuleType:
    """The module that serves a backend on a device; "auto" falls back to eager, with a warning.

    Raises:
        RuntimeError: the backend was named and cannot run there.
    """
    name = backend
    if backend == "auto":
        name = next((name for name, engine in _ENGINES.items() if device.type in engine.devices), "eager")
    reason = unavailable(name, device)
    if reason is not None:
        if backend != "auto":
            raise RuntimeError(f"backend={backend!r} cannot run on device {str(device)!r}: {reason}")
        _warn_once(f"lac: the {name} engine cannot run on {device.type} ({reason}); using the slower eager engine")
        name = "eager"
    return importlib.import_module(_ENGINES[name].module)
