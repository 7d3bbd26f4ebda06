"""What every engine must do, called as the operators call it, against eager in float64."""

import pytest
import torch
from oracle import errors

from bench.problems import RUBBISH, Problem, random_problem, rounding_unit
from lac_kernels import eager
from lac_kernels.problem import Direction


def assert_errors_are_small(engine, p: Problem, grad: torch.Tensor) -> None:
    """The score to 1e-5, gradients to 1e-4; of eager to 3e-4 in its unit of rounding, small numbers absolutely."""
    allowed, least = 1e-4, 1e-6
    if engine.name == "eager":
        score, _ = eager.forward(p.double(), False)
        allowed, least = 3e-4 * rounding_unit("eager", (score.abs().max() / p.temperature).item()), 1e-3
    for name, error in errors(engine, p, grad, least).items():
        assert error <= (1e-5 if name == "score" else allowed), (name, error)


@pytest.mark.parametrize("gaps", ["scalar", "pair", "cell"])
def test_score_and_gradients_on_random_problems(gaps, engine):
    for seed in range(60):
        p = random_problem(seed, 3, 32, 40, gaps=gaps, steep=1e4, dear=1e4)
        assert_errors_are_small(engine, p, torch.randn(3, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.slow
def test_500_random_problems_of_up_to_64_by_100(engine):
    for seed in range(500):
        p = random_problem(1000 + seed, 2, 64, 100, gaps=("scalar", "pair", "cell")[seed % 3], steep=1e4, dear=1e4)
        assert_errors_are_small(engine, p, torch.randn(2, generator=torch.Generator().manual_seed(seed)))


def test_forbidden_cells_nan_and_empty_pairs(engine):
    never, nan = float("-inf"), float("nan")
    scores = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(2))
    scores[0, 2:4] = never
    scores[1] = never
    scores[2, 3, 3] = nan
    lengths = (torch.tensor([6, 6, 6, 0, 6]).int(), torch.tensor([7, 7, 7, 7, 0]).int())
    gap = torch.full((1, 1, 1), 0.5)
    for temperature in (1.0, 0.003):
        p = Problem(scores, gap, gap, torch.tensor(temperature), *lengths)
        score, saved = engine.forward(p, True)
        d, *nothing = engine.gradient(torch.ones(5), p, saved, torch.float32, False)
        assert [x.numel() for x in nothing] == [0, 0]
        expected, states = eager.forward(p.double(), True)
        exact = eager.gradient(torch.ones(5).double(), p.double(), states, torch.float64, False)[0]
        assert score[1:].tolist()[0] == 0
        assert torch.isnan(score[2])
        assert torch.isnan(d[2]).any()
        assert score[3:].tolist() == [0, 0]
        assert not d[[1, 3, 4]].any()
        torch.testing.assert_close(score[0].double(), expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(d[0].double(), exact[0], rtol=0, atol=1e-6)
    for x, y in zip(engine.hard(p), eager.hard(p), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


def test_what_lies_beyond_the_lengths_does_not_matter(engine):
    """The same bits whatever stands there: score, gradients, Hessian-vector product, hard alignment."""
    for seed, rubbish in enumerate(RUBBISH):
        p = random_problem(seed, 3, 40, 36)
        grad, found = torch.tensor([1.0, -2.0, 0.5]), []
        for q in (p.spoilt(0.0), p.spoilt(rubbish)):
            v = Direction(q.scores.masked_fill(q.scores.isinf(), 1.0), *(torch.ones_like(x) for x in q[1:3]))
            score, saved = engine.forward(q, True)
            gradient = engine.gradient(grad, q, saved, torch.float32, True)
            hard = engine.hard(q)
            found.append((score, *gradient, *hard, *engine.second(grad, q, v)))
        for x, y in zip(*found, strict=True):
            assert x.isfinite().all()
            assert torch.equal(x, y)


def test_hard_alignment_equals_eager_with_ties(engine):
    g = torch.Generator().manual_seed(4)
    for _ in range(20):
        n, m = (int(torch.randint(1, 33, (1,), generator=g)) for _ in range(2))
        scores = torch.randint(-3, 3, (5, n, m), generator=g) / 2
        lengths = (torch.randint(0, n + 1, (5,), generator=g).int(), torch.randint(0, m + 1, (5,), generator=g).int())
        gap = torch.randint(0, 3, (2, 1, 1, 1), generator=g) / 2
        p = Problem(scores, gap[0], gap[1], torch.ones(()), *lengths)
        for x, y in zip(engine.hard(p), eager.hard(p), strict=True):
            assert torch.equal(x, y)


@pytest.mark.slow
@pytest.mark.parametrize("gaps", ["scalar", "cell"])
def test_hessian_vector_product_equals_eager(gaps, engine):
    for seed in range(20):
        p = random_problem(seed, 2, 32, 40, gaps=gaps, steep=1e4, dear=1e4)
        g = torch.Generator().manual_seed(seed)
        v = Direction(*(torch.randn(x.shape, generator=g) for x in p[:3]))
        grad = torch.randn(2, generator=g)
        found = engine.second(grad, p, v)
        expected = eager.second(grad.double(), p.double(), Direction(*(x.double() for x in v)))
        scale = sum(p.scores.shape[1:]) / p.temperature.item()  # of the tangents whose differences these are
        for x, y in zip(found[:3], expected[:3], strict=True):
            assert (x - y).abs().max() <= 1e-5 * scale
        torch.testing.assert_close(found[3].double(), expected[3], rtol=1e-4, atol=1e-4)
