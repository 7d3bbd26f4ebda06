import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import SETTINGS, flags, write_clips

from lac.cli import align, evaluate, retrieve
from lac.cli.train import main
from lac.files import locked
from lac.runs.config import TrainConfig


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


def arguments(root, out, **changes):
    return ["--data", "folder", "--root", str(root), "--out", str(out), *flags(**changes)]


def test_a_run_ends_with_the_table_and_the_picture(root, tmp_path, capsys):
    assert main(arguments(root, tmp_path / "run")) == 0
    shown = capsys.readouterr().out
    for row in ("trained encoder", "time index", "raw features", "random encoder"):
        assert row in shown
    assert str(tmp_path / "run" / "report.html") in shown
    assert (tmp_path / "run" / "plots" / "alignment.png").is_file()
    verdict = json.loads((tmp_path / "run" / "metrics.json").read_text())["verdict"]
    assert verdict[0].startswith("The trained encoder beats the best control in ")
    assert " ".join(verdict) in " ".join(shown.split())
    lines = [line for line in shown.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == [f"{step}/12" for step in (2, 4, 5, 6, 8, 10, 12)]
    for name in ("total", "sequence", "frame", "lr", "gap_open", "gap_extend"):
        assert f"  {name} " in lines[-1]
    assert lines[-1].endswith("0:00 left")

    assert main([*arguments(root, tmp_path / "run")]) == 1
    assert f"--resume {tmp_path / 'run'}" in capsys.readouterr().err
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert main(["--resume", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    shown = capsys.readouterr().out
    assert not [line for line in shown.splitlines() if line.startswith("step ")]
    finished = f"finished at step 12; to go on from its weights in a new run: lac-train --init {tmp_path / 'run'}"
    assert finished in shown
    assert main(["--resume", str(tmp_path / "run"), "--set", "train.steps=20"]) == 2
    assert finished in capsys.readouterr().err

    # So it is done.
    more = arguments(root, tmp_path / "more", train_steps=1)
    assert main([*more, "--init", str(tmp_path / "run")]) == 0
    assert torch.load(tmp_path / "more" / "trainer.previous.pt")["step"] == 0
    capsys.readouterr()
    for setting, words in {
        "model.width=16": "model.width is 8 in the run whose weights are taken",
        "loss.gap_open=3": "loss.gap_open is 0.5 in the run",
    }.items():
        assert main([*arguments(root, tmp_path / "x"), "--set", setting, "--init", str(tmp_path / "run")]) == 2
        assert words in capsys.readouterr().err
    assert main([*arguments(root, tmp_path / "x"), "--init", str(tmp_path / "none")]) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "", "lacks data.name, data.root, data.options and"),
        (lambda text: text.partition("train:")[0], "lacks train.steps, train.batch, train.teacher and 11 more"),
        (
            lambda text: text.replace("  warmup: 3\n", ""),
            "lacks train.warmup, but that of a run holds every setting: it has been cut",
        ),
        (lambda text: text[: len(text) // 2], "config.yaml"),
        (lambda text: text.replace("warmup", "wormup"), "did you mean 'warmup'?"),
    ],
)
def test_the_settings_of_a_run_have_no_defaults(root, tmp_path, capsys, change, words):
    folder = tmp_path / "run"
    folder.mkdir()
    text = TrainConfig.read(None, SETTINGS | {"data.name": "folder", "data.root": str(root)}).to_yaml()
    (folder / "config.yaml").write_text(change(text))
    run = str(folder)
    for command, argv in (
        (main, ["--resume", run]),
        (main, [*arguments(root, tmp_path / "x"), "--init", run]),
        (evaluate.main, [run]),
        (align.main, [run, "clip0", "clip1"]),
        (retrieve.main, [run]),
    ):
        assert command(argv) == 2
        assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "config.yaml"]


@pytest.fixture
def begin_only(monkeypatch):
    """Runs are interrupted after the checkpoint of step 0."""

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lac.runs.run.fit", interrupted)


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_second_trainer_is_refused(root, tmp_path, capsys, begin_only):
    assert main(arguments(root, tmp_path / "run")) == 130
    assert f"go on with: lac-train --resume {tmp_path / 'run'}" in capsys.readouterr().out
    with locked(tmp_path / "run"):
        assert main(["--resume", str(tmp_path / "run")]) == 1
    assert f"error: process {os.getpid()} is at work in this folder; wait for it: {tmp_path}" in capsys.readouterr().err
    assert main(["--resume", str(tmp_path / "run")]) == 130


def test_a_run_that_ended_before_its_first_checkpoint(root, tmp_path, capsys, begin_only):
    assert main(["--resume", str(tmp_path / "run")]) == 2
    assert "start it again, by --out" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    config = TrainConfig.read(None, SETTINGS | {"data.name": "folder", "data.root": str(root)})
    (tmp_path / "run" / "config.yaml").write_text(config.to_yaml())
    assert main(["--resume", str(tmp_path / "run")]) == 1
    assert "start it again, without --resume" in capsys.readouterr().err
    assert main(["-c", str(tmp_path / "run" / "config.yaml"), "--out", str(tmp_path / "run")]) == 130
    assert (tmp_path / "run" / "trainer.pt").is_file()


def test_a_bad_clip_does_not_end_the_run(tmp_path, capsys):
    root = write_clips(tmp_path / "clips")
    bad = root / "features" / "clip3.npy"
    bad.write_bytes(bad.read_bytes()[:-9])
    assert main(arguments(root, tmp_path / "run", train_steps=2)) == 0
    assert f"\nleft out 1 of 8 clips: {bad} is not a plain NumPy array" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["left_out"]) == ["clip3"]
    assert sum(metrics["clips"].values()) == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--set", "train.stepz=3"], "unknown setting train.stepz; did you mean 'steps'?"),
        (["--set", "train.steps=x"], "train.steps must be a whole number"),
        (["--seed", "x"], "invalid int value"),
        (["--sed", "1"], "unrecognized arguments"),
        (["--seed", "-1"], "train.seed must not be negative"),
        (["--resume", "RUN", "--seed", "0"], "leave out --seed"),
        (["--resume", "RUN", "--set", "train.steps=3"], "leave out --set"),
        (["--resume", "RUN"], "holds no config.yaml"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--set", "loss.temperature=0"], "temperature must be positive"),
        (["--set", "loss.gap_open=-1"], "section loss: gap_open"),
        (["--set", "model.heads=3"], "section model: width must be"),
        (["--set", "augment.region=0.5"], "section augment: region must be"),
        (["--set", "loss.backend=nonsense"], "section loss: backend must be one of"),
        (["--set", "loss.backend=triton", "--device", "cpu"], "loss.backend 'triton' cannot run on cpu"),
        (["--set", "loss.gaps=contextual"], "pass embed_dim"),
        (["--set", "loss.gaps=contextual", "--set", "loss.embed_dim=5"], "section loss: "),
        (["--set", "loss.scale=.inf"], "section loss: scale must be positive and finite"),
        (["--set", "loss.margin=.nan"], "loss.margin must be a number, got nan"),
        (["--set", "augment.region=.inf"], "section augment: "),
        (["--set", "model.embed_dim=-1"], "section model: "),
        (["--set", "model.heads=0"], "section model: "),
        (["--set", "loss.gaps=nonsense"], "section loss: gaps must be one of"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(given, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--data", "folder", "--root", "nowhere"], "nowhere/features"),
        (["-c", "missing.yaml"], "No such file or directory: missing.yaml"),
    ],
)
def test_a_failure_is_one_line_and_code_1(given, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(given) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_traceback_is_shown_when_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["-c", "missing.yaml", "--traceback"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "seglearn", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert main([]) == 1
    assert 'pip install ".[demo]" in a clone of lac' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _small_files():
    # A write beyond the limit fails like one on a full disk: Python ignores SIGXFSZ and raises OSError.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))


def test_a_file_that_cannot_be_written_ends_the_command_with_one_line(root, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from lac.cli.train import entry; entry()", *arguments(root, tmp_path / "run")]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, preexec_fn=_small_files
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: File too large")
    assert "trainer.pt" in line
    assert not [path.name for path in (tmp_path / "run").iterdir() if "trainer" in path.name]


def test_the_guide_runs(tmp_path, capsys, monkeypatch):
    guide = (Path(__file__).parent.parent / "docs" / "guide.md").read_text()
    make, use = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (command,) = re.findall(r"```sh\nlac-train (.*?)\n```", guide)
    (settings,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(make, {})
    assert main([*command.split(), "--set", "train.steps=2"]) == 0
    exec(use, {})
    assert " s matches clip" in capsys.readouterr().out
    assert Path("pair.png").is_file()
    Path("mine.yaml").write_text(settings)
    assert TrainConfig.read("mine.yaml").train.lr == 5e-4
