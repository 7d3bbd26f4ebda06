"""The Triton kernels compiled ahead of time for every target, against the committed record `triton_budget.json`.

`PYTHONPATH=kernels python tests/test_triton_aot.py` compiles everything and writes the record anew.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
from ptxemu.ahead_of_time import compiling_for, usage

from lac_kernels import triton as engine
from lac_kernels.problem import Direction, Problem
from lac_kernels.triton import launch
from lac_kernels.triton.memory import Layout
from lac_kernels.triton.values import EXTENDED, SCALED

RECORD = Path(__file__).with_name("triton_budget.json")
TARGETS = ["cuda:75", "cuda:80", "cuda:90", "cuda:100", "cuda:120", "hip:gfx942", "hip:gfx1100"]
CASES = {
    "scalar gaps, short": {"n": 64},
    "scalar gaps": {"n": 256},
    "scalar gaps, strips": {"n": 1024},
    "gaps per cell": {"n": 256, "cell": True},
    "second": {"n": 256, "second": True},
    "hard": {"n": 256, "hard": True},
}
ESTIMATE = "estimated cycles per step"  # of each innermost loop, by the latency of its loads
MODES = {SCALED.value: "scaled", EXTENDED.value: "extended"}


class Warmup:
    """Stands in for a kernel: a launch compiles and does not run."""

    def __init__(self, kernel: Any, found: dict[str, Any]) -> None:
        self.kernel, self.found = kernel, found

    def __getitem__(self, grid: Any) -> Any:
        def warmup(LAYOUT: Layout | None = None, **kwargs: Any) -> None:
            name = self.kernel.__name__.removesuffix("_kernel")
            rows, steps = 0, (1,)
            if LAYOUT is not None:
                if name != "hard":
                    steps = (LAYOUT.ahead,) if name == "forward" else (LAYOUT.ahead, LAYOUT.ahead_back)
                name = f"{name} {MODES.get(LAYOUT.mode, '')}".strip()
                rows = LAYOUT.rows * LAYOUT.lanes
                kwargs["LAYOUT"] = LAYOUT
            self.found[name] = (self.kernel.warmup(grid=grid, **kwargs), rows, steps)

        return warmup


def compile_launches(target: str, call: Callable[[], Any]) -> dict[str, Any]:
    """Each kernel that the launchers run in `call`, compiled for the target, its rows per step, its loops' steps."""
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, kernel in vars(launch).copy().items():
            if isinstance(kernel, triton.JITFunction):
                patch.setattr(launch, name, Warmup(kernel, found))
        with compiling_for(target):
            try:
                call()
            finally:
                for kernel in vars(launch).values():
                    if isinstance(kernel, Warmup):
                        kernel.kernel.device_caches.clear()
    return found


def problem_of(scores: torch.Tensor, cell: bool = False) -> Problem:
    gap = torch.zeros(scores.shape if cell else (1, 1, 1))
    return Problem(scores, gap, gap, torch.ones(()), *(torch.ones(2, dtype=torch.int32),) * 2)


def forward_and_gradient(problem: Problem) -> None:
    _, saved = engine.forward(problem, True)
    engine.gradient(torch.ones(2), problem, saved, torch.float32, True)


def compile_case(target: str, n: int, cell: bool = False, second: bool = False, hard: bool = False) -> dict[str, Any]:
    """Each kernel that the launchers would run for (2, n, 256) float32 scores, as `compile_launches` has it."""
    problem = problem_of(torch.zeros(2, n, 256), cell)
    if hard:
        return compile_launches(target, lambda: engine.hard(problem))
    if second:
        direction = Direction(*problem[:3])
        return compile_launches(target, lambda: engine.second(torch.ones(2), problem, direction))
    return compile_launches(target, lambda: forward_and_gradient(problem))


def test_one_compilation_serves_all_sizes_strides_and_alignments():
    """Else Triton would compile anew for each batch of videos of other lengths. (Rows per lane and strips do count.)"""
    base = torch.zeros(2 * 300 * 300 + 1)
    several = (
        base[:-1].view(2, 300, 300)[:, :256, :256],
        base[1:].view(2, 300, 300)[:, :251, :131].contiguous(),
        base[1:].view(2, 300, 300)[:, :, :250].mT[:, :249],
        base[:1].expand(2, 255, 16),
    )
    hashes = []
    for scores in several:
        found = compile_launches("cuda:90", partial(forward_and_gradient, problem_of(scores)))
        hashes.append({name: kernel.hash for name, (kernel, *_) in found.items()})
    assert all(x == hashes[0] for x in hashes)


def measure(kernel: Any, rows: int, steps: tuple[int, ...]) -> dict[str, Any]:
    """What the record holds of a kernel whose main loops take so many steps at a time.

    AMD's compiler makes more loops than the source has: then what is told is of whole loops.
    """
    found = usage(kernel)
    result: dict[str, Any] = {key: getattr(found, key) for key in ("registers", "spills", "shared", "barriers")}
    known = len(found.loops) == len(steps)
    loops = list(zip(found.loops, steps if known else (1,) * len(found.loops), strict=True))
    if rows:
        key = "loop instructions per cell" if known else "loop instructions per row"
        result[key] = round(sum(loop.instructions / n for loop, n in loops) / rows, 2)
    return result | {ESTIMATE: [{how: round(x / n, 1) for how, x in loop.cycles.items()} for loop, n in loops]}


def measure_all(target: str, case: str) -> dict[str, dict[str, Any]]:
    return {name: measure(*kernel) for name, kernel in compile_case(target, **CASES[case]).items()}


def cases() -> Iterator[Any]:
    for target in TARGETS:
        for case in CASES:
            first = (target, case) == ("cuda:90", "scalar gaps")
            yield pytest.param(target, case, marks=() if first else pytest.mark.slow)


@pytest.mark.parametrize(("target", "case"), list(cases()))
def test_compiled_kernels_keep_to_their_budget(target, case):
    whole = json.loads(RECORD.read_text())
    record = whole["targets"][target][case]
    found = measure_all(target, case)
    assert found.keys() == record.keys()
    for name, numbers in found.items():
        assert numbers["spills"] == numbers["shared"] == numbers["barriers"] == 0, (name, numbers)
        before, after = record[name].pop(ESTIMATE), numbers.pop(ESTIMATE)
        if whole["triton"] == triton.__version__:  # another one orders the instructions otherwise
            for old, new in zip(before, after, strict=True):
                assert all(new[how] <= 1.1 * old[how] for how in old.keys() & new.keys()), (name, old, new)
        for key, value in numbers.items():
            assert value <= 1.1 * record[name][key], (name, key, value, record[name][key])
    if (target, case) == ("cuda:90", "scalar gaps"):
        assert found["forward scaled"]["loop instructions per cell"] <= 1.3
        assert found["backward scaled"]["loop instructions per cell"] <= 4


def write_record() -> None:
    targets = {}
    for target in TARGETS:
        targets[target] = {case: measure_all(target, case) for case in CASES}
        print(target, json.dumps(targets[target], indent=1), flush=True)
    record = {"triton": triton.__version__, "scores": "float32, ragged", "targets": targets}
    temporary = RECORD.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, RECORD)


if __name__ == "__main__":
    sys.exit(write_record())
