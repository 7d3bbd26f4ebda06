"""One spelling, one meaning and the same words for an option in every command; help that fits a terminal."""

import argparse
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import lac
from lac.cli import main as lac_command
from lac.cli import train
from lac.runs.config import TrainConfig
from lac.system import PACKAGES

PARSERS = {name: importlib.import_module(module)._parser for name, (module, _) in lac_command.COMMANDS.items()}
COMMANDS = {name: [name] for name in PARSERS} | {"data convert": ["data", "convert"], "lac": []}


@pytest.fixture(autouse=True)
def a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def help_of(command, capsys):
    assert lac_command.main([*COMMANDS[command], "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_and_has_an_example(command, capsys):
    shown = help_of(command, capsys)
    assert max(map(len, shown.splitlines())) <= 80
    name = "lac" if command == "lac" else f"lac-{command}"
    assert shown.startswith(f"usage: {name} ")
    _, examples = re.split(r"\nexamples?:\n", shown)
    assert examples.startswith("  lac")
    for group in ("general:", "--help", "--version", "--traceback"):
        assert group in shown
    for group in ("options:", "positional arguments:"):  # what argparse calls that which is in no group
        assert group not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells_the_versions(command, capsys):
    assert lac_command.main([*COMMANDS[command], "--version"]) == 0
    assert capsys.readouterr().out == f"lac {lac.__version__}, torch {torch.__version__}\n"


def every_parser():
    """By command, the subcommands of lac-data among them."""
    for name, make in PARSERS.items():
        parser = make()
        yield f"lac-{name}", parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"lac-{name} {sub}", of_sub) for sub, of_sub in action.choices.items())


def test_an_option_means_the_same_in_every_command():
    meanings = {}
    for command, parser in every_parser():
        for action in parser._actions:
            for spelling in action.option_strings or [action.metavar]:
                meaning = (type(action), action.nargs, action.metavar, action.type, repr(action.default), action.help)
                if spelling == "RUN":  # may be left out where something else can be judged
                    meaning = (action.metavar, action.help)
                meanings.setdefault(spelling, {}).setdefault(meaning, []).append(command)
    for spelling, by_meaning in meanings.items():
        assert len(by_meaning) == 1, f"{spelling} means several things: {by_meaning}"
    shared = {spelling for spelling, by_meaning in meanings.items() if len(next(iter(by_meaning.values()))) > 1}
    assert shared >= {"--set", "--root", "--data", "--seed", "--device", "--out", "--version", "--traceback", "RUN"}


def test_what_takes_a_file_says_so_and_out_is_a_folder():
    for command, parser in every_parser():
        for action in parser._actions:
            if "--out" in action.option_strings:
                assert action.metavar == "DIR", command
            if any(option in action.option_strings for option in ("--rows", "--plot", "--video", "--config")):
                assert action.metavar.startswith("FILE."), command


def test_lac_names_the_commands_that_are_installed(capsys):
    pyproject = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    installed = dict(re.findall(r'^lac-(\w+) = "([\w.]+):entry"$', pyproject, re.MULTILINE))
    assert installed == {name: module for name, (module, _) in lac_command.COMMANDS.items()}
    assert 'lac = "lac.cli.main:entry"' in pyproject.splitlines()
    assert lac_command.main([]) == 0
    shown = capsys.readouterr().out
    for name, (_, line) in lac_command.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", shown, re.MULTILINE)
    assert lac_command.main(["trian"]) == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


def test_print_config_is_a_configuration_of_every_setting(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--data", "uiprmd", "--seed", "7", "--set", "loss.temperature=0.5"]
    assert train.main(["--print-config", *options]) == 0
    text = capsys.readouterr().out
    expected = TrainConfig.read(None, {"data.name": "uiprmd", "train.seed": 7, "loss.temperature": 0.5})
    assert yaml.safe_load(text) == yaml.safe_load(expected.to_yaml())
    assert list(tmp_path.iterdir()) == []
    Path("mine.yaml").write_text(text)
    assert train.main(["-c", "mine.yaml", "--print-config"]) == 0
    assert capsys.readouterr().out == text


# What is not installed


def test_an_extra_brings_the_packages_that_it_is_named_for():
    pyproject = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    extras = pyproject.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for package in PACKAGES:
        (requirements,) = re.findall(rf"^{package.extra} = \[(.*?)\]$", extras, re.MULTILINE | re.DOTALL)
        assert re.search(rf'"{re.escape(package.name)}[<>=]', requirements), package


REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
from lac.cli.main import main
sys.exit(main({argv!r}))
"""


def run_without(refused, argv, folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    code = REFUSE.format(refused=refused, argv=argv)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("argv", "refused", "line"),
    [
        (["train"], "rich", 'lac-train needs rich, which is not installed: pip install ".[train]" in a clone of lac'),
        (["train"], "yaml", 'lac-train needs pyyaml, which is not installed: pip install ".[train]" in a clone of lac'),
        (["bench"], "rich", 'lac-bench needs rich, which is not installed: pip install ".[train]" in a clone of lac'),
        (
            ["bench", "--shapes", "1x2x2", "1x3x3", "--plot", "x.png"],
            "matplotlib",
            'lac-bench needs matplotlib, which is not installed: pip install ".[train]" in a clone of lac',
        ),
        (
            ["data", "convert", "videos", "a", "b"],
            "rich",
            'lac-data needs rich, which is not installed: pip install ".[train]" in a clone of lac',
        ),
    ],
)
def test_a_missing_package_is_told_in_a_line(argv, refused, line, tmp_path):
    ended = run_without({refused}, argv, tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {line}\n")
    assert list(tmp_path.iterdir()) == []


def test_errors_help_and_doctor_need_the_core_alone(tmp_path):
    extras = {package.module for package in PACKAGES}
    for argv in (["doctor"], ["train", "--help"], ["bench", "--help"], ["data", "convert", "--help"], ["--version"]):
        ended = run_without(extras, argv, tmp_path)
        assert (ended.returncode, ended.stderr) == (0, ""), argv
    ended = run_without(extras, ["eval"], tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: give a run folder (lac-eval RUN)")
