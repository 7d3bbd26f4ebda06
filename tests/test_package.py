"""What importing costs, which way imports go, and that the README's example runs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_import_is_light():
    """`import lac` loads no plotting, statistics or compiler, and touches no GPU."""
    heavy = ("triton", "matplotlib", "sklearn", "scipy", "tensorboard", "numba", "av")
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'kernels')]}; import lac, torch; "
    code += f"print([x for x in {heavy} if x in sys.modules], torch.cuda.is_initialized())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found}


def test_imports_go_one_way():
    kernels = sorted((ROOT / "kernels" / "lac_kernels").rglob("*.py"))
    assert kernels
    for path in kernels:
        assert "lac" not in imports(path), path
        assert "triton" in path.parts or "triton" not in imports(path), path
    for path in (ROOT / "lac").rglob("*.py"):
        assert not {"triton", "bench", "tests"} & imports(path), path
        if path.parent.name != "cli":
            assert not any("lac.cli" in line for line in path.read_text().splitlines() if "import" in line), path


def test_the_readme_example_runs():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'kernels')]}\n{block}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
