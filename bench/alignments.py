"""How well are clips matched, by encoders of several losses, and by what has learned nothing?

    python -m bench.alignments

Each (data, loss, seed) is a training run of the plan "cameras" of `bench.plans`, and its clips are matched as
`lac-eval --alignment` does. Rows are appended to bench/results/alignments.csv as they finish; a row that is there
already is not made again. `python -m bench.report` makes the tables.
"""

import argparse
import datetime
import os
from pathlib import Path
from typing import Any

from bench.plans import CONTRAST, PLANS, Plan
from bench.representations import CPU, at_once, prepared
from bench.rows import RESULTS, append_rows, command_line, commit, machine, read
from lac import LACLoss
from lac.embed import embed_clips
from lac.runs.alignment_quality import alignment_quality
from lac.runs.matching import Matching
from lac.system import describe

ROWS = RESULTS / "alignments.csv"
ENCODERS = ("LACLoss", CONTRAST, "SCL")  # trained with
FIELDS = [
    "data", "loss", "seed", "steps", "aligner", *Matching._fields, "clips", "people", "pairs", "device", "torch", "lac",
    "commit", "date", "command",
]  # fmt: skip


def run(plan: Plan, loss: str, seed: int) -> list[dict[str, Any]]:
    """Train with a loss and match the validation clips, on one thread: a row for each aligner."""
    made = prepared(plan, loss, seed)
    encoder, by = made.fit(), made.state.loss if isinstance(made.state.loss, LACLoss) else LACLoss()
    quality = alignment_quality(
        made.dataset, lambda clips: embed_clips(encoder, clips, CPU), by, reach=made.config.train.reach
    )
    common = {
        "data": plan.data,
        "loss": loss,
        "seed": seed,
        "steps": made.config.train.steps,
        "clips": len(quality.clips),
        "people": quality.people,
        "pairs": quality.pairs,
        **machine(describe(CPU)),
    }
    return [
        {**common, "aligner": name, **{key: round(x, 5) for key, x in figures._asdict().items()}}
        for name, figures in quality.rows.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, metavar="N", default=3, help="seeds 0 to N - 1 (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    parser.add_argument("--out", type=Path, default=ROWS, metavar="CSV", help="default: %(default)s")
    options = parser.parse_args()

    finished = {(row["data"], row["loss"], row["seed"]) for row in read(options.out)}
    plans = {plan.data: plan for plan in PLANS["cameras"]}.values()
    wanted = [
        (plan, loss, seed)
        for seed in range(options.seeds)
        for plan in plans
        for loss in ENCODERS
        if (plan.data, loss, str(seed)) not in finished
    ]
    common = {"commit": commit(), "command": command_line("alignments")}
    for (plan, loss, seed), rows in at_once(run, wanted, options.jobs):
        more = {"date": datetime.date.today().isoformat(), **common}
        append_rows(options.out, [{**row, **more} for row in rows], FIELDS)
        print(f"{plan.data}, {loss}, seed {seed}: {len(rows)} rows", flush=True)


if __name__ == "__main__":
    main()
