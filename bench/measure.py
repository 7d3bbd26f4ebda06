"""Every number of docs/performance.md for this machine, in one command (about ten minutes on two cores).

    python -m bench.measure                  # adds to bench/results/cpu-MACHINE.csv, then makes the tables and plots
    python -m bench.measure --device cuda    # the same on a GPU: bench/results/cuda-MACHINE.csv
    python -m bench.measure --quick --out rows.csv    # seconds: does it work?

Backends, naive forms and peers take their turns in the same runs. Each thread count is a process of its own, held to
that many cores. Peers (bench/peers) that are not installed are listed, not hidden; all of them:

    pip install nwgrad==0.7.0 jax==0.10.2 ddtw==0.1.2 pysdtw==0.0.5 tslearn==0.10.0 parasail==1.3.4 numba
"""

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.rows import ROOT, command_line, destination

if TYPE_CHECKING:
    import torch

    from lac.measure.sides import Side

PEERS = {
    "nwgrad_scaled": "nwgrad==0.7.0",
    "jax_scan": "jax==0.10.2",
    "softdtw_ddtw": "ddtw==0.1.2 numba",
    "softdtw_pysdtw": "pysdtw==0.0.5 numba",
    "softdtw_tslearn": "tslearn==0.10.0 numba",
    "parasail_hard": "parasail==1.3.4",
}
RAGGED = "80x64,33x80,7x5,64x64"
ENGINES = ("wavefront", "eager", "cpu", "triton")
FASTEST = {"cpu": "cpu", "cuda": "triton"}  # by device; measured without autograd and with learned gaps too
WITHOUT_AUTOGRAD = "soft_alignment without autograd"


class Pass(NamedTuple):
    """What is measured together: the shapes one after the other, the sides of each in turn."""

    shapes: list[str]
    sides: tuple[str, ...]
    mode: str = "both"
    dtype: str = "float32"


def passes(device: str, quick: bool, threads: int = 1) -> list[Pass]:
    everyone = ("loop", *ENGINES, "alignment", "learned", *(PEERS if device == "cpu" else ()))
    if quick:
        return [
            Pass(["1x16x16", "2x40x40", "20x16,8x20,3x2"], everyone),
            Pass(["1x20x20", "2x20x20"], ENGINES),
            Pass(["2x40x40"], ENGINES, "second"),
        ]
    constant = (FASTEST[device], "alignment", *(["nwgrad_scaled"] if device == "cpu" else []))
    growing = tuple(dict.fromkeys((*ENGINES, *constant)))
    if threads > 1:
        growing = constant  # the others take minutes, and one thread shows how they grow
    table = ["1x32x32", "2x64x64", "16x64x64", "16x256x256", "4x1024x1024", RAGGED]
    table += ["64x1024x1024"] if device != "cpu" else []
    return [
        Pass(table, everyone),
        Pass([f"1x{n}x{n}" for n in (64, 128, 256, 512, 1024, 2048, 4096)], growing),
        Pass([f"{b}x128x128" for b in (1, 4, 16, 64, 256)], growing),
        Pass([f"{(4096 // n) ** 2}x{n}x{n}" for n in (64, 128, 256, 512, 1024, 2048, 4096)], constant),
        Pass(["16x256x256"], ENGINES, "forward"),
        Pass(["16x256x256"], ENGINES, "backward"),
        Pass(["16x256x256"], ENGINES, "second"),
        Pass(["16x256x256"], ENGINES, dtype="bfloat16"),
        Pass(["16x256x256"], ENGINES, dtype="float64"),
    ]


def peer_sides() -> "dict[str, Side]":
    """Sides by name. A peer does forward and backward in one, on the CPU, in its own precision."""
    from lac.measure.sides import Answer, Side

    def side(name: str, requirement: str) -> Side:
        label = name.replace("_", " ")
        try:
            module = importlib.import_module(f"bench.peers.{name}")
        except ImportError:
            reason = f"not installed (pip install {requirement})"
            return Side(label, "", "", lambda given, mode: lambda: Answer(None, None), obstacle=reason)

        def prepare(given, mode):
            import torch

            return module.prepare(given, torch.get_num_threads())

        ragged = getattr(module, "RAGGED", "")
        return Side(label, module.WHAT, module.VERSION, prepare, modes=("both",), bytes_per_cell=64, ragged=ragged)

    return {name: side(name, requirement) for name, requirement in PEERS.items()}


def engine_sides(device: "torch.device") -> "dict[str, Side]":
    """The engine of the device in two more ways: without autograd, and with learned gaps."""
    import torch

    from lac import __version__, smith_waterman, soft_alignment
    from lac.measure.problem import GAP_EXTEND, GAP_OPEN
    from lac.measure.sides import Answer, Side, differentiated
    from lac_kernels import engines

    backend = FASTEST[device.type]
    gaps = [torch.tensor(x, device=device, requires_grad=True) for x in (GAP_OPEN, GAP_EXTEND)]
    obstacle = engines.unavailable(backend, device)

    def alignment(given, mode):
        options = {"gap_open": GAP_OPEN, "gap_extend": GAP_EXTEND, "lengths": given.lengths, "backend": backend}

        def run() -> Answer:
            with torch.no_grad():
                return Answer(None, soft_alignment(given.scores, **options))

        return run

    def learned(scores, lengths):
        return smith_waterman(scores, gap_open=gaps[0], gap_extend=gaps[1], lengths=lengths, backend=backend)

    kinds = {
        "alignment": (
            f"lac {backend}, {WITHOUT_AUTOGRAD}",
            "the soft alignment, which is the score's gradient, without autograd",
            alignment,
        ),
        "learned": (
            f"lac {backend}, gaps learned",
            "this recursion, with gradients of both gap penalties",
            differentiated(learned, gaps),
        ),
    }
    return {
        key: Side(name, computes, __version__, prepare, modes=("both",), bytes_per_cell=12, obstacle=obstacle)
        for key, (name, computes, prepare) in kinds.items()
    }


def measured(options: argparse.Namespace, command: str) -> Iterator[list[dict[str, str]]]:
    """Rows of one thread count, shape by shape."""
    import torch

    from lac.measure.gate import gate
    from lac.measure.limits import limits
    from lac.measure.problem import Shape
    from lac.measure.rows import context
    from lac.measure.run import measure
    from lac.measure.sides import own_sides

    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(options.threads[0])
    about = context(device, command)
    sides = own_sides(device) | engine_sides(device) | (peer_sides() if device.type == "cpu" else {})
    known = set()
    for number, shapes_sides in enumerate(passes(device.type, options.quick, (options.threads or [1])[0])):
        dtype = getattr(torch, shapes_sides.dtype)
        chosen = [sides[name] for name in shapes_sides.sides]
        if (shapes_sides.mode, dtype) not in known:
            known.add((shapes_sides.mode, dtype))
            yield [about | row for row in limits(shapes_sides.mode, dtype, device)]
        refused = gate(chosen, shapes_sides.mode, dtype, device)
        for text in shapes_sides.shapes:
            rows = measure(
                chosen, Shape.parse(text), mode=shapes_sides.mode, dtype=dtype, device=device, refused=refused,
                seconds=options.seconds,
            )  # fmt: skip
            # A peer that cannot run is listed once, in the table that compares all.
            yield [about | row for row in rows if number == 0 or "skipped" not in row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts on a CPU (default: 1 and all cores)")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each row (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it works")
    parser.add_argument("--out", type=Path, help="CSV to add to; then no tables, plots or training steps are made")
    parser.add_argument("--command", help=argparse.SUPPRESS)
    options = parser.parse_args()
    command = options.command or command_line("measure")
    out = (options.out or destination(options.device)).resolve()  # processes run from the root

    if options.command is not None or options.device != "cpu":
        from lac.measure.rows import append_rows, shape_of

        for rows in measured(options, command):
            append_rows(out, rows)
            for row in rows:
                where = str(shape_of(row)) if row.get("batch") else ""
                found = row.get("skipped") or f"{row.get('ms_p50', ''):>9} ms {row['mcells_per_s']:>9} Mcells/s"
                print(
                    f"{row['threads']:2} {row['mode']:8} {row['dtype']:8} {where:23} {row['side']:22} {found}",
                    flush=True,
                )
    else:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        for count in options.threads or sorted({1, len(cores) or os.cpu_count() or 1}):
            arguments = [
                sys.executable,
                "-m",
                "bench.measure",
                "--threads",
                str(count),
                "--seconds",
                str(options.seconds),
            ]
            arguments += ["--out", str(out), "--command", command, *["--quick"] * options.quick]
            limited = os.environ | {name: str(count) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
            if cores:
                os.sched_setaffinity(0, cores[-count:])  # the process inherits it, with the pools of all libraries
            subprocess.run(arguments, cwd=ROOT, env=limited, check=True)
        if cores:
            os.sched_setaffinity(0, cores)
    if options.out is None:
        for module in (["bench.training", "--device", options.device], ["bench.report"]):
            subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
