"""Training for long, and losses of ever different shapes: nothing piles up."""

import gc
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import settings
from tiny_run import write_clips

import lac.data
from lac import LACLoss
from lac.runs import fit
from lac.runs.sampling import Sampler
from lac.runs.state import start

PROC = Path("/proc/self")
needs_linux = pytest.mark.skipif(not (PROC / "statm").exists(), reason="only Linux tells the memory of a process")


def megabytes() -> float:
    """Of this process, now."""
    gc.collect()
    with (PROC / "statm").open() as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def held() -> tuple[int, int, int]:
    """Open files, threads, Python objects, after `megabytes`."""
    return len(list((PROC / "fd").iterdir())), threading.active_count(), len(gc.get_objects())


@needs_linux
@pytest.mark.promise("large")
@pytest.mark.parametrize("steps", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_training_for_long_keeps_its_memory(steps, tmp_path, record_property):
    """Training for 10,000 steps needs no more memory, files or threads than for 1,000."""
    dataset = lac.data.load("folder", write_clips(tmp_path))
    config = settings(train_steps=steps, train_log_every=steps // 10, train_save_every=steps, train_batch=2)
    state = start(config, dataset, torch.device("cpu"))
    seen: list[tuple[float, tuple[int, int, int]]] = []
    losses: list[float] = []

    def note(progress: fit.Progress) -> None:
        seen.append((megabytes(), held()))
        losses.append(progress.terms["total"])

    fit.fit(state, Sampler.of(config, dataset.train), config.train, on_progress=note)
    assert state.step == steps
    assert len(seen) == 10
    assert all(map(math.isfinite, losses))
    (before, (files, threads, objects)), (after, (last_files, last_threads, last_objects)) = seen[0], seen[-1]
    assert last_files <= files
    assert last_threads <= threads
    assert last_objects - objects < 2_000  # the history has ten entries of some numbers; a step's graph has hundreds
    assert after - before < 8, seen
    record_property("note", f"{steps} steps: {after - before:+.1f} MB after the first tenth, of {before:.0f}")


@needs_linux
@pytest.mark.promise("large")
@pytest.mark.parametrize("calls", [30, pytest.param(3_000, marks=pytest.mark.slow)])
def test_losses_of_ever_different_shapes_keep_no_memory(calls, record_property):
    """Losses of thousands of shapes leave nothing behind: no cache grows with what was computed."""
    rng = np.random.default_rng(0)
    loss = LACLoss()

    def call() -> None:
        b, n, m, e = (int(rng.integers(1, most)) for most in (5, 90, 90, 20))
        z1, z2 = (torch.randn(b, t, e, requires_grad=True) for t in (n, m))
        times = [torch.arange(t).expand(b, t) / 25 for t in (n, m)]
        loss(z1, z2, times1=times[0], times2=times[1]).backward()
        loss(z1, z2).backward()
        loss.align(z1.detach(), z2.detach())

    for _ in range(calls // 3):
        call()
    before, (files, threads, objects) = megabytes(), held()
    for _ in range(calls):
        call()
    after, (last_files, last_threads, last_objects) = megabytes(), held()
    assert (last_files, last_threads) == (files, threads)
    assert last_objects - objects < 200
    assert after - before < 8
    record_property("cases", calls)
    record_property("note", f"{calls} shapes: {after - before:+.1f} MB")


@pytest.mark.promise("large")
def test_what_is_prepared_for_shapes_on_a_gpu_is_bounded(monkeypatch):
    """What is prepared for the launches of each shape on a GPU is let go when there are thousands."""
    launch = pytest.importorskip("lac_kernels.triton.launch")
    from lac_kernels.problem import Problem

    monkeypatch.setattr(launch, "_prepared", {})
    monkeypatch.setattr(launch, "MOST_PREPARED", 50)
    gap = torch.ones(1, 1, 1)
    for n in range(1, 200):
        launch.prepared(("forward",), Problem(torch.zeros(1, n, 7), gap, gap, torch.tensor(1.0), None, None))
        assert len(launch._prepared) <= 50
