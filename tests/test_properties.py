"""What holds for any problem: every engine equals the reference in float64, and nothing beyond the lengths matters."""

import math
from typing import Any, NamedTuple

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from oracle import ENGINES
from torch import Tensor

from bench import fuzz, poison
from lac import hard_alignment, smith_waterman, soft_alignment
from lac_kernels.cpu import launch

RUBBISH = (math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 0.0)


class Case(NamedTuple):
    scores: Tensor  # (B, N, M) float64
    gap_open: Tensor  # broadcastable to it
    gap_extend: Tensor
    temperature: float
    lengths: tuple[list[int], list[int]]
    dtype: torch.dtype
    layout: str
    backend: str
    threads: int

    def inputs(self, rubbish: float) -> tuple[Tensor, ...]:
        """Scores, gaps and temperature as leaves, with rubbish beyond the lengths."""
        b, n, m = self.scores.shape
        rows, columns = (torch.arange(k) < torch.tensor(x)[:, None] for k, x in zip((n, m), self.lengths, strict=True))
        inside = rows[:, :, None] & columns[:, None, :]
        scores = torch.where(inside, self.scores, rubbish).to(self.dtype)
        if self.layout == "transposed":
            scores = scores.mT.contiguous().mT
        elif self.layout == "sliced":
            wide = scores.new_full((b, 2 * n + 1, 3 * m + 2), math.nan)
            wide[:, 1::2, 2::3] = scores
            scores = wide[:, 1::2, 2::3]
        gaps = []
        for gap in (self.gap_open, self.gap_extend):
            used = inside
            for dim in range(3):
                used = used.any(dim, keepdim=True) if gap.shape[dim] == 1 else used
            gaps.append(torch.where(used, gap, rubbish).to(self.scores_dtype))
        leaves = (scores, *gaps, torch.tensor(self.temperature, dtype=self.scores_dtype))
        return tuple(x.detach().requires_grad_() for x in leaves)

    @property
    def scores_dtype(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def exact(self) -> "Case":
        """The same numbers, rounded to what they are given in, for the reference."""
        s = self.scores.to(self.dtype).double()
        o, e = (x.to(self.scores_dtype).double() for x in self[1:3])
        t = torch.tensor(self.temperature, dtype=self.scores_dtype).item()
        return self._replace(
            scores=s, gap_open=o, gap_extend=e, temperature=t, dtype=torch.float64, layout="plain", backend="reference"
        )


@st.composite
def cases(draw: Any, most: int = 7) -> Case:
    b, n, m = draw(st.integers(1, 3)), draw(st.integers(1, most)), draw(st.integers(1, most))
    seed = draw(st.integers(0, 2**32))
    g = torch.Generator().manual_seed(seed)
    temperature = draw(st.sampled_from([1e-3, 0.03, 0.2, 1.0, 7.0]))
    scale = temperature * draw(st.sampled_from([0.1, 1.0, 10.0, 300.0]))
    scores = torch.randn(b, n, m, generator=g, dtype=torch.float64) * scale
    forbidden = draw(st.sampled_from([0.0, 0.0, 0.3, 1.0]))
    scores[torch.rand(b, n, m, generator=g) < forbidden] = draw(st.sampled_from([-math.inf, -1e30]))
    gaps = []
    for _ in range(2):
        shape = tuple(draw(st.sampled_from([1, k])) for k in (b, n, m))
        gap = torch.rand(shape, generator=g, dtype=torch.float64) * temperature * draw(st.sampled_from([0, 1, 20]))
        gap[torch.rand(shape, generator=g) < draw(st.sampled_from([0.0, 0.0, 0.3]))] = math.inf
        gaps.append(gap)
    lengths = tuple([draw(st.integers(0, k)) for _ in range(b)] for k in (n, m))
    return Case(
        scores, *gaps, temperature, lengths,
        draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])),
        draw(st.sampled_from(["plain", "transposed", "sliced"])),
        draw(st.sampled_from(ENGINES)),
        draw(st.integers(1, 3)),
    )  # fmt: skip


def gradient(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, inputs, materialize_grads=True)


def solve(case: Case, rubbish: float, order: int = 1) -> dict[str, Tensor]:
    """Score, posterior, and derivatives of sum_k (k + 1) score_k, or of a sum over the posterior."""
    s, o, e, t = case.inputs(rubbish)
    options: dict[str, Any] = {"gap_open": o, "gap_extend": e, "lengths": case.lengths, "backend": case.backend}
    score = smith_waterman(s, temperature=t, **options)
    weight = torch.arange(1, len(score) + 1, dtype=score.dtype)
    found = {"score": score}
    names = ("scores", "gap_open", "gap_extend", "temperature")
    found |= zip(names, gradient((score * weight).sum(), s, o, e, t), strict=True)
    plain = smith_waterman(s, temperature=case.temperature, **options)  # a number: not taken to float64
    found["plain score"] = plain
    found |= zip(("plain scores", "plain open"), gradient((plain * weight).sum(), s, o), strict=True)
    if order > 1:
        posterior = soft_alignment(s, temperature=t, **options)
        total = posterior.flatten() @ torch.arange(posterior.numel(), dtype=posterior.dtype).cos()
        found["posterior"] = posterior
        found |= zip([f"second {x}" for x in names], gradient(total, s, o, e, t), strict=True)
    return {name: x.detach() for name, x in found.items()}


@pytest.fixture(autouse=True)
def small_problems_use_all_threads(monkeypatch):
    monkeypatch.setattr(launch, "CELLS_PER_THREAD", 1)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def equals_the_reference(case: Case) -> None:
    exact = solve(case.exact(), 0.0)
    torch.set_num_threads(case.threads)
    with poison.poisoned():
        found = solve(case, math.nan)
    value = exact["score"].abs().max().item() / case.temperature
    small = case.dtype == torch.float64
    limit = 1e-10 if small else 2e-5 * max(1.0, value * 2.0**-7)
    for name, x in exact.items():
        scale = max(x.abs().max().item(), case.temperature if name.endswith("score") else 1.0)
        rounding = 2**-8 if case.dtype == torch.bfloat16 and name.endswith("scores") else 0.0
        allowed = (limit + rounding) * scale
        assert found[name].isfinite().all(), name
        assert (found[name].double() - x).abs().max().item() <= allowed, (name, found[name], x)


def padding_is_nothing(case: Case) -> None:
    """The same bits, whatever stands beyond the lengths and in memory that nobody has written."""
    torch.set_num_threads(case.threads)
    clean = solve(case, 0.0, order=2)
    assert all(x.isfinite().all() for x in clean.values())
    for k, rubbish in enumerate(RUBBISH):
        with poison.poisoned(poison.BYTES[k % len(poison.BYTES)]):
            found = solve(case, rubbish, order=2)
        for name, x in clean.items():
            assert torch.equal(found[name], x), (name, rubbish)
    if case.dtype != torch.bfloat16:
        s, o, e, _ = (x.detach() for x in case.inputs(math.nan))
        clean_s, clean_o, clean_e, _ = (x.detach() for x in case.inputs(0.0))
        options = {"lengths": case.lengths, "backend": case.backend}
        hard = hard_alignment(s, gap_open=o, gap_extend=e, **options)
        expected = hard_alignment(clean_s, gap_open=clean_o, gap_extend=clean_e, **options)
        assert torch.equal(hard.score, expected.score)
        assert [p.tolist() for p in hard.paths] == [p.tolist() for p in expected.paths]


@hypothesis.given(cases())
def test_every_engine_equals_the_reference(case):
    equals_the_reference(case)


@hypothesis.given(cases())
def test_what_lies_beyond_the_lengths_does_not_matter(case):
    padding_is_nothing(case)


@pytest.mark.slow
@hypothesis.settings(max_examples=2000)
@hypothesis.given(cases())
def test_every_engine_equals_the_reference_thousands_of_times(case):
    equals_the_reference(case)


@pytest.mark.slow
@hypothesis.settings(max_examples=2000)
@hypothesis.given(cases(most=90))
def test_what_lies_beyond_the_lengths_does_not_matter_thousands_of_times(case):
    padding_is_nothing(case)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("dtype", fuzz.DTYPES)
def test_random_problems_keep_to_the_error_limits(dtype, backend):
    """A short run of bench/fuzz.py: widths that leave strips without steps, ragged batches, every thread count."""
    few = 40 if backend == "eager" else 160
    worst, cases, failures = fuzz.fuzz(backend, dtype, few, seed=9000, pairs=7, most_m=250)
    assert cases >= few
    assert not failures, (failures[:5], worst)
