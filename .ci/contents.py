"""What the built wheel and sdist hold: every file of the packages, and nothing else. `python .ci/contents.py DIST`"""

import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"lac/": "lac/", "kernels/lac_kernels/": "lac_kernels/"}  # where they stand here and in the wheel
PARTS = ("lac/", "kernels/", "tests/", "bench/", "examples/", "docs/")  # of the sdist, beside the files at the top
NEEDED = {"torch", "numpy", "triton"}


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def same(what: str, got: set[str], expected: set[str]) -> None:
    if got != expected:
        sys.exit(f"{what}: missing {sorted(expected - got)}, not expected {sorted(got - expected)}")
    print(f"{what}: {len(got)} files, as they should be")


def check_wheel(path: Path) -> None:
    expected = set()
    for here, there in PACKAGES.items():
        expected |= {there + name.removeprefix(here) for name in tracked() if name.startswith(here)}
    for typed in ("lac/py.typed", "lac_kernels/py.typed"):
        if typed not in expected:
            sys.exit(f"{typed} is missing")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).removesuffix("METADATA")
        about = {name for name in names if name.startswith(info)}
        same(f"{path.name}, packages", names - about, expected)
        wanted = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
        same(f"{path.name}, about", about, {info + name for name in wanted})
        check_metadata(wheel.read(info + "METADATA").decode())


def check_metadata(text: str) -> None:
    metadata = HeaderParser().parsestr(text)
    version = re.search(r'__version__ = "(.+)"', (ROOT / "lac" / "__init__.py").read_text())
    if version is None or metadata["Version"] != version[1]:
        sys.exit(f"the wheel says version {metadata['Version']}, lac/__init__.py {version and version[1]}")
    required = metadata.get_all("Requires-Dist", [])
    core = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    same("what the core requires", core, NEEDED)


def check_sdist(path: Path) -> None:
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    top = {"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md", "pyproject.toml", "mkdocs.yml"}
    expected = top | {name for name in tracked() if name.startswith(PARTS)}
    same(path.name, names - {"PKG-INFO", ".gitignore"}, expected)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
