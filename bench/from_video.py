"""From video files to results: draw videos, train on them, evaluate beside the controls, align, retrieve.

    python bench/from_video.py runs/video --seeds 3
    python bench/from_video.py runs/try --clips 8 --set train.steps=20 --csv runs/try.csv       # to see that it works

The videos are *drawn pixels* of real motion (bench/render.py), so a result says that the way from files to results
works and what is learned from such pixels, not how well it does on what a camera sees. With the defaults the small
backbone is trained end to end; `--set` takes any setting of lac-train. Rows are appended to bench/results/video.csv,
in the form of bench/representations.py; a seed that is there already is not run again. DIR then holds the videos, and
for each seed a run folder with alignment.png, the aligned videos side by side, and retrieval.png.
"""

import argparse
import datetime
import json
import shlex
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "kernels"):
    sys.path.insert(0, str(folder))

from bench import render, representations  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "video.csv"
CONDITION = "drawn pixels"
# One label a frame of the file: all 25 frames a second are kept.
SETTINGS: dict[str, Any] = {
    "data.name": "folder",
    "data.options.fps": 25.0,
    "data.options.size": 48,
    "data.options.backbone": None,
    "model.backbone": "small",
    "train.steps": 200,
    "train.batch": 8,
    "train.device": "cpu",
}


def one_seed(root: Path, folder: Path, seed: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Train on the videos of ``root`` into the run folder ``folder``, draw, and return the rows of the table.

    A run that was cut off goes on.

    Raises:
        ValueError: the clips cannot be evaluated.
    """
    from rich.console import Console

    from lac.cli import align, retrieve
    from lac.cli.common import results_table
    from lac.config import TrainConfig
    from lac.train import train

    config = TrainConfig.read(None, {**SETTINGS, **settings, "data.root": str(root), "train.seed": seed})
    result = train(config, folder, resume=folder.exists())
    if result.not_evaluated:
        raise ValueError(f"{root}: {result.not_evaluated}")
    data = result.metrics["data"]
    Console().print(results_table(result.rows, title=f"{data}: {CONDITION}, seed {seed}"))
    val = json.loads((root / "split.json").read_text(encoding="utf-8"))["val"]
    for command, arguments in (
        (align.main, [val[0], val[-1], "--out", str(folder / "align"), "--video", str(folder / "align" / "both.mp4")]),
        (retrieve.main, [val[0], "--out", str(folder / "retrieve")]),
    ):
        if command([str(folder), *arguments, "--device", str(config.train.device)]):
            raise ValueError(f"{folder}: no picture of {val[0]}")
    rows = []
    for name, numbers in result.rows.items():
        trained = name == "trained encoder"
        rows.append(
            representations.row(
                data,
                "trained" if trained else name,
                "LACLoss" if trained else representations.CONTROLS,
                seed,
                numbers,
                result.metrics["environment"],
                steps=config.train.steps if trained else 0,
                seconds=result.metrics["seconds"]["training"] if trained else 0,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DIR", help="for the videos and the runs")
    parser.add_argument("--movement", default="deep_squat", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--clips", type=int, metavar="N", help="about so many (default: all)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 (default: 1)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as lac-train; repeatable")
    parser.add_argument("--csv", type=Path, default=RESULTS, metavar="FILE", help="default: %(default)s")
    options = parser.parse_args()

    from lac.config import parse_override
    from lac.data import load

    root = options.out / f"drawn_{options.movement}"
    if not (root / "split.json").exists():
        render.render(load("uiprmd", movement=options.movement), root, clips=options.clips)
    finished = representations.done(options.csv)
    more = {
        "condition": CONDITION,
        "date": datetime.date.today().isoformat(),
        "commit": representations.commit(),
        "command": shlex.join(["python", *sys.argv]),
    }
    settings = dict(parse_override(item) for item in options.set)
    for seed in range(options.seeds):
        if (root.resolve().name, CONDITION, "LACLoss", str(seed)) not in finished:
            rows = one_seed(root, options.out / f"seed{seed}", seed, settings)
            representations.append(options.csv, [{**row, **more} for row in rows])


if __name__ == "__main__":
    main()
