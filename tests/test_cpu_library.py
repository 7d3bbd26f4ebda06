"""The compiled library in the cache: whole or built again, and loaded only from where nobody else can write."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lac_kernels import cpu
from lac_kernels.cache import cache_folder, others_can_write
from lac_kernels.cpu import library as compiled
from lac_kernels.cpu.library import find_compiler, library_path, load
from lac_kernels.problem import Problem

CPU = torch.device("cpu")
REASON = cpu.unavailable(CPU)
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=f"the cpu engine cannot run: {REASON}"),
    pytest.mark.skipif(sys.platform == "win32", reason="shell scripts, modes and owners"),
]

USE = """
import torch
from lac import smith_waterman
print(f"{smith_waterman(torch.eye(3), backend='cpu').item():.2f}")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache folder, and a quick compiler: it copies the library that this machine has built."""
    monkeypatch.delenv("CXX", raising=False)
    built = library_path(find_compiler())
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    compiler = tmp_path / "c++"
    compiler.write_text(
        f'#!/bin/sh\necho built >> "{tmp_path}/log"\nwhile [ "$1" != -o ]; do shift; done\ncat "{built}" > "$2"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("LAC_CACHE", str(folder))
    load.cache_clear()
    yield folder
    load.cache_clear()


def again() -> str | None:
    """As the next process would find it."""
    load.cache_clear()
    return cpu.unavailable(CPU)


def builds(folder: Path) -> int:
    return len((folder.parent / "log").read_text().splitlines())


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | more


def test_built_once_then_loaded(folder):
    assert again() is None
    assert {path.suffix for path in folder.iterdir()} == {".so", ".sha256"}
    assert again() is None
    assert builds(folder) == 1


@pytest.mark.promise("faults")
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:1000],
        lambda b: b"",
        lambda b: b[:-1],
        lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :],
    ],
    ids=["cut", "empty", "one byte short", "one bit"],
)
def test_a_damaged_library_is_built_again(folder, damage, caplog):
    """A compiled engine that is damaged in the cache is compiled again before it is used, and it is said."""
    assert again() is None
    (library,) = folder.glob("*.so")
    whole = library.read_bytes()
    library.unlink()  # the pages of the one in use stay
    library.write_bytes(damage(whole))
    assert again() is None
    assert "compiling it again" in caplog.text
    assert library.read_bytes() == whole
    assert again() is None
    assert builds(folder) == 2


@pytest.mark.promise("faults")
def test_a_cut_library_does_not_end_the_process(folder):
    """A compiled engine that was cut short does not end the process that would load it."""
    assert again() is None
    (library,) = folder.glob("*.so")
    content = library.read_bytes()
    library.unlink()
    library.write_bytes(content[:1000])
    done = subprocess.run([sys.executable, "-c", USE], env=environment(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "4.03\n"), done.stderr
    assert "compiling it again" in done.stderr


@pytest.mark.promise("files")
@pytest.mark.parametrize("content", [None, b"", b"0" * 64])
def test_a_library_without_its_digest_is_not_loaded(folder, content):
    """A compiled engine without its digest beside it is built again, not loaded."""
    assert again() is None
    (beside,) = folder.glob("*.sha256")
    beside.unlink() if content is None else beside.write_bytes(content)
    assert again() is None
    assert builds(folder) == 2


def test_what_a_killed_compilation_left_is_swept(folder):
    old, young = folder / "tmpold.so", folder / "tmpyoung.so"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    assert again() is None
    assert young.exists()
    assert not old.exists()


@pytest.mark.slow
@pytest.mark.promise("faults")
def test_killed_while_compiling(folder):
    """A process that is killed while it compiles its engine leaves the next one to compile it."""
    compiler = Path(os.environ["CXX"])
    compiler.write_text(compiler.read_text().replace("cat ", "kill -9 $PPID; cat "))
    killed = subprocess.run([sys.executable, "-c", USE], env=environment(), capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    compiler.write_text(compiler.read_text().replace("kill -9 $PPID; ", ""))
    assert again() is None


@pytest.mark.slow
@pytest.mark.promise("faults")
def test_two_processes_compile_at_once(folder):
    """Two processes that compile the engine at once do not disturb each other."""
    compiler = Path(os.environ["CXX"])
    compiler.write_text(compiler.read_text().replace("cat ", "sleep 1; cat "))
    command = [sys.executable, "-c", USE]
    both = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["4.03\n"] * 2
    assert again() is None
    assert {path.suffix for path in folder.iterdir()} == {".so", ".sha256"}


@pytest.mark.slow
@pytest.mark.promise("faults")
def test_one_byte_anywhere(folder, record_property):
    """A compiled engine with a flipped bit or without its end, anywhere, is never loaded: it is compiled again."""
    assert again() is None
    (library,) = folder.glob("*.so")
    whole, rng = library.read_bytes(), random.Random(0)
    for k in range(100):
        at = rng.randrange(len(whole))
        end = whole[at + 1 :] if k % 2 else b""
        library.unlink()
        library.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + end)
        assert again() is None
        assert library.read_bytes() == whole
        assert builds(folder) == k + 2
    record_property("cases", 100)


def compiler_that(does: str, folder: Path) -> Path:
    compiler = folder.parent / "c++"
    compiler.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n{does}\n')
    return compiler


@pytest.mark.promise("faults")
@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("echo no such language >&2; exit 1", "no such language"),
        ("printf '\\377' >&2; exit 1", "failed; set CXX"),
        ('echo rubbish > "$2"', "wrote no library"),
        ('> "$2"', "wrote no library"),
        ("exit 0", "wrote no library"),
        ("kill -9 $$", "failed; set CXX"),
    ],
    ids=["fails", "speaks no UTF-8", "writes rubbish", "writes nothing", "does nothing", "is killed"],
)
def test_a_compiler_that_does_not_work(folder, does, words):
    """A compiler that fails, or writes no library, is told with the remedy; nothing of it is kept."""
    compiler = compiler_that(does, folder)
    reason = again() or ""
    assert words in reason
    assert f"{compiler}" in reason
    assert "set CXX to another compiler" in reason
    assert list(folder.iterdir()) == []


@pytest.mark.promise("faults")
def test_a_compiler_that_hangs(folder, monkeypatch):
    """A compiler that does not end is ended, with all that it has started, and told with the remedy."""
    monkeypatch.setattr(compiled, "PATIENCE", 0.2)
    compiler_that(f"sleep 300 & echo $! > {folder.parent}/child; wait", folder)
    assert "has not ended after 0.2 seconds; set CXX to another compiler" in (again() or "")
    assert list(folder.iterdir()) == []
    child = Path("/proc", (folder.parent / "child").read_text().strip(), "status")
    until = time.monotonic() + 10  # the system takes its time to end it
    while child.exists() and "zombie" not in child.read_text() and time.monotonic() < until:
        time.sleep(0.01)
    assert time.monotonic() < until


@pytest.mark.promise("faults")
def test_without_a_compiler(folder):
    """Without any compiler the loss and the alignment work by the slower engine, with a word on what to install."""
    code = USE.replace("backend='cpu'", "backend='auto'")
    nothing = environment(PATH="", CXX="", CC="")
    done = subprocess.run([sys.executable, "-c", code], env=nothing, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "4.03\n"), done.stderr
    assert "install g++ or clang++, or set CXX to one); using the slower eager engine" in done.stderr


def refused(*words: str) -> bool:
    reason = again() or ""
    assert "set LAC_CACHE to a folder of yours" in reason
    for word in words:
        assert word in reason
    return True


@pytest.mark.promise("files")
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_refused(folder, mode):
    """No compiled engine is loaded from a folder that others may write to; a line says what to do."""
    assert again() is None
    folder.chmod(mode)
    assert refused("others may write to", str(folder), f"{mode:o}", "chmod go-w")
    folder.chmod(0o700)
    assert again() is None


@pytest.mark.promise("files")
def test_a_library_that_others_can_write_is_refused(folder):
    """A compiled engine that others may write to is not loaded; a line says what to do."""
    assert again() is None
    (library,) = folder.glob("*.so")
    library.chmod(0o720)
    assert refused("others may write to", str(library))


@pytest.mark.promise("files")
def test_a_folder_below_one_that_everybody_can_write_is_refused(folder):
    """No compiled engine is loaded from below a folder in which others could put another in its place."""
    folder.parent.chmod(0o777)
    assert refused("others may write to", str(folder.parent))
    folder.parent.chmod(0o1777)  # as /tmp: only the owner of what is in it can move that away
    assert again() is None


@pytest.mark.promise("files")
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_refused_to_root_too(folder, tmp_path, monkeypatch):
    """A compiled engine or a cache folder that belongs to another user is not used, by a link either."""
    assert again() is None
    (library,) = folder.glob("*.so")
    os.chown(library, 12345, -1)
    assert refused(str(library), "belongs to another user (number 12345)")
    os.chown(library, 0, -1)
    os.chown(folder, 12345, -1)
    assert refused(str(folder), "belongs to another user")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "link"))
    assert refused(str(folder), "belongs to another user")


def test_without_user_numbers_nothing_is_checked(folder, monkeypatch):
    folder.chmod(0o777)
    assert refused("others may write to")
    monkeypatch.delattr(os, "getuid")
    assert again() is None


@pytest.mark.promise("files")
def test_a_library_elsewhere_is_judged_where_it_is(folder, tmp_path):
    """A compiled engine behind a link is judged where it lies."""
    assert again() is None
    (library,) = folder.glob("*.so")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    library.rename(elsewhere / "library")
    library.symlink_to(elsewhere / "library")
    assert again() is None
    elsewhere.chmod(0o777)
    assert refused("others may write to", str(elsewhere))


@pytest.mark.promise("files")
def test_a_loose_umask_makes_a_folder_and_a_library_for_the_user_alone(folder, tmp_path, monkeypatch):
    """The cache folder and the compiled engine are made for the user alone, whatever the umask."""
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "new" / "cache"))
    before = os.umask(0o002)
    try:
        assert again() is None
        assert again() is None
    finally:
        os.umask(before)
    assert others_can_write(next((tmp_path / "new" / "cache").glob("*.so"))) is None
    assert builds(folder) == 1


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LAC_CACHE": "/a"}, "/a"),
        ({"LAC_CACHE": "a"}, "CWD/a"),
        ({"LAC_CACHE": ""}, "HOME/.cache/lac"),
        ({"LAC_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/lac"),
        ({"XDG_CACHE_HOME": "b"}, "HOME/.cache/lac"),
        ({"XDG_CACHE_HOME": ""}, "HOME/.cache/lac"),
        ({}, "HOME/.cache/lac"),
    ],
)
def test_where_the_cache_is(variables, expected, tmp_path, monkeypatch):
    for name in ("LAC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", "/HOME")
    monkeypatch.chdir(tmp_path)
    expected = expected.replace("CWD", str(tmp_path)).replace("HOME", "/HOME", 1)
    assert cache_folder() == Path(expected)


def test_a_user_without_a_home_is_told(folder, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("LAC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert refused("there is no home folder")


@pytest.mark.parametrize("header", [False, True])
def test_the_name_covers_every_source(header, tmp_path, monkeypatch):
    copy = tmp_path / "cpu"
    shutil.copytree(compiled.FOLDER, copy)
    monkeypatch.setattr(compiled, "FOLDER", copy)
    before = library_path(find_compiler())
    source = copy / ("number.h" if header else "cpu.cpp")
    source.write_text(source.read_text() + "// another\n")
    assert library_path(find_compiler()) != before


def test_a_library_of_another_layout_is_refused(folder, monkeypatch):
    assert again() is None
    monkeypatch.setattr(compiled, "layout", lambda: "another")
    assert "another layout" in (again() or "")


def test_room_of_another_size_is_refused():
    scores = torch.ones(1, 3, 4)
    problem = Problem(scores, torch.ones(1, 1, 1), torch.ones(1, 1, 1), torch.tensor(1.0), None, None)
    _, saved = cpu.forward(problem, save=True)
    with pytest.raises(RuntimeError, match="not what the forward keeps"):
        cpu.gradient(torch.ones(1), problem, saved[:, :-1], torch.float32, gaps=False)
