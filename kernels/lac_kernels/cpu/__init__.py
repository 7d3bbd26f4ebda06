"""The CPU engine: `cpu.cpp`, compiled on first use for the machine it runs on, and its launchers.

The algorithm is described at the top of `cpu.cpp`. The library is kept in the user's cache folder (cache.py)
under a name made from the source, the compiler and the processor, so it is built once per machine and never used on
another. Its digest lies beside it: a damaged library is built again, one that others could have written is refused.
Without a C++ compiler the engine is `unavailable`.

Threads follow `torch.get_num_threads()`. They live for one call, so nothing is left that a fork could break.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lac_kernels.cache import cache_folder, make_folder, others_can_write, sweep
from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import compute_dtype

_SOURCE = Path(__file__).with_name("cpu.cpp")
_FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-pthread")
_NATIVE = (("-march=native",), ("-mcpu=native",), ())  # some compilers know only one of them, or none
_TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
_PROBLEM = struct.Struct("56q")  # as in cpu.cpp
_NO_GRADIENTS: tuple[int, ...] = (0,) * 10
_NO_DIRECTION: tuple[int, ...] = (0,) * 13
_FORWARD, _GRADIENT, _HARD, _SECOND = range(4)
_ROWS, _COLS, _HEADER = 64, 192, 40  # as in cpu.cpp
_CELLS_PER_THREAD = 1 << 18  # a thread more for each: below this starting it costs more than it brings

_REMEDY = "LAC_CACHE to a folder of yours (chmod 700)"

_log = logging.getLogger("lac")


class _CannotBuild(Exception):
    """Why there is no library, with the remedy."""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
        wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
        return platform.machine() + "".join(line for line in lines if line.startswith(wanted))
    except OSError:
        return platform.machine() + platform.processor()


def _compiler() -> Path:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return Path(found).resolve()
    raise _CannotBuild(
        "it needs a C++17 compiler on first use and found none; install g++ or clang++, or set CXX to one"
    )


def _compile(compiler: Path, to: Path) -> None:
    """Build the library and put it at `to`, then its digest beside it: without that it is not whole."""
    sweep(to.parent.glob("tmp*.so"))
    descriptor, temporary = tempfile.mkstemp(suffix=".so", dir=to.parent)
    os.close(descriptor)
    try:
        errors = ""
        for native in _NATIVE:
            command = [str(compiler), *_FLAGS, *native, str(_SOURCE), "-o", temporary]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
                try:
                    _, errors = process.communicate(timeout=3)
                except subprocess.TimeoutExpired:
                    _log.warning("compiling the CPU engine with %s, once (up to a minute) ...", compiler.name)
                    _, errors = process.communicate()
            if process.returncode == 0:
                digest = _digest(Path(temporary))
                os.chmod(temporary, 0o700)  # the linker made it by the umask
                os.replace(temporary, to)
                Path(temporary).write_text(digest, encoding="ascii")
                os.replace(temporary, to.with_suffix(".sha256"))
                return
        raise _CannotBuild(f"{compiler} failed; set CXX to another compiler ({errors.strip()[:500]})")
    finally:
        Path(temporary).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether the library is there and is what the compiler wrote. One that was cut would end the process (SIGBUS)."""
    try:
        found = _digest(path)
    except FileNotFoundError:
        return False
    beside = path.with_suffix(".sha256")
    if beside.exists() and beside.read_bytes() == found.encode():
        return True
    _log.warning("the compiled CPU engine %s is damaged or was not finished; compiling it again", path)
    return False


def _library_path(compiler: Path) -> Path:
    """Where the library of this source, compiler and processor is kept."""
    stat = compiler.stat()
    parts = (_SOURCE.read_bytes(), f"{_FLAGS} {compiler} {stat.st_size} {stat.st_mtime_ns}".encode())
    name = hashlib.sha256(b"\0".join((*parts, _processor().encode()))).hexdigest()[:24]
    return cache_folder() / f"cpu-{name}.so"


def _refuse_what_others_wrote(path: Path) -> None:
    reason = others_can_write(path)
    if reason is not None:
        raise _CannotBuild(f"it loads no code that others could have written: {reason}, or set {_REMEDY}")


@cache
def _library() -> ctypes.CDLL | str:
    """The compiled library, or why there is none."""
    try:
        compiler = _compiler()
        path = _library_path(compiler)
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
    library.lac_run.argtypes = [ctypes.c_char_p, ctypes.c_int64]
    library.lac_run.restype = ctypes.c_int
    library.lac_poison.argtypes = [ctypes.c_int]
    library.lac_poison.restype = None
    return library


def poison(byte: int) -> None:
    """For tests: fill the engine's own memory with this byte before it is used; -1 ends it."""
    library = _library()
    if isinstance(library, str):
        raise RuntimeError(f"the cpu engine is not available: {library}")
    library.lac_poison(byte)


def built() -> Path | None:
    """Where the library of this machine is, whole; None if it is still to be built, or cannot be."""
    try:
        path = _library_path(_compiler())
        return path if path.exists() and _is_whole(path) else None
    except (_CannotBuild, OSError):
        return None


def unavailable(device: torch.device) -> str | None:
    if device.type != "cpu":
        return "it needs tensors on the CPU; move them there or choose another backend"
    library = _library()
    return library if isinstance(library, str) else None


def _kept(n: int, m: int) -> tuple[int, int]:
    """What the forward keeps of a pair: rows above blocks, and windows of each strip."""
    return (n + _ROWS - 1) // _ROWS - 1, (m + 80) // _COLS


def _room(scores: Tensor, number: int) -> Tensor:
    """For what the forward keeps, of numbers of so many bytes."""
    b, n, m = scores.shape
    edges, windows = _kept(n, m)
    kept = _HEADER + number * (edges * m * 2 + windows * ((n + 15) // 16 * 16) * 4)
    return scores.new_empty((b, kept), dtype=torch.uint8)


def saved_like(scores: Tensor) -> Tensor:
    return _room(scores, 16 if scores.dtype == torch.float64 else 8)


def _strides(x: Tensor) -> tuple[int, int, int]:
    (b, n, m), (to_b, to_n, to_m) = x.shape, x.stride()
    return 0 if b == 1 else to_b, 0 if n == 1 else to_n, 0 if m == 1 else to_m


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _run(
    what: int,
    problem: Problem,
    score: Tensor | None = None,
    saved: Tensor | None = None,
    grad: Tensor | None = None,
    d_scores: Tensor | None = None,
    d_gaps: tuple[Tensor, Tensor] | None = None,
    path: Tensor | None = None,
    count: Tensor | None = None,
    direction: Direction | None = None,
) -> None:
    library = _library()
    if isinstance(library, str):
        raise RuntimeError(f"the cpu engine is not available: {library}")
    scores, gap_open, gap_extend, temperature, lengths1, lengths2 = problem
    b, n, m = scores.shape
    gradients, v = _NO_GRADIENTS, _NO_DIRECTION
    if d_gaps is not None:
        gradients = tuple(x for d in d_gaps for x in (d.data_ptr(), *_strides(d), d.numel()))
    if direction is not None:
        along = direction.scores
        gaps = (x for gap in (direction.gap_open, direction.gap_extend) for x in (gap.data_ptr(), *_strides(gap)))
        v = (along.data_ptr(), *along.stride(), _TYPES[along.dtype], *gaps)
    values = (
        b, n, m, _TYPES[scores.dtype],
        min(torch.get_num_threads(), 1 + (b * n * m - 1) // _CELLS_PER_THREAD),
        saved is not None, d_gaps is not None, 0 if d_scores is None else _TYPES[d_scores.dtype],
        scores.data_ptr(), *scores.stride(),
        gap_open.data_ptr(), *_strides(gap_open),
        gap_extend.data_ptr(), *_strides(gap_extend),
        _address(temperature), _address(lengths1), _address(lengths2),
        _address(score), _address(saved), 0 if saved is None else saved.shape[1], *_kept(n, m),
        _address(grad), 0 if grad is None else grad.stride(0), _address(d_scores),
        *gradients,
        _address(path), _address(count),
        *v,
    )  # fmt: skip
    if library.lac_run(_PROBLEM.pack(*values), what):
        raise MemoryError(f"the cpu engine ran out of memory on scores of shape {tuple(scores.shape)}")


def forward(problem: Problem, save: bool) -> tuple[Tensor, Tensor]:
    scores = problem.scores
    score = scores.new_empty(scores.shape[0], dtype=compute_dtype(scores.dtype))
    saved = saved_like(scores) if save else None
    _run(_FORWARD, problem, score=score, saved=saved)
    return score, scores.new_empty(0) if saved is None else saved


def gradient(
    grad: Tensor, problem: Problem, saved: Tensor, dtype: torch.dtype, gaps: bool
) -> tuple[Tensor, Tensor, Tensor]:
    scores = problem.scores
    d_scores = scores.new_empty(scores.shape, dtype=dtype)
    d_gaps = (_zeros_like(problem.gap_open), _zeros_like(problem.gap_extend)) if gaps else None
    _run(_GRADIENT, problem, saved=saved, grad=grad, d_scores=d_scores, d_gaps=d_gaps)
    d_open, d_extend = d_gaps or (scores.new_empty(0), scores.new_empty(0))
    return d_scores, d_open, d_extend


def _zeros_like(x: Tensor) -> Tensor:
    return torch.zeros_like(x, memory_format=torch.contiguous_format)


def second(grad: Tensor, problem: Problem, direction: Direction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scores, gap_open, gap_extend, temperature, *_ = problem
    dtype = compute_dtype(scores.dtype)
    gap_open, gap_extend = gap_open.double(), gap_extend.double()
    problem = problem._replace(gap_open=gap_open, gap_extend=gap_extend, temperature=temperature.double())
    direction = Direction(direction.scores, direction.gap_open.double(), direction.gap_extend.double())
    h_scores = scores.new_empty(scores.shape, dtype=dtype)
    h_open, h_extend = _zeros_like(gap_open), _zeros_like(gap_extend)
    h_grad = scores.new_empty(scores.shape[0], dtype=torch.float64)
    _run(
        _SECOND, problem, score=h_grad, saved=_room(scores, 24), grad=grad.double(),
        d_scores=h_scores, d_gaps=(h_open, h_extend), direction=direction,
    )  # fmt: skip
    return h_scores, h_open.to(dtype), h_extend.to(dtype), h_grad.to(dtype)


def hard(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    scores = problem.scores
    b, n, m = scores.shape
    score = scores.new_empty(b, dtype=compute_dtype(scores.dtype))
    path = scores.new_full((b, min(n, m), 2), -1, dtype=torch.int64)
    count = scores.new_empty(b, dtype=torch.int64)
    _run(_HARD, problem, score=score, path=path, count=count)
    return score, path, count
