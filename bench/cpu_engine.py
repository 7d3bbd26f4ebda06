"""How fast is the CPU engine, beside what else one could take? Forward + backward, milliseconds and Mcells/s.

    python bench/cpu_engine.py --threads 1 2

All run in turn, round after round, so that whatever else the machine does falls on each alike. Each thread
count is a process of its own, held to that many cores. Before anything is timed the engine must agree with
eager in float64, and those that compute the same recursion must give the same scores. Rows are appended to
bench/results/cpu_engine.csv. Peers (bench/peers) that are not installed are left out and named:

    pip install nwgrad==0.7.0 jax==0.10.2 pysdtw==0.0.5 tslearn==0.10.0 numba
"""

import argparse
import csv
import datetime
import importlib
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "cpu_engine.csv"
for folder in (ROOT, ROOT / "kernels", ROOT / "bench"):
    sys.path.insert(0, str(folder))

PEERS = ("nwgrad_scaled", "softdtw_pysdtw", "softdtw_tslearn", "jax_scan", "torch_naive")
SQUARES = {
    "2 x 64^2": (2, 64),
    "16 x 64^2": (16, 64),
    "16 x 256^2": (16, 256),
    "4 x 1024^2": (4, 1024),
}
RAGGED = [(80, 64), (33, 80), (7, 5), (64, 64)]
LARGE = {"1 x 64^2": (1, 64), "1 x 256^2": (1, 256), "1 x 1024^2": (1, 1024), "1 x 4096^2": (1, 4096)}
FIELDS = [
    "date", "device", "threads", "shape", "cells", "what", "version", "computes",
    "ms", "ms_best", "mcells_per_s", "rounds", "torch", "compiler", "commit", "command",
]  # fmt: skip


def problems() -> dict[str, list[tuple[int, int]]]:
    sizes = {name: [(n, n)] * b for name, (b, n) in SQUARES.items()}
    return sizes | {"ragged 80x64 33x80 7x5 64x64": RAGGED}


def check() -> None:
    """The engine against float64; nothing is timed on a wrong answer."""
    import torch

    from lac_kernels import cpu, eager

    reason = cpu.unavailable(torch.device("cpu"))
    if reason is not None:
        sys.exit(f"the cpu engine cannot run: {reason}")
    one = torch.ones(1, 1, 1)
    for temperature in (1.0, 0.1, 0.001):
        scores, t = torch.randn(2, 100, 130), torch.tensor(temperature)
        found, saved = cpu.forward(scores, one, 0.4 * one, t, None, None, True)
        d = cpu.gradient(torch.ones(2), scores, one, 0.4 * one, t, None, None, saved, torch.float32, False)[0]
        inputs = [x.double() for x in (scores, one, 0.4 * one, t)]
        exact, saved = eager.forward(*inputs, None, None, True)
        weight = torch.ones(2, dtype=torch.float64)
        exact_d = eager.gradient(weight, *inputs, None, None, saved, torch.float64, False)[0]
        if ((found - exact) / exact).abs().max() > 1e-5 or (d - exact_d).abs().max() > 1e-4:
            sys.exit(f"the cpu engine is wrong at T = {temperature}; nothing is timed")


OWN = {
    "lac engine": "this recursion; gradient of the scores; the engine called directly",
    "lac": "this recursion; gradient of the scores; smith_waterman and autograd",
    "lac, gaps learned": "this recursion; gradients of scores and gap penalties; smith_waterman and autograd",
}


def own_runs(sizes, scores):
    import torch

    from lac import smith_waterman
    from lac_kernels import cpu

    b = len(sizes)
    lengths = [torch.tensor(x, dtype=torch.int32) for x in zip(*sizes, strict=True)]
    if len(set(sizes)) == 1:
        lengths = [None, None]
    problem = (scores, torch.ones(1, 1, 1), torch.full((1, 1, 1), 0.4), torch.tensor(1.0), *lengths)
    grad = torch.ones(b)
    leaf = scores.clone().requires_grad_()
    gaps = [torch.tensor(x, requires_grad=True) for x in (1.0, 0.4)]

    def direct():
        score, saved = cpu.forward(*problem, True)
        cpu.gradient(grad, *problem, saved, torch.float32, False)
        return score

    def public(inputs, gap_open, gap_extend):
        score = smith_waterman(
            leaf,
            gap_open=gap_open,
            gap_extend=gap_extend,
            lengths=None if lengths[0] is None else tuple(lengths),
            backend="cpu",
        )
        torch.autograd.grad(score.sum(), inputs)
        return score.detach()

    runs = (direct, lambda: public([leaf], 1.0, 0.4), lambda: public([leaf, *gaps], *gaps))
    return dict(zip(OWN, runs, strict=True))


def version_line(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""


def measure(runs, budget: float) -> dict[str, list[float]]:
    """Seconds of each, in turn, until its budget is used up (one run in any case).

    A quick one first runs once untimed in each turn, so that none pays for the caches its predecessor emptied.
    """

    def timed(run) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    quick = {}
    for name, run in runs.items():
        first = timed(run)  # may compile
        quick[name] = min(first, timed(run)) < 0.1 * budget if first < 10 * budget else False
    seconds = {name: [] for name in runs}
    for _ in range(100):
        for name, run in runs.items():
            if sum(seconds[name]) < budget:
                if quick[name]:
                    run()
                seconds[name].append(timed(run))
    return seconds


def one_thread_count(threads: int, budget: float, peers: list[str]) -> None:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, cores[-threads:])
    import torch

    import lac
    from lac.environment import device_name
    from lac_kernels import cpu

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    check()
    modules = {}
    for name in peers:
        try:
            modules[name] = importlib.import_module(f"peers.{name}")
        except ImportError as error:
            print(f"{name} is left out: {error}")
    described = dict(OWN)
    versions = dict.fromkeys(OWN, lac.__version__)
    for name, module in modules.items():
        described[name], versions[name] = module.WHAT, module.VERSION
    common = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device_name(torch.device("cpu")),
        "threads": threads,
        "torch": torch.__version__,
        "compiler": version_line([str(cpu._compiler()), "--version"]),
        "commit": version_line(["git", "rev-parse", "--short", "HEAD"]),
        "command": "python bench/cpu_engine.py " + " ".join(sys.argv[1:]),
    }
    print(f"\n{common['device']}, {threads} thread(s), {platform.system()}, torch {torch.__version__}")
    for shape, sizes in (problems() | {k: [(n, n)] * b for k, (b, n) in LARGE.items()}).items():
        scores = torch.randn(len(sizes), max(n for n, _ in sizes), max(m for _, m in sizes))
        runs = own_runs(sizes, scores)
        if shape not in LARGE:
            runs |= {name: module.prepare(sizes, scores, threads) for name, module in modules.items()}
        expected = runs["lac engine"]()
        for name, run in runs.items():
            found = run() if name in ("jax_scan", "torch_naive") and scores.numel() < 1e5 else None
            if found is not None and not torch.allclose(found, expected, rtol=1e-4):
                sys.exit(f"{name} and the cpu engine disagree on {shape}: {found} and {expected}")
        cells = sum(n * m for n, m in sizes)
        seconds = measure(runs, budget)
        own = statistics.median(seconds["lac engine"])
        with RESULTS.open("a", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, FIELDS)
            for name, values in seconds.items():
                middle = statistics.median(values)
                table.writerow(
                    common
                    | {
                        "shape": shape, "cells": cells, "what": name, "version": versions[name],
                        "computes": described[name], "ms": f"{1e3 * middle:.4g}",
                        "ms_best": f"{1e3 * min(values):.4g}", "mcells_per_s": f"{cells / middle / 1e6:.4g}",
                        "rounds": len(values),
                    }
                )  # fmt: skip
                print(
                    f"{shape:30} {name:20} {1e3 * middle:10.3f} ms  {cells / middle / 1e6:8.2f} Mcells/s"
                    f"  {middle / own:8.2f} times the engine's"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument("--budget", type=float, default=0.8, help="seconds for each row (default: 0.8)")
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS, help="which peers (default: all)")
    args = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    if not RESULTS.exists():
        RESULTS.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    if len(args.threads) == 1:
        one_thread_count(args.threads[0], args.budget, list(args.peers))
        return
    for threads in args.threads:
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
        command = [sys.executable, __file__, "--threads", str(threads), "--budget", str(args.budget), "--peers"]
        subprocess.run([*command, *args.peers], env=os.environ | limits, check=True)


if __name__ == "__main__":
    main()
