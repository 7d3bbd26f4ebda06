"""At the limits of each engine's numbers: the value, or NaN, never a plausible number."""

import math

import oracle
import pytest
import torch
from extremes import (
    check_bridges_between_good_stretches,
    check_scores_of_every_size,
    check_that_a_mask_forbids,
    right_or_nan,
    solve,
)
from oracle import ENGINES
from torch import Tensor

from lac import smith_waterman, soft_alignment

DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_paths_over_small_temperatures(dtype, backend):
    """2,048,000 T^-1 = 2e9: exponents of 32 bits wrap around there, and gave 1,488,000 and a gradient of -inf."""
    scores = (4000 * torch.eye(1024, dtype=dtype) - 2000)[None]
    for temperature in (1.0, 0.1, 0.01, 1e-3, 1e-5):
        value, d = solve(scores, backend, temperature=temperature)
        assert right_or_nan(value, 2_048_000, 1e-5), (temperature, value)
        assert math.isnan(value) == bool(d.isnan().any())
        if not math.isnan(value):
            torch.testing.assert_close(d[0], torch.eye(1024, dtype=dtype), rtol=0, atol=1e-5)
    assert not math.isnan(solve(scores, backend, temperature=0.02)[0])


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_bridges_between_good_stretches(backend, dtype):
    check_bridges_between_good_stretches(backend, dtype)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_of_every_size(backend, dtype):
    check_scores_of_every_size(backend, dtype)


@pytest.mark.parametrize("backend", ["reference", *ENGINES])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", [-1e30, torch.finfo(torch.float32).min, -torch.inf])
def test_a_mask_forbids_as_minus_infinity_does(mask, dtype, backend):
    check_that_a_mask_forbids(mask, dtype, backend)


@pytest.mark.parametrize("backend", ENGINES)
def test_the_derivative_by_a_small_temperature(backend):
    """(score - E) / T cancels: in float32 it was off by 5.88 at score / T = 7e6."""
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(1, 40, 50, generator=g) * 2
    for ratio in (1e1, 1e3, 1e5, 1e7):
        temperature = torch.tensor(65 / ratio, requires_grad=True)
        exact = torch.tensor(temperature.item(), dtype=torch.float64, requires_grad=True)
        found, expected = (
            torch.autograd.grad(smith_waterman(s, temperature=t, backend=backend).sum(), t)[0].item()
            for s, t in ((scores, temperature), (scores.double(), exact))
        )
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)
    near_tie = torch.tensor([[1.0, 1.0 - 1e-6]], requires_grad=True)
    temperature = torch.tensor(1e-6, requires_grad=True)
    found = torch.autograd.grad(smith_waterman(near_tie, temperature=temperature, backend=backend).sum(), temperature)
    p = torch.softmax(near_tie.detach().double() / temperature.detach().double(), dim=1)
    assert found[0].item() == pytest.approx(-(p * p.log()).sum().item(), rel=1e-5)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gap_of_infinite_cost_does_not_open(dtype, backend):
    """Nor is it 0 times what overflows: one such gap beside scores of 30 T made the gaps' gradients NaN."""
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        scores = (torch.randn(1, 32, 34, generator=g) * 10).to(dtype).requires_grad_()
        for costs in ((torch.inf, 0.0), (0.5, torch.inf), (torch.inf, torch.inf)):
            o, e = (torch.full((1, 1, 1), x, dtype=dtype, requires_grad=True) for x in costs)
            score = smith_waterman(scores, gap_open=o, gap_extend=e, backend=backend)
            d_scores, d_open, d_extend = torch.autograd.grad(score.sum(), (scores, o, e))
            assert d_scores.isfinite().all()
            assert d_extend.item() == 0
            assert (d_open.item() == 0) == (costs[0] == torch.inf)


@pytest.mark.parametrize("backend", ["reference", *ENGINES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_derivative_by_the_temperature_beside_what_has_no_share(dtype, backend):
    """Forbidden cells, infinite gaps, and padding of any content: 0 times infinity appears nowhere, in any order."""

    def derivatives(scores: Tensor, gap: Tensor, lengths: tuple[list[int], list[int]] | None) -> list[float]:
        t = torch.tensor(0.7, dtype=dtype, requires_grad=True)
        options = {"gap_open": gap, "temperature": t, "lengths": lengths, "backend": backend}
        score = smith_waterman(scores, **options).sum() + soft_alignment(scores, **options).square().sum()
        (first,) = torch.autograd.grad(score, t, create_graph=True)
        (second,) = torch.autograd.grad(first, t)
        return [first.item(), second.item()]

    g = torch.Generator().manual_seed(2)
    scores = torch.randn(1, 3, 4, generator=g).to(dtype)
    scores[0, 1, 1] = -torch.inf
    gap = torch.rand(1, 3, 4, generator=g).to(dtype)
    gap[0, 2, 2] = torch.inf
    exact = derivatives(scores, gap, None)
    step = 1e-4
    assert not any(map(math.isnan, exact))
    if dtype == torch.float64:
        at = []
        for sign in (1, -1):
            t = torch.tensor(0.7 + sign * step, dtype=dtype)
            options = {"gap_open": gap, "temperature": t, "backend": backend}
            at.append(
                (smith_waterman(scores, **options).sum() + soft_alignment(scores, **options).square().sum()).item()
            )
        assert exact[0] == pytest.approx((at[0] - at[1]) / (2 * step), rel=1e-6)
    for rubbish in (torch.nan, torch.inf, -torch.inf, 1e30, -1e30):
        wide, wide_gap = (torch.full((1, 5, 6), rubbish, dtype=dtype) for _ in range(2))
        wide[:, :3, :4], wide_gap[:, :3, :4] = scores, gap
        found = derivatives(wide, wide_gap, ([3], [4]))
        assert found == pytest.approx(exact, rel=1e-5 if dtype == torch.float32 else 1e-10)


def test_the_case_of_one_forbidden_cell():
    t = torch.tensor(1.0, requires_grad=True)
    scores = torch.tensor([[1, -torch.inf], [0.5, 2]])
    for backend in ("reference", *ENGINES):
        found = torch.autograd.grad(smith_waterman(scores, temperature=t, backend=backend), t)[0]
        assert found.item() == pytest.approx(0.993, abs=5e-4)


@pytest.mark.parametrize("backend", ENGINES)
def test_golden_values_at_the_smallest_temperatures(backend):
    scores = torch.tensor(oracle.GOLDEN)
    for temperature in (1e-2, 1e-4, 1e-6, 1e-8, 1e-20, 1e-37):
        value, d = solve(scores, backend, gap_open=1.0, gap_extend=0.4, temperature=temperature)
        assert right_or_nan(value, 3.0, 1e-6), (temperature, value)
        if not math.isnan(value):
            torch.testing.assert_close(d.diagonal(), torch.ones(3), rtol=0, atol=1e-5)
