"""Long pairs and many of them: right numbers, laws, and how much memory they take."""

import numpy as np
import pytest
import torch
from emulated import engine_on
from peaks import measured
from torch import Tensor

from bench.fuzz import LIMITS, errors, solve
from bench.problems import Problem
from lac import hard_alignment, smith_waterman, soft_alignment
from lac_kernels import cpu

needs_cpu = pytest.mark.skipif(
    (REASON := cpu.unavailable(torch.device("cpu"))) is not None, reason=f"the cpu engine cannot run: {REASON}"
)
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def long_scores(kind: str, b: int, n: int, m: int) -> Tensor:
    """Scores (B, N, M) float32 in units of T: "noise" has no path, "path" one along the diagonal, "flat" is all the
    same, so that Z is a sum of very many that are alike."""
    g = torch.Generator().manual_seed(n + m)
    if kind == "flat":
        return torch.full((b, n, m), -5.0)
    scores = torch.randn(b, n, m, generator=g) - 1
    if kind == "path":
        k = torch.arange(min(n, m))
        scores[:, k, k] += 2.5
    return scores


def problem(kind: str, *shape: int) -> Problem:
    gap_open, gap_extend = torch.full((1, 1, 1), 1.0), torch.full((1, 1, 1), 0.4)
    return Problem(long_scores(kind, *shape), gap_open, gap_extend, torch.tensor(1.0), None, None)


SLOW = pytest.mark.slow
SHAPES = [
    ("cpu", "path", (1, 1024, 1024)),
    ("cpu", "flat", (1, 8, 200_000)),
    ("eager", "noise", (1, 2000, 100)),
    *(
        pytest.param(engine, kind, shape, marks=SLOW)
        for engine, kind, shape in (
            ("cpu", "path", (1, 8192, 8192)),
            ("cpu", "path", (1, 20_000, 100)),
            ("cpu", "noise", (1, 100, 20_000)),
            ("cpu", "flat", (1, 100, 20_000)),
            ("cpu", "flat", (1, 64, 1_000_000)),
            ("cpu", "noise", (4096, 64, 64)),
            ("eager", "path", (1, 20_000, 100)),
            ("eager", "noise", (1, 100, 20_000)),
            ("eager", "noise", (4096, 64, 64)),
        )
    ),
]


@needs_cpu
@pytest.mark.promise("large")
@pytest.mark.parametrize(("engine", "kind", "shape"), SHAPES)
def test_long_and_many_pairs_are_right(engine, kind, shape, record_property):
    """Scores, posteriors and gradients of long pairs and of thousands are as right as those of short ones."""
    p = problem(kind, *shape)
    found = solve(p, engine, torch.float32, False)
    worst = errors(found, solve(p.double(), "cpu", torch.float64, False), p, engine)
    assert all(error <= LIMITS["float32"][name] for name, error in worst.items()), worst
    posterior = found["posterior"]
    assert (posterior >= 0).all()
    assert max(float(posterior.sum(dim).max()) for dim in (1, 2)) <= 1 + LIMITS["float32"]["posterior"]
    record_property("worst", max(worst.values()))
    record_property("limit", LIMITS["float32"]["posterior"])


@needs_cpu
@pytest.mark.promise("large")
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("noise", (1, 700, 60)), pytest.param("path", (1, 20_000, 100), marks=SLOW)]
    + [pytest.param(kind, (1, 100, 20_000), marks=SLOW) for kind in ("noise", "flat")],
)
def test_what_long_pairs_are_held_to_is_right_itself(kind, shape, record_property):
    """In float64 two independent engines agree about long pairs."""
    p = problem(kind, *shape).double()
    found, exact = (solve(p, engine, torch.float64, False) for engine in ("cpu", "eager"))
    worst = errors(found, exact, p, "cpu")
    assert all(error <= LIMITS["float64"][name] for name, error in worst.items()), worst
    record_property("worst", max(worst.values()))
    record_property("limit", LIMITS["float64"]["posterior"])


@SLOW
@pytest.mark.promise("large")
@pytest.mark.parametrize("shape", [(1, 20_000), (40, 4000)])
def test_long_rows_are_summed_exactly_on_a_gpu_too(shape, record_property):
    """The GPU's kernels, as compiled, sum what tens of thousands of columns give without losing digits."""
    p = problem("flat", 1, *shape)
    exact = smith_waterman(p.scores.double(), gap_open=1.0, gap_extend=0.4, backend="eager").item()
    with engine_on("triton", "cuda:90") as engine:
        score, _ = engine.forward(p, False)
    error = abs(score.item() - exact) / exact
    assert error <= 1e-6
    record_property("worst", error)
    record_property("limit", 1e-6)


@pytest.mark.promise("large")
@pytest.mark.parametrize("engine", ["cpu", "eager"])
@pytest.mark.parametrize("shape", [(500, 60), pytest.param((8000, 90), marks=SLOW)])
def test_padding_of_long_pairs_changes_nothing(shape, engine, record_property):
    """Long pairs in a larger batch, with rubbish beyond their lengths, are what they are alone."""
    if engine == "cpu" and REASON:
        pytest.skip(REASON)
    n, m = shape
    alone = long_scores("path", 1, n, m)
    wide = torch.full((2, n + 70, m + 300), torch.nan)
    wide[0, :n, :m] = wide[1, :m, :n] = 0
    wide[0, :n, :m], wide[1, : m // 2, :m] = alone[0], alone[0, : m // 2]
    lengths = ([n, m // 2], [m, m])
    for call in (smith_waterman, soft_alignment):
        padded, single = call(wide, lengths=lengths, backend=engine)[0], call(alone, backend=engine)[0]
        cut = padded if padded.dim() == 0 else padded[:n, :m]
        torch.testing.assert_close(cut, single, rtol=1e-6, atol=1e-6)
        if padded.dim():
            assert padded.count_nonzero() == cut.count_nonzero()
    found, exact = hard_alignment(wide, lengths=lengths, backend=engine), hard_alignment(alone, backend=engine)
    assert torch.equal(found.paths[0], exact.paths[0])
    record_property("cases", 3)


MEMORY = """
from lac import LACLoss, hard_alignment, local_alignments, smith_waterman, soft_alignment

n, m = map(int, sys.argv[1:])


def gradient(scores, **options):
    gap = torch.tensor(1.0, requires_grad=True)
    scores = scores.detach().requires_grad_()
    torch.autograd.grad(smith_waterman(scores, gap_open=gap, **options).sum(), (scores, gap))


def temperature(scores):
    gradient(scores, temperature=torch.tensor(1.0, requires_grad=True))


def second(scores):
    scores = scores.detach().requires_grad_()
    torch.autograd.grad(soft_alignment(scores).square().sum(), scores)


def loss(scores, clock=False):
    n, m = scores.shape[1:]
    z = [torch.randn(1, t, 32, requires_grad=True) for t in (n, m)]
    times = dict(times1=torch.arange(n)[None] / n, times2=torch.arange(m)[None] / m) if clock else {}
    LACLoss()(*z, **times).backward()


calls = {
    "score": smith_waterman, "gradient": gradient, "gradient by the temperature": temperature, "second order": second,
    "best path": hard_alignment, "three local alignments": lambda scores: local_alignments(scores, 3),
    "loss": loss, "loss by the clock": lambda scores: loss(scores, True),
}
result = {}
for name, call in calls.items():
    call(torch.randn(1, 9, 11))
    scores = torch.randn(1, n, m)
    with Peak() as peak:
        call(scores)
    result[name] = peak.megabytes / (n * m * 4 / 2**20)
print(json.dumps(result))
"""

# Times the bytes of the scores (float32), which the caller holds himself; of the loss, which makes them, in all.
TIMES = {
    "score": 0.1, "gradient": 1.2, "gradient by the temperature": 8.5, "second order": 4.3, "best path": 0.3,
    "three local alignments": 2.2, "loss": 5.5, "loss by the clock": 21,
}  # fmt: skip


@needs_cpu
@pytest.mark.promise("large")
@pytest.mark.parametrize(
    "shape", [(1500, 1500), *(pytest.param(x, marks=SLOW) for x in ((4096, 4096), (20_000, 400), (400, 20_000)))]
)
def test_memory_of_long_pairs(shape, record_property):
    """A long pair takes a small multiple of the bytes of its scores, by what is asked."""
    found = measured(MEMORY, *shape)
    assert found.keys() == TIMES.keys()
    for name, times in found.items():
        assert times <= TIMES[name], (name, found)
    record_property("cases", len(found))
    record_property("note", "times the scores at most: " + ", ".join(f"{k} {v:g}" for k, v in TIMES.items()))


BEYOND = """
from lac import hard_alignment, smith_waterman

# More cells than 32 bits count. Memory that was never written is zero and takes none: only a few pages of the scores
# are there. A planted diagonal at the far end; gaps are impossible, so Z is a sum over runs on diagonals.
planted, worth, T = 40, 1.0, 0.02
n, m = 64, 34_000_000
scores = torch.from_numpy(np.zeros((1, n, m), np.float32))
k = torch.arange(planted)
scores[0, 10 + k, m - 100 + k] = worth
infinite = float("inf")
score = smith_waterman(scores, gap_open=infinite, gap_extend=infinite, temperature=T, backend="cpu").item()
with_it = sum(
    np.exp((min(end, 10 + planted - 1) - max(first, 10) + 1 - planted) * worth / T)
    for first in range(n) for end in range(first, n)
    if min(end, 10 + planted - 1) >= max(first, 10)
)
result = {"score": score, "expected": float(T * np.log(with_it) + planted * worth), "cells": n * m}
n = m = 46_400
scores = torch.from_numpy(np.zeros((1, n, m), np.float32))
scores[0, n - 100 + k, m - 90 + k] = worth
best = hard_alignment(scores, backend="cpu")
result |= {"best": best.score.item(), "path": best.paths[0].tolist(), "side": n}
print(json.dumps(result))
"""


@SLOW
@needs_cpu
@pytest.mark.promise("large")
def test_more_cells_than_32_bits_count(record_property):
    """Scores of more than 2^31 cells are read at the right places, and the best path ends where it should."""
    found = measured(BEYOND)
    assert found["cells"] > 2**31
    assert found["score"] == pytest.approx(found["expected"], rel=1e-5)
    n = found["side"]
    assert n * n > 2**31
    assert found["best"] == 40
    assert found["path"] == [[n - 100 + k, n - 90 + k] for k in range(40)]
    record_property("cases", 2)
    record_property("note", "the cpu engine, without gradients; on a GPU by reading alone")


def test_the_exact_score_of_planted_runs_is_right():
    """What the test of more cells than 32 bits count holds the engine to, on a small problem."""
    scores = np.zeros((6, 9), np.float32)
    scores[[2, 3], [4, 5]] = 1.0
    runs = [
        sum(float(scores[i + k, j + k]) for k in range(length))
        for i in range(6)
        for j in range(9)
        for length in range(1, min(6 - i, 9 - j) + 1)
    ]
    exact = float(np.log(np.exp(runs).sum()))
    found = smith_waterman(torch.from_numpy(scores), gap_open=torch.inf, gap_extend=torch.inf, backend="eager")
    assert found.item() == pytest.approx(exact, rel=1e-6)
