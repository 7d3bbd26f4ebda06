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
from pathlib import Path
from typing import Any, NamedTuple

from bench.rows import RESULTS, append_rows, command_line, commit, read

ROWS = RESULTS / "representations.csv"
CONTROLS = "controls"
Settings = dict[str, Any]

CONTRAST, NO_CONSENSUS = "frame contrast", "LACLoss without consensus"
NO_GUIDE, SUPERVISED = "no self-similarity", "trained on the labels"
# What differs from the defaults of lac-train.
VARIANTS: dict[str, Settings] = {
    "LACLoss": {},
    NO_CONSENSUS: {"loss.consensus_weight": 0.0},
    CONTRAST: {"loss.sequence_weight": 0.0, "loss.consensus_weight": 0.0},
    NO_GUIDE: {"train.reach": 0.0},
}
TRIED: dict[str, Settings] = {
    **{f"alignment of the two views: weight {w:g}": {"loss.sequence_weight": w} for w in (0.0, 0.3)},
    **{f"consensus: weight {w:g}": {"loss.consensus_weight": w} for w in (0.5, 1.0, 4.0)},
    **{f"teacher: {kept:g}": {"train.teacher": kept} for kept in (0.0, 0.95)},
}
# What differs from the defaults of lac.Consensus.
CONSENSUS: dict[str, Settings] = {
    **{f"guide: weight {w:g}": {"guide_weight": w} for w in (0.15, 0.5)},
    **{f"margin: {m:g}": {"margin": m} for m in (1.2, 1.8)},
    **{f"temperature: {t:g}": {"temperature": t} for t in (0.4, 0.9)},
    **{f"gaps: {o:g}, {e:g}": {"gap_open": o, "gap_extend": e} for o, e in ((0.75, 0.15), (3.0, 0.6))},
    **{f"spread: {w:g}": {"spread": w} for w in (0.0, 1.0, 3.0)},
    "16 thirds": {"n_thirds": 16},
}
PUBLISHED = ("SCL", "TCC", "LAV", "GTA", "TCN", "SaL", "LAC as released")  # bench/losses
COMPARED = ("LACLoss", *PUBLISHED)
CURVES = ("LACLoss", "SCL", "LAV")
HEADROOM = ("oracle", SUPERVISED)
CLAIM = ("LACLoss", NO_CONSENSUS, CONTRAST, "SCL", "row softmax for p", "no consistency", NO_GUIDE, *HEADROOM)
MORE_CONTROLS = (
    "row softmax for p, aligned again", "soft-DTW for p", "not aligned again", "every target trusted",
    "third views of the clip",
)  # fmt: skip
CHOICES = (
    "LACLoss", *TRIED, *CONSENSUS, "row softmax for p, aligned again", "not aligned again",
    "every target trusted", "gaps and margin learned from views",
)  # fmt: skip
KEPT = ("LACLoss", CONTRAST, "SCL")
WRONG_GROUPS = ("groups shuffled", "partners of other actions")

SQUAT: Settings = {"data.name": "uiprmd", "data.options.movement": "deep_squat"}
SIT: Settings = {"data.name": "uiprmd", "data.options.movement": "sit_to_stand"}
CAMERA: Settings = {"data.options.camera": "clip"}
LONGER: Settings = {"train.steps": 600}
EVERYTHING: Settings = {"data.name": "uiprmd", "data.options.movement": "all", **CAMERA}
SQUAT_3D, SIT_3D = "uiprmd deep_squat untrimmed", "uiprmd sit_to_stand untrimmed"
SQUAT_CAMERA, SIT_CAMERA = f"{SQUAT_3D}, a camera per clip", f"{SIT_3D}, a camera per clip"


class Plan(NamedTuple):
    """The same losses and seeds on one data set."""

    data: str  # the name that the data set gives itself
    condition: str  # what is changed in the data beyond what its name says; empty for nothing
    settings: Settings
    losses: tuple[str, ...]
    seeds: int


def _tempo(ratio: float) -> list[float]:
    """Slowest and fastest speed, so that one clip is played at most `ratio` times as fast as another."""
    return [ratio**-0.5, ratio**0.5]


PLANS: dict[str, list[Plan]] = {
    "cameras": [
        Plan(SQUAT_CAMERA, "", {**SQUAT, **CAMERA, **LONGER}, CLAIM, 5),
        Plan(SIT_CAMERA, "", {**SIT, **CAMERA, **LONGER}, CLAIM, 3),
        Plan(SQUAT_CAMERA, "", {**SQUAT, **CAMERA, **LONGER}, MORE_CONTROLS, 3),
        Plan(SQUAT_CAMERA, "", {**SQUAT, **CAMERA, **LONGER}, PUBLISHED[1:], 3),
        Plan(SIT_CAMERA, "", {**SIT, **CAMERA, **LONGER}, PUBLISHED[1:], 3),
    ],
    "choices": [Plan(SIT_CAMERA, "", {**SIT, **CAMERA, **LONGER}, CHOICES, 3)],
    "comparison": [
        Plan(SQUAT_3D, "", SQUAT, (*COMPARED, CONTRAST), 5),
        Plan(SIT_3D, "", SIT, (*COMPARED, CONTRAST), 5),
        Plan("watch ROW untrimmed", "", {"data.name": "watch"}, (*COMPARED, CONTRAST), 3),
    ],
    "harmless": [
        Plan("watch all untrimmed", "", {"data.name": "watch", "data.options.action": "all"}, KEPT, 3),
        Plan("digits untrimmed", "", {"data.name": "digits", "train.reach": 0.2}, KEPT, 3),
        Plan(f"{SQUAT_CAMERA}, 20% of the joints hidden", "", {**SQUAT, **CAMERA, "data.options.hidden": 0.2}, KEPT, 5),
        Plan(SQUAT_3D, "tempo 3x", {**SQUAT, "data.options.speed": _tempo(3.0)}, ("LACLoss", CONTRAST), 3),
        Plan("uiprmd all untrimmed, a camera per clip", "", EVERYTHING, (*KEPT, *WRONG_GROUPS), 3),
    ],
    "distractors": [
        Plan(SQUAT_3D, f"distractors {share:.0%}", {**SQUAT, "data.options.share": share}, CURVES, 3)
        for share in (0.0, 0.2, 0.4, 0.6)
    ],
    "tempo": [
        Plan(SQUAT_3D, f"tempo {ratio:g}x", {**SQUAT, "data.options.speed": _tempo(ratio)}, CURVES, 3)
        for ratio in (1.0, 1.5, 2.0, 3.0)
    ],
}
FIELDS = [
    "data", "condition", "embedding", "loss", "seed", "steps",
    "accuracy_0.1", "accuracy_0.5", "accuracy_1", "progression_0.1", "progression_0.5", "progression_1",
    "tau", "tau_nan", "ap5", "ap10", "ap15", "people_ap5", "seconds", "device", "torch", "lac",
    "commit", "date", "command",
]  # fmt: skip


def run(plan: Plan, loss: str, seed: int) -> dict[str, dict[str, Any]]:
    """Train with a loss and evaluate, on one thread: numbers by embedding. For CONTROLS evaluate the controls."""
    import torch

    torch.set_num_threads(1)
    from bench.consensus import side
    from lac.embed import embed_clips
    from lac.runs.config import TrainConfig
    from lac.runs.controls import controls
    from lac.runs.evaluate import evaluate_dataset
    from lac.runs.fit import fit
    from lac.runs.sampling import Sampler
    from lac.runs.state import slow_copy, start
    from lac.system import describe

    settings = {"train.device": "cpu", **plan.settings, "train.seed": seed, **(VARIANTS | TRIED).get(loss, {})}
    control = side(loss, CONSENSUS.get(loss))
    if control.published:
        settings["loss.consensus_weight"] = 0.0
    config = TrainConfig.read(None, settings)
    device = torch.device("cpu")
    dataset = config.data.load(device)
    if dataset.name != plan.data:
        raise ValueError(f"the plan is for {plan.data!r}, the data set calls itself {dataset.name!r}")
    state = start(config, dataset, device, control.make_loss and control.make_loss(config, dataset))
    if control.groups and state.teacher is None:
        state.teacher = slow_copy(state.encoder)
    began = time.perf_counter()
    if loss == CONTROLS:
        results = controls(dataset, state.encoder.config, seed=seed, device=device)
    else:
        fit(state, control.sampler(Sampler.of(config, dataset.train)), config.train)
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
        "people_ap5": round(result.retrieval_other_people[5], 5) if result.retrieval_other_people else "",
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

    finished = done(options.out)
    wanted: list[tuple[Plan, str, int]] = []
    for plan in (plan for name in options.plans for plan in PLANS[name]):
        for seed in range(options.seeds or plan.seeds):
            for loss in (CONTROLS, *plan.losses):
                key = (plan.data, plan.condition, loss, str(seed))
                if key not in finished and (not options.losses or loss in (CONTROLS, *options.losses)):
                    finished.add(key)
                    wanted.append((plan, loss, seed))
    common = {"commit": commit(), "command": command_line("representations")}
    # Threads of one process would wait for each other; a fresh process per worker also leaves no state behind.
    context = multiprocessing.get_context("spawn")
    began = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        tasks = {pool.submit(run, plan, loss, seed): plan for plan, loss, seed in wanted}
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
