"""Triton kernels of many warps in the emulator: right results, each slip found, and nothing else."""

import re
from collections.abc import Callable
from itertools import combinations
from typing import Any

import ptxemu
import pytest
import torch
from ptxemu import Kind

pytest.importorskip("triton")
import ptxemu_kernels as kernels
from ptxemu.ahead_of_time import compile_kernel
from ptxemu.driver import session
from ptxemu_cases import needs_compiler

pytestmark = needs_compiler

TARGETS = [
    "cuda:90",
    *(pytest.param(f"cuda:{n}", marks=pytest.mark.slow) for n in (75, 80, 100, 120)),
]
SCHEDULES = [{"schedule": "forward"}, {"schedule": "random", "seed": 3}, {"schedule": "warp", "preempt": 50, "seed": 3}]
by_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda options: options["schedule"])


@pytest.fixture(params=TARGETS)
def emulated(request, monkeypatch) -> Callable[..., Any]:
    """A session for a target."""
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # what Triton did before it asked
    return lambda **options: session(request.param, raise_findings=False, **options)


def kinds(opened: Any) -> set[Kind]:
    return {f.kind for f in opened.findings if not f.benign}


@by_schedule
def test_kernels_without_a_fault(emulated, schedule):
    g = torch.Generator().manual_seed(0)
    with emulated(**schedule) as opened:
        for warps in (1, 4, 8):
            x = torch.randn(6, 1000, generator=g)
            out = torch.empty_like(x)
            kernels.softmax[(6,)](x, out, 1000, BLOCK=1024, num_warps=warps)
            torch.testing.assert_close(out, torch.softmax(x, 1))
        for n, m, axis in ((32, 64, 1), (128, 8, 0)):
            x = torch.randn(n, m, generator=g)
            index = torch.randint(0, m if axis else n, (n, m), dtype=torch.int32, generator=g)
            out = torch.empty(n, m)
            kernels.gather[(1,)](x, index, out, N=n, M=m, AXIS=axis)
            assert torch.equal(out, torch.gather(x, axis, index.long()))
        x, sums, programs = torch.randn(1000, generator=g), torch.zeros(7), torch.zeros(1, dtype=torch.int32)
        kernels.count[(4,)](x, sums, programs, 1000, BLOCK=256)
        torch.testing.assert_close(sums, torch.zeros(7).index_add(0, torch.arange(1000) % 7, x))
        assert programs.item() == 4
        x, sums, order = torch.randn(256, generator=g), torch.empty(256), torch.empty(256)
        kernels.sums_and_order[(1,)](x, sums, order, BLOCK=256)
        torch.testing.assert_close(sums, x.cumsum(0))
        assert torch.equal(order, x.sort().values)
    assert not kinds(opened)
    assert len(opened.launches) == 7


def expected_diagonals(x: torch.Tensor) -> torch.Tensor:
    h = torch.zeros(x.shape[0], x.shape[2], dtype=torch.float64)
    for row in x.double().unbind(1):
        before = torch.nn.functional.pad(h[:, :-1], (1, 0), value=-1e30)
        h = row + torch.logaddexp(h, before)
    return h.float()


@by_schedule
@pytest.mark.parametrize(("buffers", "barriers", "right"), [(2, 1, True), (1, 2, True), (2, 0, False), (1, 1, False)])
def test_a_barrier_that_is_missing_is_found_on_every_schedule(emulated, schedule, buffers, barriers, right):
    x = torch.randn(2, 12, 256, generator=torch.Generator().manual_seed(0))
    scratch, out = torch.empty(2, 2, 256), torch.empty(2, 256)
    with emulated(uninitialised=(scratch,), **schedule) as opened:
        kernels.diagonals[(2,)](x, scratch, out, 12, BLOCK=256, BUFFERS=buffers, BARRIERS=barriers)
    found = kinds(opened)
    if right:
        assert not found
        torch.testing.assert_close(out, expected_diagonals(x), rtol=1e-4, atol=1e-4)
    else:
        assert Kind.RACE_BETWEEN_WARPS in found


def barriers(ptx: str) -> list[re.Match[str]]:
    return list(re.finditer(r"bar\.sync\s+0;", ptx))


def without_barrier(number: int) -> Callable[[str], str]:
    def mutate(ptx: str) -> str:
        at = barriers(ptx)[number]
        return ptx[: at.start()] + ptx[at.end() :]

    return mutate


def races_without_barrier(trace: list[ptxemu.Access], number: int) -> bool:
    """From all accesses of a run that had it: whether two conflict that no other barrier holds apart.

    Several threads hold the same value, and store it by one instruction: that is no conflict.
    """
    at: dict[tuple[int | None, int, int], list[ptxemu.Access]] = {}
    for access in trace:
        phase = access.barriers - (access.barriers > number)
        for byte in range(access.offset, access.offset + access.bytes, 2):
            at.setdefault((access.buffer, byte, phase), []).append(access)
    return any(
        a.thread != b.thread and (a.write or b.write) and not (a.write and b.write and a.pc == b.pc)
        for group in at.values()
        for a, b in combinations(set(group), 2)
    )


CASES = {
    "softmax": lambda: (kernels.softmax, (1,), (torch.randn(1, 1000), torch.empty(1, 1000), 1000), {"BLOCK": 1024}),
    "sums_and_order": lambda: (
        kernels.sums_and_order, (1,), (torch.randn(256), torch.empty(256), torch.empty(256)), {"BLOCK": 256},
    ),
    "gather": lambda: (
        kernels.gather,
        (1,),
        (torch.randn(128, 8), torch.randint(0, 128, (128, 8), dtype=torch.int32), torch.empty(128, 8)),
        {"N": 128, "M": 8, "AXIS": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_barrier_that_is_dropped_is_found_unless_it_is_needless(emulated, case):
    """A second opinion, from all accesses and pair by pair, says which are needless."""
    kernel, grid, arguments, constants = CASES[case]()
    texts: list[str] = []
    with emulated(mutate=lambda ptx: texts.append(ptx) or ptx, trace=True) as opened:
        kernel[grid](*arguments, **constants)
    (launched,) = opened.launches
    assert not kinds(opened)
    count = len(barriers(texts[0]))
    assert launched.counts["barriers"] == count > 1
    assert not races_without_barrier(launched.trace, count)
    expected = [races_without_barrier(launched.trace, number) for number in range(count)]
    assert any(expected)
    for number in range(count):
        found = []
        for schedule in SCHEDULES:
            with emulated(mutate=without_barrier(number), **schedule) as opened:
                kernel[grid](*arguments, **constants)
            # What was there may be what is written; such a race of two instructions counts, too.
            found += [f for f in opened.findings if not f.benign or f.instruction != f.other]
        assert bool(found) == expected[number], number


PIPELINE: dict[str, Any] = {"TICKET": True, "ACQUIRE": "acquire", "RELEASE": "release", "SCOPE": "gpu"}
_RELEASE = r"atom\.global\.gpu\.release\.exch"


def relaxed(ptx: str) -> str:
    return re.sub(_RELEASE, "atom.global.gpu.relaxed.exch", ptx)


def fenced(ptx: str) -> str:
    return re.sub(r"(@%p\d+ )" + _RELEASE, r"fence.acq_rel.gpu;\n\1atom.global.gpu.relaxed.exch", ptx)


def apart(ptx: str) -> str:
    """The stores of other threads are not released."""
    return re.sub(
        rf"(st\.global)(.*?)({_RELEASE})",
        lambda m: m[1] + re.sub(r"bar\.sync\s+0;", ";", m[2]) + m[3],
        ptx,
        flags=re.DOTALL,
    )


@by_schedule
@pytest.mark.parametrize(
    ("changed", "options", "warps", "found"),
    [
        ({}, {"resident": 1}, 1, set()),
        ({}, {"resident": 3}, 1, set()),
        ({}, {"resident": 3}, 2, set()),
        ({}, {"resident": 3, "mutate": fenced}, 2, set()),
        ({"RELEASE": "relaxed"}, {"resident": 3}, 1, {Kind.RACE_BETWEEN_CTAS}),
        ({}, {"resident": 3, "mutate": relaxed}, 1, {Kind.RACE_BETWEEN_CTAS}),
        ({"ACQUIRE": "relaxed"}, {"resident": 3}, 1, {Kind.RACE_BETWEEN_CTAS}),
        ({"SCOPE": "cta"}, {"resident": 3}, 1, {Kind.RACE_BETWEEN_CTAS}),
        ({}, {"resident": 3, "mutate": apart}, 2, {Kind.RACE_BETWEEN_CTAS}),
    ],
    ids=["one at a time", "one warp", "two warps", "fence", "relaxed", "mutated", "no acquire", "scope", "no barrier"],
)
def test_programs_that_wait_for_each_other(emulated, schedule, changed, options, warps, found):
    programs, n = 5, 4
    x, out = torch.empty(programs, n, 64), torch.empty(64)
    flags, tickets = torch.zeros(programs, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    with emulated(uninitialised=(x,), most_idle=3000, **options, **schedule) as opened:
        kernels.pipeline[(programs,)](
            x, out, flags, tickets, tickets[1:], n, BLOCK=64, num_warps=warps, **PIPELINE | changed
        )
    assert kinds(opened) == found
    if not found:
        assert torch.equal(out, torch.full((64,), 15.0))


def test_without_tickets_a_program_may_wait_for_one_that_has_not_begun(emulated):
    programs, n = 5, 4
    x, out = torch.empty(programs, n, 64), torch.empty(64)
    flags, tickets = torch.zeros(programs, dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    with emulated(resident=2, schedule="reverse", most_idle=3000) as opened:
        changed = PIPELINE | {"TICKET": False}
        kernels.pipeline[(programs,)](x, out, flags, tickets, tickets[1:], n, BLOCK=64, num_warps=1, **changed)
    assert kinds(opened) == {Kind.DEADLOCK}


def test_beyond_the_end_of_a_buffer(emulated):
    x, out = torch.randn(1000), torch.empty(1000)
    with emulated() as opened:
        kernels.add[(1,)](x, x, out, 1010, BLOCK=1024)
    assert kinds(opened) == {Kind.OUT_OF_BOUNDS}
    assert sum(f.times for f in opened.findings) == 30  # ten elements of three arrays


def carried(ttir: str) -> int:
    """How many variables the loop carries, its counter aside."""
    return len(re.search(r"scf\.for .* iter_args\((.*?)\)", ttir)[1].split(","))


def test_variables_that_begin_as_one_tensor_are_miscompiled(emulated):
    """Triton drops one of them, which its interpreter does not show: each needs an initial tensor of its own."""
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(0))
    a = b = torch.full((128,), 7.0)
    for row in x:
        a, b = row + b, a
    out = torch.empty(128)
    with emulated() as opened:
        kernels.carried_apart[(1,)](x, out, 5, BLOCK=128)
        torch.testing.assert_close(out, a)
        kernels.carried_twice[(1,)](x, out, 5, BLOCK=128)
    assert not kinds(opened)
    arguments = {"x_ptr": "*fp32", "out_ptr": "*fp32", "steps": "i32", "BLOCK": "128"}
    apart, twice = (
        carried(compile_kernel(kernel, arguments, "cuda:90").asm["ttir"])
        for kernel in (kernels.carried_apart, kernels.carried_twice)
    )
    assert apart == 2
    if twice == 2:
        pytest.fail("this Triton carries both: the rule that each needs its own tensor can be lifted")
    assert not torch.allclose(out, a)
