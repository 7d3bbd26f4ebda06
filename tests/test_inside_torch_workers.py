"""The loss and the sampler in worker processes of a DataLoader, and in many threads at once."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from oracle import ENGINES
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from ways_of_calling import WAYS, embedded

from lac import LACLoss, smith_waterman
from lac.data import Clip
from lac.data.augment import Batch, collate, two_views
from lac.measure.errors import relative_error
from lac.runs.sampling import Sampler
from lac_kernels.cpu import launch

pytestmark = [
    pytest.mark.promise("torch"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    # Of torch's own rules for forward mode, which it compiles when they are first needed.
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
START = [
    pytest.param("fork", marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")),
    pytest.param("spawn", marks=pytest.mark.slow),  # each worker imports torch
]
AUGMENT = {"frames": 12, "region": 2.0, "max_distractors": 2}


def clips(count: int = 6) -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(f"walk{k}", rng.normal(size=(20 + k, 5)).astype(np.float32), np.arange(20 + k) / 10) for k in range(count)
    ]


class Steps(Dataset):  # type: ignore[type-arg]
    """Item k: the batches of step k."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return 4

    def __getitem__(self, step: int) -> tuple[Batch, Batch]:
        return self.sampler(step)


class Pairs(Dataset):  # type: ignore[type-arg]
    """Item k: two views of a clip, to be collated."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, k: int) -> Any:
        return two_views(clips()[k], np.random.default_rng(k), frames=12)


def both(pairs: list[Any]) -> tuple[Batch, Batch]:
    return collate([first for first, _ in pairs]), collate([second for _, second in pairs])


class Losses(IterableDataset):  # type: ignore[type-arg]
    """The loss of a few batches and its gradients by z1, each computed where it is asked for."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __iter__(self) -> Iterator[Tensor]:
        for seed in range(3):
            z1, z2 = embedded(4, 15, 17, 8, seed=seed)
            value = LACLoss(backend=self.backend)(z1, z2)
            yield torch.cat((value.detach().reshape(1), *torch.autograd.grad(value, z1)[0].flatten(1)))


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(launch, "CELLS_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def loss_of(first: Batch, second: Batch) -> Tensor:
    return LACLoss()(
        first.frames, second.frames, times1=first.times, times2=second.times,
        lengths1=first.lengths, lengths2=second.lengths,
    )  # fmt: skip


@pytest.mark.parametrize("start", START)
def test_batches_made_in_workers(start):
    """lac's Sampler in the workers of a DataLoader, forked or spawned: the batches and losses of one process."""
    steps = Steps(Sampler(clips(), 3, 7, AUGMENT))
    loader = DataLoader(steps, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=120)
    for made, expected in zip(loader, (steps[k] for k in range(4)), strict=True):
        for x, y in zip(made, expected, strict=True):
            for a, b in zip(x, y, strict=True):
                assert a is b is None or torch.equal(a, b)
        assert loss_of(*made) == loss_of(*expected)


@pytest.mark.parametrize("start", START)
def test_views_collated_in_workers(start):
    """Views of clips, collated by lac in the workers of a DataLoader, forked or spawned: their losses the same."""
    loader = DataLoader(
        Pairs(), batch_size=3, num_workers=2, collate_fn=both, multiprocessing_context=start, timeout=120
    )
    found = [loss_of(*made) for made in loader]
    assert found == [loss_of(*both([Pairs()[k] for k in part])) for part in ((0, 1, 2), (3, 4, 5))]


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("start", START)
def test_the_loss_in_a_worker(start, backend, two_threads, record_property):
    """The loss and its gradients in a worker, forked after the parent has used its threads, or spawned: the same."""
    losses = Losses(backend)
    expected = list(losses)
    # Two workers: each gives all three. DataLoader gives a worker one thread.
    loader = DataLoader(losses, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=120)
    found = list(loader)
    worst = max(relative_error(x, expected[k // 2], 1e-2) for k, x in enumerate(found))
    record_property("cases", len(found))
    record_property("worst", worst)
    record_property("limit", 1e-5)
    assert len(found) == 6
    assert worst <= 1e-5


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """All at once."""
    together = threading.Barrier(count)

    def run(k: int) -> Any:
        together.wait(60)
        return work(k)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", WAYS)
def test_eight_threads_at_once(name, backend, record_property):
    """Eight Python threads that call the loss and its gradients at once get the bits of one."""
    loss = WAYS[name].loss(8, backend=backend)

    def work(k: int) -> list[list[Tensor]]:
        results = []
        for seed in range(k, k + 2):
            z = embedded(4, 9, 10, 8, seed=seed)
            value = loss(*z, **WAYS[name].arguments(*z, seed))
            results.append([value, *torch.autograd.grad(value, z)])
        return results

    expected = [work(k) for k in range(8)]
    for found, exact in zip(in_threads(8, work), expected, strict=True):
        for result, wanted in zip(found, exact, strict=True):
            for x, y in zip(result, wanted, strict=True):
                assert torch.equal(x, y)
    record_property("cases", 16)


def test_threads_of_unlike_kinds_at_once():
    """Threads that differentiate forward, backward or not at all do not disturb each other."""
    scores = torch.randn(8, 3, 12, 13)
    plain = (
        lambda s: smith_waterman(s),
        lambda s: torch.autograd.grad(smith_waterman(s.requires_grad_()).sum(), s)[0],
        lambda s: torch.func.vmap(smith_waterman)(s[:, None])[:, 0],
    )
    # Of forward mode one thread: torch has one stack of its levels for all threads.
    kinds = [lambda s: torch.func.jvp(smith_waterman, (s,), (s,))[1], *(plain[k % 3] for k in range(7))]

    def work(k: int) -> list[Tensor]:
        return [kinds[k](scores[k].clone()) for _ in range(10)]

    expected = [work(k) for k in range(8)]
    for found, exact in zip(in_threads(8, work), expected, strict=True):
        for x, y in zip(found, exact, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-6)
