"""Engines under test; the Triton kernels on a GPU, or without one as compiled code that `ptxemu` runs on the CPU."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import ptxemu
import pytest
import torch
from torch import Tensor

from lac_kernels import engines

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # of the tensors that Triton tests make


def missing() -> str | None:
    """Why the emulated kernels cannot run here."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return ptxemu.unavailable()


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
def emulate(target: str = "cuda:90", **options: Any) -> Iterator[Any]:
    """Run Triton kernels on CPU tensors as compiled for `target`; any finding raises.

    Buffers start as NaN (integers: 85); reading scratch memory before it was written is a finding.
    """
    reason = missing()
    if reason:
        pytest.skip(reason)
    from ptxemu.driver import session

    from lac_kernels.triton import launch

    uninitialised: list[Tensor] = []

    def allocate(
        like: Tensor, shape: Sequence[int], dtype: torch.dtype, *, zeros: bool = False, scratch: bool = False
    ) -> Tensor:
        poison = float("nan") if dtype.is_floating_point else 85
        buffer = like.new_full(shape, 0 if zeros else poison, dtype=dtype)
        if scratch:
            uninitialised.append(buffer)
        return buffer

    with pytest.MonkeyPatch.context() as patch, session(target, uninitialised=uninitialised, **options) as opened:
        patch.setattr(launch, "allocate", allocate)
        forget_compiled()
        try:
            yield opened
        finally:
            engines.engine.cache_clear()  # for it has answered for the emulator
            forget_compiled()


def limited(engine: Any, **limits: Any) -> SimpleNamespace:
    """The Triton engine with other limits of its plans."""
    from lac_kernels.triton.plan import Limits

    functions = ("forward", "gradient", "second", "hard")
    return SimpleNamespace(**{name: partial(getattr(engine, name), limits=Limits(**limits)) for name in functions})


def forget_compiled() -> None:
    """What is kept between launches is for one driver."""
    from lac_kernels.triton import launch, plan

    launch._compiled.clear()
    launch._prepared.clear()
    for answer in (plan.device_lanes, plan.is_cuda, plan.processors_of):
        answer.cache_clear()
