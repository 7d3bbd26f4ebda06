"""`lac-doctor`: what works is ok, what is wrong is found and told with what to do, what is missing is no fault."""

import sys

import pytest
import torch

import lac
from lac import selftest
from lac.cli import doctor
from lac.system import EXTRAS, PACKAGES, package_version
from lac_kernels import eager, engines
from lac_kernels.cpu import library

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def anew(tmp_path, monkeypatch):
    """The self-test remembers nothing, and other folders for what is temporary."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    remembered = (selftest._exact, library.load, engines.engine)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


@pytest.fixture
def parts(monkeypatch):
    """Without the parts that do not depend on a device."""
    monkeypatch.setattr(doctor, "check_parts", lambda: iter(()))


def run(capsys) -> tuple[int, dict[str, list[str]], str]:
    """The exit code, the words of each line by its first one, and all that was said."""
    code = doctor.main([])
    shown = capsys.readouterr().out
    return code, {line.split()[0]: line.split() for line in shown.splitlines() if line.startswith("  ")}, shown


def test_what_works_is_ok(capsys, tmp_path):
    code, checks, shown = run(capsys)
    assert code == 0, shown
    assert "all " in shown.splitlines()[-1]
    for name in ("auto", "reference", "eager", "videos", "pictures", "encoder"):
        assert checks[name][1] == "ok", shown
    assert "WRONG" not in shown
    assert "\x1b" not in shown
    assert "allowed" in shown
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines() if line and not line.startswith(" "))
    assert lines["lac"] == lac.__version__
    for package in ("torch", "numpy", *(one.name for one in PACKAGES)):
        version = package_version(package)
        assert lines[package].startswith(version) if version else lines[package].startswith("not installed; for ")
    assert {package.extra for package in PACKAGES} == set(EXTRAS)
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize("what", ["score", "posterior", "gap"])
def test_a_wrong_number_is_found(what, parts, capsys, monkeypatch):
    forward, gradient = eager.forward, eager.gradient

    def a_little_more(problem, save):
        score, saved = forward(problem, save)
        return score * (1 + 1e-5), saved

    def another(*arguments):
        scores, gap_open, gap_extend = gradient(*arguments)
        return (scores + 1e-4, gap_open, gap_extend) if what == "posterior" else (scores, gap_open, gap_extend + 1e-3)

    # The reference answers for itself by eager's numbers; it has been asked before these are wrong.
    selftest._exact("eager")
    monkeypatch.setattr(eager, *(("forward", a_little_more) if what == "score" else ("gradient", another)))
    code, checks, shown = run(capsys)
    assert code == 1
    assert checks["eager"][1] == "WRONG", shown
    assert checks["reference"][1] == "ok", shown
    assert "report it with this output" in " ".join(shown.split())
    assert shown.splitlines()[-1].endswith("do not work: eager")


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("lac.selftest.lac.LACLoss.forward", "loss"),
        ("lac.selftest.lac.FrameEncoder.forward", "encoder"),
        ("lac_kernels.eager.forward", "eager"),
    ],
)
def test_what_raises_is_told_and_the_rest_goes_on(place, name, parts, capsys, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken\nin two lines")

    selftest._exact("eager")
    monkeypatch.setattr(place, broken)
    code, checks, shown = run(capsys)
    assert code == 1
    assert "RuntimeError: broken in two lines" in shown
    assert "WRONG" in checks[name]
    assert checks["reference"][1] == "ok"


def test_a_number_that_is_none_is_wrong(parts, capsys, monkeypatch):
    forward = eager.forward

    def nan(problem, save):
        score, saved = forward(problem, save)
        return score * float("nan"), saved

    selftest._exact("eager")
    monkeypatch.setattr(eager, "forward", nan)
    code, checks, shown = run(capsys)
    assert (code, checks["eager"][1]) == (1, "WRONG"), shown


def test_a_cache_folder_that_cannot_be_used(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "file" / "cache"))
    code, checks, shown = run(capsys)
    assert code == 1
    assert "WRONG" in checks["cache"]
    assert "set LAC_CACHE to a folder of yours that can be written" in shown
    assert checks["auto"][1] == "ok", shown  # by the eager engine


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_a_cache_folder_of_everybody(tmp_path, capsys, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "cache"))
    code, checks, shown = run(capsys)
    assert code == 1
    assert "WRONG" in checks["cache"]
    assert "others may write to" in shown


def test_no_compiler_is_no_fault(capsys, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    code, checks, shown = run(capsys)
    assert code == 0, shown
    assert checks["cpu"][1] == "-"
    assert "install g++ or clang++" in shown


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_a_compiler_that_fails_is_one(tmp_path, capsys, monkeypatch):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho this is no compiler >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "cache"))
    (check,) = [check for check in selftest.check_parts() if check.name == "cpu engine"]
    assert check.works is False
    assert "set CXX to another compiler (this is no compiler)" in check.said


@pytest.mark.parametrize(("module", "name", "extra"), [("av", "videos", "video"), ("matplotlib", "pictures", "train")])
def test_a_package_that_is_missing_is_no_fault_and_one_that_is_broken_is(module, name, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (check,) = [check for check in selftest.check_parts() if check.name == name]
    assert check.works is None
    assert check.remedy == f'pip install ".[{extra}]" in a clone of lac'
    monkeypatch.undo()
    place = {"av": "av.open", "matplotlib": "matplotlib.figure.Figure.savefig"}[module]

    def broken(*_, **__):
        raise OSError("libx.so: cannot open shared object file")

    pytest.importorskip(module)
    monkeypatch.setattr(place, broken)
    (check,) = [check for check in selftest.check_parts() if check.name == name]
    assert check.works is False
    assert "cannot open shared object file" in check.said
    assert check.remedy.startswith(f"install {module} anew")
