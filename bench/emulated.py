"""How fast does the emulator run compiled kernels, with all checks on, and how long does it take to compile one?

    PYTHONPATH=tests python -m bench.emulated

A row is added to bench/results/emulated.csv for each kernel: cells per second, the median of several launches, and the
seconds that g++ takes for it. `python -m bench.report` makes the table.
"""

import argparse
import datetime
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from emulated import emulate
from ptxemu.launch import Kernel, kernel_of

from bench.problems import Problem, long_problem
from bench.rows import RESULTS, append_rows, command_line, commit, machine
from lac.system import describe

ROWS = RESULTS / "emulated.csv"
FIELDS = [
    "kernel", "cells", "cells_per_second", "launches", "compile_seconds", "device", "torch", "triton", "lac", "commit",
    "date", "command",
]  # fmt: skip


def measured(launches: int, cells: int, run: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """A row for each kernel that `run` launches with an engine."""
    texts: list[str] = []  # of each launch

    def note(ptx: str) -> str:
        texts.append(ptx)
        return ptx

    with emulate(mutate=note) as opened:
        from lac_kernels import triton as engine

        for _ in range(1 + launches):  # the first compiles
            run(engine)
    kernels: dict[str, tuple[float, str]] = {}
    for text in set(texts):
        times = [launched for launched, ptx in zip(opened.launches, texts, strict=True) if ptx == text]
        kernels[times[0].kernel] = statistics.median(launched.seconds for launched in times[1:]), text
    return [
        {
            "kernel": name,
            "cells": cells,
            "cells_per_second": round(cells / took),
            "launches": launches,
            "compile_seconds": round(compile_seconds(text), 2),
        }
        for name, (took, text) in kernels.items()
    ]


def compile_seconds(ptx: str) -> float:
    """Of one kernel, when the runtime is there."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTXEMU_CACHE", folder)
        Kernel(ptx)
        for library in Path(folder).glob("*.so"):
            library.unlink()
        began = time.perf_counter()
        Kernel(ptx)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=7, metavar="N", help="of each kernel (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROWS, metavar="CSV", help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    common = {
        **machine(describe(torch.device("cpu"))),
        "triton": triton.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "command": f"PYTHONPATH=tests {command_line('emulated')}",
    }
    for numbers, scale in (("scaled", 0.1), ("scaled, then extended", 300.0)):
        whole = torch.full((2,), 1024).int()
        p = long_problem(1024, 1024, scale=scale)._replace(lengths1=whole, lengths2=whole)

        def both(engine: Any, p: Problem = p) -> None:
            _, saved = engine.forward(p, True)
            engine.gradient(torch.ones(2), p, saved, torch.float32, True)

        rows = measured(options.launches, p.scores.numel(), both)
        for row in rows:
            row["kernel"] = f"{row['kernel'].removesuffix('_kernel')}, {numbers} numbers"
            print(row, flush=True)
        append_rows(options.out, [{**row, **common} for row in rows], FIELDS)
        kernel_of.cache_clear()


if __name__ == "__main__":
    main()
