"""Checks at the limits of an engine's numbers: the value, or NaN, never a plausible number."""

import math

import pytest
import torch
from torch import Tensor

from lac import hard_alignment, smith_waterman, soft_alignment


def solve(scores: Tensor, backend: str, **options: float | Tensor) -> tuple[float, Tensor]:
    scores = scores.clone().requires_grad_()
    score = smith_waterman(scores, backend=backend, **options)
    return score.item(), torch.autograd.grad(score.sum(), scores)[0]


def right_or_nan(found: float, expected: float, relative: float) -> bool:
    return math.isnan(found) or abs(found - expected) <= relative * max(1.0, abs(expected))


def check_bridges_between_good_stretches(backend: str, dtype: torch.dtype) -> None:
    """A very low score, or a gap of high cost, that pays for itself must not count as forbidden."""
    for unit in (1.0, 30.0, 1e3, 1e5):
        scores = torch.full((5, 5), -1e4 * unit, dtype=dtype)
        scores.fill_diagonal_(2000.0 * unit)
        scores[2, 2] = -1600.0 * unit
        value, d = solve(scores, backend, gap_open=3e3 * unit, gap_extend=3e3 * unit, temperature=1e-3)
        assert right_or_nan(value, 6400 * unit, 1e-6), (unit, value)
        scores = torch.full((3, 3), -1e4 * unit, dtype=dtype)
        scores[0, 0] = scores[1, 2] = 2000.0 * unit
        value, d = solve(scores, backend, gap_open=1600.0 * unit, temperature=1e-3)
        assert right_or_nan(value, 2400 * unit, 1e-6), (unit, value)
        if unit == 1:
            assert not math.isnan(value)
            assert d[0, 0].item() == pytest.approx(1)


def check_scores_of_every_size(backend: str, dtype: torch.dtype) -> None:
    """Where all are equal the gradient is known: all alignments of one cell, or of the longest paths."""
    for value in (-1e3, -1e6, -1e8, -1e9, -1e20, -9e29):
        found, d = solve(torch.full((2, 3), value, dtype=dtype), backend)
        assert found == pytest.approx(value + math.log(6), rel=1e-6)
        assert d.isnan().all() or torch.allclose(d, torch.full_like(d, 1 / 6), atol=1e-6)
    for value in (1e3, 1e6, 1e9, 1e12, 1e20):
        found, d = solve(torch.full((2, 3), value, dtype=dtype), backend, temperature=1e-3)
        assert right_or_nan(found, 2 * value, 1e-6)
        assert d.isnan().all() or right_or_nan(d.sum().item(), 2, 1e-4)
    found, d = solve(torch.full((2, 3), torch.inf, dtype=dtype), backend)
    assert found == math.inf
    assert d.isnan().any()


def check_that_a_mask_forbids(mask: float, dtype: torch.dtype, backend: str) -> None:
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 5, 6, generator=g, dtype=torch.float64).to(dtype)
    hidden = torch.rand(scores.shape, generator=g) < 0.4
    hidden[2] = True
    for temperature in (1e-3, 1.0, 1e4):
        options = {"gap_open": 0.3, "gap_extend": 0.1, "backend": backend}
        infinite = soft_alignment(scores.masked_fill(hidden, -torch.inf), temperature=temperature, **options)
        found = soft_alignment(scores.masked_fill(hidden, mask), temperature=temperature, **options)
        torch.testing.assert_close(found, infinite, rtol=0, atol=0)
        assert not found[hidden].any()
        score = smith_waterman(scores.masked_fill(hidden, mask), temperature=temperature, **options)
        assert score[2] == 0
    if backend != "reference":
        hard = hard_alignment(scores.masked_fill(hidden, mask), **options)
        exact = hard_alignment(scores.masked_fill(hidden, -torch.inf), **options)
        assert torch.equal(hard.score, exact.score)
        assert [x.tolist() for x in hard.paths] == [x.tolist() for x in exact.paths]
        assert hard.paths[2].shape == (0, 2)
