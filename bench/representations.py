"""Which loss makes the better representation? One encoder, many data sets, many losses, several seeds.

    python -m bench.representations cameras          # a camera per clip: LACLoss, published losses, controls, headroom
    python -m bench.representations choices          # what was tried on the way, on the movement it was chosen on
    python -m bench.representations comparison       # one common frame for all clips: LACLoss and published losses
    python -m bench.representations harmless         # where there is little to be gained: nothing may be lost
    python -m bench.representations distractors tempo  # harder and harder data: the curves

Each (data, loss, seed) is a training run with the settings of `lac-train`, evaluated as `lac-eval` does; the losses
differ in nothing but the loss and in what its authors pair (two views of a clip, or two clips of one action). The
controls are evaluated once for each data set and seed. Rows are appended to bench/results/representations.csv as they
finish; a row that is there already is not made again, so an interrupted run goes on. `python -m bench.report` makes
the tables and the curves.

UI-PRMD is found through the environment variable LAC_UIPRMD, the spoken digits through LAC_DIGITS.
"""

import argparse
import concurrent.futures
import datetime
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from bench.consensus import side
from bench.plans import CONSENSUS, CONTROLS, PLANS, TRIED, VARIANTS, Plan, Settings
from bench.rows import RESULTS, append_rows, command_line, commit, machine, read
from lac.data import Dataset
from lac.embed import embed_clips
from lac.model.encoder import FrameEncoder
from lac.runs.config import TrainConfig
from lac.runs.controls import controls
from lac.runs.evaluate import EvalResult, evaluate_dataset
from lac.runs.fit import fit
from lac.runs.sampling import Sampler
from lac.runs.state import State, slow_copy, start
from lac.system import describe

ROWS = RESULTS / "representations.csv"
CPU = torch.device("cpu")
T = TypeVar("T")
Given = tuple[Plan, str, int]  # the loss, and the seed
FIELDS = [
    "data", "condition", "embedding", "loss", "seed", "steps",
    "accuracy_0.1", "accuracy_0.5", "accuracy_1", "progression_0.1", "progression_0.5", "progression_1",
    "tau", "tau_nan", "ap5", "ap10", "ap15", "people_ap5", "seconds", "device", "torch", "lac",
    "commit", "date", "command",
]  # fmt: skip


class Prepared(NamedTuple):
    """A run with a loss before its first step."""

    config: TrainConfig
    dataset: Dataset
    state: State
    sampler: Sampler

    def fit(self) -> FrameEncoder:
        """All steps; the encoder, as it is judged."""
        fit(self.state, self.sampler, self.config.train)
        return self.state.encoder.eval()


def prepared(plan: Plan, loss: str, seed: int) -> Prepared:
    """The run of a plan with a loss, on one thread of the CPU."""
    torch.set_num_threads(1)
    settings = {"train.device": "cpu", **plan.settings, "train.seed": seed, **(VARIANTS | TRIED).get(loss, {})}
    control = side(loss, CONSENSUS.get(loss))
    if control.published:
        settings["loss.consensus_weight"] = 0.0
    config = TrainConfig.read(None, settings)
    dataset = config.data.load(CPU)
    if dataset.name != plan.data:
        raise ValueError(f"the plan is for {plan.data!r}, the data set calls itself {dataset.name!r}")
    state = start(config, dataset, CPU, control.make_loss and control.make_loss(config, dataset))
    if control.groups and state.teacher is None:
        state.teacher = slow_copy(state.encoder)
    return Prepared(config, dataset, state, control.sampler(Sampler.of(config, dataset.train)))


def run(plan: Plan, loss: str, seed: int) -> dict[str, dict[str, Any]]:
    """Train with a loss and evaluate, on one thread: numbers by embedding. For CONTROLS evaluate the controls."""
    made = prepared(plan, loss, seed)
    dataset, encoder = made.dataset, made.state.encoder
    began = time.perf_counter()
    if loss == CONTROLS:
        steps, seconds, results = 0, 0.0, controls(dataset, encoder.config, seed=seed, device=CPU)
    else:
        made.fit()
        steps, seconds = made.config.train.steps, time.perf_counter() - began
        results = {"trained": evaluate_dataset(dataset, lambda clips: embed_clips(encoder, clips, CPU))}
    return {
        name: row(dataset.name, name, loss, seed, result, describe(CPU), steps=steps, seconds=seconds)
        for name, result in results.items()
    }


def row(
    data: str,
    embedding: str,
    loss: str,
    seed: int,
    result: EvalResult,
    environment: Settings,
    *,
    steps: int,
    seconds: float,
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
        "people_ap5": round(result.retrieval_other_people[5], 5) if result.retrieval_other_people else "",
        "seconds": round(seconds, 1),
        **machine(environment),
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

    finished = done(options.out)
    wanted: list[Given] = []
    for plan in (plan for name in options.plans for plan in PLANS[name]):
        for seed in range(options.seeds or plan.seeds):
            for loss in (CONTROLS, *plan.losses):
                key = (plan.data, plan.condition, loss, str(seed))
                if key not in finished and (not options.losses or loss in (CONTROLS, *options.losses)):
                    finished.add(key)
                    wanted.append((plan, loss, seed))
    common = {"commit": commit(), "command": command_line("representations")}
    began = time.perf_counter()
    for count, ((plan, *_), result) in enumerate(at_once(run, wanted, options.jobs), start=1):
        more = {"condition": plan.condition, "date": datetime.date.today().isoformat(), **common}
        rows = [{**row, **more} for row in result.values()]
        append_rows(options.out, rows, FIELDS)
        for row in rows:
            print(
                f"[{count}/{len(wanted)}, {(time.perf_counter() - began) / 60:.1f} min] {row['data']} "
                f"{row['condition']}  {row['loss']} {row['embedding']}  seed {row['seed']}: "
                f"accuracy {row['accuracy_1']:.3f}  progression {row['progression_1']:.3f}  tau {row['tau']:.3f}  "
                f"AP@5 {row['ap5']:.3f}  ({row['seconds']:.0f} s)",
                flush=True,
            )


def at_once(function: Callable[..., T], arguments: Sequence[Given], jobs: int) -> Iterator[tuple[Given, T]]:
    """The results of calls of a function, `jobs` at a time, each with its arguments, as they come."""
    # Threads of one process would wait for each other; a fresh process per worker also leaves no state behind.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        calls = {pool.submit(function, *given): given for given in arguments}
        for call in concurrent.futures.as_completed(calls):
            yield calls[call], call.result()


if __name__ == "__main__":
    main()
