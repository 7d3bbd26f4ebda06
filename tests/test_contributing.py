"""docs/contributing.md keeps its promises to who adds an engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_an_engine_is_a_module_and_a_line_in_one_table(tmp_path):
    """The page followed to the letter, in a copy, with a module that has the required functions alone."""
    page = (ROOT / "docs" / "contributing.md").read_text()
    required = ("forward", "gradient", "hard", "saved_like", "unavailable")
    assert ", ".join(f"`{name}`" for name in required) in page
    for folder in ("kernels", "lac", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    kernels = tmp_path / "kernels" / "lac_kernels"
    (kernels / "mine.py").write_text(f"from lac_kernels.eager import {', '.join(required)}\n")
    table = (kernels / "engines.py").read_text()
    assert table.count("_ENGINES = {") == 1
    (kernels / "engines.py").write_text(
        table.replace("_ENGINES = {", '_ENGINES = {"mine": _Engine("lac_kernels.mine"), ')
    )
    few = "mine and (golden or order or padding)"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_alignment.py", "-k", few],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.rsplit(" passed", 1)[0].split()[-1]) > 20, done.stdout
