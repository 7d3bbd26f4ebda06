"""docs/contributing.md keeps its promises: each block of the page is written where it says, in a copy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lac import LACLoss, SmithWaterman

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "contributing.md").read_text()


def block(place: str) -> str:
    """The code of the page whose first line is `# place`, without that line."""
    found = re.findall(rf"^```python\n# {re.escape(place)}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 1, place
    return found[0]


@pytest.fixture
def copy(tmp_path):
    for folder in ("kernels", "lac", "tests", "bench"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def python(copy: Path, *arguments: str) -> str:
    """What Python prints with these arguments, where the packages are those of the copy."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (copy, copy / "kernels")))}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_engine_is_a_module_and_a_line_in_one_table(copy):
    kernels = copy / "kernels" / "lac_kernels"
    (kernels / "mine.py").write_text(block("kernels/lac_kernels/mine.py"))
    head, table, rest = (kernels / "engines.py").read_text().partition("_ENGINES = {\n")
    assert table
    (kernels / "engines.py").write_text(head + table + block("kernels/lac_kernels/engines.py, in _ENGINES") + rest)
    few = "mine and (golden or order or padding or ties)"
    suites = ("tests/test_alignment.py", "tests/test_engines.py")
    printed = python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites, "-k", few)
    assert int(printed.rsplit(" passed", 1)[0].split()[-1]) > 20, printed


def test_the_gap_model_charges_each_sequence_by_its_own_clock():
    names = {}
    exec(block("step_gaps.py"), names)
    assert names["loss"](torch.randn(2, 6, 4), torch.randn(2, 7, 4)).isfinite()
    model = names["StepGaps"](0.7)
    # One gap of frames 1 and 2, between two matches worth 5, in sequence 1 or in sequence 2.
    scores = torch.full((4, 2), -9.0)
    scores[0, 0] = scores[3, 1] = 5
    times = [torch.tensor([0.0, 1.0, 4.0, 5.0]), torch.tensor([0.0, 0.5])]
    costs = []
    for slow in (1, 10):
        for s, (t1, t2) in ((scores, times), (scores.T, times[::-1])):
            path = SmithWaterman(model).hard_alignment(s, times1=t1 * slow, times2=t2 * slow)
            costs.append(10 - path.score.item())
    assert costs[0] == costs[1]
    assert costs[2] > costs[0]
    assert model.learned()["gap_open"].item() == pytest.approx(0.7)
    assert LACLoss(gaps=model)(torch.randn(2, 6, 4), torch.randn(2, 7, 4)).isfinite()


def test_a_data_set_is_a_loader_and_a_line_and_then_the_commands_know_it(copy):
    (copy / "lac" / "data" / "mine.py").write_text(block("lac/data/mine.py"))
    with (copy / "lac" / "data" / "__init__.py").open("a") as file:
        file.write(block("lac/data/__init__.py, at the end"))
    rng = np.random.default_rng(0)
    (copy / "recordings").mkdir()
    for k in range(8):
        phase = np.linspace(0, 1.99, 30 + k)
        table = np.stack([np.sin(phase), np.cos(phase), rng.normal(size=len(phase)), np.floor(phase)], axis=1)
        np.save(copy / "recordings" / f"clip{k}.npy", table)
    code = "import lac.data; data = lac.data.load('mine', 'recordings', rate=10.0); print(data.val[0].times[10])"
    assert python(copy, "-c", code) == "1.0\n"
    settings = ("data.options.rate=10", "train.steps=2", "train.batch=2", "augment.frames=8")
    command = re.search(r"`lac-train (--data mine --root )FOLDER --set data.options.rate=10`", PAGE)
    words = [word for setting in settings for word in ("--set", setting)]
    python(copy, "-m", "lac.cli.train", *command[1].split(), "recordings", "--out", "run", *words)
    assert (copy / "run" / "metrics.json").is_file()
