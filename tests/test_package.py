"""What importing costs and needs, which way imports go, how long files are, and that the pages name every name."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATHS = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / 'kernels')]}\n"
EXTRAS = ("scipy", "sklearn", "matplotlib", "tensorboard", "safetensors", "yaml", "rich", "av", "PIL", "seglearn")
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 500, 80


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", PATHS + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def modules() -> dict[str, Path]:
    """The modules of both packages by name; a package by its `__init__`."""
    found = {}
    for folder in (ROOT, ROOT / "kernels"):
        for package in ("lac", "lac_kernels"):
            for path in sorted((folder / package).rglob("*.py")):
                found[".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")] = path
    assert len(found) > 50
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """What a module imports, at its head or inside a function: modules of ours by name, others by their package."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(MODULES)
            if inner - set(MODULES):
                found.add(node.module)
    return {target if target in MODULES else target.partition(".")[0] for target in found}


def floors() -> dict[str, int]:
    """The floor of each room, from docs/design.md, lowest first."""
    page = (ROOT / "docs" / "design.md").read_text()
    lines = page.split("```text\n")[1].split("```")[0].splitlines()
    return {room: floor for floor, line in enumerate(lines) for room in line.split()}


def room_of(module: str, rooms: dict[str, int]) -> str:
    """The room with the longest name that the module lies in; the package `lac` itself holds nothing but its names."""
    inside = [room for room in rooms if module == room or (module.startswith(f"{room}.") and room != "lac")]
    assert inside, f"docs/design.md has no room for {module}"
    return max(inside, key=len)


def test_import_is_light():
    """`import lac` loads no plotting, statistics or compiler, and touches no GPU."""
    heavy = ("triton", "numba", *EXTRAS)
    code = f"import lac, torch; print([x for x in {heavy} if x in sys.modules], torch.cuda.is_initialized())"
    assert run(code) == "[] False"


def test_the_loss_needs_torch_and_numpy_alone():
    """.ci/core.py asks the same of a venv without the extras."""
    code = f"""
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
import torch, lac
encoder, loss = lac.FrameEncoder(6, embed_dim=16), lac.LACLoss(gaps="interval")
value = loss(encoder(torch.randn(2, 9, 6)), encoder(torch.randn(2, 7, 6)))
value.backward()
print(value.isfinite().item())
"""
    assert run(code) == "True"


def test_imports_go_down():
    rooms = floors()
    assert rooms["lac_kernels.ops"] < rooms["lac.functional"] < rooms["lac.cli"]
    for name in MODULES:
        if name == "lac_kernels":
            continue
        room = room_of(name, rooms)
        for target in imports(name) & set(MODULES) - {"lac_kernels"}:
            other = room_of(target, rooms)
            assert rooms[other] <= rooms[room], f"{name} imports {target}, which stands above it"
    assert not imports("lac_kernels") & set(MODULES)


def test_imports_have_no_circle():
    ours = {name: imports(name) & set(MODULES) - {name} for name in MODULES}
    assert len(list(graphlib.TopologicalSorter(ours).static_order())) == len(MODULES)


def test_every_room_exists():
    for room in floors():
        assert room in MODULES, room


@pytest.mark.parametrize("name", sorted(MODULES))
def test_only_engines_and_commands_import_what_is_theirs(name):
    assert not {"bench", "tests", "examples"} & imports(name)
    if not name.startswith("lac_kernels.triton"):
        assert "triton" not in imports(name)
    if not name.startswith("lac.cli"):
        assert "rich" not in imports(name)
        calls = [node.func for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Call)]
        assert "print" not in {call.id for call in calls if isinstance(call, ast.Name)}


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Functions and how many lines they have, from `def` or the first decorator to the end."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, node.end_lineno - first + 1


@pytest.mark.parametrize("name", sorted(MODULES))
def test_files_and_functions_are_short(name):
    text = MODULES[name].read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for function, lines in functions(ast.parse(text)):
        assert lines <= MOST_LINES_OF_A_FUNCTION, f"{function} has {lines} lines"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_docstrings_are_markdown(name):
    text = MODULES[name].read_text()
    assert "``" not in text, "single backticks"
    assert not re.search(r":(func|class|mod|meth|data|attr):`|\w::\n|^\s+Example:$", text, flags=re.MULTILINE)


# What docs/reference/index.md says may change without notice, the engines, and the commands, which have their help.
PRIVATE = (
    "lac.bounds",
    "lac.checks",
    "lac.options",
    "lac.files",
    "lac.system",
    "lac.solve",
    "lac.data.convert.",
    "lac.cli",
    "lac_kernels",
)


def public_names() -> dict[tuple[str, str], str | None]:
    """The docstring of each public class and function of the package, by its module and its name."""
    return {
        (name, node.name): ast.get_docstring(node)
        for name, path in MODULES.items()
        if not name.startswith(PRIVATE)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }


def test_the_reference_has_every_public_name():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    listed = set(re.findall(r"^::: (\S+)", pages, flags=re.MULTILINE))
    assert {"lac.LACLoss", "lac.gaps", "lac.data.convert"} <= listed
    whole = re.findall(r"^::: (\S+)\n    options: .*show_submodules: true", pages, flags=re.MULTILINE)
    listed |= {module for module in MODULES for package in whole if module.startswith(f"{package}.")}
    for (module, name), docstring in sorted(public_names().items()):
        assert docstring, f"{module}.{name} has no docstring, and so no place in the reference"
        parts = module.split(".")
        places = {".".join([*parts[:k], name]) for k in range(1, len(parts) + 1)}  # also where a package offers it
        assert ({module} | places) & listed, f"docs/reference has no `::: {module}` and no `::: {module}.{name}`"


def test_the_reference_names_what_exists():
    code = """
import importlib, re, pathlib
for path in sorted(pathlib.Path("docs/reference").glob("*.md")):
    for name in re.findall(r"^::: (\\S+)", path.read_text(), flags=re.MULTILINE):
        try:
            importlib.import_module(name)
        except ImportError:
            module, _, attribute = name.rpartition(".")
            assert getattr(importlib.import_module(module), attribute).__doc__, name
"""
    run(f"import os; os.chdir({str(ROOT)!r})\n{code}")


def test_the_readme_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        run(block)
