"""The compiled library: find a compiler, compile, keep under a name of its own, refuse what others could have written.

It is kept in the user's cache folder (cache.py) under a name made from the sources, the compiler and the processor, so
it is built once per machine and never used on another. Its digest lies beside it: a damaged library is built again.
"""

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from lac_kernels.cache import cache_folder, make_folder, others_can_write, sweep
from lac_kernels.cpu.batch import Batch, layout

FOLDER = Path(__file__).parent  # of the sources
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-pthread")
PATIENCE = 600  # seconds that a compiler may take
NATIVE = (("-march=native",), ("-mcpu=native",), ())  # some compilers know only one of them, or none

_REMEDY = "LAC_CACHE to a folder of yours (chmod 700)"

_log = logging.getLogger("lac")


class _CannotBuild(Exception):
    """Why there is no library, with the remedy."""


def find_compiler() -> Path:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        program = shutil.which(name) if name else None
        if program:
            return Path(program).resolve()
    raise _CannotBuild(
        "it needs a C++17 compiler on first use and found none; install g++ or clang++, or set CXX to one"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
        return platform.machine() + "".join(line for line in lines if line.startswith(wanted))
    except OSError:
        return platform.machine() + platform.processor()


def _sources() -> list[Path]:
    """All that the compiler reads: every header beside `cpu.cpp` too."""
    return sorted(path for path in FOLDER.iterdir() if path.suffix in (".cpp", ".h"))


def library_path(compiler: Path) -> Path:
    """Where the library of these sources, compiler and processor is kept."""
    stat = compiler.stat()
    sources = [part for path in _sources() for part in (path.name.encode(), path.read_bytes())]
    command = f"{FLAGS} {compiler} {stat.st_size} {stat.st_mtime_ns}".encode()
    name = hashlib.sha256(b"\0".join((*sources, command, _processor().encode()))).hexdigest()[:24]
    return cache_folder() / f"cpu-{name}.so"


def _compile(compiler: Path, to: Path) -> None:
    """Build the library and put it at `to`, then its digest beside it: without that it is not whole."""
    sweep(to.parent.glob("tmp*.so"))
    descriptor, temporary = tempfile.mkstemp(suffix=".so", dir=to.parent)
    os.close(descriptor)
    try:
        errors = ""
        for native in NATIVE:
            code, errors = _call([str(compiler), *FLAGS, *native, str(FOLDER / "cpu.cpp"), "-o", temporary])
            if code == 0:
                _try(compiler, temporary)
                digest = _digest(Path(temporary))
                os.chmod(temporary, 0o700)  # the linker made it by the umask
                os.replace(temporary, to)
                Path(temporary).write_text(digest, encoding="ascii")
                os.replace(temporary, to.with_suffix(".sha256"))
                return
        raise _CannotBuild(f"{compiler} failed; set CXX to another compiler ({errors.strip()[:500]})")
    finally:
        Path(temporary).unlink(missing_ok=True)


def _try(compiler: Path, library: str) -> None:
    """Whether what the compiler wrote is a library at all; it stays loaded."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        raise _CannotBuild(f"{compiler} wrote no library ({error}); set CXX to another compiler") from error


def _call(command: list[str]) -> tuple[int, str]:
    """The compiler's exit code and what it had to say; a user who waits is told why, and does not wait for ever."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stderr=pipe, text=True, errors="replace", start_new_session=True) as process:
        try:
            try:
                _, errors = process.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                _log.warning("compiling the CPU engine with %s, once (up to a minute) ...", Path(command[0]).name)
                _, errors = process.communicate(timeout=PATIENCE)
        except BaseException as error:  # Ctrl-C too
            _end(process)
            if isinstance(error, subprocess.TimeoutExpired):
                reason = f"{command[0]} has not ended after {PATIENCE} seconds; set CXX to another compiler"
                raise _CannotBuild(reason) from error
            raise
    return process.returncode, errors


def _end(process: subprocess.Popen[str]) -> None:
    """End a compiler and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether the library is there and is what the compiler wrote. One that was cut would end the process (SIGBUS)."""
    try:
        digest = _digest(path)
    except FileNotFoundError:
        return False
    beside = path.with_suffix(".sha256")
    if beside.exists() and beside.read_bytes() == digest.encode():
        return True
    _log.warning("the compiled CPU engine %s is damaged or was not finished; compiling it again", path)
    return False


def _refuse_what_others_wrote(path: Path) -> None:
    reason = others_can_write(path)
    if reason is not None:
        raise _CannotBuild(f"it loads no code that others could have written: {reason}, or set {_REMEDY}")


@cache
def load() -> ctypes.CDLL | str:
    """The compiled library, or why there is none."""
    try:
        compiler = find_compiler()
        path = library_path(compiler)
        make_folder(path.parent)
        _refuse_what_others_wrote(path.parent)
        if not _is_whole(path):
            _compile(compiler, path)
        _refuse_what_others_wrote(path)
        library = ctypes.CDLL(str(path))
    except _CannotBuild as reason:
        return str(reason)
    except OSError as error:
        return f"its library could not be written or loaded ({error}); set {_REMEDY}"
    return _declared(library)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL | str:
    """The library with its functions' types, or why it cannot be called."""
    library.lac_layout.restype = ctypes.c_char_p
    theirs, ours = library.lac_layout().decode(), layout()
    if theirs != ours:
        return f"its library has another layout of what it is given than batch.py ({theirs}; here {ours})"
    for run in (library.lac_forward, library.lac_gradient, library.lac_second, library.lac_hard):
        run.argtypes = [ctypes.POINTER(Batch)]
    library.lac_poison.argtypes = [ctypes.c_int]
    library.lac_poison.restype = None
    return library


def loaded() -> ctypes.CDLL:
    """The compiled library; a `RuntimeError` with the remedy where there is none."""
    library = load()
    if isinstance(library, str):
        raise RuntimeError(f"the cpu engine is not available: {library}")
    return library


def built() -> Path | None:
    """Where the library of this machine is, whole; None if it is still to be built, or cannot be."""
    try:
        path = library_path(find_compiler())
        return path if path.exists() and _is_whole(path) else None
    except (_CannotBuild, OSError):
        return None


def unavailable(device: torch.device) -> str | None:
    """Why this engine cannot run on a device, with the remedy; None if it can."""
    if device.type != "cpu":
        return "it needs tensors on the CPU; move them there or choose another backend"
    library = load()
    return library if isinstance(library, str) else None


def poison(byte: int) -> None:
    """For tests: fill the engine's own memory with this byte before it is used; -1 ends it."""
    loaded().lac_poison(byte)
