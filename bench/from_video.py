"""From video files to results: draw videos, train on them, evaluate beside the controls, align, retrieve.

    python -m bench.from_video runs/video --seeds 3
    python -m bench.from_video runs/video --end-to-end            # the backbone learns too
    python -m bench.from_video runs/try --clips 8 --set train.steps=20 --csv runs/try.csv       # to see that it works

The videos are *drawn pixels* of real motion (bench/render.py), so a result says that the way from files to results
works and what is learned from such pixels, not how well it does on what a camera sees. By default frames become
features of the default backbone, computed once and cached; `--set` takes any setting of lac-train. Rows are appended to
bench/results/video.csv, in the form of bench/representations.py; a seed that is there already is not run again. DIR
then holds the videos, and for each seed a run folder with the pictures of lac-align (and its video) and lac-retrieve.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from bench import render, representations
from bench.plans import CONTROLS
from bench.rows import RESULTS, append_rows, command_line, commit
from lac.model.backbone import PRETRAINED
from lac.runs.config import TrainConfig, parse_override

ROWS = RESULTS / "video.csv"
DRAWN = "drawn pixels"
SETTINGS: dict[str, Any] = {
    "data.name": "folder",
    "data.options.fps": 25.0,
    "data.options.size": 112,
    "train.device": "cpu",
}
# Few, small and short, since every step goes through the backbone and back.
END_TO_END: dict[str, Any] = {
    "data.options.backbone": None,
    "data.options.fps": 5.0,
    "data.options.size": 64,
    "model.backbone": PRETRAINED,
    "augment.frames": 16,
    "train.batch": 8,
    "train.steps": 60,
    "train.warmup": 10,
}


def way(config: TrainConfig) -> str:
    """From which pixels and how: the condition under which the rows stand."""
    trained = config.model["backbone"]
    how = f"{trained} end to end" if trained else f"features of {config.data.options.get('backbone', PRETRAINED)}"
    return f"{DRAWN}, {how}"


def one_seed(config: TrainConfig, folder: Path) -> list[dict[str, Any]]:
    """Train into the run folder `folder`, draw, and return the rows of the table.

    A run that was cut off goes on.

    Raises:
        ValueError: the clips cannot be evaluated.
    """
    from rich.console import Console

    from lac.cli import align, retrieve
    from lac.cli.table import results_table
    from lac.runs.checkpoint import is_saved
    from lac.runs.run import train

    root, seed = Path(str(config.data.root)), config.train.seed
    result = train(config, folder, resume=is_saved(folder))
    if result.not_evaluated:
        raise ValueError(f"{root}: {result.not_evaluated}")
    data = result.metrics["data"]
    Console().print(results_table(result.rows, title=f"{data}: {way(config)}, seed {seed}"))
    val = json.loads((root / "split.json").read_text(encoding="utf-8"))["val"]
    film = str(folder / "align" / "both.mp4")
    for command, arguments in (
        (align.main, [val[0], val[-1], "--chance", "1", "--out", str(folder / "align"), "--video", film]),
        (retrieve.main, [val[0], "--out", str(folder / "retrieve")]),
    ):
        if command([str(folder), *arguments, "--device", str(config.train.device)]):
            raise ValueError(f"{folder}: no picture of {val[0]}")
    rows = []
    for name, numbers in result.rows.items():
        trained = name == "trained encoder"
        row = representations.row(
            data,
            "trained" if trained else name,
            "LACLoss" if trained else CONTROLS,
            seed,
            numbers,
            result.metrics["environment"],
            steps=config.train.steps if trained else 0,
            seconds=result.metrics["seconds"]["training"] if trained else 0,
        )
        rows.append({**row, "condition": way(config)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DIR", help="for the videos and the runs")
    parser.add_argument("--movement", default="deep_squat", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--clips", type=int, metavar="N", help="about so many (default: all)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 (default: 1)")
    parser.add_argument("--end-to-end", action="store_true", help="train the backbone too: few steps, small pictures")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="as lac-train; repeatable"
    )
    parser.add_argument("--csv", type=Path, default=ROWS, metavar="FILE", help="default: %(default)s")
    options = parser.parse_args()

    from lac.data import load

    root = options.out / f"drawn_{options.movement}"
    if not (root / "split.json").exists():
        render.render(load("uiprmd", movement=options.movement), root, clips=options.clips)
    settings = SETTINGS | (END_TO_END if options.end_to_end else {}) | dict(map(parse_override, options.set))
    finished = representations.done(options.csv)
    common = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "command": command_line("from_video"),
    }
    for seed in range(options.seeds):
        config = TrainConfig.read(None, {**settings, "data.root": str(root), "train.seed": seed})
        if (root.resolve().name, way(config), "LACLoss", str(seed)) not in finished:
            rows = one_seed(config, options.out / f"{'end_to_end' if options.end_to_end else 'features'}_{seed}")
            append_rows(options.csv, [{**row, **common} for row in rows], representations.FIELDS)


if __name__ == "__main__":
    main()
