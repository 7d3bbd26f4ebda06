"""From C++ to a library in memory, by g++, with a cache on disk."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from ptxemu.findings import kinds_header

RUNTIME = Path(__file__).parent / "runtime"
# No rounding or overflow other than the program's own. What is hidden is not shared between libraries.
FLAGS = ["-w", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-fwrapv", "-fPIC", "-mfma"]
FLAGS += ["-fvisibility=hidden"]
OF_KERNELS, OF_RUNTIME = "-O1", "-O2"


class CompilerError(RuntimeError):
    """There is no compiler, or it refused."""


def cxx() -> str:
    """The compiler: g++, or what PTXEMU_CXX names."""
    return os.environ.get("PTXEMU_CXX", "g++")


def unavailable() -> str | None:
    """Why nothing can be compiled here, and what to do; None if it can."""
    if platform.machine() not in ("x86_64", "AMD64") or platform.system() != "Linux":
        return f"the emulator runs on Linux on x86-64, not on {platform.system()} on {platform.machine()}"
    if shutil.which(cxx()) is None:
        return f"the emulator needs a C++ compiler, and {cxx()} is not installed: apt install g++, or set PTXEMU_CXX"
    return None


def cache() -> Path:
    """Where libraries are kept: PTXEMU_CACHE, or ~/.cache/ptxemu. Whatever they depend on is in their names."""
    return Path(os.environ.get("PTXEMU_CACHE", "~/.cache/ptxemu")).expanduser()


@lru_cache
def _headers(compiler: str) -> tuple[str, dict[str, str]]:
    """A name for compiler, flags and runtime, and the runtime's files."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    files = {path.name: path.read_text() for path in sorted(RUNTIME.iterdir())} | {"kinds.h": kinds_header()}
    return _digest(version, *FLAGS, OF_KERNELS, OF_RUNTIME, *files, *files.values()), files


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CompilerError(f"{' '.join(command)} failed:\n{done.stderr[:3000]}")


def _runtime(compiler: str) -> Path:
    """A folder with the runtime, compiled, and the interface to it, precompiled."""
    name, files = _headers(compiler)
    folder = cache() / f"runtime-{name}"
    if not folder.exists():
        cache().mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache()))
        for file, text in files.items():
            (made / file).write_text(text)
        header, source = made / "interface.h", made / "runtime.cpp"
        _run([compiler, *FLAGS, OF_KERNELS, "-x", "c++-header", str(header), "-o", f"{header}.gch"])
        _run([compiler, *FLAGS, OF_RUNTIME, "-c", str(source), "-o", str(made / "runtime.o")])
        try:
            made.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(made)
    return folder


def compiled(source: str, name: str) -> ctypes.CDLL:
    """The library of a translated program; `name` is for people who look into the cache.

    Raises:
        CompilerError: there is no compiler, or it refused.
    """
    reason = unavailable()
    if reason:
        raise CompilerError(reason)
    compiler = cxx()
    library = cache() / f"{name[:60]}-{_digest(source, _headers(compiler)[0])}.so"
    fresh = not library.exists()
    if fresh:
        runtime = _runtime(compiler)
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            cpp, made = Path(folder) / f"{name[:60]}.cpp", Path(folder) / "made.so"
            cpp.write_text(source)
            linked = ["-shared", f"-I{runtime}", str(cpp), str(runtime / "runtime.o"), "-o", str(made)]
            _run([compiler, *FLAGS, OF_KERNELS, *linked])
            made.replace(library)
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:  # cut short, or of another machine
        library.unlink()
        if fresh:
            raise CompilerError(f"{library} was made and cannot be loaded: {error}") from None
        return compiled(source, name)
