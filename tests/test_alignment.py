"""The recursion: golden values, enumeration, an exact aligner, laws, and derivatives."""

import numpy as np
import pytest
import torch
from oracle import (
    ENGINES,
    GOLDEN,
    GOLDEN_POSTERIOR,
    GOLDEN_SCORES,
    enumerate_alignments,
    exact_aligner,
    leaves,
    soft_score,
)
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from lac import hard_alignment, smith_waterman, soft_alignment
from lac.measure.errors import relative_error
from lac_kernels import engines

ALL = ["reference", *ENGINES]
DOUBLE = torch.float64


def score(s: Tensor, o: Tensor, e: Tensor, t: Tensor, lengths=None, backend="eager") -> Tensor:
    return smith_waterman(s, gap_open=o, gap_extend=e, temperature=t, lengths=lengths, backend=backend)


@pytest.mark.parametrize("backend", ALL)
def test_golden_values(backend):
    scores = torch.tensor(GOLDEN, dtype=DOUBLE, requires_grad=True)
    o, e = (torch.tensor(x, dtype=DOUBLE, requires_grad=True) for x in (1.0, 0.4))
    for temperature, expected in GOLDEN_SCORES.items():
        result = smith_waterman(scores, gap_open=o, gap_extend=e, temperature=temperature, backend=backend)
        assert abs(result.item() - expected) < 1e-7
    result = smith_waterman(scores, gap_open=o, gap_extend=e, backend=backend)
    d_scores, d_open, d_extend = torch.autograd.grad(result, (scores, o, e))
    assert abs(d_open.item() + 0.232645) < 1e-6
    assert abs(d_extend.item() + 0.022939) < 1e-6
    torch.testing.assert_close(d_scores, torch.tensor(GOLDEN_POSTERIOR, dtype=DOUBLE), atol=1e-6, rtol=0)
    posterior = soft_alignment(scores, gap_open=o, gap_extend=e, backend=backend)
    torch.testing.assert_close(posterior, d_scores)


@pytest.mark.parametrize("backend", ENGINES)
def test_golden_hard_alignment(backend):
    result = hard_alignment(torch.tensor(GOLDEN, dtype=DOUBLE), gap_open=1.0, gap_extend=0.4, backend=backend)
    assert result.score.item() == 3.0
    assert result.paths[0].tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize("gaps", ["scalar", "cell"])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_equals_enumeration(n, m, gaps):
    s, o, e, t = leaves(1, n, m, seed=10 * n + m, gaps=gaps)
    exact = soft_score(s[0], o.expand(1, n, m)[0], e.expand(1, n, m)[0], t)
    wanted = torch.autograd.grad(exact, (s, o, e, t), allow_unused=True)
    for backend in ALL:
        result = score(s, o, e, t, backend=backend)
        torch.testing.assert_close(result[0], exact, rtol=1e-12, atol=1e-12)
        got = torch.autograd.grad(result, (s, o, e, t), allow_unused=True)
        for x, y, like in zip(got, wanted, (s, o, e, t), strict=True):
            x, y = (torch.zeros_like(like) if z is None else z for z in (x, y))
            torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)
    best = enumerate_alignments(s[0], o.expand(1, n, m)[0], e.expand(1, n, m)[0]).max()
    for backend in ENGINES:
        hard = hard_alignment(s, gap_open=o, gap_extend=e, backend=backend)
        torch.testing.assert_close(hard.score[0], best, rtol=1e-12, atol=1e-12)


def test_equals_an_exact_aligner_in_the_limit():
    """200 random pairs: the hard score and path, and the soft ones at a low temperature, equal Biopython's."""
    rng = np.random.default_rng(0)
    checked = 0
    while checked < 200:
        n, m = rng.integers(1, 13, size=2)
        scores = rng.normal(size=(n, m))
        extend, opening = np.sort(rng.uniform(0, 2, size=2))
        if scores.max() <= 0:  # the exact aligner then returns the empty alignment, which is none of ours
            continue
        checked += 1
        best, cells = exact_aligner(scores, opening, extend)
        s = torch.tensor(scores)
        for backend in ENGINES:
            hard = hard_alignment(s, gap_open=opening, gap_extend=extend, backend=backend)
            assert abs(hard.score.item() - best) < 1e-9
            assert hard.paths[0].tolist() == cells.tolist()
            options = {"gap_open": opening, "gap_extend": extend, "temperature": 1e-5, "backend": backend}
            # at most C(24, 12) alignments: T log of that many is below 1.5e-4
            assert -1e-9 < smith_waterman(s, **options).item() - best < 1.5e-4
            posterior = soft_alignment(s, **options)
            assert (posterior[tuple(hard.paths[0].T)] > 0.5).all()


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("gaps", ["scalar", "pair", "row", "column", "cell"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 4, 3), (1, 1, 5), (1, 5, 1)])
def test_derivatives_of_first_and_second_order(shape, gaps, backend):
    inputs = leaves(*shape, gaps=gaps)
    lengths = (
        torch.tensor([shape[1], max(1, shape[1] - 1)][: shape[0]]),
        torch.tensor([shape[2]] * shape[0]),
    )

    def f(*x: Tensor) -> Tensor:
        return score(*x, lengths=lengths, backend=backend)

    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@pytest.mark.parametrize("backend", ENGINES)
def test_derivatives_of_the_soft_alignment(backend):
    inputs = leaves(1, 3, 3, gaps="cell")

    def f(s: Tensor, o: Tensor, e: Tensor, t: Tensor) -> Tensor:
        return soft_alignment(s, gap_open=o, gap_extend=e, temperature=t, backend=backend)

    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)  # third order of the score


def test_second_order_equals_the_reference():
    inputs = leaves(2, 4, 5, gaps="cell", seed=3)
    weight = torch.randn(2, 4, 5, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    result = {}
    for backend in ALL:
        s, o, e, t = inputs
        posterior = soft_alignment(s, gap_open=o, gap_extend=e, temperature=t, backend=backend)
        result[backend] = torch.autograd.grad((posterior * weight).sum(), inputs)
    for backend in ENGINES:
        for x, y in zip(result[backend], result["reference"], strict=True):
            torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("shape", [(1, 70), (70, 1), (63, 65), (65, 63), (100, 37)])
def test_laws_on_odd_shapes(shape, backend):
    n, m = shape
    s, o, e, t = leaves(2, n, m, gaps="scalar", seed=n)
    posterior = soft_alignment(s, gap_open=o, gap_extend=e, temperature=t, backend=backend)
    assert posterior.min() >= 0
    assert posterior.sum(1).max() <= 1 + 1e-12
    assert posterior.sum(2).max() <= 1 + 1e-12
    # the gradient by the temperature is the entropy, hence positive and at most log of the number of alignments
    (entropy,) = torch.autograd.grad(score(s, o, e, t, backend=backend).sum(), t)
    assert entropy > 0
    # transposition: with one cost for both gaps only the order within a mixed gap changes, not its cost
    torch.testing.assert_close(
        score(s, o, e, t, backend=backend), score(s.mT, o, e, t, backend=backend), rtol=1e-12, atol=1e-12
    )
    # a constant added to every score raises the score by it times the expected number of matches, to first order
    step = 1e-5
    shifted = [score(s + k * step, o, e, t, backend=backend) for k in (-1, 1)]
    torch.testing.assert_close((shifted[1] - shifted[0]) / (2 * step), posterior.sum((1, 2)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("backend", ALL)
def test_padding_changes_nothing(backend):
    sizes = [(7, 5), (3, 9), (0, 4), (4, 0), (1, 1)]
    generator = torch.Generator().manual_seed(0)
    n, m = 9, 10
    scores = torch.full((len(sizes), n, m), float("nan"), dtype=DOUBLE)
    for k, (r, c) in enumerate(sizes):
        scores[k, :r, :c] = torch.randn(r, c, generator=generator, dtype=DOUBLE)
    lengths = tuple(torch.tensor(x) for x in zip(*sizes, strict=True))
    options = {"gap_open": 0.8, "gap_extend": 0.3, "temperature": 0.5, "backend": backend}
    scores.requires_grad_()
    result = smith_waterman(scores, lengths=lengths, **options)
    (d_scores,) = torch.autograd.grad(result.sum(), scores)
    for k, (r, c) in enumerate(sizes):
        alone = scores.detach()[k, :r, :c].requires_grad_()
        expected = smith_waterman(alone, **options)
        torch.testing.assert_close(result[k], expected, rtol=1e-12, atol=1e-12)
        wanted = torch.zeros(n, m, dtype=DOUBLE)
        if r and c:
            (wanted[:r, :c],) = torch.autograd.grad(expected, alone)
        else:
            assert expected.item() == 0
        torch.testing.assert_close(d_scores[k], wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", ENGINES)
def test_hard_alignment_with_padding_and_no_alignment(backend):
    scores = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    lengths = ([4, 0, 6], [5, 7, 7])
    result = hard_alignment(scores, gap_open=0.5, gap_extend=0.1, lengths=lengths, backend=backend)
    alone = hard_alignment(scores[0, :4, :5], gap_open=0.5, gap_extend=0.1, backend=backend)
    assert result.score[0] == alone.score
    assert result.paths[0].tolist() == alone.paths[0].tolist()
    assert result.score[1] == 0
    assert result.paths[1].shape == (0, 2)


@pytest.mark.parametrize("backend", ENGINES)
def test_hard_alignment_breaks_ties_by_its_rule(backend):
    # two equal alignments of one cell: the first in row-major order
    assert hard_alignment(torch.tensor([[0.0, 2.0], [2.0, 0.0]]), gap_open=5.0, backend=backend).paths[0].tolist() == [
        [0, 1]
    ]
    # a cell worth 0 before the best one adds nothing: start rather than continue
    assert hard_alignment(torch.tensor([[0.0, -9.0], [-9.0, 2.0]]), backend=backend).paths[0].tolist() == [[1, 1]]
    # over the same gap cost, a match after a match is preferred to a match after a gap
    scores = torch.tensor([[3.0, 1.0, -9.0], [-9.0, 2.0, -9.0], [-9.0, -9.0, 5.0]])
    result = hard_alignment(scores, gap_open=1.0, gap_extend=1.0, backend=backend)
    assert result.score == 10
    assert result.paths[0].tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_float32(dtype, backend):
    scores = torch.randn(2, 20, 30, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    result = smith_waterman(scores, gap_open=0.5, gap_extend=0.2, temperature=0.2, backend=backend)
    (gradient,) = torch.autograd.grad(result.sum(), scores)
    exact_scores = scores.detach().double().requires_grad_()
    exact = smith_waterman(exact_scores, gap_open=0.5, gap_extend=0.2, temperature=0.2, backend="eager")
    (exact_gradient,) = torch.autograd.grad(exact.sum(), exact_scores)
    assert result.dtype == torch.float32
    assert gradient.dtype == dtype
    assert relative_error(result, exact) < 1e-6
    assert relative_error(gradient, exact_gradient) < max(1e-5, torch.finfo(dtype).eps)
    assert soft_alignment(scores, backend=backend).dtype == torch.float32


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01, 0.001])
def test_float32_is_stable_at_low_temperature(temperature, backend):
    """abs(S) / T up to 1e4 and values up to N abs(S) / T: finite, conserved, and near float64."""
    scores = 10 * torch.randn(3, 48, 60, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    options = {"gap_open": 2.0, "gap_extend": 0.5, "temperature": temperature, "backend": backend}
    posterior = soft_alignment(scores, **options)
    exact = soft_alignment(scores.double(), **(options | {"backend": "eager"}))
    assert posterior.isfinite().all()
    assert posterior.sum(1).max() <= 1 + 1e-4
    result = smith_waterman(scores, **options)
    assert relative_error(result, smith_waterman(scores.double(), **options)) < 1e-6
    # Log-space values reach N abs(S) / T, each rounded to 2^-24 of it; a transition's log-odds err by a few roundings.
    largest = result.max().item() / temperature
    assert (posterior - exact).abs().max() < 16 * largest * 2**-24


@pytest.mark.parametrize("backend", ENGINES)
def test_forbidden_cells_and_nan(backend):
    scores = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    scores[0, 2, 3] = -torch.inf
    scores[0, :, 0] = -torch.inf
    result, expected = (soft_alignment(scores[0], backend=x) for x in (backend, "reference"))
    torch.testing.assert_close(result, expected)
    assert result[2, 3] == 0
    scores[1, 0, 0] = torch.nan
    both = smith_waterman(scores, backend=backend)
    assert both[0].isfinite()
    assert both[1].isnan()


@pytest.mark.parametrize("backend", ENGINES)
def test_strided_inputs_and_expanded_upstream_gradients(backend):
    base = torch.randn(12, 20, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    strided = base.permute(2, 1, 0)[:, ::2, 1::3].requires_grad_()
    plain = strided.detach().clone().contiguous().requires_grad_()
    gap = torch.rand(6, 10, 4, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).permute(2, 1, 0)[:, :, ::2]
    gap = gap[:, :, :1].expand(4, 10, 4) + 0.5
    for reduce in (torch.sum, lambda x: (x * torch.arange(8.0, dtype=DOUBLE)[::2]).sum()):
        gradients = []
        for s, o in ((strided, gap), (plain, gap.contiguous())):
            value = smith_waterman(s, gap_open=o, gap_extend=0.3, backend=backend)
            gradients.append(torch.autograd.grad(reduce(value), s)[0])
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    pair = strided[0].detach().expand(3, -1, -1).requires_grad_()
    (gradient,) = torch.autograd.grad(smith_waterman(pair, backend=backend).sum(), pair)
    torch.testing.assert_close(gradient[0], gradient[2])


def test_a_single_pair_is_a_batch_of_one():
    scores = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    gap = torch.rand(5, 7)
    assert smith_waterman(scores, gap_open=gap).shape == ()
    torch.testing.assert_close(smith_waterman(scores, gap_open=gap), smith_waterman(scores[None], gap_open=gap)[0])
    assert soft_alignment(scores, lengths=(4, 5)).shape == (5, 7)
    assert hard_alignment(scores).score.shape == ()
    assert smith_waterman(torch.zeros(3, 0, 4)).tolist() == [0, 0, 0]
    assert soft_alignment(torch.zeros(3, 0, 4)).shape == (3, 0, 4)
    assert len(hard_alignment(torch.zeros(3, 0, 4)).paths) == 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"scores": torch.zeros(2, 3, 4, 5)},
            ValueError,
            r"scores must be \(batch, n, m\).*got \(2, 3, 4, 5\)",
        ),
        ({"scores": torch.zeros(3, 4, dtype=torch.int64)}, TypeError, "floating point.*int64"),
        ({"scores": [[1.0]]}, TypeError, "torch.Tensor, got list"),
        ({"gap_open": -0.1}, ValueError, "gap_open is a cost and must not be negative, got -0.1"),
        ({"gap_extend": float("nan")}, ValueError, "gap_extend"),
        ({"gap_extend": "1"}, TypeError, "gap_extend must be a float or a tensor, got str"),
        (
            {"gap_open": torch.ones(2)},
            ValueError,
            r"gap_open must broadcast.*\(2, 3, 4\), got \(2,\).*batch, 1, 1",
        ),
        ({"gap_open": torch.ones(1, 1, 1, 1)}, ValueError, "gap_open must broadcast"),
        ({"temperature": 0.0}, ValueError, "temperature must be positive.*hard_alignment"),
        ({"temperature": torch.ones(2)}, ValueError, "temperature must be a float or a 0-d tensor"),
        ({"lengths": torch.tensor([1, 2])}, TypeError, "lengths must be a pair"),
        (
            {"lengths": (torch.tensor([1, 4]), None)},
            ValueError,
            r"lengths\[0\] must lie between 0 and 3.*got 4",
        ),
        ({"lengths": ([1], [1, 2])}, ValueError, r"lengths\[0\] must have shape \(2,\)"),
        ({"lengths": (torch.ones(2), None)}, TypeError, r"lengths\[0\] must hold integers"),
        (
            {"backend": "cuda"},
            ValueError,
            "backend must be one of auto, reference, eager, cpu, triton; got 'cuda'",
        ),
    ],
)
def test_bad_input_says_what_and_where(change, error, message):
    arguments = {"scores": torch.zeros(2, 3, 4)} | change
    with pytest.raises(error, match=message):
        smith_waterman(arguments.pop("scores"), **arguments)


def test_a_named_backend_that_cannot_run_raises():
    """Only "auto" chooses: a named backend raises with the remedy where it cannot run."""
    for backend in ("cpu", "triton"):
        if engines.unavailable(backend, torch.device("cpu")) is not None:
            with pytest.raises(RuntimeError, match=f"'{backend}' cannot run on device 'cpu': .*(install|use backend=)"):
                smith_waterman(torch.zeros(3, 4), backend=backend)
