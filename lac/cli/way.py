"""RUN as `lac-align` takes it: the folder of a run, or the word `raw` for no run at all."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lac.cli.common import config_of_run, data_overrides
from lac.errors import DataError, UsageError

if TYPE_CHECKING:
    import torch

    from lac.data import Clip, Dataset
    from lac.pictures import Source
    from lac.runs.config import DataSection
    from lac.ways import Way

RAW = "raw"


class Given(NamedTuple):
    """What clips are aligned by and where they are looked up.

    Args:
        way: see `lac.ways`.
        run: the folder of the run; `None` for raw features.
        data: the data set of the run, or the one that is named; without a place for raw features of files alone.
    """

    way: Way
    run: Path | None
    data: DataSection

    def folder(self, chosen: str | None, what: str, name: str) -> Path:
        """Where results go: the folder of `--out`, else RUN/WHAT/NAME, or ./WHAT-NAME of no run."""
        return Path(chosen or (self.run / what / name if self.run is not None else f"{what}-{name}"))

    def files_alone(self) -> bool:
        """Whether there is no data set to look names up in."""
        return self.data.name == "folder" and self.data.root is None

    def rate(self) -> float:
        """Frames a second of a folder of images."""
        from lac.data.video import RATE

        rate: float = self.data.options.get("rate", RATE)
        return rate

    def by(self) -> str:
        """What a report says of it."""
        return "raw features" if self.run is None else "embeddings"

    def read(self, names: Sequence[str], device: torch.device, dataset: Dataset | None = None) -> list[Source]:
        """The clips of these names, whose frames can be aligned with each other.

        Raises:
            UsageError, DataError, OSError: see `lac.cli.clips.read_clips`; frames that do not fit.
        """
        from lac.cli.clips import read_clips

        lost = next((name for name in names if not Path(name).exists()), None)
        if dataset is None and lost is not None and self.files_alone():
            raise UsageError(f"there is no file {lost!r}; for clips of a data set give --data NAME or --root DIR")
        sources = read_clips(names, self.data, device, dataset)
        self.check(names, [source.clip for source in sources])
        return sources

    def check(self, names: Sequence[str], clips: Sequence[Clip]) -> None:
        """Whether the frames of clips, given by these names, can be aligned with each other.

        Raises:
            DataError: they cannot.
        """
        from lac.cli.clips import check_frames
        from lac.ways import Trained

        for name, clip in zip(names, clips, strict=True):
            if isinstance(self.way, Trained):
                check_frames(name, clip, self.way.encoder.config)
            elif clip.frames.shape[1:] != clips[0].frames.shape[1:]:
                shapes = [tuple(one.frames.shape[1:]) for one in (clip, clips[0])]
                raise DataError(
                    f"{name}: a frame has shape {shapes[0]}, one of {names[0]} {shapes[1]}: raw features are compared "
                    "as they are, so all clips need the same"
                )


def way_of(arguments: argparse.Namespace, device: torch.device) -> Given:
    """What the arguments RUN, `--data`, `--root` and `--set` ask for.

    Raises:
        UsageError, ConfigError, CheckpointError, OSError: settings or a run that cannot be read.
    """
    from lac.data import check_options
    from lac.runs.checkpoint import read_encoder, read_loss
    from lac.runs.config import TrainConfig
    from lac.ways import Raw, Trained

    if arguments.run == RAW:
        data = TrainConfig.read(None, {"data.name": "folder"} | data_overrides(arguments)).data
        check_options(data.name, data.options)
        return Given(Raw(device=device), None, data)
    folder, config = Path(arguments.run), config_of_run(arguments)
    way = Trained(read_encoder(folder, device), read_loss(folder, device), config.train.reach)
    return Given(way, folder, config.data)
