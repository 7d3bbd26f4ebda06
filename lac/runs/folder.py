"""Whether a run may begin in a folder, and has room there."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from lac.errors import CheckpointError, ConfigError
from lac.files import LOCK, left_behind
from lac.runs import checkpoint
from lac.runs.config import CONFIG, TrainConfig
from lac.runs.state import State


def check_vacant(folder: Path) -> None:
    """Whether a new run may have the folder: it is missing or empty, or holds what a run left at step 0.

    Raises:
        FileExistsError: it may not.
    """
    if not folder.exists() or (folder.is_dir() and set(folder.iterdir()) <= {folder / LOCK, *remains(folder)}):
        return
    hint = f"go on with it by --resume {folder}, or " if checkpoint.is_saved(folder) else ""
    raise FileExistsError(f"{folder} is not an empty folder; {hint}choose another one")


def remains(folder: Path) -> set[Path]:
    """The files of a run that was ended before its first step, or came to nothing before it saved another one.

    A `config.yaml` that is not to the letter what a run writes is the user's, a checkpoint of a later step has
    something to lose, and weights without a checkpoint may have been kept on purpose: of these none is among them.
    """
    config, states = folder / CONFIG, [folder / checkpoint.STATE, folder / checkpoint.PREVIOUS]
    temporary = {left for path in (config, *states) for left in left_behind(path)}
    if not config.exists():
        return temporary
    try:
        settings = TrainConfig.read(config)
        own = config.read_text(encoding="utf-8") in (settings.to_yaml(), settings.to_sealed_yaml())
        steps = [checkpoint.read_state(path)["step"] for path in states if path.exists()]
    except (ConfigError, CheckpointError):
        return set()
    if not own or any(steps):
        return set()
    weights = [folder / checkpoint.ENCODER, folder / checkpoint.LOSS] if steps else []
    temporary |= {left for path in weights for left in left_behind(path)}
    whole = {path for path in (config, *states, *weights) if path.exists()}
    return whole | temporary | set(folder.glob("events.out.tfevents.*"))


def check_space(state: State, folder: Path) -> None:
    """Whether the disk has room for the checkpoints.

    Raises:
        OSError: it has not.
    """
    tensors = [*state.encoder.state_dict().values(), *state.loss.state_dict().values()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    # Weights with two moments of AdamW: the newest, the one before, the next; the weights alone, old and new; the page.
    needed = 3 * 3 * weights + 2 * weights + 4_000_000
    there = [folder / name for name in (checkpoint.STATE, checkpoint.PREVIOUS, checkpoint.ENCODER, checkpoint.LOSS)]
    needed -= sum(path.stat().st_size for path in there if path.exists())
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        sizes = f"a run needs about {needed / 1e6:.1f} MB there, and {free / 1e6:.1f} MB are free"
        raise OSError(errno.ENOSPC, f"No space left on device: {sizes}", str(folder))
