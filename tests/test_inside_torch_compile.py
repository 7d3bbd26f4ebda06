"""torch.compile and torch.export: a whole step of training, the encoder, every way of calling the loss."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from ways_of_calling import WAYS, embedded

from lac import FrameEncoder
from lac.measure.errors import relative_error

pytestmark = [
    pytest.mark.promise("torch"),
    # Of torch's own code, which it compiles.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore::FutureWarning:torch"),
]
FEATURES = 6


def training_step(name: str, dtype: torch.dtype = torch.float32) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """Frames to the loss by an encoder, and all that is learned."""
    torch.manual_seed(0)
    encoder, loss = FrameEncoder(FEATURES, embed_dim=8, width=8, heads=2, layers=1), WAYS[name].loss(8)
    encoder, loss = encoder.to(dtype), loss.to(dtype)

    def step(frames1: Tensor, frames2: Tensor, given: dict[str, Any]) -> Tensor:
        z1 = encoder(frames1, times=given.get("times1"), lengths=given["lengths1"])
        z2 = encoder(frames2, times=given.get("times2"), lengths=given["lengths2"])
        return loss(z1, z2, **given)

    return step, [p for p in (*encoder.parameters(), *loss.parameters()) if p.requires_grad]


def inputs(name: str, shape: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
    frames1, frames2 = (frames.detach() for frames in embedded(*shape, FEATURES, seed=seed))
    given = WAYS[name].arguments(frames1, frames2, seed)
    for k in (1, 2):
        if f"teacher{k}" in given:
            given[f"teacher{k}"] = (frames1, frames2)[k - 1].repeat(1, 1, 2)[:, :, :8]
    return frames1, frames2, given


def result(
    step: Callable[..., Tensor], learned: list[Tensor], given: tuple[Any, ...], seed: int
) -> list[Tensor | None]:
    """The value of a step, and its gradients."""
    torch.manual_seed(seed)  # thirds of the consensus are drawn
    value = step(*given)
    return [value, *torch.autograd.grad(value, learned, allow_unused=True)]


def error(found: list[Tensor | None], exact: list[Tensor | None]) -> float:
    """The largest, as a share of the largest number of the value or gradient."""
    assert [x is None for x in found] == [x is None for x in exact]
    return max(relative_error(x, y, 1e-2) for x, y in zip(found, exact, strict=True) if x is not None and y is not None)


def in_float64(given: Any) -> Any:
    if isinstance(given, Tensor):
        return given.double() if given.is_floating_point() else given
    if isinstance(given, dict):
        return {name: in_float64(value) for name, value in given.items()}
    return given


def needs_compiler() -> None:
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        pytest.skip("torch's inductor needs a C++ compiler on the CPU, and there is none here")


def tried(name: str, dynamic: bool, count: int, record: Callable[[str, object], None]) -> None:
    torch._dynamo.reset()
    step, learned = training_step(name)
    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic)
    g = torch.Generator().manual_seed(1)
    shapes = [(5, 7, 9)] * count
    if dynamic:
        shapes = [tuple(int(torch.randint(2, 12, (), generator=g)) for _ in range(3)) for _ in range(count)]
    in_double, learned_in_double = training_step(name, torch.float64)
    worst = limit = 0.0
    for seed, shape in enumerate(shapes):
        given = inputs(name, shape, seed)
        exact = result(in_double, learned_in_double, tuple(map(in_float64, given)), seed)
        worst = max(worst, error(result(compiled, learned, given, seed), exact))
        limit = max(limit, error(result(step, learned, given, seed), exact))
    limit = 3 * limit + 1e-5  # float32 in another order: against float64 no worse than eager, in all
    record("cases", count)
    record("worst", worst)
    record("limit", limit)
    assert worst <= limit


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_a_compiled_step_of_training_is_the_eager_one(name, record_property):
    """torch.compile of a training step, encoder and loss: value and gradients of eager, no graph break."""
    needs_compiler()
    tried(name, False, 100, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WAYS if "groups" not in name])
def test_a_step_compiled_for_any_shape_is_the_eager_one(name, record_property):
    """torch.compile(dynamic=True) of a step without a consensus: value and gradients of eager at every shape."""
    needs_compiler()
    tried(name, True, 100, record_property)


@pytest.mark.parametrize("with_times", [False, True])
def test_an_exported_encoder_is_the_encoder(with_times, record_property):
    """torch.export of the encoder, for any batch and number of frames: the embeddings of eager."""
    torch.manual_seed(0)
    encoder = FrameEncoder(FEATURES, embed_dim=8, width=8, heads=2, layers=1).eval()

    def example(b: int, t: int) -> tuple[Tensor, dict[str, Tensor]]:
        frames = torch.randn(b, t, FEATURES)
        more = {"times": torch.rand(b, t).cumsum(1), "lengths": torch.randint(0, t + 1, (b,))}
        return frames, more if with_times else {}

    frames, more = example(3, 7)
    batch, time = torch.export.Dim("batch", max=1000), torch.export.Dim("time", max=4096)
    dims: dict[str, Any] = {"frames": {0: batch, 1: time}}
    if with_times:
        dims |= {"times": {0: batch, 1: time}, "lengths": {0: batch}}
    program = torch.export.export(encoder, (frames,), more, dynamic_shapes=dims)
    worst = 0.0
    for b, t in ((3, 7), (2, 5), (8, 40), (1, 9), (4, 1)):
        frames, more = example(b, t)
        expected = encoder(frames, **more)
        worst = max(worst, relative_error(program.module()(frames, **more), expected, 1e-2))
    record_property("cases", 5)
    record_property("worst", worst)
    record_property("limit", 1e-6)
    assert worst <= 1e-6
