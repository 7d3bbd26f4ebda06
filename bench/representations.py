"""Which loss makes the better representation? One encoder, one data set, many losses, several seeds.

    python bench/representations.py --set data.name=uiprmd --seeds 5 --jobs 2

Each (loss, seed) is a training run with the settings of `lac-train`, evaluated as `lac-eval` does, with its controls.
Rows are appended to bench/results/representations.csv as they finish; a row that is there already is not run again,
so an interrupted run goes on. `python bench/report.py` makes the tables from the rows.
"""

import argparse
import concurrent.futures
import csv
import datetime
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "representations.csv"
ALONE = "contrastive part alone"
# What differs from the defaults of LACLoss. The ablations change one thing at a time.
LOSSES: dict[str, dict[str, Any]] = {
    "LACLoss": {},
    ALONE: {"alignment_weight": 0.0},
    "alignment: contrast": {"alignment": "contrast"},
    "alignment: score": {"alignment": "score"},
    "gaps: constant": {"gaps": "constant"},
    "gaps: contextual": {"gaps": "contextual", "embed_dim": 128},
    # 1 per second is what "learned" starts from, at about ten frames a second.
    "gaps: interval": {"gaps": "interval", "gap_extend": 1.0},
}
FIELDS = [
    "data", "embedding", "loss", "seed", "steps",
    "accuracy_0.1", "accuracy_0.5", "accuracy_1", "progression_0.1", "progression_0.5", "progression_1",
    "tau", "tau_nan", "ap5", "ap10", "ap15", "seconds", "device", "torch", "lac", "commit", "date", "command",
]  # fmt: skip


def run(overrides: dict[str, Any], loss: dict[str, Any], seed: int) -> dict[str, dict[str, Any]]:
    """Train and evaluate once, on one thread: numbers by embedding (the trained encoder and its controls)."""
    import torch

    torch.set_num_threads(1)
    import lac
    import lac.data
    from lac.config import TrainConfig
    from lac.environment import describe
    from lac.evaluate import controls, embed_clips, evaluate_dataset
    from lac.train import fit, start

    config = TrainConfig.read(
        None, {"train.device": "cpu", **overrides, "train.seed": seed, **{f"loss.{k}": v for k, v in loss.items()}}
    )
    dataset = lac.data.load(config.data.name, config.data.root, **config.data.options)
    device = torch.device("cpu")
    state = start(config, dataset, device)
    began = time.perf_counter()
    fit(state, dataset.train, config)
    seconds = time.perf_counter() - began
    encoder = state.encoder.eval()
    results = {
        "trained": evaluate_dataset(dataset, lambda clips: embed_clips(encoder, clips, device)),
        **controls(dataset, encoder.config, seed=seed, device=device),
    }
    environment = describe(device)
    rows = {}
    for name, result in results.items():
        rows[name] = {
            "data": dataset.name,
            "embedding": name,
            "seed": seed,
            "steps": config.train.steps,
            **{f"accuracy_{f:g}": round(x, 5) for f, x in result.classification.items()},
            **{f"progression_{f:g}": round(x, 5) for f, x in result.event_completion.items()},
            "tau": round(result.kendalls_tau, 5),
            "tau_nan": result.kendalls_tau_nan,
            **{f"ap{k}": round(x, 5) for k, x in result.retrieval.items()},
            "seconds": round(seconds, 1) if name == "trained" else 0,
            **{key: environment[key] for key in ("device", "torch", "lac")},
        }
    return rows


def commit() -> str:
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()


def done() -> set[tuple[str, str, str]]:
    if not RESULTS.exists():
        return set()
    with RESULTS.open(newline="") as file:
        return {(row["data"], row["loss"], row["seed"]) for row in csv.DictReader(file)}


def append(rows: list[dict[str, Any]]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of lac-train, all losses")
    parser.add_argument("--losses", nargs="*", default=list(LOSSES), choices=list(LOSSES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    options = parser.parse_args()
    overrides = {}
    for item in options.set:
        key, _, value = item.partition("=")
        try:
            overrides[key] = json.loads(value)
        except json.JSONDecodeError:
            overrides[key] = value

    from lac.config import TrainConfig
    from lac.data import load

    config = TrainConfig.read(None, overrides)
    name = load(config.data.name, config.data.root, **config.data.options).name
    finished = done()
    wanted = [(loss, seed) for seed in range(options.seeds) for loss in options.losses]
    wanted = [x for x in wanted if (name, x[0], str(x[1])) not in finished]
    common = {"commit": commit(), "command": shlex.join(["python", *sys.argv])}
    # Threads of one process would wait for each other; a fresh process per worker also leaves no state behind.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        tasks = {pool.submit(run, overrides, LOSSES[loss], seed): (loss, seed) for loss, seed in wanted}
        for task in concurrent.futures.as_completed(tasks):
            loss, seed = tasks[task]
            today = datetime.date.today().isoformat()
            rows = task.result()
            # Controls do not depend on the loss: keep them once per seed, with the first loss of the list.
            kept = [row for key, row in rows.items() if key == "trained" or loss == ALONE]
            append([{**row, "loss": loss, "date": today, **common} for row in kept])
            trained = rows["trained"]
            print(
                f"{name}  {loss}  seed {seed}: accuracy {trained['accuracy_1']:.3f}  progression "
                f"{trained['progression_1']:.3f}  tau {trained['tau']:.3f}  AP@5 {trained['ap5']:.3f}  "
                f"({trained['seconds']:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
