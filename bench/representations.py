"""Which loss makes the better representation? One encoder, one data set, many losses, several seeds.

    python -m bench.representations comparison           # every loss on every data set: the tables of docs/results.md
    python -m bench.representations ablation             # parts of LACLoss, one changed at a time
    python -m bench.representations distractors tempo    # harder and harder data: the curves

Each (data, loss, seed) is a training run with the settings of `lac-train`, evaluated as `lac-eval` does; the losses
differ in nothing but the loss and in what its authors pair (two views of a clip, or two clips of one action). The
controls are evaluated once for each data set and seed. Rows are appended to bench/results/representations.csv as they
finish; a row that is there already is not made again, so an interrupted run goes on. `python -m bench.report` makes
the tables and the curves.

UI-PRMD is found through the environment variable LAC_UIPRMD.
"""

import argparse
import concurrent.futures
import datetime
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.rows import RESULTS, append_rows, command_line, commit, read

ROWS = RESULTS / "representations.csv"
CONTROLS = "controls"
ALONE = "contrastive part alone"
Settings = dict[str, Any]

# What differs from the defaults of LACLoss; each row of the ablation changes one thing.
VARIANTS: dict[str, Settings] = {
    "LACLoss": {},
    ALONE: {"loss.sequence_weight": 0.0},
    **{f"alignment weight: {w:g}": {"loss.sequence_weight": w} for w in (0.3, 3.0)},
    "sigma: sqrt(10)": {"loss.sigma": 10**0.5},  # as published
    "alignment alone": {"loss.frame_weight": 0.0},
    "alignment: score": {"loss.sequence_form": "score"},
    "alignment: contrast, negatives: reversed": {"loss.sequence_form": "contrast"},
    "alignment: contrast, negatives: batch": {"loss.sequence_form": "contrast", "loss.negatives": "batch"},
    "alignment: contrast, negatives: both": {"loss.sequence_form": "contrast", "loss.negatives": "both"},
    "gaps: constant": {"loss.gaps": "constant"},
    "gaps: contextual": {"loss.gaps": "contextual", "loss.embed_dim": 128},
    # 1 per second is what "learned" starts from, at about ten frames a second.
    "gaps: interval": {"loss.gaps": "interval", "loss.gap_extend": 1.0},
    **{f"temperature: {t:g}": {"loss.temperature": t} for t in (0.05, 0.1, 0.4, 0.8)},
}
PUBLISHED = ("SCL", "TCC", "LAV", "GTA", "TCN", "SaL", "LAC as released")  # bench/losses
COMPARED = ("LACLoss", *PUBLISHED)
CURVES = ("LACLoss", "SCL", "LAV")

SQUAT: Settings = {"data.name": "uiprmd", "data.options.movement": "deep_squat"}
SIT: Settings = {"data.name": "uiprmd", "data.options.movement": "sit_to_stand"}


class Plan(NamedTuple):
    """The same losses and seeds on one data set."""

    condition: str  # what is changed in the data; empty for nothing
    settings: Settings
    losses: tuple[str, ...]
    seeds: int


def _tempo(ratio: float) -> list[float]:
    """Slowest and fastest speed, so that one clip is played at most `ratio` times as fast as another."""
    return [ratio**-0.5, ratio**0.5]


PLANS: dict[str, list[Plan]] = {
    "comparison": [Plan("", data, COMPARED, 5) for data in (SQUAT, SIT, {"data.name": "watch"})],
    "ablation": [Plan("", SQUAT, tuple(VARIANTS), 3)],
    "distractors": [
        Plan(f"distractors {share:.0%}", {**SQUAT, "data.options.share": share}, CURVES, 3)
        for share in (0.0, 0.2, 0.4, 0.6)
    ],
    "tempo": [
        Plan(f"tempo {ratio:g}x", {**SQUAT, "data.options.speed": _tempo(ratio)}, CURVES, 3)
        for ratio in (1.0, 1.5, 2.0, 3.0)
    ],
}
FIELDS = [
    "data", "condition", "embedding", "loss", "seed", "steps",
    "accuracy_0.1", "accuracy_0.5", "accuracy_1", "progression_0.1", "progression_0.5", "progression_1",
    "tau", "tau_nan", "ap5", "ap10", "ap15", "seconds", "device", "torch", "lac", "commit", "date", "command",
]  # fmt: skip


def run(settings: Settings, loss: str, seed: int) -> dict[str, dict[str, Any]]:
    """Train with a loss and evaluate, on one thread: numbers by embedding. For CONTROLS evaluate the controls."""
    import torch

    torch.set_num_threads(1)
    from bench.losses import LOSSES
    from lac.embed import embed_clips
    from lac.runs.config import TrainConfig
    from lac.runs.controls import controls
    from lac.runs.evaluate import evaluate_dataset
    from lac.runs.fit import fit
    from lac.runs.sampling import Sampler
    from lac.runs.state import start
    from lac.system import describe

    published = LOSSES.get(loss)
    own = {} if loss == CONTROLS else {"train.views": published.views} if published else VARIANTS[loss]
    config = TrainConfig.read(None, {"train.device": "cpu", **settings, "train.seed": seed, **own})
    device = torch.device("cpu")
    dataset = config.data.load(device)
    state = start(config, dataset, device, published)
    began = time.perf_counter()
    if loss == CONTROLS:
        results = controls(dataset, state.encoder.config, seed=seed, device=device)
    else:
        fit(state, Sampler.of(config, dataset.train), config.train)
        encoder = state.encoder.eval()
        seconds = time.perf_counter() - began
        results = {"trained": evaluate_dataset(dataset, lambda clips: embed_clips(encoder, clips, device))}
    return {
        name: row(
            dataset.name, name, loss, seed, result, describe(device),
            steps=config.train.steps if loss != CONTROLS else 0, seconds=seconds if loss != CONTROLS else 0,
        )
        for name, result in results.items()
    }  # fmt: skip


def row(
    data: str, embedding: str, loss: str, seed: int, result: Any, environment: Settings, *, steps: int, seconds: float
) -> dict[str, Any]:
    """A row of the table: an EvalResult, and where it was made (lac.system.describe)."""
    return {
        "data": data,
        "embedding": embedding,
        "loss": loss,
        "seed": seed,
        "steps": steps,
        **{f"accuracy_{f:g}": round(x, 5) for f, x in result.classification.items()},
        **{f"progression_{f:g}": round(x, 5) for f, x in result.event_completion.items()},
        "tau": round(result.kendalls_tau, 5),
        "tau_nan": result.kendalls_tau_nan,
        **{f"ap{k}": round(x, 5) for k, x in result.retrieval.items()},
        "seconds": round(seconds, 1),
        **{key: environment[key] for key in ("device", "torch", "lac")},
    }


def done(path: Path) -> set[tuple[str, str, str, str]]:
    """What a file has rows of: data, condition, loss, seed."""
    return {(row["data"], row["condition"], row["loss"], row["seed"]) for row in read(path)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", nargs="+", choices=list(PLANS), metavar="PLAN", help=", ".join(PLANS))
    parser.add_argument("--losses", nargs="*", metavar="NAME", help="only these (default: all of the plan)")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0 to N - 1 (default: as planned)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=ROWS, metavar="CSV", help="default: %(default)s")
    options = parser.parse_args()

    from lac.data import load
    from lac.runs.config import TrainConfig

    finished = done(options.out)
    wanted: list[tuple[Plan, str, int]] = []
    for plan in (plan for name in options.plans for plan in PLANS[name]):
        config = TrainConfig.read(None, plan.settings)
        name = load(config.data.name, config.data.root, **config.data.options).name
        for seed in range(options.seeds or plan.seeds):
            for loss in (CONTROLS, *plan.losses):
                key = (name, plan.condition, loss, str(seed))
                if key not in finished and (not options.losses or loss in (CONTROLS, *options.losses)):
                    finished.add(key)
                    wanted.append((plan, loss, seed))
    common = {"commit": commit(), "command": command_line("representations")}
    # Threads of one process would wait for each other; a fresh process per worker also leaves no state behind.
    context = multiprocessing.get_context("spawn")
    began = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        tasks = {pool.submit(run, plan.settings, loss, seed): plan for plan, loss, seed in wanted}
        for count, task in enumerate(concurrent.futures.as_completed(tasks), start=1):
            more = {"condition": tasks[task].condition, "date": datetime.date.today().isoformat(), **common}
            rows = [{**row, **more} for row in task.result().values()]
            append_rows(options.out, rows, FIELDS)
            for row in rows:
                print(
                    f"[{count}/{len(tasks)}, {(time.perf_counter() - began) / 60:.1f} min] {row['data']} "
                    f"{row['condition']}  {row['loss']} {row['embedding']}  seed {row['seed']}: "
                    f"accuracy {row['accuracy_1']:.3f}  progression {row['progression_1']:.3f}  tau {row['tau']:.3f}  "
                    f"AP@5 {row['ap5']:.3f}  ({row['seconds']:.0f} s)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
