"""The engine's functions (`lac_kernels.engines`): they make a plan, allocate, and launch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import compute_dtype
from lac_kernels.triton.hard import hard_kernel, trace_kernel
from lac_kernels.triton.memory import pack_strides
from lac_kernels.triton.plan import DEFAULT, Limits, Plan, hard_plan, saved_words, soft_plans
from lac_kernels.triton.soft import backward_kernel, forward_kernel

# One warp per program: lanes exchange values by shuffles alone.
OPTIONS: dict[str, Any] = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}
MOST_REGISTERS = 255  # of a thread; left to itself, ptxas stops at 128 or 168 and spills where a kernel needs more


def unavailable(device: torch.device) -> str | None:
    """None where Triton can compile for the device: a GPU, or a CPU that stands in for one."""
    if device.type == "cuda":
        return None
    if device.type == "cpu":
        if triton.knobs.runtime.interpret:
            return None
        try:
            if triton.runtime.driver.active.get_active_torch_device().type == "cpu":
                return None
        except RuntimeError:
            pass
        return "Triton kernels need a GPU; move the tensors to one, set TRITON_INTERPRET=1, or use backend='cpu'"
    return f"Triton kernels do not run on {device.type}; use backend='eager'"


def allocate(
    like: Tensor, shape: Sequence[int], dtype: torch.dtype, *, zeros: bool = False, scratch: bool = False
) -> Tensor:
    """Every buffer that a kernel writes comes from here; `scratch` is for what it alone writes and reads.

    Tests put another function in its place, one that finds out what is read before it was written.
    """
    del scratch
    return like.new_zeros(shape, dtype=dtype) if zeros else like.new_empty(shape, dtype=dtype)


def on_device_of(x: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def backward_options(plan: Plan) -> dict[str, Any]:
    if not (plan.layout.cell or plan.layout.dual) or triton.knobs.runtime.interpret:
        return OPTIONS
    backend = triton.runtime.driver.active.get_current_target().backend
    return {**OPTIONS, "maxnreg": MOST_REGISTERS} if backend == "cuda" else OPTIONS


def is_cell(*gaps: Tensor) -> bool:
    """Whether a gap may differ inside a pair."""
    return any(gap.shape[1] * gap.shape[2] > 1 for gap in gaps)


def view(x: Tensor, shape: torch.Size) -> Tensor:
    """`x` broadcast (by strides of 0), with offsets along a row that fit into 32 bits."""
    x = x.expand(shape)
    return x.contiguous() if x.shape[2] * x.stride(2) >= 2**31 else x


def problem_arguments(problem: Problem) -> dict[str, Any]:
    """What a kernel is told of the problem."""
    views = [view(x, problem.scores.shape) for x in (problem.scores, problem.gap_open, problem.gap_extend)]
    _, n, m = problem.scores.shape
    arguments = dict(zip(("scores", "gap_open", "gap_extend"), views, strict=True))
    strides = tuple(pack_strides(x) for x in views)
    return {**arguments, "strides": strides, "lengths1": problem.lengths1, "lengths2": problem.lengths2, "N": n, "M": m}


def soft_arguments(problem: Problem, direction: Direction | None) -> dict[str, Any]:
    """What the kernels of the soft alignment are told besides."""
    names = ("v_scores", "v_open", "v_extend")
    views = [] if direction is None else [view(x, problem.scores.shape) for x in direction]
    v_strides = None if direction is None else tuple(pack_strides(x) for x in views)
    arguments = dict(zip(names, views, strict=True)) if views else dict.fromkeys(names)
    return {**problem_arguments(problem), **arguments, "v_strides": v_strides, "temperature": problem.temperature}


def launch_forward(problem: Problem, direction: Direction | None, plans: list[Plan]) -> tuple[Tensor, Tensor, Tensor]:
    """Score, its derivative along the direction (empty without one), and what the backward kernel needs."""
    scores = problem.scores
    b = scores.shape[0]
    dtype = compute_dtype(scores.dtype)
    score = allocate(scores, (b,), dtype)
    rate = allocate(scores, (0,) if direction is None else (b,), dtype)
    saved = allocate(scores, (b, plans[0].saved_step), dtype)
    arguments = soft_arguments(problem, direction)
    with on_device_of(scores):
        for plan in plans:
            forward_kernel[(b,)](
                **arguments, score=score, rate=rate,
                saved=saved, saved_step=plan.saved_step, edge_step=plan.edge_step, segment=plan.segment,
                LAYOUT=plan.layout, FLAGGED=plan is not plans[0], **OPTIONS,
            )  # fmt: skip
    return score, rate, saved


def launch_backward(
    grad: Tensor,
    problem: Problem,
    direction: Direction | None,
    saved: Tensor,
    rate: Tensor,
    plans: list[Plan],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the scores, in `dtype`, and of the gaps (empty if the layout is without), in their own shapes."""
    scores = problem.scores
    b, n, m = scores.shape
    layout = plans[0].layout
    ragged = problem.lengths1 is not None  # then no program writes what lies beyond the lengths
    shape = (0,) if not layout.gaps else (b, n, m) if layout.cell else (b, 1, 1)
    d_scores = allocate(scores, (b, n, m), dtype, zeros=ragged)
    d_open, d_extend = (allocate(saved, shape, saved.dtype, zeros=ragged) for _ in range(2))
    words = max(plan.scratch_step * plan.programs for plan in plans)
    scratch = allocate(saved, (words,), saved.dtype, scratch=True)
    arguments = soft_arguments(problem, direction)
    with on_device_of(scores):
        for plan in plans:
            backward_kernel[(plan.programs,)](
                **arguments, grad=grad, grad_step=grad.stride(0), rate=rate, gradients=(d_scores, d_open, d_extend),
                saved=saved, saved_step=plan.saved_step, edge_step=plan.edge_step, segment=plan.segment,
                scratch=scratch, scratch_step=plan.scratch_step, B=b,
                LAYOUT=plan.layout, FLAGGED=plan is not plans[0], **backward_options(plan),
            )  # fmt: skip
    if not layout.gaps:
        return d_scores, d_open, d_extend
    return d_scores, d_open.sum_to_size(problem.gap_open.shape), d_extend.sum_to_size(problem.gap_extend.shape)


def saved_like(scores: Tensor) -> Tensor:
    return scores.new_empty((scores.shape[0], saved_words(scores)), dtype=compute_dtype(scores.dtype))


def forward(problem: Problem, save: bool, limits: Limits = DEFAULT) -> tuple[Tensor, Tensor]:
    cell = is_cell(problem.gap_open, problem.gap_extend)
    plans = soft_plans(problem.scores, limits, save=save, dual=False, cell=cell, gaps=False)
    score, _, saved = launch_forward(problem, None, plans)
    return score, saved if save else saved.new_empty(0)


def gradient(
    grad: Tensor, problem: Problem, saved: Tensor, dtype: torch.dtype, gaps: bool, limits: Limits = DEFAULT
) -> tuple[Tensor, Tensor, Tensor]:
    cell = is_cell(problem.gap_open, problem.gap_extend)
    plans = soft_plans(problem.scores, limits, save=True, dual=False, cell=cell, gaps=gaps)
    return launch_backward(grad, problem, None, saved, saved, plans, dtype)


def second(
    grad: Tensor, problem: Problem, direction: Direction, limits: Limits = DEFAULT
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cell = is_cell(problem.gap_open, problem.gap_extend, direction.gap_open, direction.gap_extend)
    forward_plans, backward_plans = (
        soft_plans(problem.scores, limits, save=True, dual=True, cell=cell, gaps=gaps) for gaps in (False, True)
    )
    score, rate, saved = launch_forward(problem, direction, forward_plans)
    gradients = launch_backward(grad, problem, direction, saved, rate, backward_plans, score.dtype)
    return *gradients, rate


def hard(problem: Problem, limits: Limits = DEFAULT) -> tuple[Tensor, Tensor, Tensor]:
    scores = problem.scores
    b, n, m = scores.shape
    dtype = compute_dtype(scores.dtype)
    plan = hard_plan(scores, limits, cell=is_cell(problem.gap_open, problem.gap_extend))
    score = allocate(scores, (b,), dtype)
    end = allocate(scores, (b, 2), torch.int32)
    choices = allocate(scores, (b, n, m), torch.uint8)
    edges = allocate(scores, (b, plan.saved_step), dtype, scratch=True)
    path = scores.new_full((b, min(n, m), 2), -1, dtype=torch.int64)
    count = allocate(scores, (b,), torch.int64)
    with on_device_of(scores):
        hard_kernel[(b,)](
            **problem_arguments(problem), score=score, end=end, choices=choices, edges=edges,
            edges_step=plan.saved_step, LAYOUT=plan.layout, **OPTIONS,
        )  # fmt: skip
        trace_kernel[(b,)](choices=choices, end=end, path=path, count=count, N=n, M=m, **OPTIONS)
    return score, path, count
