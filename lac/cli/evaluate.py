"""`lac-eval`: judge the encoder of a run, or a folder of embeddings, beside its controls."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lac.cli.common import (
    Command,
    add_data,
    add_device,
    add_general,
    add_out,
    add_root,
    add_run,
    add_seed,
    add_set,
    config_of_run,
    data_overrides,
    new_parser,
)
from lac.cli.progress import showing_features
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch

    from lac.data import Clip, Dataset
    from lac.runs.alignment_quality import AlignmentQuality
    from lac.runs.config import TrainConfig
    from lac.runs.evaluate import EvalResult

_EXAMPLES = """examples:
  lac-eval runs/watch-20260131-120000
  lac-eval runs/squat --data uiprmd --set data.options.movement=sit_to_stand
  lac-eval runs/squat --alignment                     and how well clips match
  lac-eval --features my/embeddings                   see docs/evaluation.md
  lac-eval --features my/embeddings --data uiprmd     labels, split and raw
                                                      features of the data set
"""
_WRITES = """what is written to --out (default: none of it):
  evaluation.json      the tables, and what of the data they rest on
Of a finished run on its own data, RUN/report.html is written anew with them.
"""
RESULTS = "evaluation.json"


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-eval",
        "Classification, progression, Kendall's tau and retrieval, always beside the controls.",
        examples=_EXAMPLES,
        writes=_WRITES,
        usage="lac-eval (RUN | --features DIR) [option ...]",
    )
    what = parser.add_argument_group("what to judge, on which data")
    add_run(what, nargs="?")
    what.add_argument(
        "--features", metavar="DIR", help="folder of embeddings in place of a run; without --data its own labels count"
    )
    add_data(what)
    add_root(what)
    settings = parser.add_argument_group("settings")
    add_set(settings)
    add_seed(settings)
    add_device(settings)
    settings.add_argument("--stride", metavar="N", type=int, default=1, help="of Kendall's tau (default: 1)")
    settings.add_argument(
        "--classifier", choices=("logistic", "svc"), default="logistic", help="of phases (default: logistic)"
    )
    settings.add_argument(
        "--alignment", action="store_true", help="a second table: the matching of clips by the run and by others"
    )
    add_out(parser.add_argument_group("output"))
    add_general(parser)
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if (arguments.run is None) == (arguments.features is None):
        raise UsageError("give a run folder (lac-eval RUN), or a folder of embeddings (lac-eval --features DIR)")
    if arguments.alignment and arguments.run is None:
        raise UsageError("--alignment compares the encoder and the loss of a run: give its folder (lac-eval RUN)")
    if arguments.seed is not None and not 0 <= arguments.seed < 1 << 63:
        raise UsageError(f"--seed must not be negative, and below 2^63, got {arguments.seed}")
    if arguments.stride < 1:
        raise UsageError(f"--stride must be at least 1, got {arguments.stride}")


def _evaluate(arguments: argparse.Namespace) -> int:
    _check(arguments)

    from lac.system import pick_device

    device = pick_device(arguments.device or "auto")
    judge = _judge_run if arguments.run is not None else _judge_features
    judged = judge(arguments, device)
    report = _report(judged, device)
    _show(report, judged)
    if arguments.out:
        from lac.files import write_json

        write_json(Path(arguments.out, RESULTS), report)
    if arguments.run is not None and not (arguments.set or arguments.data or arguments.seed is not None):
        _write_page(Path(arguments.run), report)
    return 0


def _write_page(folder: Path, report: dict[str, Any]) -> None:
    """The page of a finished run with these results, as they are of its own data."""
    from lac.runs.report import METRICS, REPORT, write_page

    if not (folder / METRICS).is_file():
        return
    try:
        print(f"report      {write_page(folder, report)}")
    except (OSError, ValueError) as error:  # the folder of somebody else, say: the table is there all the same
        print(f"{REPORT} is not written: {error}")


class _Judged(NamedTuple):
    """The data set of the run or the one asked for, the rows of the table, the seed of the random encoder, the settings
    of the run where it was trained on this data, and the second table where it is asked for."""

    dataset: Dataset
    rows: dict[str, EvalResult]
    seed: int
    config: TrainConfig | None = None
    alignment: AlignmentQuality | None = None


def _judge_run(arguments: argparse.Namespace, device: torch.device) -> _Judged:
    """By the encoder and the loss of a run."""
    from lac.embed import embed_clips
    from lac.runs.alignment_quality import alignment_quality
    from lac.runs.checkpoint import read_encoder, read_loss
    from lac.runs.controls import controls
    from lac.runs.evaluate import evaluate_dataset

    folder, config = Path(arguments.run), config_of_run(arguments)
    encoder = read_encoder(folder, device)
    dataset = config.data.load(device)
    # A backbone takes images of any size, and input_dim is what it returns.
    if encoder.config["backbone"] is None and _frame_size(dataset) != encoder.config["input_dim"]:
        raise DataError(
            f"the encoder of {arguments.run} takes {encoder.config['input_dim']} features a frame, but a "
            f"frame of {dataset.name} has {_frame_size(dataset)}"
        )
    seed = config.train.seed if arguments.seed is None else arguments.seed
    options = _options(arguments)

    def embed(clips: Sequence[Clip]) -> list[np.ndarray]:
        return embed_clips(encoder, clips, device)

    trained = evaluate_dataset(dataset, embed, **options)
    rows = {"trained encoder": trained, **controls(dataset, encoder.config, seed=seed, device=device, **options)}
    own = None if arguments.data else config
    if not arguments.alignment:
        return _Judged(dataset, rows, seed, own)
    loss, reach = read_loss(folder, device), config.train.reach
    return _Judged(dataset, rows, seed, own, alignment_quality(dataset, embed, loss, device=device, reach=reach))


def _judge_features(arguments: argparse.Namespace, device: torch.device) -> _Judged:
    """As `_judge_run`, of embeddings made elsewhere: of the data set that is named, or of their own folder."""
    from lac.runs.config import TrainConfig
    from lac.runs.controls import controls
    from lac.runs.evaluate import evaluate_dataset

    options, rows = _options(arguments), {}
    changes = data_overrides(arguments)
    if "data.name" in changes:
        dataset = TrainConfig.read(None, changes).data.load(device)
        embeddings = _read_embeddings(arguments.features, dataset)
        rows["embeddings"] = evaluate_dataset(
            dataset, lambda clips: [embeddings[clip.name] for clip in clips], **options
        )
    elif changes:
        raise UsageError("--root and --set belong to --data: name the data set")
    else:
        own_folder = {"data.name": "folder", "data.root": arguments.features}
        dataset = TrainConfig.read(None, own_folder).data.load(device)
    seed = arguments.seed or 0
    rows |= controls(dataset, {"input_dim": _frame_size(dataset)}, seed=seed, device=device, **options)
    return _Judged(dataset, rows, seed)


def _read_embeddings(folder: str, dataset: Dataset) -> dict[str, np.ndarray]:
    """The embeddings of the clips by name.

    Raises:
        DataError, FileNotFoundError: a clip has none, or not one for each frame.
    """
    from lac.data.folder import read_features

    clips = dataset.train + dataset.val
    embeddings = read_features(folder, [clip.name for clip in clips])
    for clip in clips:
        shape = embeddings[clip.name].shape
        if len(shape) != 2 or shape[0] != len(clip):
            where = Path(folder, "features", f"{clip.name}.npy")
            raise DataError(f"{where}: embeddings must be (frames, features) of {len(clip)} frames, got {shape}")
    return embeddings


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `lac.runs.evaluate.evaluate`."""
    return {"stride": arguments.stride, "classifier": arguments.classifier}


def _frame_size(dataset: Dataset) -> int:
    return math.prod(dataset.feature_shape)


def _report(judged: _Judged, device: torch.device) -> dict[str, Any]:
    """What stands in `evaluation.json`."""
    from lac.data.doubts import doubts
    from lac.runs.verdict import Known, verdict, verdict_on_matching
    from lac.system import describe

    dataset, rows, seed, config, alignment = judged
    sentences = verdict(rows, Known.of(dataset, config))
    trained = {} if config is None else {"view": config.augment["frames"], "options": config.data.options}
    if alignment is not None:
        sentences.append(verdict_on_matching(alignment))
    return {
        "data": dataset.name,
        "clips": {"train": len(dataset.train), "val": len(dataset.val)},
        "left_out": dict(dataset.left_out),
        "unlabelled": dict(dataset.unlabelled),
        "doubts": doubts(dataset, **trained),
        "results": {name: row.to_dict() for name, row in rows.items()},
        "verdict": sentences,
        "seed": seed,
        "environment": describe(device),
    } | ({} if alignment is None else {"alignment": alignment.to_dict()})


def _show(report: dict[str, Any], judged: _Judged) -> None:
    from rich.console import Console

    from lac.cli.table import alignment_table, remarks, results_table

    console = Console(highlight=False, markup=False)
    clips, width = report["clips"], console.width
    title = f"{judged.dataset.name}: {clips['train']} / {clips['val']} clips"
    console.print(results_table(judged.rows, title=title, width=width))
    for line in [*remarks(judged.rows, clips, judged.dataset.left_out), *report["doubts"]]:
        console.print(line, soft_wrap=True)
    if judged.alignment is not None:
        console.print(alignment_table(judged.alignment, width=width))
    for sentence in report["verdict"]:
        console.print(sentence)


COMMAND = Command("lac-eval", _parser, showing_features(_evaluate))
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
