"""The forms in which the Triton engine runs a problem: warps of a pair, programs that wait, steps kept or run again."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from emulated import emulate, limited, missing
from oracle import errors

pytest.importorskip("triton")

from bench.problems import Problem, long_problem, random_problem
from lac import LACLoss
from lac_kernels import eager
from lac_kernels import triton as triton_module
from lac_kernels.problem import Direction
from lac_kernels.triton import launch
from lac_kernels.triton.estimate import H100
from lac_kernels.triton.layout import Layout
from lac_kernels.triton.plan import FORMS, KEPT, Form, Shape, form_of, saved_words, soft_plan

needs_emulator = pytest.mark.skipif(missing() is not None, reason=str(missing()))
SCHEDULES: list[dict[str, Any]] = [
    {},
    {"schedule": "reverse"},
    {"schedule": "warp"},
    {"schedule": "random", "seed": 1, "preempt": 40},
]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda x: x.get("schedule", "forward"))
GROUPS = {"most_rows": 1, "most_warps": 2}
LIMITS: dict[str, dict[str, Any]] = {
    "warps, kept": {},
    "warps, run again": {"kept": 0},
    "groups of warps, kept": {**GROUPS, "waits": False},
    "groups of warps, run again": {**GROUPS, "waits": False, "kept": 0},
    "programs that wait, kept": {**GROUPS, "waits": True},
    "programs that wait, run again": {**GROUPS, "waits": True, "kept": 0},
    "one warp, kept": {"most_rows": 1, "most_warps": 1},
    "one warp, run again": {"most_rows": 1, "most_warps": 1, "kept": 0},
}
QUICK = ("warps, kept", "groups of warps, run again", "programs that wait, kept")
forms = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LIMITS]
)


def mixed_problem(n: int, m: int) -> Problem:
    """Two pairs, the second one steep, so that it needs extended numbers."""
    p = long_problem(n, m)
    return p._replace(scores=p.scores * torch.tensor([1.0, 300.0])[:, None, None])


def shape(b: int, n: int, m: int, dtype: torch.dtype = torch.float32) -> Shape:
    return Shape(b, n, m, dtype, torch.device("cpu"), dual=False, cell=False)


@pytest.mark.parametrize(
    ("b", "n", "m", "form"),
    [
        (16, 32, 32, Form(1, 1, False, True)),
        (16, 64, 64, Form(2, 1, False, True)),
        (2000, 64, 64, Form(2, 1, False, False)),
        (64, 256, 256, Form(2, 4, False, True)),
        (270, 256, 256, Form(4, 2, False, True)),
        (300, 256, 256, Form(4, 2, False, False)),
        (1024, 256, 256, Form(8, 1, False, False)),
        (16, 512, 512, Form(2, 8, False, True)),
        (4, 1024, 1024, Form(4, 8, False, True)),
        (1, 1025, 500, Form(2, 4, True, True)),
        (1, 4096, 4096, Form(2, 4, True, True)),
        (1, 8192, 8192, Form(2, 4, True, False)),
        (2000, 4096, 100, Form(8, 1, False, False)),
    ],
)
def test_the_form_that_is_chosen(b, n, m, form):
    assert form_of(shape(b, n, m), H100) == form
    if form.waits:
        apart = form_of(shape(b, n, m), H100._replace(waits=False))
        assert (apart.rows, apart.warps, apart.waits) == (8, 8, False)


def test_what_is_saved_says_which_form_it_was():
    """So the gradient of some of the pairs, or of each several times, goes by the form of the forward kernel."""
    codes = {
        Form(r, w, waits, keep).code for r in (1, 2, 4, 8) for w in (1, 2, 4, 8) for waits in (0, 1) for keep in (0, 1)
    }
    assert codes == set(range(FORMS))
    for b, n, m in ((16, 64, 64), (300, 256, 256), (1, 4096, 4096), (1024, 256, 256)):
        form = form_of(shape(b, n, m), H100)
        assert Form.of_code(saved_words(shape(b, n, m), form, H100) % FORMS) == form


@pytest.mark.parametrize(
    ("b", "n", "m"), [(3, 64, 64), (4096, 64, 64), (3, 129, 500), (64, 1024, 1024), (1, 20_000, 20_000)]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_memory_is_within_its_limits(b, n, m, dtype):
    """What is kept, or else an eighth of the scores' bytes; and what the plans place there has room."""
    problem = shape(b, n, m, dtype)
    form = form_of(problem, H100)
    plan = soft_plan(problem, form, H100, save=True, gaps=True)
    size = 8 if dtype == torch.float64 else 4
    if form.keep:
        assert b * plan.saved_step * size <= KEPT + b * FORMS * size
    else:
        assert plan.saved_step * size <= n * m * dtype.itemsize / 8 + 2 * FORMS * size
    for layout, segment in ((plan.layout, plan.segment), (plan.extended, plan.segment_extended)):
        if layout is not None:
            assert layout.saved_words(n, m, segment) <= plan.saved_step
            assert layout.slot_words(segment) <= plan.scratch_step


@forms
def test_forms(name, triton_engine):
    """Pairs of both kinds, the second one shorter; more rows than the first group or strip has."""
    engine = limited(triton_engine, **LIMITS[name])
    for n, m in ((100, 65), (135, 3)):
        for error in errors(engine, mixed_problem(n, m), torch.tensor([1.0, -2.0])).values():
            assert error <= 1e-5


@pytest.mark.parametrize("cell", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["scalar", "per cell"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == QUICK[-1] else pytest.mark.slow) for name in LIMITS]
)
def test_forms_of_second_derivatives_and_hard_alignments(name, cell, triton_engine):
    engine = limited(triton_engine, **LIMITS[name])
    p = long_problem(70, 40)
    g = torch.Generator().manual_seed(0)
    if cell:
        p = p._replace(gap_open=0.5 + torch.rand(p.scores.shape, generator=g))
    v = Direction(*(torch.randn(x.shape, generator=g) for x in (p.scores, p.gap_open, p.gap_extend)))
    grad = torch.tensor([1.0, -2.0])
    found = engine.second(grad, p, v)
    expected = eager.second(grad.double(), p.double(), Direction(*(x.double() for x in v)))
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=1e-4)
    for x, y in zip(engine.hard(p), eager.hard(p), strict=True):
        torch.testing.assert_close(x, y)
    if cell:
        for error in errors(engine, p, grad).values():
            assert error <= 1e-5


def test_a_gradient_of_other_pairs_than_were_saved_together(triton_engine):
    p = mixed_problem(100, 65)
    score, saved = triton_engine.forward(p, True)
    several = Problem(*(torch.cat([x] * 40) if x is not None and x.dim() and len(x) == 2 else x for x in p))
    grad = torch.tensor([1.0, -2.0])
    one = triton_engine.gradient(grad, p, saved, score.dtype, True)
    many = triton_engine.gradient(grad.repeat(40), several, saved.repeat(40, 1), score.dtype, True)
    assert torch.equal(many[0], one[0].repeat(40, 1, 1))


@needs_emulator
@forms
def test_the_same_bits_and_no_findings_on_any_schedule(name):
    """Also of more and of fewer programs than run at a time."""
    p = mixed_problem(150, 40)
    found = []
    for options in (*SCHEDULES, *({**schedule, "resident": k} for schedule in SCHEDULES for k in (2, 3, 20))):
        with emulate(**options, most_idle=3000) as session:
            engine = limited(triton_module, **LIMITS[name])
            score, saved = engine.forward(p, True)
            found.append((score, *engine.gradient(torch.ones(2), p, saved, torch.float32, True)))
            assert len(session.launches) == 2
    for results in found[1:]:
        for x, y in zip(results, found[0], strict=True):
            assert torch.equal(x, y)


# Slips that must be found. In the text of a kernel, lines from the file of gates are known by their place.


def gate_barriers(ptx: str) -> list[tuple[int, int]]:
    """Where the barriers of this package are, which are not those of sums over threads."""
    own = {file[1] for file in re.finditer(r'\.file\s+(\d+)\s+"[^\n]*lac_kernels/triton[^\n]*"', ptx)}
    found, at, file = [], 0, ""
    for line in ptx.splitlines(keepends=True):
        place = re.match(r"\s*\.loc\s+(\d+)", line)
        file = place[1] if place else file
        if "bar.sync" in line and file in own:
            found.append((at, at + len(line)))
        at += len(line)
    return found


def without_barrier(number: int) -> Callable[[str], str]:
    def mutate(ptx: str) -> str:
        barriers = gate_barriers(ptx)
        assert len(barriers) == 4  # two of either numbers
        start, end = barriers[number]
        return ptx[:start] + ptx[end:]

    return mutate


def run(kernel: str, limits: dict[str, Any], p: Problem, **options: Any) -> set[str]:
    """What is found when one of the two kernels runs with these options, the other one as it is."""
    with emulate():
        engine = limited(triton_module, **limits)
        _, saved = engine.forward(p, True)
    with emulate(raise_findings=False, most_idle=3000, **options) as session:
        engine = limited(triton_module, **limits)
        if kernel == "forward":
            engine.forward(p, True)
        else:
            engine.gradient(torch.ones(len(p.scores)), p, saved, torch.float32, True)
        return {finding.kind.name for finding in session.findings if not finding.benign}


@needs_emulator
@by_schedule
@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_a_barrier_that_is_missing_is_found(kernel, number, schedule):
    limits = LIMITS["groups of warps, run again"]
    assert "RACE_BETWEEN_WARPS" in run(
        kernel, limits, mixed_problem(150, 3), mutate=without_barrier(number), **schedule
    )


@needs_emulator
@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_a_warp_that_follows_too_soon_is_found(kernel, monkeypatch):
    """One step less between the warps, and a column is loaded in the block in which it is stored."""
    of = Layout.of
    monkeypatch.setattr(Layout, "of", lambda *a, **k: dataclasses.replace(of(*a, **k), lag=of(*a, **k).lag - 1))
    limits = LIMITS["groups of warps, run again"]
    with emulate(raise_findings=False) as session:
        engine = limited(triton_module, **limits)
        p = long_problem(150, 40)
        _, saved = engine.forward(p, True)
        before = len(session.findings)
        engine.gradient(torch.ones(2), p, saved, torch.float32, True)
        found = session.findings[:before] if kernel == "forward" else session.findings[before:]
        assert "RACE_BETWEEN_WARPS" in {finding.kind.name for finding in found}


def released_too_soon(ptx: str) -> str:
    """No barrier between the stores of a block and the release."""
    lines = ptx.splitlines()
    for release in (k for k, line in enumerate(lines) if "release.exch" in line):
        k = release
        while "st.global" not in lines[k]:
            lines[k] = "" if "bar.sync" in lines[k] else lines[k]
            k -= 1
    return "\n".join(lines)


SLIPS: dict[str, Callable[[str], str]] = {
    "release": lambda ptx: ptx.replace("atom.global.gpu.release.exch", "atom.global.gpu.relaxed.exch"),
    "acquire": lambda ptx: ptx.replace("gpu.acquire.", "gpu.relaxed."),
    "arrival": lambda ptx: ptx.replace("atom.global.gpu.acq_rel.add", "atom.global.gpu.relaxed.add"),
    "barrier": released_too_soon,
}


@needs_emulator
@by_schedule
@pytest.mark.parametrize(
    ("kernel", "slip"),
    # In the sweep back the thread that stores an edge is the one that releases it.
    [(k, s) for k in ("forward", "backward") for s in SLIPS if (k, s) != ("backward", "barrier")],
)
def test_a_slip_of_programs_that_wait_is_found(kernel, slip, schedule):
    limits = LIMITS["programs that wait, kept"]
    found = run(kernel, limits, long_problem(200, 40), mutate=SLIPS[slip], resident=3, **schedule)
    assert "RACE_BETWEEN_CTAS" in found


@needs_emulator
@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_without_tickets_a_program_may_wait_for_one_that_has_not_begun(kernel):
    def numbered(ptx: str) -> str:
        return re.sub(
            r"(@%p\d+ )?atom\.global\.gpu\.relaxed\.add\.\w+ (%r\d+),.*",
            lambda m: f"{m[1] or ''}mov.u32 {m[2]}, %ctaid.x;",
            ptx,
        )

    limits = LIMITS["programs that wait, kept"]
    assert run(kernel, limits, long_problem(200, 40), mutate=numbered, resident=2, schedule="reverse") == {"DEADLOCK"}


# The host


@needs_emulator
def test_the_default_loss_makes_four_launches_a_step():
    z1, z2 = (torch.randn(3, 20, 8, requires_grad=True) for _ in range(2))
    times = torch.arange(20.0).expand(3, -1)
    loss = LACLoss(backend="triton")
    with emulate() as session:
        value = loss(z1, z2, times1=times, times2=times + 0.5)
        assert len(session.launches) == 2
        value.backward()
        assert len(session.launches) == 4


@needs_emulator
def test_a_kernel_is_looked_up_once(monkeypatch):
    """Later calls go to what was compiled, with the plan that was made; one compilation serves other sizes."""
    p = random_problem(3, 3, 32, 40, gaps="scalar", steep=1.0, dear=1.0)
    with emulate():
        score, saved = triton_module.forward(p, True)
        gradients = triton_module.gradient(torch.ones(3), p, saved, score.dtype, True)

        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("looked up again")

        for kernel in (launch.forward_kernel, launch.backward_kernel):
            monkeypatch.setattr(kernel, "run", never)
        longer = p._replace(scores=torch.randn(3, p.scores.shape[1], p.scores.shape[2] + 1))
        triton_module.forward(longer, True)
        monkeypatch.setattr(launch, "soft_plan", never)
        again, saved = triton_module.forward(p, True)
        assert torch.equal(again, score)
        for x, y in zip(triton_module.gradient(torch.ones(3), p, saved, score.dtype, True), gradients, strict=True):
            assert torch.equal(x, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_beyond_32_bits_are_refused(dtype):
    """The slots of a row are found by offsets of 32 bits: a longer row would read and write elsewhere."""
    for m, taken in ((1_000_000, True), (10_000_000, False)):
        shape = Shape(1, 300, m, dtype, torch.device("cpu"), dual=False, cell=False)
        form = form_of(shape, H100)
        soft_plan(shape, form, H100, save=False, gaps=True)  # the score alone keeps no slots
        if taken:
            plan = soft_plan(shape, form, H100, save=True, gaps=True)
            assert plan.layout.steps(m) * plan.layout.slot < 1 << 31
        else:
            with pytest.raises(
                ValueError, match=r"takes gradients of up to about \d+ columns of such scores, got 1000"
            ):
                soft_plan(shape, form, H100, save=True, gaps=True)
