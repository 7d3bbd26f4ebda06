"""What many processes cost: bytes that are gathered, pairs and alignments of each, and an estimate of the step.

    python -m bench.scale_out            # estimates for 1 to 64 nodes
    python -m bench.scale_out --measure  # bytes of the real gather, in 2 and 4 processes on this machine, by gloo

Rows are added to bench/results/scale_out.csv; `python -m bench.report` makes the tables of docs/scale_out.md. An
estimate is a closed formula, see `estimate`, of assumptions that are arguments; nothing of it was measured.
"""

import argparse
import math
import multiprocessing
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from bench.rows import RESULTS, append_rows, command_line
from lac import LACLoss
from lac import processes as wire
from lac.measure.rows import context

ROWS = RESULTS / "scale_out.csv"
FIELDS = [
    "kind", "parts", "processes", "pairs", "frames", "embed", "guide", "n_others", "spread",
    "forward_bytes", "backward_bytes",
    "counted_forward", "counted_backward", "pairs_aligned", "recordings_aligned", "loss_ms", "gather_ms", "efficiency",
    "assumed", "date", "device", "threads", "torch", "triton", "lac", "python", "platform", "commit", "command",
]  # fmt: skip
NODES = (1, 2, 4, 8, 16, 32, 64)
_TIME, _LENGTH, _WIDE = 4, 8, 4  # bytes of a frame's time, of a sequence's length, and of a number of a gradient


@dataclass(frozen=True)
class Batch:
    """What each process has, and what the loss makes of it.

    Attributes:
        pairs: B.
        frames: T, of both sequences.
        embed: E.
        element: bytes of a number of an embedding.
        guide: columns of the guide of sequences 1; 0: none.
        sides: sequences of each pair that travel: 2 (contrast), or 1 and 2 (contrast and consensus without a clock).
        n_others: see `LACLoss`; `None`: all.
        n_negatives: likewise.
        group: pairs that a group has in a process; 0: no consensus.
        spread: processes that a group has pairs in; `None`: all.
    """

    pairs: int = 16
    frames: int = 80
    embed: int = 128
    element: int = 4
    guide: int = 0
    sides: int = 1
    n_others: int | None = None
    n_negatives: int = 4
    group: int = 0
    spread: int | None = None

    def forward(self, processes: int) -> int:
        """Bytes that a process takes from the others in the forward pass."""
        frame = self.sides * (self.embed * self.element + _TIME) + self.guide * _WIDE
        return (processes - 1) * self.pairs * (self.frames * frame + self.sides * _LENGTH)

    def backward(self, processes: int) -> int:
        """Bytes that a process takes from the others in the backward pass."""
        return (processes - 1) * self.pairs * self.sides * self.frames * self.embed * _WIDE

    def pairs_aligned(self, processes: int) -> int:
        """Alignments of the contrast, of each process."""
        joint = self.pairs * processes
        others = joint - 1 if self.n_others is None else min(self.n_others, joint - 1)
        return self.pairs * (1 + others + min(self.n_negatives, joint))

    def recordings_aligned(self, processes: int) -> int:
        """Alignments of the consensus, of each process: every two recordings of a group that it has, twice."""
        if not self.group:
            return 0
        whole = self.sides * self.group * min(self.spread or processes, processes)
        return self.pairs // self.group * 2 * math.comb(whole, 2)


def estimate(batch: Batch, nodes: int, assumed: argparse.Namespace) -> dict[str, Any]:
    """A step of each of nodes x gpus processes, by a ring: W - 1 messages, each with what one process has.

    The gather is not hidden behind anything: it needs the embeddings, and the encoder's backward pass needs its
    gradient. The gradients of the weights, which are, cost the same with any loss and are left out.
    """
    processes = nodes * assumed.gpus
    bandwidth, latency = (assumed.inter, assumed.inter_latency) if nodes > 1 else (assumed.intra, assumed.intra_latency)
    moved = batch.forward(processes) + batch.backward(processes)
    gather = 2 * (processes - 1) * latency * 1e-3 + moved / (bandwidth * 1e6)
    aligned = {
        "pairs_aligned": batch.pairs_aligned(processes),
        "recordings_aligned": batch.recordings_aligned(processes),
    }
    loss, alone = (
        (batch.pairs_aligned(w) + batch.recordings_aligned(w)) * assumed.alignment * 1e-3 for w in (processes, 1)
    )
    return {
        **aligned, "loss_ms": round(loss, 2), "gather_ms": round(gather, 2),
        "efficiency": round((assumed.encoder + alone) / (assumed.encoder + loss + gather), 3),
    }  # fmt: skip


def _process(rank: int, world: int, file: str, batch: Batch, results: Any) -> None:
    """Call the loss once, and count what its collectives take from the others."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    counted = {"forward": 0, "backward": 0}

    def counting(call: Any, name: str, received: Any) -> Any:
        def counted_call(output: torch.Tensor, sent: torch.Tensor) -> None:
            counted[name] += received(output, sent)
            call(output, sent)

        return counted_call

    wire._all_gather = counting(wire._all_gather, "forward", lambda out, sent: out.nbytes - sent.nbytes)
    wire._reduce_scatter = counting(wire._reduce_scatter, "backward", lambda out, sent: sent.nbytes - out.nbytes)
    z1, z2 = (torch.randn(batch.pairs, batch.frames, batch.embed, requires_grad=True) for _ in range(2))
    more: dict[str, Any] = {}
    if batch.group:
        first = 0 if batch.spread is None else rank // batch.spread * batch.pairs
        more["groups"] = first + torch.arange(batch.pairs) // batch.group
    if batch.guide:
        more |= {f"guide{k}": torch.randn(batch.pairs, batch.frames, batch.guide // 2) for k in (1, 2)}
    loss = LACLoss(gather=True, negatives="both", n_others=batch.n_others, n_negatives=batch.n_negatives)
    loss(z1, z2, **more).backward()
    results.put((counted["forward"], counted["backward"]))
    dist.destroy_process_group()


def measure(batch: Batch, world: int) -> dict[str, int]:
    """Bytes that a process took from the others; the same in all of them."""
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    with tempfile.TemporaryDirectory() as folder:
        started = [
            spawn.Process(target=_process, args=(k, world, f"{folder}/meet", batch, results)) for k in range(world)
        ]
        for process in started:
            process.start()
        counted = {results.get(timeout=120) for _ in started}
        for process in started:
            process.join()
    ((forward, backward),) = counted
    return {"counted_forward": forward, "counted_backward": backward}


KINDS = {
    "contrast with all": {"sides": 1},
    "contrast with 64 others": {"sides": 1, "n_others": 64},
    "the same, and consensus of groups in one process": {
        "sides": 2,
        "n_others": 64,
        "guide": 40,
        "group": 4,
        "spread": 1,
    },
    "the same, and consensus of groups in all processes": {"sides": 2, "n_others": 64, "guide": 40, "group": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="count bytes here, in place of estimates")
    for name, default, what in (
        ("gpus", 8, "processes of a node"),
        ("pairs", 16, "pairs of each process"),
        ("frames", 80, "frames of each sequence"),
        ("embed", 128, "size of an embedding"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})")
    for name, value, what in (
        ("intra", 200.0, "GB/s of a process's links within a node"),
        ("inter", 25.0, "GB/s of a process's share of the links between nodes"),
        ("intra-latency", 3.0, "microseconds of a message within a node"),
        ("inter-latency", 10.0, "microseconds of a message between nodes"),
        ("encoder", 200.0, "milliseconds of the encoder, forwards and backwards"),
        ("alignment", 2.0, "microseconds of an alignment, forwards and backwards"),
    ):
        parser.add_argument(f"--{name}", type=float, default=value, metavar="X", help=f"{what} (default: {value:g})")
    parser.add_argument("--out", type=Path, default=ROWS, metavar="CSV", help="default: %(default)s")
    options = parser.parse_args()
    about = context(torch.device("cpu"), command_line("scale_out"))
    given = {"pairs": options.pairs, "frames": options.frames, "embed": options.embed}
    assumed = " ".join(f"{name}={vars(options)[name]:g}" for name in ASSUMED)
    for parts, settings in KINDS.items():
        batch = Batch(**{**given, **settings})
        for processes in (2, 4) if options.measure else [nodes * options.gpus for nodes in NODES]:
            row = {name: value for name, value in asdict(batch).items() if name in FIELDS}
            row |= {"forward_bytes": batch.forward(processes), "backward_bytes": batch.backward(processes)}
            if options.measure:
                row |= {"kind": "measured", **measure(batch, processes)}
            else:
                row |= {"kind": "estimate", "assumed": assumed, **estimate(batch, processes // options.gpus, options)}
            row |= {"parts": parts, "processes": processes}
            print(row, flush=True)
            append_rows(options.out, [{**about, **row}], FIELDS)


ASSUMED = ("gpus", "intra", "inter", "intra_latency", "inter_latency", "encoder", "alignment")

if __name__ == "__main__":
    main()
