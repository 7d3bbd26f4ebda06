"""The examples do what they say, and each has a place in the guide."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples.{name}", ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_loop_learns():
    values = example("own_loop").main(steps=25)
    assert values[-1] < 0.8 * values[0]


def test_own_loop_is_sixty_lines():
    assert len((ROOT / "examples" / "own_loop.py").read_text().splitlines()) <= 62


def test_compiled_gives_the_same_value():
    assert example("compiled").main(backend="aot_eager") < 1e-4


def last_loss(*command: str, processes: int) -> float:
    """What `python COMMAND` in a shell prints at its end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "GLOO_SOCKET_IFNAME": "lo"}
    run = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stderr[-4000:]
    (loss,) = re.findall(rf"^loss (\d+\.\d+) in {processes} processes$", run.stdout, re.MULTILINE)
    return float(loss)


@pytest.mark.filterwarnings("ignore")  # Lightning's own, of the installed torch and of few workers
def test_lightning_learns():
    pytest.importorskip("lightning", reason="Lightning is not installed; `pip install lightning`")
    script = "examples/with_lightning.py"
    first = example("with_lightning").main(steps=1)
    assert last_loss(script, "--steps", "30", processes=1) < 0.9 * first
    assert last_loss(script, "--steps", "30", "--devices", "2", processes=2) < 0.9 * first


def test_accelerate_learns():
    pytest.importorskip("accelerate", reason="Accelerate is not installed; `pip install accelerate`")
    script = "examples/with_accelerate.py"
    two = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, "--cpu"
    for command, processes in (((script, "--cpu"), 1), (two, 2)):
        first = last_loss(*command, "--steps", "1", processes=processes)
        assert last_loss(*command, "--steps", "30", processes=processes) < 0.8 * first


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_no_example_is_named_like_a_package_it_imports(path):
    """`python examples/NAME.py` would import itself in its place."""
    imported = re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.MULTILINE)
    assert path.stem not in imported


def test_folder_of_videos_is_aligned(tmp_path, monkeypatch):
    pytest.importorskip("av")
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "cache"))
    videos = example("folder_of_videos")
    videos.draw_videos(tmp_path / "discs")
    path = videos.main(tmp_path / "discs", tmp_path / "run", steps=20, size=32)
    assert len(path) > 5
    assert (path[1:] > path[:-1]).any(axis=1).all()
    assert (tmp_path / "run" / "pair.png").stat().st_size > 1000


def test_the_notebook_runs_from_top_to_bottom(capsys):
    """Its code cells, in order, with fewer steps; what it shows was made by them."""
    pytest.importorskip("matplotlib")
    notebook = json.loads((ROOT / "examples" / "first_alignment.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] for cell in cells if "print(" in "".join(cell["source"]))
    names: dict[str, object] = {}
    for cell in cells:
        exec("".join(cell["source"]).replace("STEPS = 150", "STEPS = 60"), names)
    shown = capsys.readouterr().out
    assert "frames 30 to 59 of the recording" in shown
    losses = [float(line.split()[-1]) for line in shown.splitlines() if line.startswith("step")]
    assert losses[-1] < 0.3 * losses[0]


def test_the_guide_names_every_example():
    guide = (ROOT / "docs" / "guide.md").read_text()
    files = sorted((ROOT / "examples").glob("*.py"))
    assert len(files) == 5
    for path in files:
        assert f"(../examples/{path.name})" in guide, path.name
