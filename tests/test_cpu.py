"""The compiled CPU engine against eager in float64, and its habits: memory, threads, forks, compilers."""

import platform
import sys

import oracle
import pytest
import torch
from torch import Tensor

from bench import poison
from bench.problems import Problem, random_problem
from lac import hard_alignment, smith_waterman, soft_alignment
from lac.measure.errors import relative_error
from lac_kernels import cpu, eager, ops
from lac_kernels.cpu import launch, library
from lac_kernels.problem import Direction, valid_frames

REASON = cpu.unavailable(torch.device("cpu"))
needs_engine = pytest.mark.skipif(REASON is not None, reason=f"the cpu engine cannot run: {REASON}")


@pytest.fixture
def threads(monkeypatch):
    """Sets the number of threads, and lets small problems use them all."""
    monkeypatch.setattr(launch, "CELLS_PER_THREAD", 1)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def problem(
    b: int,
    n: int,
    m: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    temperature: float = 1.0,
    gap_open: float = 1.0,
    gap_extend: float = 0.4,
    scale: float = 1.0,
    open_shape: tuple[int, int, int] = (1, 1, 1),
    extend_shape: tuple[int, int, int] = (1, 1, 1),
    lengths: tuple[list[int], list[int]] | None = None,
) -> Problem:
    g = torch.Generator().manual_seed(seed)
    compute = ops.compute_dtype(dtype)
    lengths1, lengths2 = (torch.tensor(x, dtype=torch.int32) for x in lengths) if lengths else (None, None)
    return Problem(
        (scale * torch.randn(b, n, m, generator=g, dtype=torch.float64)).to(dtype),
        (gap_open * (0.5 + torch.rand(open_shape, generator=g, dtype=torch.float64))).to(compute),
        (gap_extend * (0.5 + torch.rand(extend_shape, generator=g, dtype=torch.float64))).to(compute),
        torch.tensor(temperature, dtype=compute),
        lengths1,
        lengths2,
    )


def solve(engine, p: Problem, gaps: bool = True) -> tuple[Tensor, ...]:
    """Score and gradients, the pairs weighted 1, 2, 3 ..."""
    score, saved = engine.forward(p, True)
    grad = torch.arange(1, len(score) + 1, dtype=score.dtype)
    return score, *engine.gradient(grad, p, saved, score.dtype, gaps)


def errors(found: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> list[float]:
    """Of the score, relative to itself or to 1; of each gradient, relative to its largest value.

    A gap's gradient counts gaps. Below 1e-9 of a gap the float64 values, made with sigmoids, are not exact.
    """
    score = relative_error(found[0], exact[0], each=True)
    return [score] + [relative_error(f, x, 1e-9) for f, x in zip(found[1:], exact[1:], strict=True)]


def assert_close(p: Problem, score: float, gradient: float) -> None:
    found, exact = solve(cpu, p), solve(eager, p.double())
    limits = (score, gradient, gradient, gradient)
    measured = errors(found, exact)
    assert all(e <= limit for e, limit in zip(measured, limits, strict=True)), measured


# A path of k cells multiplies some 10 k rounded factors; random errors add up to sqrt(10 k) ulp.
LIMITS = {torch.float32: (1e-6, 1e-5), torch.float64: (1e-13, 5e-12)}
RAGGED = ([80, 33, 0, 7, 64, 80], [64, 80, 5, 5, 0, 80])


@needs_engine
@pytest.mark.parametrize("temperature", oracle.GOLDEN_SCORES)
def test_golden_values(temperature):
    scores = torch.tensor(oracle.GOLDEN, requires_grad=True)
    score = smith_waterman(scores, gap_open=1.0, gap_extend=0.4, temperature=temperature, backend="cpu")
    assert score.item() == pytest.approx(oracle.GOLDEN_SCORES[temperature], abs=1e-6)
    score.backward()
    if temperature == 1:
        torch.testing.assert_close(scores.grad, torch.tensor(oracle.GOLDEN_POSTERIOR), atol=1e-6, rtol=0)


@needs_engine
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 1, 9), (2, 9, 1), (3, 63, 65), (2, 100, 15), (1, 130, 1025), (1, 1025, 70)]
)
def test_shapes(shape, dtype):
    assert_close(problem(*shape, dtype=dtype), *LIMITS[dtype])


@needs_engine
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("open_shape", [(1, 1, 1), (6, 1, 1), (1, 80, 1), (6, 1, 80), (1, 80, 80), (6, 80, 80)])
@pytest.mark.parametrize("extend_shape", [(1, 1, 1), (6, 80, 80)])
@pytest.mark.parametrize("count", [1, 2])
def test_gaps_and_lengths(open_shape, extend_shape, dtype, count, threads):
    threads(count)
    p = problem(6, 80, 80, dtype=dtype, open_shape=open_shape, extend_shape=extend_shape, lengths=RAGGED)
    assert_close(p, *LIMITS[dtype])


@needs_engine
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    p = problem(2, 70, 50, dtype=dtype)
    assert_close(p, *LIMITS[torch.float32])
    _, saved = cpu.forward(p, True)
    exact = cpu.gradient(torch.ones(2), p, saved, torch.float32, False)[0]
    rounded = cpu.gradient(torch.ones(2), p, saved, dtype, False)[0]
    assert torch.equal(rounded, exact.to(dtype))


@needs_engine
def test_half_precision_conversions_are_exact():
    """Every finite number as a 1 x 1 problem, whose score it is, and as an upstream gradient to round."""
    for dtype in (torch.float16, torch.bfloat16):
        numbers = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
        numbers = numbers[numbers.isfinite() & (numbers.abs() < 1e6)].clone()
        score = smith_waterman(numbers[:, None, None], temperature=1.0, backend="cpu")
        torch.testing.assert_close(score, numbers.float(), rtol=3e-7, atol=3e-7)
        rounded = numbers.float() * 1.001
        p = Problem(torch.zeros(len(rounded), 1, 1, dtype=dtype), *problem(1, 1, 1)[1:])
        _, saved = cpu.forward(p, True)
        found = cpu.gradient(rounded, p, saved, dtype, False)[0]
        assert torch.equal(found.flatten(), rounded.to(dtype))


@needs_engine
def test_any_strides():
    p = problem(3, 70, 45)
    exact = solve(cpu, p)
    wide = torch.full((3, 80, 100), torch.nan)
    wide[:, 5:75, 3:93:2] = p.scores
    for scores in (
        p.scores.mT.contiguous().mT,
        p.scores.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        wide[:, 5:75, 3:93:2],
    ):
        for found, x in zip(solve(cpu, p._replace(scores=scores)), exact, strict=True):
            assert torch.equal(found, x)
    expanded = p._replace(scores=p.scores[:1, :1].expand(3, 70, 45), gap_open=p.gap_open.expand(3, 70, 45))
    copied = expanded._replace(scores=expanded.scores.contiguous())
    assert torch.equal(solve(cpu, expanded)[1], solve(cpu, copied)[1])


@needs_engine
def test_upstream_gradient_of_stride_0():
    scores = problem(3, 20, 30).scores.requires_grad_()
    smith_waterman(scores, backend="cpu").sum().backward()
    torch.testing.assert_close(scores.grad, soft_alignment(scores, backend="cpu"), rtol=0, atol=0)


@needs_engine
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_every_order(dtype):
    """The posterior's own gradient, and the temperature's, come out as the eager engine has them."""
    found = {}
    for backend in ("cpu", "eager"):
        inputs = [x.clone().requires_grad_() for x in problem(2, 9, 7, dtype=dtype)[:4]]
        options = dict(zip(("gap_open", "gap_extend", "temperature"), inputs[1:], strict=True), backend=backend)
        loss = smith_waterman(inputs[0], **options).sum() + soft_alignment(inputs[0], **options).square().sum()
        found[backend] = torch.autograd.grad(loss, inputs)
    for a, b in zip(found["cpu"], found["eager"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@needs_engine
def test_forbidden_cells():
    scores = problem(1, 40, 50).scores
    scores[torch.rand(scores.shape, generator=torch.Generator().manual_seed(1)) < 0.5] = -torch.inf
    p = problem(1, 40, 50)._replace(scores=scores)
    assert_close(p, *LIMITS[torch.float32])
    nothing = p._replace(scores=torch.full_like(scores, -torch.inf))
    score, d_scores, d_open, d_extend = solve(cpu, nothing)
    assert score.item() == 0
    assert not any(x.any() for x in (d_scores, d_open, d_extend))


@needs_engine
def test_nan_spoils_its_pair_only():
    p = problem(3, 40, 50, lengths=([40, 40, 40], [50, 50, 20]))
    good = solve(cpu, p)
    p.scores[1, 20, 20] = torch.nan
    p.scores[2, 20, 30] = torch.nan  # beyond the pair's length
    score, d_scores, d_open, _ = solve(cpu, p)
    assert score.isnan().tolist() == [False, True, False]
    assert d_scores[1].isnan().all()
    assert torch.equal(d_scores[::2], good[1][::2])
    assert d_open.isnan().all()
    p = problem(1, 4, 5)
    assert cpu.forward(p._replace(gap_open=p.gap_open * torch.nan), False)[0].isnan()
    assert cpu.forward(p._replace(temperature=p.temperature * torch.nan), False)[0].isnan()
    assert torch.isposinf(cpu.forward(p._replace(scores=p.scores + torch.inf), False)[0])


def worst_errors(seeds: range, most: int) -> tuple[Tensor, Tensor]:
    """Largest error of score, d_scores, d_open, d_extend: of this engine, and of the eager one in float32."""
    worst = torch.zeros(2, 4)
    for seed in seeds:
        p = random_problem(seed, 3, most, most, steep=1e4, dear=1e4)
        exact = solve(eager, p.double())
        for row, engine in zip(worst, (cpu, eager), strict=True):
            row.copy_(torch.maximum(row, torch.tensor(errors(solve(engine, p), exact))))
    return worst[0], worst[1]


@needs_engine
@pytest.mark.parametrize("cases", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_random_cases(cases):
    """Within the bounds set for every engine, and no worse than torch operations in the same precision."""
    found, plain = worst_errors(range(cases), 30 if cases < 100 else 150)
    assert found[0] <= 1e-5
    assert (found[1:] <= 1e-4).all()
    assert (found <= plain + 1e-6).all(), (found, plain)


@needs_engine
@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_large_scores_over_temperature(ratio):
    p = problem(2, 130, 210, temperature=0.001)
    p = p._replace(scores=p.scores * (0.001 * ratio / p.scores.abs().max()))
    assert_close(p, *LIMITS[torch.float32])


def direction(p: Problem, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    v_scores, v_open, v_extend = (torch.randn(x.shape, generator=g, dtype=p.gap_open.dtype) for x in p[:3])
    return v_scores, v_open, v_extend


def second(engine, p: Problem, v: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Hessian-vector product, the pairs weighted 1, 2, 3 ..."""
    grad = torch.arange(1, len(p.scores) + 1, dtype=p.gap_open.dtype)
    return engine.second(grad, p, Direction(*v))


def second_errors(found: tuple[Tensor, ...], p: Problem, v: tuple[Tensor, ...]) -> Tensor:
    """Relative to the largest exact value; to grad v / T, where one alignment has all the mass and H is nearly 0."""
    exact = second(eager, p.double(), tuple(x.double() for x in v))
    least = len(p.scores) / p.temperature.item()
    floors = (least, least, least, 1.0)
    return torch.tensor([relative_error(f, x, floor) for f, x, floor in zip(found, exact, floors, strict=True)])


SECOND_LIMITS = {torch.float32: 1e-6, torch.float64: 1e-12}


@needs_engine
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (2, 9, 1), (3, 63, 65), (1, 130, 425), (1, 425, 70)])
def test_second_order_shapes(shape, dtype):
    p = problem(*shape, dtype=dtype)
    v = direction(p)
    assert (second_errors(second(cpu, p, v), p, v) <= SECOND_LIMITS[dtype]).all()


@needs_engine
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("open_shape", [(1, 1, 1), (6, 1, 1), (1, 80, 1), (6, 1, 80), (6, 80, 80)])
@pytest.mark.parametrize("extend_shape", [(1, 1, 1), (6, 80, 80)])
def test_second_order_gaps_and_lengths(open_shape, extend_shape, dtype, threads):
    """The padding of the direction is not looked at, and zero gap directions may come as one number."""
    p = problem(6, 80, 80, dtype=dtype, open_shape=open_shape, extend_shape=extend_shape, lengths=RAGGED)
    v = direction(p)
    found = second(cpu, p, v)
    assert (second_errors(found, p, v) <= SECOND_LIMITS[dtype]).all()
    valid = valid_frames(p.lengths1, 80)[:, :, None] & valid_frames(p.lengths2, 80)[:, None, :]
    assert not found[0][~valid].any()
    spoilt = (v[0].masked_fill(~valid, torch.nan).mT.contiguous().mT, *v[1:])
    for count in (1, 2):
        threads(count)
        for x, y in zip(second(cpu, p, spoilt), found, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0 if count == 1 or len(x) == 6 else 1e-4)
    one = torch.zeros((1, 1, 1), dtype=v[0].dtype)
    nothing = (v[0], torch.zeros_like(v[1]), torch.zeros_like(v[2]))
    for x, y in zip(second(cpu, p, (v[0], one, one)), second(cpu, p, nothing), strict=True):
        assert torch.equal(x, y)


@needs_engine
def test_second_order_of_half_precision_and_expanded_directions():
    p = problem(2, 70, 50, dtype=torch.bfloat16)
    v = (torch.ones(1, 1, 1, dtype=torch.bfloat16).expand(2, 70, 50), *direction(p)[1:])
    found = second(cpu, p, v)
    assert {x.dtype for x in found} == {torch.float32}
    assert (second_errors(found, p, v) <= 1e-6).all()


@needs_engine
def test_second_order_of_forbidden_cells_and_nan():
    p = problem(4, 40, 50, lengths=([40, 40, 40, 0], [50, 50, 20, 50]))
    p.scores[0][torch.rand(40, 50, generator=torch.Generator().manual_seed(1)) < 0.5] = -torch.inf
    p.scores[1] = -torch.inf
    v = direction(p)
    found = second(cpu, p, v)
    assert (second_errors(found, p, v) <= 1e-6).all()
    assert not found[0][[1, 3]].any()
    assert found[3][[1, 3]].tolist() == [0, 0]
    p.scores[1, 3, 4] = torch.nan
    h_scores, h_open, _, h_grad = second(cpu, p, v)
    assert h_grad.isnan().tolist() == [False, True, False, False]
    assert h_scores[1].isnan().all()
    assert torch.equal(h_scores[::2], found[0][::2])
    assert h_open.isnan().all()


@needs_engine
@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_second_order_of_large_scores_over_temperature(ratio):
    p = problem(2, 70, 210, temperature=0.001)
    p = p._replace(scores=p.scores * (0.001 * ratio / p.scores.abs().max()))
    v = direction(p)
    assert (second_errors(second(cpu, p, v), p, v) <= 1e-6).all()


@needs_engine
@pytest.mark.parametrize(("cases", "most"), [(60, 15), pytest.param(300, 60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", LIMITS)
def test_second_order_random_cases(cases, most, dtype):
    """And not worse than torch operations in the same precision."""
    worst = torch.zeros(2, 4)
    for seed in range(cases):
        p = random_problem(seed, 3, most, most, steep=1e4, dear=1e4)
        p = p.double() if dtype == torch.float64 else p
        v = direction(p, seed)
        for row, engine in zip(worst, (cpu, eager), strict=True):
            row.copy_(torch.maximum(row, second_errors(second(engine, p, v), p, v)))
    assert (worst[0] <= SECOND_LIMITS[dtype]).all(), worst
    assert (worst[0] <= worst[1] + SECOND_LIMITS[dtype]).all(), worst


@needs_engine
@pytest.mark.parametrize("open_shape", [(1, 1, 1), (1, 1, 200)])
@pytest.mark.parametrize("b", [1, 2])
def test_second_order_is_bitwise_repeatable(b, open_shape, threads):
    p = problem(b, 300, 200, open_shape=open_shape)
    v = direction(p)
    threads(1)
    alone = second(cpu, p, v)
    for count in (1, 2):
        threads(count)
        first, again = second(cpu, p, v), second(cpu, p, v)
        for x, y, z in zip(first, again, alone, strict=True):
            assert torch.equal(x, y)
            torch.testing.assert_close(x, z, rtol=0, atol=0 if b == 1 or x.shape[0] == b else 1e-4)


@needs_engine
@pytest.mark.parametrize("bits", [51, 53])
def test_both_sides_of_the_bound_on_shared_exponents(bits):
    """Short runs of good cells in a field of bad ones, each best reached by a long and expensive gap."""
    largest = bits / 1.4427
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        high = largest * float(torch.rand((), generator=g))
        gaps = [torch.full((1, 1, 1), (largest - high) / 2 * share) for share in (1, 0.1)]
        scores = -high * torch.rand(1, 150, 170, generator=g)
        scores[0, 0, 0] = -high
        for _ in range(6):
            i, j, k = (int(torch.randint(1, x, (), generator=g)) for x in (110, 130, 40))
            run = torch.arange(k)
            scores[0, i + run, j + run] = high * float(torch.rand((), generator=g))
        assert_close(Problem(scores, *gaps, torch.tensor(1.0), None, None), *LIMITS[torch.float32])


@needs_engine
@pytest.mark.parametrize("open_shape", [(1, 1, 1), (1, 1, 400), (2, 300, 400)])
@pytest.mark.parametrize("b", [1, 2])
def test_bitwise_repeatable(b, open_shape, threads):
    """Threads share a pair's rows or a batch's pairs. Only sums over a batch depend on their number."""
    p = problem(b, 300, 400, open_shape=(min(b, open_shape[0]), *open_shape[1:]))
    threads(1)
    alone = solve(cpu, p)
    for count in (1, 2, 3):
        threads(count)
        first, second = solve(cpu, p), solve(cpu, p)
        for x, y in zip(first, second, strict=True):
            assert torch.equal(x, y)
        for x, y in zip(first, alone, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0 if b == 1 or x.shape[0] == b else 1e-5)


@needs_engine
@pytest.mark.parametrize("byte", poison.BYTES)
def test_nothing_uninitialised_is_read(byte, threads):
    """Ragged pairs, and widths at which the last window of steps has none left for the first strips of a block."""
    problems = [problem(6, 80, 80, open_shape=(6, 80, 80), lengths=RAGGED)]
    problems += [
        problem(1, n, m, scale=20.0, dtype=dtype)
        for n, m in ((33, 158), (49, 130), (64, 145), (64, 170), (100, 337))
        for dtype in LIMITS
    ]
    for p in problems:
        v = direction(p)
        for count in (1, 2):
            threads(count)
            exact = (*solve(eager, p.double()), *second(eager, p.double(), tuple(x.double() for x in v)))
            clean = (*solve(cpu, p), *second(cpu, p, v), *cpu.hard(p))
            with poison.poisoned(byte):
                found = (*solve(cpu, p), *second(cpu, p, v), *cpu.hard(p))
            for a, b in zip(found, clean, strict=True):
                assert torch.equal(a, b)
            assert max(errors(found[:4], exact[:4])) <= 1e-4


@needs_engine
def test_the_forward_keeps_less_than_an_eighth_of_the_scores():
    for n, m in ((64, 64), (256, 256), (1024, 1024), (4096, 4096), (512, 64), (64, 512), (10000, 300)):
        for dtype in LIMITS:
            with torch.device("meta"):
                scores = torch.empty(8, n, m, dtype=dtype)
            problem = Problem(scores, *(scores[:1, :1, :1],) * 2, scores[0, 0, 0], None, None)
            assert cpu.saved_like(problem).nbytes <= scores.nbytes / 8


@needs_engine
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("whole", [False, True])
def test_hard_alignment(dtype, whole):
    """The eager engine's, with ties: whole scores and gaps make many."""
    for seed, shape in enumerate([(1, 1), (3, 17), (17, 3), (40, 40), (80, 80)]):
        p = problem(
            6, *shape, seed=seed, dtype=dtype, scale=1.5,
            open_shape=(6, 1, shape[1]), extend_shape=(1, *shape),
            lengths=tuple([min(k, size) for k in each] for each, size in zip(RAGGED, shape, strict=True)),
        )  # fmt: skip
        if whole:
            p = p._replace(**{k: getattr(p, k).round() for k in ("scores", "gap_open", "gap_extend")})
        found, exact = (engine.hard(p) for engine in (cpu, eager))
        for a, b in zip(found, exact, strict=True):
            assert torch.equal(a, b)


@needs_engine
def test_hard_alignment_of_nan_and_of_nothing():
    scores = torch.stack([torch.full((4, 5), torch.nan), torch.full((4, 5), -torch.inf), -torch.ones(4, 5)])
    found = hard_alignment(scores, backend="cpu")
    exact = hard_alignment(scores, backend="eager")
    torch.testing.assert_close(found.score, exact.score, rtol=0, atol=0, equal_nan=True)
    assert [len(path) for path in found.paths[1:]] == [len(path) for path in exact.paths[1:]] == [0, 1]


@needs_engine
def test_auto_takes_this_engine():
    scores = problem(2, 30, 40).scores
    assert torch.equal(smith_waterman(scores), smith_waterman(scores, backend="cpu"))


class Alignments(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> Tensor:
        return smith_waterman(problem(2, 300, 300, seed=k).scores, backend="cpu")


@needs_engine
@pytest.mark.promise("torch")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork(threads):
    """The CPU engine in workers that are forked after the parent has used its threads: the same bits."""
    threads(2)
    data = Alignments()
    exact = torch.stack([data[k] for k in range(4)])
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60)
    assert torch.equal(torch.cat(list(loader)), exact)


@pytest.fixture
def fresh_library(monkeypatch, tmp_path):
    """Loads the library again, from an empty cache folder and whatever else the test sets."""
    library.load.cache_clear()
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "cache"))
    yield monkeypatch
    library.load.cache_clear()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script that can be run")
def test_a_compiler_that_fails_is_reported(tmp_path, fresh_library):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such language >&2\nexit 1\n")
    broken.chmod(0o755)
    fresh_library.setenv("CXX", str(broken))
    assert "no such language" in (cpu.unavailable(torch.device("cpu")) or "")
    assert not list((tmp_path / "cache").iterdir())


@needs_engine
def test_a_cache_that_cannot_be_written_is_reported(tmp_path, fresh_library):
    (tmp_path / "cache").touch()
    assert "LAC_CACHE" in (cpu.unavailable(torch.device("cpu")) or "")


@needs_engine
def test_other_devices_are_refused():
    assert "CPU" in (cpu.unavailable(torch.device("meta")) or "")


@pytest.mark.slow
@needs_engine
@pytest.mark.parametrize(
    "flags",
    [
        ("-mno-avx512f",),
        ("-mno-avx", "-mno-avx2", "-mno-avx512f", "-mno-fma"),
        ("-ftrivial-auto-var-init=pattern",),  # what nobody has set on the stack is rubbish
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="flags of x86-64 compilers")
def test_narrower_processors(flags, fresh_library):
    """The same numbers from 32 and from 16 bytes wide vectors, without fused multiply-add."""
    fresh_library.setattr(library, "FLAGS", (*library.FLAGS, *flags))
    fresh_library.setattr(library, "NATIVE", ((),))
    for dtype in LIMITS:
        p = problem(6, 80, 80, dtype=dtype, open_shape=(6, 80, 80), lengths=RAGGED)
        assert_close(p, *LIMITS[dtype])
        assert_close(problem(2, 130, 260, dtype=dtype, temperature=0.003), *LIMITS[dtype])
        v = direction(p)
        assert (second_errors(second(cpu, p, v), p, v) <= SECOND_LIMITS[dtype]).all()
