"""Files that a disk has damaged, and files of other versions: a line names the file, or it is made again."""

import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_run import SETTINGS, write_clips

import lac
from lac.cli import align, evaluate
from lac.cli import train as cli
from lac.data.features import FrameFeatures
from lac.data.video import Frames
from lac.errors import DataError
from lac.files import sealed
from lac.runs import checkpoint
from lac.runs import run as runs
from lac.runs.config import TrainConfig
from lac.runs.report import read_metrics

pytestmark = pytest.mark.promise("faults")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run on arrays, without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "draw_all", lambda folder, writers: ({}, {}))
        root = write_clips(tmp_path_factory.mktemp("clips"))
        config = TrainConfig.read(None, SETTINGS | {"data.name": "folder", "data.root": str(root)})
        return runs.train(config, tmp_path_factory.mktemp("runs") / "whole").folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy that may be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def fit_only(monkeypatch):
    """Runs end after the last checkpoint."""
    monkeypatch.setattr(runs, "_evaluate", lambda *arguments, **options: ({}, "not asked for"))
    monkeypatch.setattr(runs, "draw_all", lambda folder, writers: ({}, {}))


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A bit is flipped, a sector is of zeros, the end is missing, or something else stands there."""
    at = rng.randrange(len(content))
    kind = rng.randrange(4)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :]
    return content[:at] if kind == 2 else content[:at] + rng.randbytes(min(512, len(content) - at))


def refused(main, argv, path, capsys) -> bool:
    """Whether a command says in one line that this file is damaged."""
    assert main(list(map(str, argv))) in (1, 2)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    assert str(path) in lines[0]
    assert "Traceback" not in error
    assert "internal" not in error
    return True


SOME = [5, pytest.param(200, marks=pytest.mark.slow)]


@pytest.mark.parametrize("times", SOME)
def test_damaged_weights(run, times, capsys, record_property):
    """Damaged weights are named in a line by the command that reads them; no number comes of them."""
    rng = random.Random(0)
    for _ in range(times):
        path = run / rng.choice((checkpoint.ENCODER, checkpoint.LOSS))
        content = path.read_bytes()
        path.write_bytes(damaged(content, rng))
        if path.read_bytes() != content:
            assert refused(align.main, [run, "clip0", "clip1", "--device", "cpu"], path, capsys)
        path.write_bytes(content)
    record_property("cases", times)


@pytest.mark.parametrize("times", SOME)
def test_damaged_checkpoints(run, whole, times, capsys, fit_only, record_property):
    """A damaged checkpoint is named, and the one before it taken: the run ends with the same weights."""
    rng = random.Random(1)
    names = (checkpoint.STATE, checkpoint.PREVIOUS)
    for k in range(times):
        for name in names[: 1 + k % 2]:
            content = (whole / name).read_bytes()
            while (run / name).read_bytes() == content:
                (run / name).write_bytes(damaged(content, rng))
        argv = ["--resume", run, "--device", "cpu"]
        if k % 2:
            assert refused(cli.main, argv, run / checkpoint.PREVIOUS, capsys)
        else:
            assert cli.main(list(map(str, argv))) == 0
            for name in (checkpoint.ENCODER, checkpoint.LOSS):
                assert (run / name).read_bytes() == (whole / name).read_bytes()
        for name in names:
            shutil.copy(whole / name, run / name)
    record_property("cases", times)


@pytest.mark.parametrize("times", SOME)
def test_damaged_settings(run, times, capsys, record_property):
    """Damaged settings of a run, one digit even, are named: no command computes with others than it was trained by."""
    rng = random.Random(2)
    path = run / "config.yaml"
    content, settings = path.read_bytes(), TrainConfig.of_run(run)
    for _ in range(times):
        path.write_bytes(damaged(content, rng))
        try:
            assert TrainConfig.of_run(run) == settings  # damage in the words of the first line, say
        except ValueError:
            assert refused(align.main, [run, "clip0", "clip1", "--device", "cpu"], path, capsys)
    record_property("cases", times)


def test_settings_may_be_changed_by_hand(run, capsys):
    """Who changes the settings of a run by hand is told to take out the line with the digest, and then it works."""
    path = run / "config.yaml"
    changed = path.read_text().replace("reach: 0.8", "reach: 0.4")
    path.write_text(changed)
    assert refused(align.main, [run, "clip0", "clip1"], "take out its first line", capsys)
    path.write_text(changed.partition("\n")[2])
    assert TrainConfig.of_run(run).train.reach == 0.4
    path.write_text(changed)
    assert TrainConfig.read(path).train.reach == 0.4  # as settings for another run


@pytest.mark.parametrize("times", SOME)
def test_damaged_metrics(run, times, record_property):
    """Damaged numbers of a run are not shown on its page: `lac-eval` says so, and `lac-train --resume` heals them."""
    rng = random.Random(3)
    path = run / "metrics.json"
    content, metrics = path.read_bytes(), read_metrics(run)
    for _ in range(times):
        path.write_bytes(damaged(content, rng))
        try:
            found = read_metrics(run)
        except DataError as error:
            refusal = str(error)
        else:  # blanks, or the name of the digest
            refusal = str(path)
            assert all(found[name] == value for name, value in metrics.items() if name != "sha256")
        assert str(path) in refusal
    record_property("cases", times)


def test_damaged_metrics_are_told_and_healed(run, whole, capsys, monkeypatch):
    """`lac-eval` of a run with damaged numbers says what writes them again, and that does."""
    monkeypatch.setattr(runs, "draw_all", lambda folder, writers: ({}, {}))
    path = run / "metrics.json"
    path.write_text(path.read_text().replace('"steps": 12', '"steps": 13'))
    assert evaluate.main([str(run), "--device", "cpu"]) == 0
    assert f"report.html is not written: {path} is damaged; lac-train --resume {run}" in capsys.readouterr().out
    assert cli.main(["--resume", str(run), "--device", "cpu"]) == 0
    ours, theirs = read_metrics(run), read_metrics(whole)
    assert ours["results"] == theirs["results"]
    assert ours["steps"] == 12


@pytest.mark.parametrize("times", [50, pytest.param(2000, marks=pytest.mark.slow)])
def test_damaged_features(tmp_path, times, record_property):
    """Damaged features in the cache are never read as others: they are computed again."""
    rng = random.Random(4)
    numbers = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    frames = Frames(numbers, np.arange(9) / 10, np.arange(9), 9)
    path = tmp_path / "features.npz"
    np.savez(path, **frames._asdict())
    content = path.read_bytes()
    reader = SimpleNamespace(backbone=SimpleNamespace(features=6))
    healed = 0
    for _ in range(times):
        path.write_bytes(damaged(content, rng))
        found = FrameFeatures._kept(reader, path)
        healed += found is None
        assert found is None or all(np.array_equal(*pair) for pair in zip(found, frames, strict=True))
    assert healed > times / 2
    record_property("cases", times)


# Of other versions


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("  lr: ", "  learning_rate: "), "unknown setting train.learning_rate"),
        (lambda text: text.replace("  warmup: 3\n", ""), "lacks train.warmup"),
        (lambda text: text + "curriculum: {steps: 3}\n", "unknown section 'curriculum'"),
    ],
)
@pytest.mark.parametrize("version", ["0.0.7", "7.0"])
def test_settings_of_another_version(run, monkeypatch, capsys, change, words, version):
    """Settings of another version of lac that this one does not know are refused with both versions named."""
    settings, path, ours = TrainConfig.of_run(run), run / "config.yaml", lac.__version__
    monkeypatch.setattr(lac, "__version__", version)
    monkeypatch.setattr(TrainConfig, "to_yaml", lambda self, real=TrainConfig.to_yaml: change(real(self)))
    path.write_text(settings.to_sealed_yaml())
    monkeypatch.undo()
    assert cli.main(["--resume", str(run)]) == 2
    error = capsys.readouterr().err
    assert f"written by lac {version} (this is lac {ours})" in error
    assert words in error
    assert "damaged" not in error
    assert "cut" not in error


def test_settings_of_before_there_were_digests(run, whole):
    """A run of before settings and numbers carried digests is read as ever."""
    config, metrics = run / "config.yaml", run / "metrics.json"
    config.write_text(config.read_text().partition("\n")[2])
    numbers = json.loads(metrics.read_text())
    del numbers["sha256"]
    metrics.write_text(json.dumps(numbers))
    assert TrainConfig.of_run(run) == TrainConfig.of_run(whole)
    assert sealed(read_metrics(run)) == read_metrics(whole)


@pytest.mark.parametrize("version", ["0.0.7", "7.0"])
@pytest.mark.parametrize("name", ["history", "teacher", "optimiser"])
def test_checkpoints_of_another_version(run, monkeypatch, capsys, name, version):
    """A checkpoint of another version that lacks or renames a part is refused with both versions named."""
    for path in (run / checkpoint.STATE, run / checkpoint.PREVIOUS):
        state = checkpoint.read_state(path)
        state[f"{name}_of_another_kind"] = state.pop(name)
        checkpoint.write_state(path, state | {"lac": version})
    assert cli.main(["--resume", str(run), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert f"lacks {name}: it was written by lac {version}, this is lac {lac.__version__}" in error
    assert "damaged" not in error


@pytest.mark.parametrize("part", ["encoder", "loss", "optimiser"])
def test_checkpoints_whose_parts_have_other_names(run, capsys, part):
    """A checkpoint of another version whose weights have other names is refused with both versions named."""
    for path in (run / checkpoint.STATE, run / checkpoint.PREVIOUS):
        state = checkpoint.read_state(path)
        if part == "optimiser":
            state[part] = {"steps": torch.zeros(3)}
        else:
            state[part] = {f"net.{name}": value for name, value in state[part].items()}
        checkpoint.write_state(path, state | {"lac": "7.0"})
    assert cli.main(["--resume", str(run), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert f"written by lac 7.0, this is lac {lac.__version__}" in error
    assert str(run / checkpoint.STATE) in error
    assert "internal" not in error
    assert "damaged" not in error
