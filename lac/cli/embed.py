"""`lac-embed`: the embeddings of clips as a folder of arrays, which the other commands read again."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lac.cli.common import (
    Command,
    add_data,
    add_device,
    add_general,
    add_out,
    add_root,
    add_run,
    add_set,
    config_of_run,
    new_parser,
)
from lac.cli.progress import showing_features

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lac.data import Clip, Dataset

_LISTED = 20  # clips with a line of their own

_EXAMPLES = """examples:
  lac-embed runs/mine --out embedded                   all clips of the data set
  lac-embed runs/mine clip03 new.npy --out two         a clip and an array
  lac-embed runs/pour long.mp4 --out long              hours of a video
  lac-train --data folder --root embedded              what is written is read
  lac-eval --features embedded                         by the other commands
"""
_WRITES = """what is written to --out (default: RUN/embed), which must be empty:
  features/NAME.npy    (T, E) float32, a row for each frame
  times/NAME.npy       (T,) seconds
  labels/NAME.npy, label_names.json, clips.csv, split.json
                       where labels, actions, persons, a split are known
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-embed",
        "Write the embeddings of clips by a trained encoder as NumPy files, in a folder that is a data set again.",
        examples=_EXAMPLES,
        writes=_WRITES,
        usage="lac-embed RUN [CLIP ...] [option ...]",
    )
    what = parser.add_argument_group("what to embed")
    add_run(what)
    what.add_argument(
        "clips",
        metavar="CLIP ...",
        nargs="*",
        help="files (.npy or video), folders of images, or names of clips of the run's data set "
        "(default: all clips of the data set)",
    )
    add_data(what)
    add_root(what)
    settings = parser.add_argument_group("settings")
    add_set(settings)
    add_device(settings)
    add_out(parser.add_argument_group("output"))
    add_general(parser)
    return parser


def _embed(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from lac.cli.clips import check_embeddings, check_frames, read_clips
    from lac.data.write import check_empty, check_names, write_folder
    from lac.embed import embed_clips
    from lac.runs.checkpoint import read_encoder
    from lac.system import pick_device

    folder = Path(arguments.run)
    out = Path(arguments.out or folder / "embed")
    check_empty(out)
    data = config_of_run(arguments).data
    device = pick_device(arguments.device or "auto")
    encoder = read_encoder(folder, device)
    names: Sequence[str] = arguments.clips
    only_files = bool(names) and all(Path(name).exists() for name in names)
    dataset = None if only_files else data.load(device)
    if dataset is not None and not names:
        clips = dataset.train + dataset.val
        names = [clip.name for clip in clips]
    else:
        clips = [source.clip for source in read_clips(names, data, device, dataset)]
    check_names([clip.name for clip in clips])
    for name, clip in zip(names, clips, strict=True):
        check_frames(name, clip, encoder.config)

    embeddings = embed_clips(encoder, clips, device)
    check_embeddings(clips, embeddings)
    embedded = [replace(clip, frames=z, guide=None) for clip, z in zip(clips, embeddings, strict=True)]
    split = None if dataset is None else _split(clips, dataset)
    write_folder(out, embedded, split=split, label_names=[] if dataset is None else dataset.label_names)
    _show(embedded, dataset, split, out)
    return 0


def _split(clips: Sequence[Clip], dataset: Dataset) -> Mapping[str, list[str]] | None:
    """The split of the data set, where all clips are of it and both halves have some: others are in none."""
    split = {
        name: [clip.name for clip in clips if any(clip is own for own in part)]
        for name, part in (("train", dataset.train), ("val", dataset.val))
    }
    return split if all(split.values()) and sum(map(len, split.values())) == len(clips) else None


def _show(embedded: Sequence[Clip], dataset: Dataset | None, split: Mapping[str, list[str]] | None, out: Path) -> None:
    from rich.console import Console

    from lac.data.doubts import first_few

    console = Console(highlight=False, soft_wrap=True, markup=False)
    for clip in embedded[:_LISTED]:
        length = f"{len(clip)} frames, {clip.times[0]:.2f} to {clip.times[-1]:.2f} s"
        console.print(f"{clip.name:<16}{length}")
    if len(embedded) > _LISTED:
        console.print(f"{'':<16}and {len(embedded) - _LISTED} more")
    if dataset is not None and dataset.left_out:
        console.print(f"left out        {len(dataset.left_out)} clips: {first_few(list(dataset.left_out.values()))}")
    numbers = f"{embedded[0].frames.shape[1]} numbers a frame, {sum(map(len, embedded))} frames"
    count = "1 clip" if len(embedded) == 1 else f"{len(embedded)} clips"
    console.print(f"embedded        {count}, {numbers}")
    parts = "none: by chance when read" if split is None else ", ".join(f"{len(split[name])} {name}" for name in split)
    console.print(f"split           {parts}")
    console.print(f"folder          {out}")


COMMAND = Command("lac-embed", _parser, showing_features(_embed))
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
