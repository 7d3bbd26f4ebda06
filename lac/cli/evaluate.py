"""``lac-eval``: judge the encoder of a run, or a folder of embeddings, beside its controls."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lac.cli.common import remarks, results_table, run
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

    from lac.data import Dataset
    from lac.model.encoder import FrameEncoder

_EXAMPLES = """examples:
  lac-eval runs/watch-20260131-120000
  lac-eval runs/squat --data uiprmd --option movement=sit_to_stand
  lac-eval --features my/embeddings                   features/*.npy, labels/*.npy, see docs/evaluation.md
  lac-eval --features my/embeddings --data uiprmd     labels, split and raw features of the data set
"""


def entry() -> NoReturn:
    """The installed command."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """``lac-eval`` with the arguments ``argv``; returns the exit code."""
    return run(_command, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lac-eval",
        description="Classification, progression, Kendall's tau and retrieval, always beside the controls.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="run folder of lac-train")
    parser.add_argument("--features", metavar="DIR", help="folder of embeddings to judge, in place of a run")
    parser.add_argument("--data", metavar="NAME", help="data set (default: that of the run, or the folder itself)")
    parser.add_argument("--root", metavar="DIR", help="where that data lies")
    parser.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="option of the data set; repeatable",
    )
    parser.add_argument("--stride", metavar="N", type=int, default=1, help="of Kendall's tau (default: 1)")
    parser.add_argument("--classifier", choices=("logistic", "svc"), default="logistic", help="default: logistic")
    parser.add_argument("--seed", metavar="N", type=int, help="of the random encoder (default: the run's, or 0)")
    parser.add_argument("--device", metavar="NAME", default="auto", help="auto, cpu, cuda... (default: auto)")
    parser.add_argument("--out", metavar="FILE", help="write the results there as JSON")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    return parser


def _command(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    if (arguments.run is None) == (arguments.features is None):
        raise UsageError("give a run folder (lac-eval RUN), or a folder of embeddings (lac-eval --features DIR)")
    if arguments.seed is not None and not 0 <= arguments.seed < 1 << 63:
        raise UsageError(f"--seed must not be negative, and below 2^63, got {arguments.seed}")
    if arguments.stride < 1:
        raise UsageError(f"--stride must be at least 1, got {arguments.stride}")
    if arguments.features and not arguments.data and (arguments.root or arguments.option):
        raise UsageError("--root and --option belong to --data: name the data set")

    from rich.console import Console

    from lac.data.doubts import doubts
    from lac.embed import embed_clips
    from lac.files import write_json
    from lac.runs.evaluate import controls, evaluate_dataset
    from lac.system import describe, pick_device

    device = pick_device(arguments.device)
    options = {"stride": arguments.stride, "classifier": arguments.classifier}
    if arguments.run is not None:
        encoder, dataset, seed = _run(arguments, device)
        config = encoder.config
        rows = {
            "trained encoder": evaluate_dataset(dataset, lambda clips: embed_clips(encoder, clips, device), **options)
        }
    else:
        embeddings, dataset = _features(arguments, device)
        config, seed = {"input_dim": _size(dataset)}, 0
        rows = {}
        if embeddings is not None:
            given = embeddings
            rows["embeddings"] = evaluate_dataset(
                dataset, lambda clips: [given[clip.name] for clip in clips], **options
            )
    seed = arguments.seed if arguments.seed is not None else seed
    rows |= controls(dataset, config, seed=seed, device=device, **options)
    clips = {"train": len(dataset.train), "val": len(dataset.val)}
    console = Console()
    console.print(results_table(rows, title=f"{dataset.name}: {clips['train']} / {clips['val']} clips"))
    doubtful = doubts(dataset)
    for line in [*remarks(rows, clips, dataset.left_out), *doubtful]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if arguments.out:
        results = {name: row.to_dict() for name, row in rows.items()}
        write_json(
            arguments.out,
            {
                "data": dataset.name,
                "clips": clips,
                "left_out": dict(dataset.left_out),
                "unlabelled": dict(dataset.unlabelled),
                "doubts": doubtful,
                "results": results,
                "seed": seed,
                "environment": describe(device),
            },
        )
    return 0


def _run(arguments: argparse.Namespace, device: torch.device) -> tuple[FrameEncoder, Dataset, int]:
    """The encoder of a run folder, the data set of the run or the one asked for, and the run's seed."""
    import lac.data
    from lac.runs.checkpoint import read_encoder
    from lac.runs.config import TrainConfig

    config = TrainConfig.of_run(arguments.run)
    data = config.data
    name = arguments.data or data.name
    same = name == data.name
    options = (data.options if same else {}) | _options(arguments.option)
    encoder = read_encoder(Path(arguments.run), device)
    dataset = lac.data.load(name, arguments.root or (data.root if same else None), device=device, **options)
    # A backbone takes images of any size, and input_dim is what it returns.
    if encoder.config["backbone"] is None and _size(dataset) != encoder.config["input_dim"]:
        raise DataError(
            f"the encoder of {arguments.run} takes {encoder.config['input_dim']} features a frame, but a "
            f"frame of {dataset.name} has {_size(dataset)}"
        )
    return encoder, dataset, config.train.seed


def _features(arguments: argparse.Namespace, device: torch.device) -> tuple[dict[str, np.ndarray] | None, Dataset]:
    """Embeddings by clip, and the data set that they belong to: the folder itself where no other is named."""
    import lac.data
    from lac.data.folder import read_features

    if not arguments.data:
        return None, lac.data.load("folder", arguments.features, device=device)
    dataset = lac.data.load(arguments.data, arguments.root, device=device, **_options(arguments.option))
    clips = dataset.train + dataset.val
    embeddings = read_features(arguments.features, [clip.name for clip in clips])
    for clip in clips:
        shape = embeddings[clip.name].shape
        if len(shape) != 2 or shape[0] != len(clip):
            where = Path(arguments.features, "features", f"{clip.name}.npy")
            raise DataError(f"{where}: embeddings must be (frames, features) of {len(clip)} frames, got {shape}")
    return embeddings, dataset


def _options(given: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs, values read as YAML: 3 is a number, [0.6, 1.6] a list, true a truth value."""
    import yaml

    options = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UsageError(f"--option takes NAME=VALUE, got {pair!r}")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--option {name}: {value!r} is not a YAML value") from error
    return options


def _size(dataset: Dataset) -> int:
    return math.prod(dataset.feature_shape)


if __name__ == "__main__":
    entry()
