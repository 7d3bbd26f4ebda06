"""What a call costs the host: from Python to a launch that launches nothing.

    PYTHONPATH=tests python -m bench.host

A row is added to bench/results/host.csv for each kind of call: microseconds, the median of several rounds.
`python -m bench.report` makes the table.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from emulated import emulate
from ptxemu import driver

from bench.problems import Problem
from bench.rows import RESULTS, append_rows, command_line, commit, machine
from lac import smith_waterman
from lac.system import describe
from lac_kernels.triton import launch

ROWS = RESULTS / "host.csv"
FIELDS = ["call", "microseconds", "rounds", "device", "torch", "triton", "lac", "commit", "date", "command"]
CALLS = 200  # a round


def microseconds(call: Callable[[], Any], rounds: int) -> float:
    call()
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        took.append((time.perf_counter() - began) / CALLS)
    return round(1e6 * statistics.median(took), 1)


def calls() -> dict[str, Callable[[], Any]]:
    """By name; of 16 pairs of 64 x 64 frames."""
    from lac_kernels import triton as engine

    scores, gap = torch.randn(16, 64, 64), torch.ones(1, 1, 1)
    lengths = torch.full((16,), 64).int()
    ones = torch.ones(16)
    p = Problem(scores, gap, gap, torch.ones(()), None, None)
    ragged = p._replace(lengths1=lengths, lengths2=lengths)
    leaf, learned = scores.clone().requires_grad_(), torch.ones((), requires_grad=True)
    _, saved = engine.forward(p, True)
    last: list[Any] = []

    def noted(self: Any, kernel: Any, programs: int, arguments: Any, layouts: Any) -> None:
        del self
        last[:] = kernel, programs, arguments, layouts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch.Prepared, "launch", noted)
        engine.forward(p, True)
    kernel, programs, arguments, layouts = last
    options = launch.options_of(layouts[0])
    compiled = kernel[(programs,)](*arguments, *layouts, **options)

    def training() -> None:
        score = smith_waterman(leaf, gap_open=learned, gap_extend=learned, backend="triton")
        torch.autograd.grad(score.sum(), (leaf, learned))

    return {
        "one launch through Triton": lambda: kernel[(programs,)](*arguments, *layouts, **options),
        "one launch of what is compiled": lambda: compiled[(programs, 1, 1)](*arguments, *layouts),
        "the engine's forward pass": lambda: engine.forward(p, True),
        "the engine's gradient": lambda: engine.gradient(ones, p, saved, torch.float32, True),
        "the engine's gradient, with lengths": lambda: engine.gradient(ones, ragged, saved, torch.float32, True),
        "`lac.smith_waterman` and its backward, gaps learned": training,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help=f"of {CALLS} calls (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROWS, metavar="CSV", help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(1)
    common = {
        **machine(describe(torch.device("cpu"))),
        "rounds": options.rounds,
        "triton": triton.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "command": f"PYTHONPATH=tests {command_line('host')}",
    }
    allocate = launch.allocate
    with emulate(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "allocate", allocate)  # not the one that poisons
        patch.setattr(driver._Launcher, "__call__", lambda *_: None)
        for name, call in calls().items():
            row = {"call": name, "microseconds": microseconds(call, options.rounds)}
            print(row, flush=True)
            append_rows(options.out, [{**row, **common}], FIELDS)


if __name__ == "__main__":
    main()
