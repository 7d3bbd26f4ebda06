"""The weights and the state of a run on disk: written whole or not at all, read with checks.

Every file carries the SHA-256 digest of its own content (with zeros in the place of the digest), so that one flipped
bit anywhere is found, and the version of lac that wrote it. They are still what they seem: any reader of safetensors,
and `torch.load`, take them.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import logging
import operator
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from lac.bounds import check_archive, check_nested, open_file
from lac.errors import CheckpointError
from lac.files import atomic_path
from lac.loss import LACLoss
from lac.model.backbone import without_file
from lac.model.encoder import FrameEncoder
from lac.runs import processes
from lac.runs.config import TrainConfig, lac_version
from lac.runs.state import State, check_backend

ENCODER = "model.safetensors"
LOSS = "loss.safetensors"
STATE = "trainer.pt"
PREVIOUS = "trainer.previous.pt"

_MARK = b"sha256:"  # the digest follows
_BLANK = b"0" * 64
_log = logging.getLogger("lac")


class Damaged(CheckpointError):
    """A file that is not what was written."""


def _write(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Write `content`, which holds a mark and a blank, with its digest in place of the blank."""
    at = content.index(_MARK + _BLANK) + len(_MARK)
    view = memoryview(content)
    with atomic_path(path, keep=keep) as temporary, temporary.open("wb") as file:
        file.writelines((view[:at], hashlib.sha256(view).hexdigest().encode(), view[at + len(_BLANK) :]))


def _read(path: Path) -> bytes:
    """What `_write` wrote.

    Raises:
        Damaged: the digest does not fit, or there is none.
        OSError: it cannot be opened.
    """
    with open_file(path) as file:
        content = file.read()
    at = content.find(_MARK) + len(_MARK)
    end = at + len(_BLANK)
    view = memoryview(content)
    digest = hashlib.sha256(view[:at])
    digest.update(_BLANK)
    digest.update(view[end:])
    if digest.hexdigest().encode() != content[at:end]:
        raise Damaged(_damaged(path))
    return content


def write_state(path: Path, state: dict[str, Any], *, keep: Path | None = None) -> None:
    """Write nested dicts and lists of tensors, numbers and strings; `keep` as in `lac.files.atomic_path`.

    Raises:
        OSError: see `lac.files.atomic_path`; the file that was there before is untouched.
    """
    buffer = io.BytesIO()  # torch's own writer turns a full disk into a RuntimeError without the path
    torch.save(state, buffer)
    buffer.write(_MARK + _BLANK)
    _write(path, buffer.getvalue(), keep)


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote, on the CPU. Runs no code that the file may hold (`weights_only`).

    Raises:
        Damaged: the file is not as it was written.
        CheckpointError: torch cannot read it.
        OSError: it cannot be opened.
    """
    content = io.BytesIO(_read(path))
    try:
        check_archive(content)
        state = torch.load(content, map_location="cpu", weights_only=True)
        check_nested(state)
    except Exception as error:  # torch.load documents no set of errors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is whole, but torch {torch.__version__} cannot read it: {reason}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}: it is no checkpoint of lac")
    return state


def is_saved(folder: Path) -> bool:
    """Whether a run folder holds a checkpoint."""
    return (folder / STATE).exists() or (folder / PREVIOUS).exists()


def read_last_state(folder: Path) -> dict[str, Any] | None:
    """The newest state in a run folder that is whole; `None` if none was ever written.

    Where the newest is damaged, the one before it takes its place, and the log of "lac" says so.

    Raises:
        CheckpointError: none of them can be read.
    """
    newest, before = folder / STATE, folder / PREVIOUS
    if not before.exists():
        return read_state(newest) if newest.exists() else None
    try:
        return read_state(newest)
    except (FileNotFoundError, Damaged):
        state = read_state(before)
        what = "damaged" if newest.exists() else "missing"
        _log.warning("%s is %s; going on from the one before it, at step %s", newest, what, state.get("step"))
        before.replace(newest)  # else the next checkpoint would push it out
        return state


def write_weights(path: Path, module: nn.Module, about: dict[str, Any] | None = None) -> None:
    """Write a module's parameters and buffers as safetensors; `about`, for JSON, goes into the metadata."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    # One entry, for safetensors writes several in any order.
    metadata = {"lac": json.dumps({"version": lac_version(), "digest": (_MARK + _BLANK).decode()} | (about or {}))}
    _write(path, safetensors.torch.save(tensors, metadata))


def write_encoder(folder: Path, encoder: FrameEncoder) -> None:
    """Write `model.safetensors`: the weights, and the encoder's arguments in the metadata.

    Raises:
        TypeError: the backbone is a module that is not known by name, so nothing could make it again.
    """
    if encoder.backbone is not None and encoder.config["backbone"] is None:
        raise TypeError(
            f"the backbone is a module of your own ({type(encoder.backbone).__name__}), which no file can make again: "
            "save encoder.state_dict() by torch.save and load it into an encoder that you make, or name a backbone"
        )
    write_weights(folder / ENCODER, encoder, {"FrameEncoder": encoder.config})


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors by name, on the CPU, and the metadata that `write_weights` wrote.

    Raises:
        Damaged: the file is not as it was written.
        CheckpointError: there is no such file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; give the folder of a run that has saved at least once")
    content = _read(path)
    try:
        size = int.from_bytes(content[:8], "little")
        about = dict(json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["lac"]))
        return safetensors.torch.load(content), about
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} holds no weights of lac") from error


def read_encoder(folder: Path, device: torch.device | str = "cpu") -> FrameEncoder:
    """The encoder of a run folder, in evaluation mode.

    Raises:
        CheckpointError: there is no such file, it is damaged, of another version, or its weights do not fit.
    """
    path = folder / ENCODER
    weights, about = read_weights(path)
    config = about.get("FrameEncoder")
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} holds no FrameEncoder")
    known = set(inspect.signature(FrameEncoder).parameters)
    if set(config) != known:
        parts = {"unknown arguments": set(config) - known, "missing ones": known - set(config)}
        reasons = [f"{what} {', '.join(sorted(names))}" for what, names in parts.items() if names]
        raise CheckpointError(
            f"{path} was written by lac {about.get('version')}, this is lac {lac_version()}, whose FrameEncoder takes "
            f"other arguments ({'; '.join(reasons)}); use lac {about.get('version')}, or train again"
        )
    _check_sizes(config, weights, path, about.get("version"))
    try:
        # The checkpoint has the weights: the file that the backbone started from is not needed.
        encoder = FrameEncoder(**config | {"backbone": without_file(config["backbone"])})
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} was not written by lac: {error}") from error
    encoder.config["backbone"] = config["backbone"]
    load_weights(encoder, weights, path, about.get("version"))
    return encoder.to(device, torch.float32).eval()


def _check_sizes(config: dict[str, Any], weights: dict[str, torch.Tensor], path: Path, version: str | None) -> None:
    """Whether the arguments of an encoder are those of its weights, before it is made by them.

    Raises:
        CheckpointError: they are not.
    """
    layers = len({name.split(".")[1] for name in weights if name.startswith("layers.")})
    sizes = [tuple(weights[name].shape) if name in weights else () for name in ("input.weight", "head.weight")]
    said = [(config["width"], config["input_dim"]), (config["embed_dim"], config["width"])]
    if said != sizes or config["layers"] != layers:
        raise CheckpointError(
            f"{path} does not fit FrameEncoder{_written_by(version)}: its arguments ask for weights {said}, "
            f"{config['layers']!r:.80} layers, and it holds {sizes}, {layers} layers"
        )


def read_loss(folder: Path, device: torch.device | str = "cpu") -> LACLoss:
    """The loss of a run folder with what it has learned.

    Raises:
        CheckpointError: as `read_encoder`.
        ConfigError, OSError: the settings of the run cannot be read, or its backend cannot run on the device.
    """
    settings = TrainConfig.of_run(folder).loss
    check_backend(settings["backend"], torch.device(device))
    weights, about = read_weights(folder / LOSS)
    size, most = settings["embed_dim"], max((tensor.numel() for tensor in weights.values()), default=0)
    if size is not None and settings["gaps"] == "contextual" and size**2 > most:  # before memory is taken for it
        raise CheckpointError(
            f"{folder / LOSS} does not fit LACLoss: embed_dim is {size}, the largest weight has {most}"
        )
    loss = LACLoss(**settings)
    load_weights(loss, weights, folder / LOSS, about.get("version"))
    return loss.to(device, torch.float32).eval()


def load_weights(module: nn.Module, weights: dict[str, torch.Tensor], path: Path, version: str | None) -> None:
    """`module.load_state_dict` with an error that names the file and the first thing that does not fit.

    Raises:
        CheckpointError: names or shapes differ; also the versions are named, if `version`, of the file, is another.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]
        name = f"{type(module).__name__}{_written_by(version)}"
        raise CheckpointError(f"{path} does not fit {name}: {first[0].strip()}") from error


def save(state: State, folder: Path) -> None:
    """Write the checkpoint of a run folder: the state to go on from, then the weights on their own.

    The state before is kept as `trainer.previous.pt`, and only once the new one is whole.

    Raises:
        OSError: a file cannot be written; the one it should replace stays.
    """
    write_state(folder / STATE, _contents(state), keep=folder / PREVIOUS)
    write_encoder(folder, state.encoder)
    write_weights(folder / LOSS, state.loss)


def _contents(state: State) -> dict[str, Any]:
    return {
        "lac": lac_version(),
        "step": state.step,
        "init": state.init,
        "encoder": state.encoder.state_dict(),
        "teacher": None if state.teacher is None else state.teacher.state_dict(),
        "loss": state.loss.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "history": state.history,
    }


def spread(state: State) -> None:
    """Make `state` in all processes what it is in process 0."""

    def content() -> bytes:
        buffer = io.BytesIO()
        torch.save(_contents(state), buffer)
        return buffer.getvalue()

    if processes.count() > 1:
        buffer = io.BytesIO(processes.from_first(content))
        if not processes.first():
            _fill(state, torch.load(buffer, map_location="cpu", weights_only=True), Path(STATE))


def restore(state: State, folder: Path) -> None:
    """Bring `state` to the last whole checkpoint in `folder`; leave it as it is if there is none yet.

    Where the newest is damaged, the one before it is taken, and the log of "lac" says so.

    Raises:
        CheckpointError: no checkpoint is whole, or it belongs to other settings or another version.
    """
    saved = read_last_state(folder)
    if saved is None:
        return
    _fill(state, saved, folder / STATE)


def _fill(state: State, saved: dict[str, Any], path: Path) -> None:
    """Make `state` what was saved in the file `path`.

    Raises:
        CheckpointError: it belongs to other settings or another version.
    """
    missing = {"lac", "step", "init", "encoder", "teacher", "loss", "optimiser", "history"} - set(saved)
    if missing:
        written = f"by lac {saved['lac']}, this is lac {lac_version()}" if "lac" in saved else "by something else"
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}: it was written {written}")
    try:
        _give(state, saved, path)
    except (TypeError, AttributeError, LookupError, RuntimeError) as error:
        raise CheckpointError(f"{path} is not as lac writes it: {type(error).__name__}: {error}") from error


def _give(state: State, saved: dict[str, Any], path: Path) -> None:
    """Give `state` what was saved of it, or raise whatever comes of another content."""
    load_weights(state.encoder, saved["encoder"], path, saved["lac"])
    load_weights(state.loss, saved["loss"], path, saved["lac"])
    if (state.teacher is None) != (saved["teacher"] is None):
        raise CheckpointError(
            f"{path} has {'no' if saved['teacher'] is None else 'a'} teacher: it was trained on other clips, or with "
            "another loss.consensus_weight"
        )
    if state.teacher is not None:
        load_weights(state.teacher, saved["teacher"], path, saved["lac"])
    try:
        state.optimiser.load_state_dict(saved["optimiser"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # torch checks the numbers of groups alone
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} does not fit the optimiser{_written_by(saved['lac'])}: {reason}") from error
    state.step, state.init, state.history = operator.index(saved["step"]), saved["init"], saved["history"]


def begin_with(state: State, run: str | Path) -> None:
    """Give `state` the weights of the encoder and of the loss of a run folder; the optimiser stays fresh.

    Raises:
        CheckpointError: they are missing, damaged, or of another model.
    """
    for name, module in ((ENCODER, state.encoder), (LOSS, state.loss)):
        path = Path(run) / name
        weights, about = read_weights(path)
        load_weights(module, weights, path, about.get("version"))
    if state.teacher is not None:
        state.teacher.load_state_dict(state.encoder.state_dict())
    state.init = str(run)


def _written_by(writer: str | None) -> str:
    """Both versions, where a file is of another one."""
    return "" if writer == lac_version() else f" (written by lac {writer}, this is lac {lac_version()})"


def _damaged(path: Path) -> str:
    if path.name in (ENCODER, LOSS):
        remedy = f"lac-train --resume {path.parent} writes it again from {STATE}"
    else:
        remedy = "train again in a new folder"
    return f"{path} is damaged, or no checkpoint of lac: its digest does not fit; bring the file back, or {remedy}"
