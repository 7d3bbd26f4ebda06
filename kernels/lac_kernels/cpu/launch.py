"""The launchers: each fills a `Batch` with a problem and its results, and the library runs it.

Threads follow `torch.get_num_threads()`. They live for one call, so nothing is left that a fork could break.
"""

import torch
from torch import Tensor

from lac_kernels.cpu.batch import TYPES, Batch, TensorFields, saved_bytes
from lac_kernels.cpu.library import loaded
from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import compute_dtype

CELLS_PER_THREAD = 1 << 18  # a thread more for each: below this starting it costs more than it brings

# Bytes of a number that the forward keeps: a mantissa and an exponent; of second order, in float64, a derivative too.
_FLOAT, _DOUBLE, _DUAL = 8, 16, 24
_NO_MEMORY, _WRONG_ROOM = 1, 2  # as in cpu.cpp


def _fields(x: Tensor) -> TensorFields:
    (b, n, m), (batch, row, column) = x.shape, x.stride()
    return TensorFields(
        x.data_ptr(), 0 if b == 1 else batch, 0 if n == 1 else row, 0 if m == 1 else column, TYPES[x.dtype]
    )


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _batch(problem: Problem) -> Batch:
    b, n, m = problem.scores.shape
    return Batch(
        pairs=b,
        n=n,
        m=m,
        threads=min(torch.get_num_threads(), 1 + (b * n * m - 1) // CELLS_PER_THREAD),
        scores=_fields(problem.scores),
        gap_open=_fields(problem.gap_open),
        gap_extend=_fields(problem.gap_extend),
        temperature=problem.temperature.data_ptr(),
        lengths1=_address(problem.lengths1),
        lengths2=_address(problem.lengths2),
    )


def _save(batch: Batch, saved: Tensor) -> None:
    batch.saved, batch.saved_bytes = saved.data_ptr(), saved.shape[1]


def _run(what: str, batch: Batch) -> None:
    """Call the library. The tensors of the batch must outlive this call: it holds their addresses only."""
    outcome = getattr(loaded(), f"lac_{what}")(batch)
    if outcome == _NO_MEMORY:
        raise MemoryError(f"the cpu engine ran out of memory on {batch.pairs} pairs of {batch.n} x {batch.m} frames")
    if outcome == _WRONG_ROOM:
        raise RuntimeError(f"`saved` has {batch.saved_bytes} bytes for each pair, which is not what the forward keeps")
    if outcome:
        raise RuntimeError(f"the cpu engine ended with the unknown code {outcome}")


def _room(scores: Tensor, number: int) -> Tensor:
    """Uninitialised memory for what the forward keeps, of numbers of so many bytes."""
    b, n, m = scores.shape
    return scores.new_empty((b, saved_bytes(n, m, number)), dtype=torch.uint8)


def saved_like(problem: Problem) -> Tensor:
    scores = problem.scores
    return _room(scores, _DOUBLE if scores.dtype == torch.float64 else _FLOAT)


def _zeros_like(x: Tensor) -> Tensor:
    return torch.zeros_like(x, memory_format=torch.contiguous_format)


def forward(problem: Problem, save: bool) -> tuple[Tensor, Tensor]:
    scores = problem.scores
    score = scores.new_empty(scores.shape[0], dtype=compute_dtype(scores.dtype))
    saved = saved_like(problem) if save else scores.new_empty(0)
    batch = _batch(problem)
    batch.score = score.data_ptr()
    if save:
        _save(batch, saved)
    _run("forward", batch)
    return score, saved


def gradient(
    grad: Tensor, problem: Problem, saved: Tensor, dtype: torch.dtype, gaps: bool
) -> tuple[Tensor, Tensor, Tensor]:
    scores = problem.scores
    d_scores = scores.new_empty(scores.shape, dtype=dtype)
    batch = _batch(problem)
    _save(batch, saved)
    batch.grad, batch.grad_stride = grad.data_ptr(), grad.stride(0)
    batch.d_scores = _fields(d_scores)
    if gaps:
        d_open, d_extend = _zeros_like(problem.gap_open), _zeros_like(problem.gap_extend)
        batch.gaps, batch.d_gap_open, batch.d_gap_extend = True, _fields(d_open), _fields(d_extend)
    else:
        d_open, d_extend = scores.new_empty(0), scores.new_empty(0)
    _run("gradient", batch)
    return d_scores, d_open, d_extend


def second(grad: Tensor, problem: Problem, direction: Direction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scores, dtype = problem.scores, compute_dtype(problem.scores.dtype)
    problem = problem._replace(
        gap_open=problem.gap_open.double(),
        gap_extend=problem.gap_extend.double(),
        temperature=problem.temperature.double(),
    )
    v_open, v_extend, grad = direction.gap_open.double(), direction.gap_extend.double(), grad.double()
    saved = _room(scores, _DUAL)
    h_scores = scores.new_empty(scores.shape, dtype=dtype)
    h_open, h_extend = _zeros_like(problem.gap_open), _zeros_like(problem.gap_extend)
    h_grad = scores.new_empty(scores.shape[0], dtype=torch.float64)
    batch = _batch(problem)
    _save(batch, saved)
    batch.score, batch.grad, batch.grad_stride = h_grad.data_ptr(), grad.data_ptr(), grad.stride(0)
    batch.v_scores = _fields(direction.scores)
    batch.v_gap_open, batch.v_gap_extend = _fields(v_open), _fields(v_extend)
    batch.d_scores = _fields(h_scores)
    batch.gaps, batch.d_gap_open, batch.d_gap_extend = True, _fields(h_open), _fields(h_extend)
    _run("second", batch)
    return h_scores, h_open.to(dtype), h_extend.to(dtype), h_grad.to(dtype)


def hard(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    scores = problem.scores
    b, n, m = scores.shape
    score = scores.new_empty(b, dtype=compute_dtype(scores.dtype))
    path = scores.new_full((b, min(n, m), 2), -1, dtype=torch.int64)
    count = scores.new_empty(b, dtype=torch.int64)
    batch = _batch(problem)
    batch.score, batch.path, batch.count = score.data_ptr(), path.data_ptr(), count.data_ptr()
    _run("hard", batch)
    return score, path, count
