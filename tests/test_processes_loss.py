"""LACLoss(gather=True) in many processes: what it gives is what one process gives of the whole batch."""

from pathlib import Path
from typing import Any

import loss_in_processes as tried
import pytest
import torch
import torch.distributed as dist
from many_processes import run
from torch import Tensor

from lac import LACLoss
from lac.joint import shares

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")

LIMITS = {torch.float32: 2e-5, torch.float64: 1e-10}


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def processes(request, tmp_path_factory) -> list[dict[str, Any]]:
    """What each process made of every case."""
    out = tmp_path_factory.mktemp("processes")
    run(Path(tried.__file__), request.param, str(out), seconds=300)
    return [torch.load(out / f"{rank}.pt") for rank in range(request.param)]


def joined(parts: list[dict[str, Tensor]], name: str, like: Tensor, weight: float) -> Tensor:
    """What the processes have of a result of one process."""
    if name not in ("z1", "z2"):
        values = [part[name] for part in parts]
        if name == "value" and like.dim():
            return torch.cat(values)
        return torch.stack(values).sum(0) * (1 / len(parts) if name == "value" else weight)
    whole, start = torch.zeros_like(like), 0
    for part in parts:
        own = part[name]
        whole[start : start + len(own), : own.shape[1]] = own * weight
        start += len(own)
    return whole


def worst(parts: list[dict[str, Tensor]], expected: dict[str, Tensor], reduction: str) -> float:
    """The largest error of a value or gradient, as a share of the largest number of it."""
    weight = 1.0 if reduction == "none" else 1 / len(parts)
    assert all(part.keys() == expected.keys() for part in parts)
    errors = [0.0]
    for name, like in expected.items():
        error = (joined(parts, name, like, weight) - like).abs().max()
        errors.append((error / like.abs().max().clamp(min=1e-9)).item())
    return max(errors)


@pytest.mark.promise("processes")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_many_processes_give_what_one_does(processes, dtype, record_property):
    """With gather=True the mean over processes of values and gradients is that of the whole batch."""
    cases = {name: case for name, case in tried.cases().items() if case.dtype == dtype}
    errors = {}
    for name, case in cases.items():
        for reduction in tried.REDUCTIONS:
            expected = tried.result(case, reduction, tried.joint_batch(case), 0)
            assert any((expected[z] != 0).any() for z in ("z1", "z2"))
            key = f"{name}, {reduction}"
            errors[key] = worst([part[key] for part in processes], expected, reduction)
    record_property("cases", len(errors))
    record_property("worst", max(errors.values()))
    record_property("limit", LIMITS[dtype])
    assert {key: error for key, error in errors.items() if not error <= LIMITS[dtype]} == {}


@pytest.mark.promise("processes")
def test_weights_after_training_are_those_of_one_process(processes, record_property):
    """Encoder and loss under DistributedDataParallel: after 3 steps the weights are those of one process."""
    errors = [
        (part[f"weights, {name}"][key] - weight).abs().max().item()
        for name, case in tried.TRAINED.items()
        for key, weight in tried.trained(case, tried.joint_batch(case)).items()
        for part in processes
    ]
    record_property("cases", len(errors))
    record_property("worst", max(errors))
    record_property("limit", 1e-8)
    assert max(errors) <= 1e-8


def test_a_wrong_scale_and_a_loss_that_gathers_nothing_are_found(processes):
    for name, case in tried.WRONG.items():
        expected = tried.result(case, "mean", tried.joint_batch(case), 0)
        assert worst([part[name] for part in processes], expected, "mean") > 0.05


@pytest.mark.promise("processes")
def test_second_derivatives(processes, record_property):
    """Derivatives of the gradient go through all processes, too."""
    expected = tried.second_derivative(tried.joint_batch(tried.Case()))
    parts = [{"z2": part["second derivative"]} for part in processes]
    factor = len(processes) ** 2  # of squares of gradients, each by the number of processes
    error = (joined(parts, "z2", expected, 1 / factor) - expected).abs().max() / expected.abs().max()
    record_property("worst", error.item())
    record_property("limit", 1e-10)
    assert error <= 1e-10


@pytest.mark.promise("processes")
def test_what_differs_between_processes_is_told_by_all(processes):
    """Arguments of different kinds in two processes are an error in all of them, and nothing hangs."""
    for rank, part in enumerate(processes):
        said = part["said"]
        told = "ValueError: LACLoss(gather=True) is called alike in all processes, but"
        sizes = "z2 is torch.float64 of 6 dimensions in process 0 and torch.float64 of 12 dimensions in process 1"
        assert said["sizes"] == f"{told} {sizes}"
        assert said["types"].startswith(f"{told} z2 is torch.float32 of 6 dimensions in process 0 and torch.float64")
        assert said["gradients"].startswith(f"{told} a gradient is")
        assert said["guides"].startswith(f"{told} guide1 is none in process 0"), rank
        assert said["vmap"].startswith("RuntimeError")


@pytest.mark.promise("processes")
def test_compiled_and_in_a_second_process_group(processes):
    """A compiled step leaves the gather to PyTorch, and a process group may be made anew."""
    for part in processes:
        assert part["compiled"] == part["traced"] == part["met again"]


@pytest.mark.promise("processes")
def test_one_process_needs_no_others(record_property):
    """Without a process group gather=True changes nothing, also under torch.compile."""
    for case in tried.cases().values():
        batch = tried.joint_batch(case)
        expected = tried.result(tried.Case(case.settings, case.given, tried.Alone, case.dtype), "mean", batch, 0)
        for name, x in tried.result(case, "mean", batch, 0).items():
            assert torch.equal(x, expected[name])
    record_property("cases", len(tried.cases()))
    z1, z2 = torch.randn(2, 3, 5, 4)
    loss = LACLoss(gather=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z1, z2), loss(z1, z2))


def test_the_next_others_of_the_batch_are_the_negatives():
    z1, z2 = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    for others in (1, 3):
        few = LACLoss(negatives="batch", n_others=others).terms(z1, z2).sequence
        for k in range(5):
            chosen = [(k + i) % 5 for i in range(others + 1)]
            alone = LACLoss(negatives="batch").terms(z1[chosen], z2[chosen]).sequence[0]
            torch.testing.assert_close(few[k], alone)
    every = LACLoss(negatives="batch").terms(z1, z2).sequence
    torch.testing.assert_close(LACLoss(negatives="batch", n_others=99).terms(z1, z2).sequence, every)
    with pytest.raises(ValueError, match="n_others must be at least 1, got 0"):
        LACLoss(n_others=0)
    with pytest.raises(TypeError, match="gather must be True or False"):
        LACLoss(gather=1)


def test_a_process_aligns_the_groups_it_has_a_recording_of():
    groups = [5, 5, 8, 6, 5, 6]
    one, two = shares(groups, 3, 2, 2)
    assert one == ([3, 5, 9, 11], [0, 2], [0, 2])  # of group 6: pairs 3 and 5, sequences 1 and then 2
    assert two == ([0, 1, 4, 6, 7, 10], [2, 5], [1, 3])
