"""How fast, how much memory, how exact: what ``lac-bench`` and ``bench/measure.py`` measure with.

A *side* is anything that aligns: an engine of this package, a naive form, a peer. Sides run in turn on the same fresh
random scores, so that whatever else the machine does falls on all of them. A side that disagrees with float64 is not
timed. The problem is always the same: standard normal scores, open = 1, extend = 0.4, T = 1.
"""

from __future__ import annotations

import csv
import ctypes
import datetime
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

import lac
from lac.functional import smith_waterman
from lac.system import device_name, package_version
from lac_kernels import engines, reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP_OPEN, GAP_EXTEND = 1.0, 0.4
MODES = ("forward", "backward", "both", "second")
LOOP, WAVEFRONT = "naive loop", "naive wavefront"
MEMORY_LIMIT, ARITHMETIC_LIMIT = "limit: memory", "limit: arithmetic"
FIELDS = [
    "date", "device", "threads", "dtype", "mode", "batch", "n", "m", "side", "computes", "version",
    "ms_p20", "ms_p50", "ms_p80", "mcells_per_s", "peak_bytes", "error", "rounds", "skipped",
    "torch", "triton", "lac", "python", "platform", "commit", "command",
]  # fmt: skip

# A row of the results, as it stands in the file: FIELDS by name, empty where there is nothing to say.
Row = dict[str, str]

_NEVER = -1e30
_SHAPE = r"\d+x\d+x\d+|\d+x\d+(,\d+x\d+)+"
_CHECKED_CELLS = 2**22  # the float64 check takes as many pairs as fit
_GATE_SHAPE = (1, 12, 18)
_MOST_ROUNDS = 100
_TURN = 0.01  # seconds of timed runs that a quick side has in its turn
_VERY_SLOW = 20.0  # seconds; what takes longer is not run a second time
# Numbers of the scores' type that must pass through memory for a cell: scores are read once in each sweep, and once
# more by their tangent in the second order; a gradient is written.
_NUMBERS = {"forward": 1, "backward": 2, "both": 3, "second": 5}
# Multiplications and additions of the recursion for a cell, a fused pair counted once. Forward: exp(S / T) 8, the match
# 5, the two gaps 5. Backward: the forward again, from what was kept, and its mirror image with the posterior, 22.
_OPERATIONS = {"forward": 18, "backward": 40, "both": 58}


class Shape(NamedTuple):
    """Sizes of a batch of score matrices; of a ragged one n and m are the largest, and every pair has its own."""

    batch: int
    n: int
    m: int
    lengths1: tuple[int, ...] = ()  # empty where all pairs are n by m
    lengths2: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Shape:
        """``"16x64x64"`` is 16 pairs of 64 by 64 frames; ``"80x64,33x80"`` two pairs of these sizes in one batch.

        Raises:
            ValueError: it does not read so, or a size is 0.
        """
        sizes = [[int(x) for x in part.split("x")] for part in text.split(",")] if re.fullmatch(_SHAPE, text) else []
        if not sizes or any(0 in part for part in sizes):
            raise ValueError(
                "a shape is BATCHxNxM like 16x64x64, or the NxM of each pair of a ragged batch like 80x64,33x80, with "
                f"sizes of at least 1; got {text!r}"
            )
        if len(sizes[0]) == 3:
            batch, n, m = sizes[0]
            return cls(batch, n, m)
        lengths1, lengths2 = zip(*sizes, strict=True)
        return cls.ragged(lengths1, lengths2)

    @classmethod
    def ragged(cls, lengths1: tuple[int, ...], lengths2: tuple[int, ...]) -> Shape:
        """Pairs of lengths1[k] by lengths2[k] frames, padded to one batch."""
        return cls(len(lengths1), max(lengths1), max(lengths2), lengths1, lengths2)

    @property
    def cells(self) -> int:
        """Without padding."""
        if self.lengths1:
            return sum(n * m for n, m in zip(self.lengths1, self.lengths2, strict=True))
        return self.padded_cells

    @property
    def padded_cells(self) -> int:
        return self.batch * self.n * self.m

    def __str__(self) -> str:
        if self.lengths1:
            return ",".join(f"{n}x{m}" for n, m in zip(self.lengths1, self.lengths2, strict=True))
        return f"{self.batch}x{self.n}x{self.m}"


class Problem(NamedTuple):
    """scores (B, N, M), and for the mode "second" the direction (B, N, M) of the product, else empty.

    lengths: of a ragged batch the two (B,) int32 lengths of each pair; what lies beyond is random as well.
    """

    scores: Tensor
    direction: Tensor
    lengths: tuple[Tensor, Tensor] | None = None


class Answer(NamedTuple):
    """Score (B,) and derivative (B, N, M) by the scores, as far as the mode gives them: gradient or product."""

    score: Tensor | None
    derivative: Tensor | None


Run = Callable[[], Answer]


@dataclass(frozen=True)
class Side:
    """Something to measure.

    Attributes:
        name: in tables.
        computes: what it computes, where that is not the recursion of this package also how it differs.
        version: of the code that runs.
        prepare: ``prepare(problem, mode)`` does what shall not be timed and returns what shall.
        modes: those it knows.
        bytes_per_cell: roughly what it needs beyond the scores (four times that for "second"); decides only whether a
            shape is tried.
        max_cells: the largest problem that is tried, ``None`` for any.
        ragged: what it does with a ragged batch, if not what its cells need.
        obstacle: why it cannot run here, ``None`` if it can.
    """

    name: str
    computes: str
    version: str
    prepare: Callable[[Problem, str], Run]
    modes: Sequence[str] = MODES
    bytes_per_cell: int = 64
    max_cells: int | None = None
    ragged: str = ""
    obstacle: str | None = None


def forbidden(scores: Tensor, lengths: tuple[Tensor, Tensor] | None) -> Tensor:
    """The scores with -1e30 in the padding: for sides that know no lengths."""
    if lengths is None:
        return scores
    rows, columns = (
        torch.arange(size, device=scores.device) < length[:, None]
        for size, length in zip(scores.shape[1:], lengths, strict=True)
    )
    return scores.masked_fill(~(rows[:, :, None] & columns[:, None, :]), _NEVER)


def wavefront(scores: Tensor, lengths: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The naive form in torch: scores (B, N, M) to (B,), one anti-diagonal of the whole batch after the other, with
    logsumexp, left to autograd. float32 at least."""
    scores = forbidden(scores.to(reference.compute_dtype(scores.dtype)), lengths)
    b, n, m = scores.shape
    skewed = pad(scores, (0, n), value=_NEVER).reshape(b, n * (m + n))[:, : n * (m + n - 1)]
    nothing = scores.new_zeros((b, n))
    never = scores.new_full((b, n), _NEVER)

    def above(x: Tensor) -> Tensor:
        return pad(x[:, :-1], (1, 0), value=_NEVER)

    D = X = Y = old_D = old_X = old_Y = never
    ends = []
    for s in skewed.reshape(b, n, m + n - 1).unbind(2):
        new_D = s + torch.logsumexp(torch.stack((nothing, above(old_D), above(old_X), above(old_Y))), dim=0)
        new_X = torch.logsumexp(torch.stack((D - GAP_OPEN, X - GAP_EXTEND)), dim=0)
        new_Y = torch.logsumexp(torch.stack((above(D) - GAP_OPEN, above(X) - GAP_OPEN, above(Y) - GAP_EXTEND)), dim=0)
        old_D, old_X, old_Y = D, X, Y
        D, X, Y = new_D, new_X, new_Y
        ends.append(D)
    return torch.logsumexp(torch.stack(ends), dim=(0, 2))


Score = Callable[[Tensor, "tuple[Tensor, Tensor] | None"], Tensor]


def differentiated(score: Score, others: Sequence[Tensor] = ()) -> Callable[[Problem, str], Run]:
    """``prepare`` of a :class:`Side` from a differentiable function, scores (B, N, M) and lengths to (B,).

    The modes: "forward" the score without a graph; "backward" its gradient, from a graph that is there; "both" these
    two; "second" the product of the Hessian with a direction, from a graph that is there. With `others`, "both"
    computes the gradients of these parameters too.
    """

    def prepare(problem: Problem, mode: str) -> Run:
        leaf = problem.scores.detach()
        if mode == "forward":
            return lambda: Answer(score(leaf, problem.lengths), None)
        leaf.requires_grad_()

        def both() -> Answer:
            value = score(leaf, problem.lengths)
            return Answer(value.detach(), torch.autograd.grad(value.sum(), [leaf, *others])[0])

        if mode == "both":
            return both
        total = score(leaf, problem.lengths).sum()
        if mode == "second":
            (gradient,) = torch.autograd.grad(total, leaf, create_graph=True)
            total = (gradient * problem.direction).sum()
        return lambda: Answer(None, torch.autograd.grad(total, leaf, retain_graph=True)[0])

    return prepare


def _of_backend(backend: str) -> Callable[[Problem, str], Run]:
    options = {"gap_open": GAP_OPEN, "gap_extend": GAP_EXTEND}
    return differentiated(lambda x, lengths: smith_waterman(x, lengths=lengths, backend=backend, **options))


def own_sides(device: torch.device) -> dict[str, Side]:
    """The two naive forms and every backend of this package, by the names that ``--backends`` takes."""
    recursion = "this recursion"
    found = {
        "loop": Side(
            LOOP, f"{recursion}, cell by cell in Python under autograd", torch.__version__, _of_backend("reference"),
            bytes_per_cell=30_000, max_cells=2048,
        ),
        "wavefront": Side(
            WAVEFRONT, f"{recursion}, torch operations on anti-diagonals of the batch under autograd",
            torch.__version__, differentiated(wavefront), bytes_per_cell=400, ragged="padded",
        ),
    }  # fmt: skip
    needed = {"eager": 256, "cpu": 12, "triton": 12}
    for backend, size in needed.items():
        obstacle = engines.unavailable(backend, device)
        found[backend] = Side(
            f"lac {backend}", recursion, lac.__version__, _of_backend(backend), bytes_per_cell=size, obstacle=obstacle
        )
    return found


def problem(shape: Shape, mode: str, dtype: torch.dtype, device: torch.device, seed: int) -> Problem:
    """Fresh scores, the same for the same seed."""
    generator = torch.Generator(device).manual_seed(seed)
    scores = torch.randn(shape[:3], generator=generator, device=device).to(dtype)
    size = shape[:3] if mode == "second" else (0,)
    direction = torch.randn(size, generator=generator, device=device).to(dtype)
    if not shape.lengths1:
        return Problem(scores, direction)
    lengths1, lengths2 = (torch.tensor(x, dtype=torch.int32, device=device) for x in shape[3:])
    return Problem(scores, direction, (lengths1, lengths2))


def exact_answer(given: Problem, mode: str, backend: str = "eager") -> Answer | None:
    """The answer in float64, for as many pairs as a check may take; None if that is none."""
    _, n, m = given.scores.shape
    pairs = min(len(given.scores), _CHECKED_CELLS // (n * m))
    needed = 1000.0 * pairs * n * m * (4 if mode == "second" else 1)
    if pairs == 0 or _too_large(needed, given.scores.device) is not None:
        return None
    lengths = given.lengths and (given.lengths[0][:pairs], given.lengths[1][:pairs])
    few = Problem(given.scores[:pairs].double(), given.direction[:pairs].double(), lengths)
    score = _of_backend(backend)(few, "forward")().score
    derivative = None if mode == "forward" else _of_backend(backend)(few, mode)().derivative
    return Answer(score, derivative)


def errors(answer: Answer, exact: Answer, shape: Sequence[int], dtype: torch.dtype) -> list[tuple[float, float]]:
    """Error and what is allowed, of the score and of the derivative as far as there is one.

    An error is the largest deviation from `exact` (which may hold fewer pairs), relative to the largest exact value or
    to 1. Allowed is what rounding costs: N + M additions on the way through the matrix, whose errors add up as
    independent ones do, 4 sqrt(N + M) eps / 2 of the score V; in the exponent of a probability, V times that; and for
    a derivative one more rounding in the scores' own type.
    """
    rounding = 2 * sum(shape[1:]) ** 0.5 * torch.finfo(reference.compute_dtype(dtype)).eps
    value = 1.0 if exact.score is None else float(exact.score.abs().max().clamp(min=1))
    allowed = (rounding, value * rounding + torch.finfo(dtype).eps)
    found = []
    for part, true, most in zip(answer, exact, allowed, strict=True):
        if part is not None and true is not None:
            apart = (part[: len(true)].double() - true).abs().max()
            found.append((float(apart / true.abs().max().clamp(min=1)), most))
    return found


def gate(
    sides: Iterable[Side],
    mode: str,
    dtype: torch.dtype,
    device: torch.device,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, str]:
    """By the name of a side, why it must not be timed: it cannot run here, does not know the mode, or is wrong.

    Judged by the specification in float64 on a small problem; every problem that is timed is judged once more, by the
    eager engine in float64.
    """
    small = problem(Shape(*_GATE_SHAPE), mode, dtype, device, seed=0)
    exact: Answer | None = None
    refused = {}
    for side in sides:
        tell(f"checking {side.name}")
        reason = side.obstacle
        if reason is None and mode not in side.modes:
            reason = f"it has no {mode!r} of its own"
        if reason is None:
            exact = exact or exact_answer(small, mode, "reference")
            try:
                reason = _wrong(side.prepare(small, mode)(), exact, small)[1]
            except Exception as error:  # whatever a side may raise, the others go on
                reason = _failure(error)
        if reason is not None:
            refused[side.name] = reason
    return refused


def _wrong(answer: Answer, exact: Answer | None, given: Problem) -> tuple[float, str | None]:
    """The largest error, nan where nothing can be compared, and whether one is too large."""
    found = [] if exact is None else errors(answer, exact, given.scores.shape, given.scores.dtype)
    for error, allowed in found:
        if not error <= allowed:
            return error, f"WRONG: error {error:.1e} against float64, {allowed:.1e} allowed; not timed"
    return max((error for error, _ in found), default=float("nan")), None


def _failure(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or re.search(r"not enough memory|t allocate", text):
        return "out of memory"
    return f"failed: {text[:200] or type(error).__name__}"


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be had on the device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"MemAvailable:\s+(\d+) kB", meminfo)
    return int(match[1]) * 1024 if match else None


def _too_large(needed: float, device: torch.device) -> str | None:
    free = free_memory(device)
    if free is None or needed <= free:
        return None
    return f"not enough memory: about {needed / 1e9:.3g} GB needed, {free / 1e9:.3g} GB free"


class _Peak:
    """Peak memory between two points, in bytes: of the allocator on a GPU, of the process on Linux, else unknown."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: int | None = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        try:
            ctypes.CDLL(None).malloc_trim(0)  # or memory freed earlier is used again without being seen
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.before = self._status("VmRSS")
        except (OSError, AttributeError, TypeError):
            pass

    def bytes(self) -> int | None:
        if self.before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, self._status("VmHWM") - self.before)

    @staticmethod
    def _status(name: str) -> int:
        match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        if match is None:
            raise OSError(f"/proc/self/status has no {name}")
        return int(match[1]) * 1024


def _timed(run: Run, device: torch.device) -> tuple[float, Answer]:
    if device.type == "cuda":
        with torch.cuda.device(device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            answer = run()
            end.record()
            torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3, answer
    began = time.perf_counter()
    answer = run()
    return time.perf_counter() - began, answer


@dataclass
class _State:
    side: Side
    seconds: list[float]
    quick: bool = False
    peak: int | None = None
    error: float = float("nan")


def measure(
    sides: Iterable[Side],
    shape: Shape,
    *,
    mode: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device,
    refused: Mapping[str, str] | None = None,
    seconds: float = 0.5,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """A row for each side on one shape.

    Args:
        sides: what to measure.
        shape: of the scores.
        mode: see :func:`differentiated`.
        dtype: of the scores.
        device: of the scores.
        refused: by the name of a side, why it is not timed (from :func:`gate`).
        seconds: time spent on each side, not counting its first, untimed runs. At least one run is timed.
        tell: is told what is being done.
    """
    sides = list(sides)
    rows: dict[str, Row] = {}
    common = {"mode": mode, "dtype": str(dtype).removeprefix("torch."), "batch": str(shape.batch)}
    common |= {"n": _listed(shape.n, shape.lengths1), "m": _listed(shape.m, shape.lengths2)}

    def row(side: Side, **values: str) -> None:
        computes = (
            f"{side.computes}; a ragged batch: {side.ragged}" if shape.lengths1 and side.ragged else side.computes
        )
        rows[side.name] = common | {"side": side.name, "computes": computes, "version": side.version} | values

    number = 8 if dtype == torch.float64 else 4
    active: list[_State] = []
    for side in sides:
        reason = (refused or {}).get(side.name)
        if reason is None and side.max_cells is not None and shape.cells > side.max_cells:
            reason = f"would take minutes; timed up to {side.max_cells} cells"
        if reason is None:
            each = 2 * number + side.bytes_per_cell * number / 4 * (4 if mode == "second" else 1)
            reason = _too_large(shape.padded_cells * each, device)
        if reason is None:
            active.append(_State(side, []))
        else:
            row(side, skipped=reason)

    exact = None
    if active:
        first = problem(shape, mode, dtype, device, seed=1)
        tell(f"{shape} {mode}: float64")
        exact = exact_answer(first, mode)
    for state in list(active):
        tell(f"{shape} {mode}: {state.side.name}")
        try:
            reason = _warm_up(state, first, exact, mode, device, seconds)
        except Exception as error:  # a side that fails must not stop the others
            reason = _failure(error)
        if reason is not None:
            active.remove(state)
            row(state.side, skipped=reason)
    for turn in range(_MOST_ROUNDS):
        waiting = [state for state in active if sum(state.seconds) < seconds]
        if not waiting:
            break
        given = problem(shape, mode, dtype, device, seed=2 + turn)
        for state in waiting:
            tell(f"{shape} {mode}: {state.side.name}")
            try:
                run = state.side.prepare(given, mode)
                if state.quick:  # or it pays for the caches that the one before it has emptied
                    run()
                took = [_timed(run, device)[0]]
                while state.quick and sum(took) < _TURN:
                    took.append(_timed(run, device)[0])
                state.seconds += took
            except Exception as error:
                active.remove(state)
                row(state.side, skipped=_failure(error))
    for state in active:
        low, middle, high = np.percentile(state.seconds, [20, 50, 80])
        row(
            state.side,
            ms_p20=f"{1e3 * low:.4g}", ms_p50=f"{1e3 * middle:.4g}", ms_p80=f"{1e3 * high:.4g}",
            mcells_per_s=f"{shape.cells / middle / 1e6:.4g}",
            peak_bytes="" if state.peak is None else str(state.peak),
            error="" if state.error != state.error else f"{state.error:.2g}",
            rounds=str(len(state.seconds)),
        )  # fmt: skip
    return [rows[side.name] for side in sides]


def _warm_up(
    state: _State,
    given: Problem,
    exact: Answer | None,
    mode: str,
    device: torch.device,
    seconds: float,
) -> str | None:
    """Run for whatever is compiled or cached, then for the memory; check the answer. Slow runs count as timed."""
    for first in (True, False):
        run = state.side.prepare(given, mode)
        peak = _Peak(device)
        took, answer = _timed(run, device)
        state.peak = peak.bytes()
        if took > (_VERY_SLOW if first else seconds):
            state.seconds.append(took)
            break
    state.quick = took < 0.1 * seconds
    state.error, reason = _wrong(answer, exact, given)
    return reason


def limits(mode: str, dtype: torch.dtype, device: torch.device) -> list[Row]:
    """What the machine allows at most in million cells a second, measured now with torch's own operations.

    Memory: a copy that does not fit any cache, against the numbers that must be read or written for a cell. Arithmetic:
    a product of two float32 matrices, against the operations of the recursion. No row where the count is not known.
    """
    gpu = device.type == "cuda"
    source = torch.ones((2**30 if gpu else 2**28) // 4, device=device)
    target = torch.empty_like(source)
    square = torch.randn((4096 if gpu else 1024,) * 2, device=device)
    product = torch.empty_like(square)

    def best(run: Callable[[], Tensor]) -> float:
        return min(_timed(lambda: Answer(run(), None), device)[0] for _ in range(4))

    bandwidth = 2 * source.nbytes / best(lambda: target.copy_(source))
    size = torch.finfo(dtype).bits // 8 * _NUMBERS[mode]
    common = {"mode": mode, "dtype": str(dtype).removeprefix("torch."), "version": torch.__version__}
    rows = [
        common | {
            "side": MEMORY_LIMIT, "mcells_per_s": f"{bandwidth / size / 1e6:.4g}",
            "computes": f"a copy: {bandwidth / 1e9:.3g} GB/s; {size} bytes a cell",
        }
    ]  # fmt: skip
    if mode in _OPERATIONS:
        pace = len(square) ** 3 / best(lambda: torch.mm(square, square, out=product))
        rows.append(
            common | {
                "side": ARITHMETIC_LIMIT, "mcells_per_s": f"{pace / _OPERATIONS[mode] / 1e6:.4g}",
                "computes": f"a float32 matrix product: {pace / 1e9:.3g} G multiply-adds/s; "
                f"{_OPERATIONS[mode]} operations a cell",
            }
        )  # fmt: skip
    return rows


def context(device: torch.device, command: str) -> Row:
    """What every row of a run says: date, machine, versions, commit, command."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": device_name(device),
        "threads": str(torch.get_num_threads()) if device.type == "cpu" else "",
        "torch": torch.__version__,
        "triton": package_version("triton") or "",
        "lac": lac.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "commit": _commit(),
        "command": command,
    }


def _commit() -> str:
    """The commit of the checkout the code runs from, "-dirty" if lac differs from it; "" for an installed package."""
    root = Path(lac.__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changes = [*git, "status", "--porcelain", "--untracked-files=no", "--", "lac", "kernels"]
        changed = subprocess.run(changes, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")


def append_rows(path: str | Path, rows: Iterable[Row], fields: Sequence[str] = FIELDS) -> None:
    """Add rows to a CSV file, with a first line of names if it is new.

    Raises:
        ValueError: the file has other columns.
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        names = next(csv.reader(file), None)
        if names not in (None, fields):
            raise ValueError(f"{path} has other columns than lac-bench writes; choose another file")
        file.seek(0, os.SEEK_END)
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        if names is None:
            writer.writeheader()
        writer.writerows(rows)


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a file of :func:`append_rows`; of rows that measure the same, the last one."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        last = {
            tuple(row[name] for name in ("device", "threads", "dtype", "mode", "batch", "n", "m", "side")): row
            for row in csv.DictReader(file)
        }
    return list(last.values())


def _listed(size: int, lengths: tuple[int, ...]) -> str:
    """A size as it stands in a row: that of each pair, if they differ."""
    return " ".join(map(str, lengths)) or str(size)


def shape_of(row: Row) -> Shape:
    lengths1, lengths2 = (tuple(map(int, row[name].split())) for name in "nm")
    if len(lengths1) > 1:
        return Shape.ragged(lengths1, lengths2)
    return Shape(int(row["batch"]), lengths1[0], lengths2[0])


def speed_up(row: Row, rows: Iterable[Row], naive: str) -> float | None:
    """How many times faster than the naive side; None unless that one was measured on the same problem."""
    same = ("device", "threads", "dtype", "mode", "batch", "n", "m")
    for other in rows:
        if other["side"] == naive and other.get("ms_p50") and all(other.get(k) == row.get(k) for k in same):
            return float(other["ms_p50"]) / float(row["ms_p50"])
    return None


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#22272e", "#8b949e")


def growing(shapes: Iterable[Shape]) -> tuple[list[Shape], list[Shape]]:
    """The square shapes of one batch that has most sizes, and those of one size that has most batches."""
    square = {shape for shape in shapes if shape.n == shape.m and not shape.lengths1}
    return _longest(square, key=lambda shape: shape.batch), _longest(square, key=lambda shape: shape.n)


def growth_figure(rows: Sequence[Row], *, title: str = "") -> Figure:
    """Time and memory against N (square, at the batch that has most sizes) and against B (likewise), logarithmic.

    Rows of one mode and dtype. The memory is the peak of what was timed, beyond the scores. Where there are fewer than
    two sizes a column of the figure is left out; thread counts other than the smallest are dashed.

    Raises:
        ValueError: nothing grows.
    """
    from matplotlib.figure import Figure

    timed = [row for row in rows if row.get("ms_p50")]
    columns: list[tuple[str, str, list[Shape]]] = []
    by_n, by_batch = growing([shape_of(row) for row in timed])
    if len(by_n) > 1:
        columns.append(("N = M", f"B = {by_n[0].batch}", by_n))
    if len(by_batch) > 1:
        columns.append(("B", f"N = M = {by_batch[0].n}", by_batch))
    if not columns:
        raise ValueError("a plot of growth needs square shapes that differ in N = M or in the batch alone")
    figure = Figure(figsize=(4.4 * len(columns), 6.4), layout="constrained")
    axes = figure.subplots(2, len(columns), squeeze=False, sharey="row")
    for k, (name, fixed, wanted) in enumerate(columns):
        for row_of_axes, field, scale in ((0, "ms_p50", 1.0), (1, "peak_bytes", 1e-6)):
            _draw(axes[row_of_axes][k], timed, wanted, name == "B", field, scale)
        axes[0][k].set_title(fixed, fontsize=10)
        axes[1][k].set_xlabel(name)
    axes[0][0].set_ylabel("milliseconds")
    axes[1][0].set_ylabel("peak memory, MB")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _longest(shapes: Iterable[Shape], key: Callable[[Shape], int]) -> list[Shape]:
    groups: dict[int, list[Shape]] = {}
    for shape in sorted(shapes):
        groups.setdefault(key(shape), []).append(shape)
    return max(groups.values(), key=len, default=[])


def _draw(axes: Axes, rows: Sequence[Row], wanted: list[Shape], by_batch: bool, field: str, scale: float) -> None:
    sides = list(dict.fromkeys(row["side"] for row in rows))
    threads = sorted({row.get("threads") or "" for row in rows}, key=lambda x: (len(x), x))
    for k, side in enumerate(sides):
        for count in threads:
            own = [row for row in rows if row["side"] == side and (row.get("threads") or "") == count]
            if not own:  # or the legend would name a line that is not there
                continue
            points = sorted(
                (shape.batch if by_batch else shape.n, scale * float(row[field]))
                for row in own
                if row.get(field)
                for shape in [shape_of(row)]
                if shape in wanted
            )
            label = side if len(threads) < 2 else f"{side}, {count} thread{'s' * (count != '1')}"
            axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                label=label,
                color=_COLOURS[k % len(_COLOURS)],
                linestyle="-" if count == threads[0] else "--",
                marker="o",
                markersize=3,
                linewidth=1.2,
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.tick_params(labelsize=8)
