"""The launchers: a problem is packed for the library, which runs it.

Threads follow `torch.get_num_threads()`. They live for one call, so nothing is left that a fork could break.
"""

import struct

import torch
from torch import Tensor

from lac_kernels.cpu.library import loaded
from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import compute_dtype

CELLS_PER_THREAD = 1 << 18  # a thread more for each: below this starting it costs more than it brings

_TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
_PROBLEM = struct.Struct("56q")  # as in cpu.cpp
_NO_GRADIENTS: tuple[int, ...] = (0,) * 10
_NO_DIRECTION: tuple[int, ...] = (0,) * 13
_FORWARD, _GRADIENT, _HARD, _SECOND = range(4)
_ROWS, _COLS, _HEADER = 64, 192, 40  # as in cpu.cpp


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
    library = loaded()
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
        min(torch.get_num_threads(), 1 + (b * n * m - 1) // CELLS_PER_THREAD),
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
