"""The engine's functions (`lac_kernels.engines`): they make a plan, allocate, and launch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import compute_dtype
from lac_kernels.triton.backward import backward_kernel
from lac_kernels.triton.forward import PART, forward_kernel
from lac_kernels.triton.hard import hard_kernel, trace_kernel
from lac_kernels.triton.layout import Layout
from lac_kernels.triton.memory import pack_strides
from lac_kernels.triton.plan import (
    DEFAULT,
    FORMS,
    Form,
    Limits,
    Plan,
    Shape,
    form_of,
    hard_layout,
    is_cuda,
    saved_words,
    soft_plan,
)

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


def is_cell(*gaps: Tensor) -> bool:
    """Whether a gap may differ inside a pair."""
    return any(gap.shape[1] * gap.shape[2] > 1 for gap in gaps)


def options_of(layout: Layout | None) -> dict[str, Any]:
    options = {"num_warps": 1 if layout is None else layout.warps, "num_stages": 1, "enable_fp_fusion": True}
    needs_registers = layout is not None and (layout.cell or layout.dual or layout.keep)
    if needs_registers and is_cuda():
        options["maxnreg"] = MOST_REGISTERS
    return options


def kind_of(x: Any) -> Any:
    """What of a kernel's argument Triton compiles for."""
    if isinstance(x, Tensor):
        return x.dtype
    if isinstance(x, tuple):
        return tuple(kind_of(y) for y in x)
    return x.bit_length() > 31 if isinstance(x, int) else x


_compiled: dict[tuple[Any, ...], Any] = {}  # by what a kernel is compiled for
_prepared: dict[tuple[Any, ...], "Prepared"] = {}  # by what is prepared for
MOST_PREPARED = 4096


class Prepared:
    """What the calls with tensors of one kind, shape and stride have in common.

    A launch through Triton costs some 20 microseconds of the host; by a kernel that is compiled already, some 2.
    """

    def __init__(self, problem: Problem, direction: Direction | None) -> None:
        self.shape = problem.scores.shape
        self.strides, self.copied = self._strides(problem[:3])
        self.v_strides: tuple[Any, ...] | None = None
        self.v_copied: tuple[int, ...] = ()
        if direction is not None:
            self.v_strides, self.v_copied = self._strides(direction)
        self.plan: Any = None
        self.launches: dict[Any, Any] = {}

    def _strides(self, views: Sequence[Tensor]) -> tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]:
        """Strides as kernels take them, and which of the three are too wide for offsets of 32 bits along a row."""
        wide = tuple(i for i, x in enumerate(views) if x.shape[2] * x.stride(2) >= 2**31)
        return tuple(pack_strides(x.contiguous() if i in wide else x, self.shape) for i, x in enumerate(views)), wide

    def arguments(self, problem: Problem) -> tuple[Any, ...]:
        """What kernels are told of a problem, in their order: scores, gaps and strides."""
        return (*_copied(problem[:3], self.copied), self.strides)

    def soft_arguments(self, problem: Problem, direction: Direction | None) -> tuple[Any, ...]:
        v = (None, None, None) if direction is None else _copied(direction, self.v_copied)
        lengths = (problem.lengths1, problem.lengths2)
        return (*self.arguments(problem), *v, self.v_strides, problem.temperature, *lengths)

    def launch(self, kernel: Any, programs: int, arguments: tuple[Any, ...], layouts: tuple[Any, ...]) -> None:
        """`arguments` are the kernel's parameters in their order, `layouts` its constants, which come last."""
        compiled = self.launches.get(kernel)
        if compiled is None:
            key = (kernel, arguments[0].device, kind_of(arguments), layouts)
            compiled = _compiled.get(key)
            if compiled is None:
                options = options_of(layouts[0] if layouts else None)
                compiled = kernel[(programs,)](*arguments, *layouts, **options)
                if compiled is not None:  # the interpreter compiles nothing
                    _compiled[key] = compiled
                return
            self.launches[kernel] = compiled
        compiled[(programs, 1, 1)](*arguments, *layouts)


def _copied(views: Sequence[Tensor], which: Sequence[int]) -> Sequence[Tensor]:
    return [x.contiguous() if i in which else x for i, x in enumerate(views)] if which else views


def prepared(what: tuple[Any, ...], problem: Problem, direction: Direction | None = None) -> Prepared:
    """Of a call that is told apart from others by `what`, and by the kind of its tensors."""
    tensors = problem if direction is None else (*problem, *direction)
    kinds = tuple(None if x is None else (x.shape, x.stride(), x.dtype) for x in tensors)
    key = (what, kinds, problem.scores.device)
    found = _prepared.get(key)
    if found is None:
        if len(_prepared) >= MOST_PREPARED:
            _prepared.clear()
        found = _prepared[key] = Prepared(problem, direction)
    return found


def shape_of(problem: Problem, direction: Direction | None = None) -> Shape:
    scores = problem.scores
    b, n, m = scores.shape
    gaps = (*problem[1:3], *(() if direction is None else direction[1:]))
    return Shape(b, n, m, scores.dtype, scores.device, direction is not None, is_cell(*gaps))


def soft_call(
    what: str,
    problem: Problem,
    direction: Direction | None,
    form: Form | None,
    limits: Limits,
    *more: Any,
    **options: bool,
) -> Prepared:
    """The preparation of a kernel of the soft alignment, with its plan."""
    call = prepared((what, form, limits, *more, *options.values()), problem, direction)
    if call.plan is None:
        shape = shape_of(problem, direction)
        call.plan = soft_plan(shape, form or form_of(shape, limits), limits, **options)
    return call


def waiting(plan: Plan, like: Tensor, part: int) -> tuple[Tensor | None, Tensor | None]:
    """Parts of results (of so many words) and counters, for programs that wait."""
    if not plan.layout.waits:
        return None, None
    programs = plan.programs
    parts = allocate(like, (programs * part,), like.dtype, scratch=True)
    return parts, allocate(like, (1 + 2 * programs,), torch.int32, zeros=True)


def launch_forward(
    problem: Problem, direction: Direction | None, save: bool, limits: Limits
) -> tuple[Tensor, Tensor, Tensor]:
    """Score, its derivative along the direction (empty without one), and what the backward kernel needs."""
    scores = problem.scores
    call = soft_call("forward", problem, direction, None, limits, save=save, gaps=False)
    plan = call.plan
    b, n, m = scores.shape
    dtype = compute_dtype(scores.dtype)
    score = allocate(scores, (b,), dtype)
    rate = allocate(scores, (0,) if direction is None else (b,), dtype)
    saved = allocate(scores, (b, plan.saved_step), dtype)
    arguments = (
        *call.soft_arguments(problem, direction), score, rate, saved, plan.saved_step, plan.segment,
        plan.segment_extended, *waiting(plan, score, PART.value), b, n, m,
    )  # fmt: skip
    with on_device_of(scores):
        call.launch(forward_kernel, plan.programs, arguments, (plan.layout, plan.extended))
    return score, rate, saved


def launch_backward(
    grad: Tensor,
    problem: Problem,
    direction: Direction | None,
    saved: Tensor,
    rate: Tensor,
    dtype: torch.dtype,
    gaps: bool,
    limits: Limits,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the scores, in `dtype`, and of the gaps (empty if not `gaps`), in their own shapes."""
    scores = problem.scores
    b, n, m = scores.shape
    form = Form.of_code(saved.shape[1] % FORMS)
    kind = (dtype, grad.dtype, grad.stride())
    call = soft_call("backward", problem, direction, form, limits, *kind, save=True, gaps=gaps)
    plan = call.plan
    ragged = problem.lengths1 is not None  # then no program writes what lies beyond the lengths
    shape = (0,) if not gaps else (b, n, m) if plan.layout.cell else (b, 1, 1)
    d_scores = allocate(scores, (b, n, m), dtype, zeros=ragged)
    d_open, d_extend = (allocate(saved, shape, saved.dtype, zeros=ragged) for _ in range(2))
    owners = b if plan.layout.waits else plan.programs_back
    edges = allocate(saved, (owners * plan.edges_step,), saved.dtype, scratch=True)
    scratch = allocate(saved, (plan.programs_back * plan.scratch_step,), saved.dtype, scratch=True)
    arguments = (
        *call.soft_arguments(problem, direction), grad, grad.stride(0), rate, (d_scores, d_open, d_extend),
        saved, plan.saved_step, plan.segment, plan.segment_extended, edges, plan.edges_step, plan.edge_rows,
        scratch, plan.scratch_step, *waiting(plan, saved, 2), b, n, m,
    )  # fmt: skip
    with on_device_of(scores):
        call.launch(backward_kernel, plan.programs_back, arguments, (plan.layout, plan.extended))
    if not gaps:
        return d_scores, d_open, d_extend
    return d_scores, d_open.sum_to_size(problem.gap_open.shape), d_extend.sum_to_size(problem.gap_extend.shape)


def saved_like(problem: Problem) -> Tensor:
    shape = shape_of(problem)
    words = saved_words(shape, form_of(shape))
    return problem.scores.new_empty((shape.b, words), dtype=compute_dtype(shape.dtype))


def forward(problem: Problem, save: bool, limits: Limits = DEFAULT) -> tuple[Tensor, Tensor]:
    score, _, saved = launch_forward(problem, None, save, limits)
    return score, saved if save else saved.new_empty(0)


def gradient(
    grad: Tensor, problem: Problem, saved: Tensor, dtype: torch.dtype, gaps: bool, limits: Limits = DEFAULT
) -> tuple[Tensor, Tensor, Tensor]:
    return launch_backward(grad, problem, None, saved, saved, dtype, gaps, limits)


def second(
    grad: Tensor, problem: Problem, direction: Direction, limits: Limits = DEFAULT
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    score, rate, saved = launch_forward(problem, direction, True, limits)
    return *launch_backward(grad, problem, direction, saved, rate, score.dtype, True, limits), rate


def hard(problem: Problem, limits: Limits = DEFAULT) -> tuple[Tensor, Tensor, Tensor]:
    scores = problem.scores
    b, n, m = scores.shape
    dtype = compute_dtype(scores.dtype)
    call = prepared(("hard", limits), problem)
    if call.plan is None:
        call.plan = hard_layout(shape_of(problem), limits)
    layout = call.plan
    steps = layout.steps(m)
    words = layout.saved_words(n, m, steps)
    score = allocate(scores, (b,), dtype)
    end = allocate(scores, (b, 2), torch.int32)
    choices = allocate(scores, (b, n, m), torch.uint8)
    edges = allocate(scores, (b, words), dtype, scratch=True)
    path = scores.new_full((b, min(n, m), 2), -1, dtype=torch.int64)
    count = allocate(scores, (b,), torch.int64)
    arguments = (
        *call.arguments(problem), problem.lengths1, problem.lengths2, score, end, choices, edges, words, steps, n, m
    )  # fmt: skip
    with on_device_of(scores):
        call.launch(hard_kernel, b, arguments, (layout,))
        call.launch(trace_kernel, b, (choices, end, path, count, n, m), ())
    return score, path, count
