"""The Triton engine: its compiled kernels, on a GPU or run by `ptxemu`, against eager in float64 on the CPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from emulated import DEVICE, emulate, limited, missing
from extremes import (
    check_bridges_between_good_stretches,
    check_scores_of_every_size,
    check_that_a_mask_forbids,
    right_or_nan,
)
from oracle import GOLDEN, GOLDEN_POSTERIOR, errors

from bench.problems import Problem, long_problem, random_problem
from lac import hard_alignment, smith_waterman, soft_alignment
from lac_kernels import eager, ops

needs_emulator = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_cpu_tensors_without_an_emulator_raise_with_the_remedy():
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"):
        smith_waterman(torch.zeros(2, 2), backend="triton")


def test_golden_values(triton_engine):
    s = torch.tensor(GOLDEN, device=DEVICE, requires_grad=True)
    options = {"gap_open": 1.0, "gap_extend": 0.4, "backend": "triton"}
    score = smith_waterman(s, temperature=1.0, **options)
    assert score.item() == pytest.approx(4.30332735, abs=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(score, s)[0].cpu(), torch.tensor(GOLDEN_POSTERIOR), atol=1e-6, rtol=0
    )
    assert smith_waterman(s, temperature=0.1, **options).item() == pytest.approx(3.00000516, abs=1e-6)
    hard = hard_alignment(s.detach(), **options)
    assert hard.score.item() == pytest.approx(3.0)


@pytest.mark.parametrize("rows", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_scaled_numbers_up_to_their_bound(rows, triton_engine):
    """Steep scores for which o + R (e + max S) is just below 70 T, so that the lanes' exponents have to cope."""
    from lac_kernels.triton.layout import FLAG

    n = 32 * rows
    for seed in range(12):
        g = torch.Generator().manual_seed(seed)
        o, e = 29 * torch.rand(2, generator=g) * torch.tensor([0.6, 0.3])
        most = ((69 - o) / rows - e).item()
        if most < 0.5:
            o, e, most = torch.tensor(1.0), torch.tensor(0.1), 60 / rows
        scores = torch.rand(2, n, n + 9, generator=g) * most
        kind = seed % 4
        if kind == 1:
            scores = torch.where(torch.rand(scores.shape, generator=g) < 0.1, scores, -scores * rows)
        elif kind == 2:
            scores = most * (2 * torch.eye(n, n + 9) - 1).expand(2, -1, -1)
        elif kind == 3:
            scores = scores.flip(2) - most * (torch.arange(n + 9) % 7 == 0)
        scores = scores.clamp(max=most)
        gap = torch.ones(1, 1, 1)
        lengths = (torch.tensor([n, n - 3]).int(), torch.tensor([n + 9, n]).int())
        p = Problem(scores, o * gap, e * gap, torch.tensor(1.0), *lengths)
        _, saved = triton_engine.forward(p, True)
        assert not saved[:, FLAG.value].contiguous().view(torch.int32).any()
        for name, error in errors(triton_engine, p, torch.ones(2)).items():
            assert error <= (1e-5 if name == "score" else 1e-4), (seed, name, error)


def test_one_program_takes_many_pairs(triton_engine):
    engine = limited(triton_engine, most_warps=1, kept=0, processors=1, programs=2)
    for seed in range(5):
        p = random_problem(seed, 5, 32, 40, gaps="pair", steep=1e4, dear=1e4)
        for error in errors(engine, p, torch.ones(5)).values():
            assert error <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize(("n", "m"), [(63, 65), (65, 63), (100, 100), (200, 70), (1025, 1025), (4097, 129)])
def test_odd_sizes(n, m, scale, triton_engine):
    b = 2 if n < 1000 else 1
    for error in errors(triton_engine, long_problem(n, m, b, scale), torch.ones(b)).values():
        assert error <= 1e-4


def test_strided_scores_and_expanded_gradients(triton_engine):
    """Sliced and transposed scores, unaligned pointers, and the stride-0 gradient of `score.sum()`."""
    base = torch.randn(41, 9, 60, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    scores = base[1:36:2, 1:4, 3:47:2].permute(1, 2, 0)
    assert 1 not in scores.stride()
    n, m = scores.shape[1:]
    lengths = (torch.tensor([n, 5, 11]).int(), torch.tensor([m, 2, 9]).int())
    p = Problem(scores, torch.full((1, 1, 1), 0.7), torch.full((1, 1, 1), 0.2), torch.tensor(0.4), *lengths)
    for grad in (torch.tensor(1.0, device=DEVICE).expand(3), torch.linspace(0.5, 1.5, 6, device=DEVICE)[::2]):
        for error in errors(triton_engine, p, grad).values():
            assert error <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precisions(dtype, triton_engine):
    for seed in range(8):
        p = random_problem(100 + seed, 2, 32, 40, gaps="scalar", steep=1e4, dear=1e4, dtype=dtype)
        score, _ = triton_engine.forward(p, False)
        assert score.dtype == p.gap_open.dtype
        grad = torch.ones(2, dtype=score.dtype)
        for error in errors(triton_engine, p, grad).values():
            assert error <= (1e-9 if dtype == torch.float64 else 1e-4)
    _, saved = triton_engine.forward(p, True)
    wide, narrow = (triton_engine.gradient(grad, p, saved, x, True)[0] for x in (score.dtype, dtype))
    assert narrow.dtype == dtype
    assert torch.equal(narrow, wide.to(dtype))


def test_at_the_limits_of_the_numbers(triton_engine):
    """The value, or NaN, never a plausible number; a mask of -1e30 or less is -inf."""
    check_scores_of_every_size("triton", torch.float32)
    check_bridges_between_good_stretches("triton", torch.float32)
    for mask in (-1e30, torch.finfo(torch.float32).min):
        check_that_a_mask_forbids(mask, torch.float32, "triton")
    scores = (4000 * torch.eye(70) - 2000)[None].clone().requires_grad_()
    for temperature in (1.0, 1e-2, 1e-3, 1e-5):
        value = smith_waterman(scores, temperature=temperature, backend="triton")
        d = torch.autograd.grad(value.sum(), scores)[0]
        assert right_or_nan(value.item(), 140_000, 1e-5)
        assert torch.isnan(value).item() == d.isnan().any().item()


def test_second_derivatives(triton_engine):
    def f(scores, gap_open, gap_extend, temperature):
        return soft_alignment(
            scores, gap_open=gap_open, gap_extend=gap_extend, temperature=temperature, backend="triton"
        )

    inputs = [x.to(DEVICE).double().requires_grad_() for x in (torch.randn(2, 3, 4), *torch.rand(3) + 0.3)]
    assert torch.autograd.gradcheck(f, inputs)


@needs_emulator
@pytest.mark.parametrize(
    ("line", "mutated"),
    [
        ("f = power(K - K_new, LAYOUT.dtype)", "f = fill(1.0, LAYOUT)"),
        ("return column.to(tl.uint32, bitcast=True) <", "return column.to(tl.uint32, bitcast=True) <="),
        ("f_in = power(K_in - K_new, LAYOUT.dtype)", "f_in = power(K - K_new, LAYOUT.dtype)"),
    ],
    ids=["dropped rescale", "column past the end", "rescale by the wrong exponent"],
)
def test_mutants_are_caught(line, mutated, tmp_path, monkeypatch):
    """The checks above can fail: a slip in the source is a wrong score or a finding."""
    from lac_kernels import triton as triton_engine

    files = sorted(Path(triton_engine.__file__).parent.glob("*.py"))
    assert any(line in path.read_text() for path in files)
    (tmp_path / "mutant").mkdir()
    for path in files:
        source = path.read_text().replace("lac_kernels.triton", "mutant")
        (tmp_path / "mutant" / path.name).write_text(source.replace(line, mutated))
    monkeypatch.syspath_prepend(tmp_path)
    with emulate(raise_findings=False) as session:
        import mutant

        for name in [name for name in sys.modules if name.partition(".")[0] == "mutant"]:
            del sys.modules[name]
        scores = torch.full((2, 20, 30), -0.2) + 6 * torch.eye(20, 30)
        gap = torch.ones(1, 1, 1)
        p = Problem(scores, gap, gap, torch.tensor(0.8), torch.tensor([20, 9]).int(), torch.tensor([30, 30]).int())
        score, _ = mutant.forward(p, False)
        del mutant
        expected, _ = eager.forward(p.double(), False)
        caught = [f for f in session.findings if not f.benign]
    assert caught or not torch.allclose(score.double(), expected, rtol=1e-5)


def test_interpreter_agrees(tmp_path):
    """The same launchers in Triton's interpreter, which knows the language only: no threads, no machine code."""
    pytest.importorskip("triton")
    script = tmp_path / "interpret.py"
    script.write_text(
        """
import torch
from bench.problems import random_problem
from lac_kernels import eager, triton as engine
from lac_kernels.triton.plan import Limits
p = random_problem(5, 1, 5, 6, gaps="scalar")._replace(
    scores=torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(0)), gap_open=torch.ones(1, 1, 1),
    gap_extend=torch.ones(1, 1, 1) / 2, lengths1=torch.tensor([4]).int(), lengths2=torch.tensor([6]).int())
few = dict(lanes=4, most_rows=1, most_warps=2)  # two strips
for limits in (Limits(), Limits(**few, kept=0), Limits(**few, waits=True)):
    for temperature in (1.0, 0.003) if limits == Limits() else (1.0,):  # the second by extended numbers
        q = p._replace(temperature=torch.tensor(temperature))
        score, saved = engine.forward(q, True, limits)
        found = engine.gradient(torch.ones(1), q, saved, torch.float32, True, limits)
        exact, states = eager.forward(q.double(), True)
        expected = eager.gradient(torch.ones(1).double(), q.double(), states, torch.float64, True)
        for x, y in zip((score, *found), (exact, *expected)):
            torch.testing.assert_close(x.double(), y, rtol=1e-5, atol=1e-6)
    for x, y in zip(engine.hard(q, limits), eager.hard(q)):
        torch.testing.assert_close(x, y)
"""
    )
    root = Path(__file__).parent
    path = os.pathsep.join(
        [str(root), str(root.parent), str(root.parent / "kernels"), os.environ.get("PYTHONPATH", "")]
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter does not work with this NumPy")
    assert done.returncode == 0, done.stderr


def test_operators(triton_engine):
    """opcheck, and torch.compile without a graph break, with dynamic batch and lengths."""
    s = torch.randn(2, 3, 4, device=DEVICE, requires_grad=True)
    gap, t = (torch.full(shape, 0.5, device=DEVICE, requires_grad=True) for shape in ((1, 1, 1), ()))
    lengths = (torch.tensor([3, 1], device=DEVICE).int(), torch.tensor([4, 2], device=DEVICE).int())
    inputs = (s, gap, gap, t, *lengths)
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops.forward_op, (*inputs, True, "triton"), test_utils=utils)
    _, saved = ops.forward_op(*inputs, True, "triton")
    arguments = (torch.ones(2, device=DEVICE), *inputs, saved.detach(), torch.float32, True, "triton")
    torch.library.opcheck(ops.gradient_op, arguments, test_utils=utils)

    def loss(scores, gap, lengths1, lengths2):
        return smith_waterman(
            scores, gap_open=gap, temperature=0.7, lengths=(lengths1, lengths2), backend="triton"
        ).sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for b, n, m in ((2, 6, 7), (3, 9, 5)):
        scores = torch.randn(b, n, m, device=DEVICE, requires_grad=True)
        gap = torch.tensor(0.5, device=DEVICE, requires_grad=True)
        lengths = tuple(torch.randint(1, most + 1, (b,), device=DEVICE) for most in (n, m))
        expected = torch.autograd.grad(loss(scores, gap, *lengths), (scores, gap))
        for x, y in zip(torch.autograd.grad(compiled(scores, gap, *lengths), (scores, gap)), expected, strict=True):
            torch.testing.assert_close(x, y)
