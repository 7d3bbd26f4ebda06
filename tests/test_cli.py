"""What all commands share: one line and an exit code for every error, and a module that runs by itself."""

import errno
import importlib
import runpy
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import SETTINGS, write_clips

import lac.cli
from lac import LACLoss
from lac.cli import common
from lac.cli.common import run
from lac.errors import CheckpointError, ConfigError, DataError, UsageError
from lac.model.encoder import FrameEncoder
from lac.runs import checkpoint
from lac.runs.config import CONFIG, TrainConfig

COMMANDS = sorted(
    path.stem
    for path in Path(lac.cli.__file__).parent.glob("*.py")
    if "    entry()\n" in path.read_text(encoding="utf-8")
)


def main_of(command):
    return importlib.import_module(f"lac.cli.{command}").main


def test_every_command_is_found():
    assert COMMANDS == ["align", "bench", "data", "doctor", "embed", "evaluate", "find", "main", "retrieve", "train"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_module_does_what_its_command_does(command, monkeypatch, capsys):
    """`python -m` and `torchrun -m` name modules."""
    module = f"lac.cli.{command}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: lac")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig.read(None, SETTINGS | {"data.name": "folder", "data.root": str(clips)})
    (folder / CONFIG).write_text(config.to_yaml())
    checkpoint.write_encoder(folder, FrameEncoder(3, **config.model))
    checkpoint.write_weights(folder / checkpoint.LOSS, LACLoss(**config.loss))
    return folder


DATA = ["--data", "folder", "--root", "CLIPS"]
MAKES = {
    "train": [*DATA, "--out", "OUT", "--set", "train.steps=1"],
    "evaluate": ["RUN"],
    "align": ["RUN", "clip0", "clip1"],
    "retrieve": ["RUN"],
    "bench": ["--shapes", "1x2x2", "--seconds", "0.01"],
}


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        *((command, ["--device", "gpu"], "device 'gpu' cannot be used") for command in MAKES),
        *((command, ["--device", "cuda:99"], "device 'cuda:99' cannot be used") for command in MAKES),
        *((command, ["--device", "meta"], "device 'meta' cannot be used") for command in MAKES),
        *((command, ["--nonsense"], "unrecognized arguments") for command in MAKES),
        ("train", ["--seed", str(1 << 63)], "train.seed must be below 2^63"),
        ("evaluate", ["--seed", str(1 << 63)], "below 2^63"),
        ("train", ["--set", "data.options={3: 1}"], "data.options must have names, got 3"),
        ("bench", ["--threads", "99999999"], "at least 1 and at most 1024"),
        ("bench", ["--plot", "x.png"], "--plot needs square shapes that differ"),
        ("bench", ["--plot", "x.tex", "--shapes", "1x2x2", "1x3x3"], "--plot x.tex: must end in one of"),
        ("train", ["--data", "wach"], "did you mean 'watch'?"),
        ("evaluate", ["--data", "wach"], "did you mean 'watch'?"),
        ("train", ["--set", "data.options.speed=3"], "no option 'speed'"),
        ("evaluate", ["--set", "data.options.speed=3"], "no option 'speed'"),
        ("train", ["--set", "data.options.rate=fast"], "data.options.rate must be a number, got 'fast'"),
        ("evaluate", ["--set", "data.options.rate=fast"], "data.options.rate must be a number, got 'fast'"),
        ("evaluate", ["--set", "data.options.rate=-1"], "rate must be > 0"),
        ("evaluate", ["--set", "data.options.val_share=2"], "val_share must lie between 0 and 1"),
        ("evaluate", ["--set", "data.options.size=[8, big]"], "data.options.size must be a whole number or a list"),
        ("evaluate", ["--set", "data.options.seed=-1"], "data.options.seed must not be negative"),
        ("evaluate", ["--data", "watch", "--set", "data.options.action=[ROW]"], "data.options.action must be text"),
        (
            "evaluate",
            ["--data", "watch", "--set", "data.options.max_distractors=long"],
            "data.options.max_distractors must be a whole number",
        ),
        (
            "evaluate",
            ["--data", "watch", "--set", "data.options.untrimmed=3"],
            "data.options.untrimmed must be true or false",
        ),
        ("evaluate", ["--data", "watch", "--set", "data.options.rate=900"], "rate must lie above 0"),
        ("evaluate", ["--data", "uiprmd", "--set", "data.options.speed=[1]"], "data.options.speed must be"),
        ("evaluate", ["--data", "uiprmd", "--set", "data.options.speed=[a, b]"], "data.options.speed must be"),
        ("evaluate", ["--data", "uiprmd", "--set", "data.options.share=2"], "share of other movements"),
        ("evaluate", ["--data", "uiprmd", "--set", "data.options.movement=99"], "unknown movement 99"),
    ],
)
def test_the_command_line_and_settings_are_code_2(command, more, words, clips, folder, tmp_path, capsys):
    places = {"CLIPS": str(clips), "RUN": str(folder), "OUT": str(tmp_path / "out")}
    arguments = [places.get(part, part) for part in [*MAKES[command], *more]]
    assert main_of(command)(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "align", "retrieve"])
def test_a_run_that_is_not_there_is_code_1(command, tmp_path, capsys):
    arguments = [str(tmp_path / "none") if part == "RUN" else part for part in MAKES[command]]
    assert main_of(command)(arguments) == 1
    assert "No such file or directory" in capsys.readouterr().err


def raising(error):
    def command(argv):
        raise error

    return command


HINT = " (--traceback shows where)"
BUG = " (this is a bug; run again with --traceback and report it)"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("say what"), 2, "say what"),
        (ConfigError("no such setting"), 2, "no such setting"),
        (DataError("bad [red]value[/red]\n  here"), 1, "bad [red]value[/red] here" + HINT),
        (CheckpointError("it is damaged"), 1, "it is damaged" + HINT),
        (FileNotFoundError(errno.ENOENT, "No such file", "a/b"), 1, "No such file: a/b" + HINT),
        (ImportError("pip install it"), 1, "pip install it" + HINT),
        (ImportError("x needs y"), 1, "x needs y" + HINT),
        (DataError(), 1, "DataError" + HINT),
        (KeyError("bug"), 1, "internal: KeyError: 'bug'" + BUG),
        (AssertionError(), 1, "internal: AssertionError:" + BUG),
        (AttributeError("no x"), 1, "internal: AttributeError: no x" + BUG),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_one_line(error, code, line, capsys, monkeypatch):
    monkeypatch.delenv("LAC_TRACEBACK", raising=False)
    assert run(raising(error), []) == code
    assert " ".join(capsys.readouterr().err.split()) == f"error: {line}"
    assert run(raising(error), ["--traceback"]) == code
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("LAC_TRACEBACK", "1")
    assert run(raising(error), []) == code
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "slip",
    [
        lambda argv: 1 + "a",
        lambda argv: len(3),
        lambda argv: [] + torch.zeros(2).tolist()[5:6][0],
        lambda argv: (lambda a, b: a)(*[1]),
        lambda argv: int("x"),
        lambda argv: torch.zeros(2) @ torch.zeros(3),
        lambda argv: torch.zeros(2).reshape(3),
    ],
)
def test_a_slip_of_the_program_is_not_told_as_the_users(slip, capsys):
    assert run(slip, []) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: internal: ")
    assert "this is a bug" in shown


def too_much(argv):
    torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    "command", [too_much, raising(torch.OutOfMemoryError("CUDA out of memory.\nTried ...")), raising(MemoryError())]
)
def test_a_machine_that_is_too_small_is_told_with_the_remedy(command, capsys):
    for name, words in {
        "lac-train": "train.batch",
        "lac-find": "shorter recordings",
        "lac-align": "shorter clips",
    }.items():
        assert run(command, [], name=name) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("error: out of memory (")
        assert words in shown
        assert shown.count("\n") == 1


def test_arguments_and_exit_codes(monkeypatch):
    seen = []
    monkeypatch.setattr(common.sys, "argv", ["lac-x", "--a", "--traceback", "b"])
    assert run(lambda argv: seen.append(argv) or 3) == 3
    assert seen == [["--a", "b"]]
    assert run(raising(SystemExit(2)), []) == 2
    assert run(raising(SystemExit(None)), []) == 0
    assert run(raising(SystemExit("text")), []) == 1
