"""The Triton kernels compiled ahead of time for every target, against the committed record `triton_budget.json`.

`PYTHONPATH=kernels python tests/test_triton_aot.py` compiles everything and writes the record anew.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from lac_kernels import triton as engine
from lac_kernels.problem import Direction, Problem
from lac_kernels.triton import launch
from lac_kernels.triton.memory import Layout
from lac_kernels.triton.values import EXTENDED, SCALED

RECORD = Path(__file__).with_name("triton_budget.json")
TARGETS = ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120", "gfx942", "gfx1100"]
CASES = {
    "scalar gaps": {"n": 256},
    "scalar gaps, strips": {"n": 1024},
    "gaps per cell": {"n": 256, "cell": True},
    "second": {"n": 256, "second": True},
    "hard": {"n": 256, "hard": True},
}
MODES = {SCALED.value: "scaled", EXTENDED.value: "extended"}


def target_of(name: str) -> GPUTarget:
    if name.startswith("sm_"):
        return GPUTarget("cuda", int(name[3:]), 32)
    return GPUTarget("hip", name, 64 if name.startswith("gfx9") else 32)


class Compiler(DriverBase):
    """A Triton driver that has a target and no device."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_benchmarker(self) -> Any:
        raise NotImplementedError


class Warmup:
    """Stands in for a kernel: a launch compiles and does not run."""

    def __init__(self, kernel: Any, found: dict[str, Any]) -> None:
        self.kernel, self.found = kernel, found

    def __getitem__(self, grid: Any) -> Any:
        def warmup(LAYOUT: Layout | None = None, **kwargs: Any) -> None:
            name = self.kernel.__name__.removesuffix("_kernel")
            rows = 0
            if LAYOUT is not None:
                name = f"{name} {MODES.get(LAYOUT.mode, '')}".strip()
                rows = LAYOUT.rows * LAYOUT.lanes
                kwargs["LAYOUT"] = LAYOUT
            self.found[name] = (self.kernel.warmup(grid=grid, **kwargs), rows)

        return warmup


def compile_launches(target: str, call: Callable[[], Any]) -> dict[str, Any]:
    """Each kernel that the launchers run in `call`, compiled for the target, with its rows per step."""
    found: dict[str, Any] = {}
    driver = triton.runtime.driver
    before = driver.__dict__.get("_active")
    with pytest.MonkeyPatch.context() as patch:
        for name, kernel in vars(launch).copy().items():
            if isinstance(kernel, triton.JITFunction):
                patch.setattr(launch, name, Warmup(kernel, found))
        driver.set_active(Compiler(target_of(target)))
        try:
            call()
        finally:
            for kernel in vars(launch).values():
                if isinstance(kernel, Warmup):
                    kernel.kernel.device_caches.clear()
            driver._active = before
    return found


def problem_of(scores: torch.Tensor, cell: bool = False) -> Problem:
    gap = torch.zeros(scores.shape if cell else (1, 1, 1))
    return Problem(scores, gap, gap, torch.ones(()), *(torch.ones(2, dtype=torch.int32),) * 2)


def forward_and_gradient(problem: Problem) -> None:
    _, saved = engine.forward(problem, True)
    engine.gradient(torch.ones(2), problem, saved, torch.float32, True)


def compile_case(target: str, n: int, cell: bool = False, second: bool = False, hard: bool = False) -> dict[str, Any]:
    """Each kernel that the launchers would run for (2, n, 256) float32 scores, with its rows per step."""
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
        found = compile_launches("sm_90", partial(forward_and_gradient, problem_of(scores)))
        hashes.append({name: kernel.hash for name, (kernel, _) in found.items()})
    assert all(x == hashes[0] for x in hashes)


def innermost_loops(code: str, label: str, branch: str, instruction: str) -> list[int]:
    """Instructions in each innermost loop of disassembled code."""
    position: dict[str, int] = {}
    loops, count = [], 0
    for line in code.splitlines():
        if found := re.match(label, line):
            position[found[1]] = count
        elif re.match(instruction, line):
            count += 1
            if (found := re.search(branch, line)) and found[1] in position:
                loops.append((position[found[1]], count))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [end - start for start, end in inner]


def measure(kernel: Any, rows: int) -> dict[str, float]:
    if "cubin" in kernel.asm:
        tools = Path(triton.__file__).parent / "backends/nvidia/bin"
        with tempfile.TemporaryDirectory() as folder:
            cubin = Path(folder) / "kernel.cubin"
            cubin.write_bytes(kernel.asm["cubin"])
            usage = subprocess.run(
                [tools / "cuobjdump", "-res-usage", cubin], capture_output=True, text=True, check=True
            )
            code = subprocess.run([tools / "nvdisasm", "-c", cubin], capture_output=True, text=True, check=True).stdout
        registers, stack, shared = map(int, re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage.stdout).groups())
        spills = stack + len(re.findall(r"\bLDL|\bSTL", code))
        barriers = len(re.findall(r"\bBAR\.", code))
        loops = innermost_loops(code, r"(\.L_\S+):", r"BRA.*?`\((\.L_\S+)\)", r"\s*/\*[0-9a-f]{4,}\*/\s+\S")
    else:
        code = kernel.asm["amdgcn"]
        registers, spills, scratch = (
            int(re.search(rf"\.{key}:\s+(\d+)", code)[1])
            for key in ("vgpr_count", "vgpr_spill_count", "private_segment_fixed_size")
        )
        spills, shared, barriers = spills + scratch, 0, len(re.findall(r"s_barrier", code))
        loops = innermost_loops(
            code, r"(\.LBB\S+):", r"s_c?branch\S*\s+(\.LBB\S+)", r"\s+[sv]_|\s+(?:global|ds|buffer)_"
        )
    result = {
        "registers": registers,
        "spills": spills,
        "shared": shared + kernel.metadata.shared,
        "barriers": barriers,
    }
    if rows:
        result["loop instructions per cell"] = round(sum(loops) / rows, 2)
    return result


def measure_all(target: str, case: str) -> dict[str, dict[str, float]]:
    return {name: measure(*kernel) for name, kernel in compile_case(target, **CASES[case]).items()}


def cases() -> Iterator[Any]:
    for target in TARGETS:
        for case in CASES:
            first = (target, case) == ("sm_90", "scalar gaps")
            yield pytest.param(target, case, marks=() if first else pytest.mark.slow)


@pytest.mark.parametrize(("target", "case"), list(cases()))
def test_compiled_kernels_keep_to_their_budget(target, case):
    record = json.loads(RECORD.read_text())["targets"][target][case]
    found = measure_all(target, case)
    assert found.keys() == record.keys()
    for name, numbers in found.items():
        assert numbers["spills"] == numbers["shared"] == numbers["barriers"] == 0, (name, numbers)
        for key, value in numbers.items():
            assert value <= 1.1 * record[name][key], (name, key, value, record[name][key])
    if (target, case) == ("sm_90", "scalar gaps"):
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
