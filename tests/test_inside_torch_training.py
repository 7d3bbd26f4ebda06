"""Accumulated gradients, activation checkpointing, second derivatives, and what a CUDA graph would refuse."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracle import ENGINES
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from ways_of_calling import WAYS, embedded

from lac import FrameEncoder, LACLoss, checks
from lac.measure.errors import relative_error

pytestmark = pytest.mark.promise("torch")
APART = {
    "the score": {},
    "one clock": {},
    "contrast with a clock": {"negatives": "reversed", "n_negatives": 1},
    "two recordings": {"n_negatives": 1},
    "contextual gaps": {"negatives": "reversed", "n_negatives": 1},
}  # the ways in which no pair of the batch looks at another


def network() -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(6, embed_dim=8, width=8, heads=2, layers=2)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", APART)
def test_accumulated_gradients_are_those_of_the_joint_batch(name, backend, record_property):
    """Gradient accumulation: parts of a batch add up to the whole where no pair is another's negative."""
    encoder, loss = network(), WAYS[name].loss(8, reduction="sum", backend=backend, **APART[name])
    frames = [z.detach() for z in embedded(6, 7, 9, 6)]
    given = WAYS[name].arguments(*frames)
    learned = [p for p in (*encoder.parameters(), *loss.parameters()) if p.requires_grad]

    def value(rows: slice) -> Tensor:
        part = {key: x[rows] if isinstance(x, Tensor) else x for key, x in given.items()}
        z = [encoder(x[rows], lengths=part[f"lengths{k}"]) for k, x in enumerate(frames, 1)]
        return loss(*z, **part)

    whole = torch.autograd.grad(value(slice(0, 6)), learned)
    for rows in (slice(0, 2), slice(2, 5), slice(5, 6)):
        value(rows).backward()
    worst = max(relative_error(p.grad, x, 1e-2) for p, x in zip(learned, whole, strict=True))
    record_property("worst", worst)
    record_property("limit", 1e-5)
    assert worst <= 1e-5


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", WAYS)
def test_activation_checkpointing_changes_no_bit(name, use_reentrant):
    """torch.utils.checkpoint around encoder and loss, of both kinds: the same value and gradients, bit for bit."""
    encoder, loss = network(), WAYS[name].loss(8)
    frames = embedded(6, 7, 9, 6)
    learned = [p for p in (*encoder.parameters(), *loss.parameters()) if p.requires_grad]
    plain: Callable[..., Any] = lambda f, *x, **more: f(*x, **more)  # noqa: E731
    found = []
    for kept in (plain, lambda f, *x: checkpoint(f, *x, use_reentrant=use_reentrant)):
        torch.manual_seed(0)
        for x in (*learned, *frames):
            x.grad = None
        z = [kept(encoder, x) for x in frames]
        given = WAYS[name].arguments(*z)
        value = kept(lambda z1, z2, given=given: loss(z1, z2, **given), *z)
        value.backward()
        found.append((value, *(x.grad for x in (*learned, *frames))))
    for x, y in zip(*found, strict=True):
        assert (x is None) == (y is None)
        assert x is None or torch.equal(x, y)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if way.groups else []) for name, way in WAYS.items()]
)
def test_second_derivatives(name):
    """Double backward through every way of calling the loss, in embeddings and all that is learned: gradgradcheck."""
    z = embedded(*((3, 2, 3, 2) if WAYS[name].groups else (2, 2, 3, 2)), dtype=torch.float64)
    loss = WAYS[name].loss(2).double()
    given = WAYS[name].arguments(*z)
    learned = {key: p for key, p in loss.named_parameters() if p.requires_grad}

    def value(z1: Tensor, z2: Tensor, *parameters: Tensor) -> Tensor:
        now = dict(zip(learned, parameters, strict=True))
        return torch.func.functional_call(loss, now, (z1, z2), given)

    inputs = (*z, *(p.detach().requires_grad_() for p in learned.values()))
    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)


READS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose"}  # wait for the device
SHAPED = {"nonzero", "masked_select", "unique", "_unique2", "unique_dim", "unique_consecutive", "bincount"}


class NoReading(TorchDispatchMode):
    """Refuses what stops a GPU: reading values, shapes that hang on them, copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op.__name__.partition(".")[0]
        self.seen += 1
        assert name not in READS | SHAPED, f"{op} reads the device"
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            assert not any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]), f"{op} by a mask"
        if name == "repeat_interleave":
            assert len(args) == 1 or not isinstance(args[1], Tensor) or "output_size" in (kwargs or {}), str(op)
        return op(*args, **(kwargs or {}))


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are not looked at, as on a GPU."""
    monkeypatch.setattr(checks, "readable", lambda *tensors: False)


def step(loss: LACLoss, z: list[Tensor], given: dict[str, Any]) -> tuple[Tensor, ...]:
    value = loss(*z, **given)
    learned = [p for p in loss.parameters() if p.requires_grad]
    return value, *torch.autograd.grad(value, [*z, *learned], allow_unused=True)


@pytest.mark.parametrize("name", WAYS)
def test_nothing_waits_for_the_device(name, unreadable):
    """The loss and its gradients read no value and make no shape from one: a GPU is never waited for."""
    z = embedded(6, 7, 9, 8)
    loss, given = WAYS[name].loss(8), WAYS[name].arguments(*z)
    torch.manual_seed(0)
    expected = step(loss, z, given)
    torch.manual_seed(0)
    with NoReading() as mode:
        found = step(loss, z, given)
    assert mode.seen > 100
    for x, y in zip(found, expected, strict=True):
        assert x is y is None or torch.equal(x, y)


@pytest.mark.parametrize("read", [lambda x: x.item(), lambda x: bool(x), lambda x: x[x > 0], lambda x: x.nonzero()])
def test_a_read_would_be_found(read):
    """What reads a value on the host is found by the test of that: a tensor made a number, a truth, a shape."""
    with pytest.raises(AssertionError), NoReading():
        read(torch.ones(1))


@pytest.mark.parametrize("name", WAYS)
def test_meta_tensors(name):
    """On the meta device, where there are no values: the loss and its gradients have their shapes."""
    z = embedded(6, 7, 9, 8)
    given = WAYS[name].arguments(*z)
    on = {key: x.to("meta") if isinstance(x, Tensor) else x for key, x in given.items()}
    result = step(WAYS[name].loss(8).to("meta"), [x.detach().to("meta").requires_grad_() for x in z], on)
    expected = step(WAYS[name].loss(8), z, given)
    for x, y in zip(result, expected, strict=True):
        assert x is y is None or (x.is_meta and x.shape == y.shape and x.dtype == y.dtype)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", WAYS)
def test_a_cuda_graph(name):
    """A CUDA graph of the loss and its gradients, captured once: new embeddings give what eager gives."""
    device = torch.device("cuda")
    z = [x.detach().to(device).requires_grad_() for x in embedded(4, 7, 9, 8)]
    loss = WAYS[name].loss(8).to(device)
    given = WAYS[name].arguments(*embedded(4, 7, 9, 8))
    given = {key: x.to(device) if isinstance(x, Tensor) else x for key, x in given.items()}
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step(loss, z, given)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(loss, z, given)
    for seed in range(1, 4):
        with torch.no_grad():
            for x, new in zip(z, embedded(4, 7, 9, 8, seed=seed), strict=True):
                x.copy_(new)
        graph.replay()
        for x, y in zip(found, step(loss, z, given), strict=True):
            assert x is y is None or torch.equal(x, y) or relative_error(x, y, 1e-2) <= 1e-6
