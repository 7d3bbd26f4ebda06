"""Random alignment problems, and the Triton kernels: on a GPU, or without one as compiled code run by ptxemu."""

import contextlib
import gc
import importlib.util
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.fuzz import Problem
from lac_kernels import eager

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


@contextlib.contextmanager
def triton_engine_on(target: str) -> Iterator[Any]:
    """The Triton engine for tensors on `DEVICE`: `target` "gpu", else emulated for that target."""
    reason = missing()
    if target != "gpu" and reason:
        pytest.skip(f"no GPU here, and {reason}: see docs/contributing.md")
    with contextlib.nullcontext() if target == "gpu" else emulate(target):
        from lac_kernels import triton as triton_engine

        yield triton_engine


def on_device(call: Callable[..., Any], *arguments: Any) -> Any:
    """`call` on the arguments moved to `DEVICE`; tensors that it returns come back to the CPU."""
    results = call(*(_moved(x, DEVICE) for x in arguments))
    return results.cpu() if isinstance(results, Tensor) else tuple(x.cpu() for x in results)


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


def random_problem(
    seed: int, b: int, most_n: int, most_m: int, gaps: str, dtype: torch.dtype = torch.float32
) -> Problem:
    """Signed scores up to |S| / T = 1e4, temperatures 0.001 to 1, gaps 0 to 20, ragged lengths (0 too)."""
    pick, g = random.Random(seed), torch.Generator().manual_seed(seed)
    n, m = pick.randint(1, most_n), pick.randint(1, most_m)
    temperature = 10 ** pick.uniform(-3, 0)
    scores = torch.randn(b, n, m, generator=g)
    kind = pick.randrange(3)
    if kind == 0:
        scores = scores - 0.5 + 1.5 * torch.eye(n, m)
    elif kind == 1:
        scores = torch.where(torch.rand(b, n, m, generator=g) < 0.2, scores.abs(), -scores.abs())
    scores = scores / scores.abs().max() * (temperature * 10 ** pick.uniform(-1, 4))
    shapes = {"scalar": (1, 1, 1), "pair": (b, 1, 1), "cell": (b, n, m)}
    o, e = (torch.full((1, 1, 1), pick.choice([0.0, pick.uniform(0, 20), 10 ** pick.uniform(-3, 1)])) for _ in range(2))
    if gaps != "scalar":
        o, e = (x * torch.rand(shapes[gaps], generator=g) for x in (o, e))
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    return Problem(
        scores.clamp(-6e4, 6e4).to(dtype),
        o.to(compute),
        e.to(compute),
        torch.tensor(temperature, dtype=compute),
        torch.randint(0, n + 1, (b,), generator=g).int(),
        torch.randint(0, m + 1, (b,), generator=g).int(),
    )


def errors(engine: Any, p: Problem, grad: Tensor) -> dict[str, float]:
    """Errors against eager in float64: scores relative to max(|score|, T), gradients to the largest.

    A gap's gradient is an expected number of gaps; below 1e-6 of a gap it is judged absolutely.
    """
    score, saved = on_device(engine.forward, p, True)
    found = on_device(engine.gradient, grad, p, saved, score.dtype, True)
    p, grad = Problem(*(x.cpu() for x in p)), grad.cpu()
    exact = p.double()
    exact_score, states = eager.forward(exact, True)
    expected = eager.gradient(grad.double(), exact, states, torch.float64, True)
    scale = torch.maximum(exact_score.abs(), exact.temperature)
    result = {"score": ((score - exact_score).abs() / scale).max().item()}
    for name, x, y in zip(("scores", "open", "extend"), found, expected, strict=True):
        assert x.shape == y.shape
        floor = grad.abs().max().item() * (1 if name == "scores" else 1e-6)
        result[name] = ((x - y).abs().max() / y.abs().max().clamp(min=floor)).item()
    return result
