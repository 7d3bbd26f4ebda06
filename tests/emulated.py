"""Engines under test; the Triton kernels on a GPU, or without one as compiled code that ptxemu runs on the CPU."""

import contextlib
import gc
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from lac_kernels import engines

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # of the tensors that Triton tests make


def missing() -> str | None:
    """Why the emulated kernels cannot run here."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if importlib.util.find_spec("ptxemu") is None:
        return "the emulator ptxemu is not on PYTHONPATH"
    if shutil.which(os.environ.get("PTXEMU_CXX", "g++")) is None:
        return "ptxemu needs g++, which is not installed"
    return None


class Engine:
    """An engine on a device: tensors are moved there, and what it returns comes back to the CPU."""

    def __init__(self, name: str, module: ModuleType, device: torch.device) -> None:
        self.name, self.module, self.device = name, module, device

    def __getattr__(self, function: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> tuple[Tensor, ...]:
            results = getattr(self.module, function)(*(_moved(x, self.device) for x in arguments), **more)
            return tuple(x.cpu() for x in results)

        return call


@contextlib.contextmanager
def engine_on(name: str, target: str = "") -> Iterator[Engine]:
    """The engine of this name on the CPU; "triton" on a GPU for the target "gpu", else emulated for that target."""
    reason = missing() if name == "triton" and target != "gpu" else None
    if reason:
        pytest.skip(f"no GPU here, and {reason}: see docs/contributing.md")
    with emulate(target) if name == "triton" and target != "gpu" else contextlib.nullcontext():
        device = DEVICE if name == "triton" else torch.device("cpu")
        reason = engines.unavailable(name, device)
        if reason:
            pytest.skip(reason)
        yield Engine(name, engines.engine(name, device), device)


def _moved(x: Any, device: torch.device) -> Any:
    if isinstance(x, Tensor):
        return x.to(device)
    return type(x)(*(_moved(y, device) for y in x)) if isinstance(x, tuple) else x


@contextlib.contextmanager
def emulate(target: str = "cuda:90", **session: Any) -> Iterator[Any]:
    """Run Triton kernels on CPU tensors as compiled for `target`; any finding raises.

    Buffers start as NaN (integers: 85); reading scratch memory before it was written is a finding.
    """
    reason = missing()
    if reason:
        pytest.skip(reason)
    import ptxemu
    import triton

    from lac_kernels.triton import launch

    driver = triton.runtime.driver
    before = driver.__dict__.get("_active")
    ptxemu.install(target)
    uninitialised: list[Tensor] = []

    def allocate(
        like: Tensor, shape: Sequence[int], dtype: torch.dtype, *, zeros: bool = False, scratch: bool = False
    ) -> Tensor:
        poison = float("nan") if dtype.is_floating_point else 85
        buffer = like.new_full(shape, 0 if zeros else poison, dtype=dtype)
        if scratch:
            uninitialised.append(buffer)
        return buffer

    with pytest.MonkeyPatch.context() as patch, ptxemu.session(uninit=uninitialised, **session) as s:
        patch.setattr(launch, "allocate", allocate)
        try:
            yield s
        finally:
            # Compiled kernels belong to this driver and must go before it does.
            for kernel in vars(launch).values():
                if isinstance(kernel, triton.JITFunction):
                    kernel.device_caches.clear()
            gc.collect()
            driver._active = before
            engines.engine.cache_clear()  # for it has answered for the emulator
