"""The recursion as torch operators: one forward, its gradient, and the Hessian-vector product behind the gradient.

Each operator hands the work to an *engine*, a module chosen by `backend`. It comes in two forms with the same
derivatives: `..._op` is opaque to `torch.compile` and whatever else traces or transforms torch code; on plain tensors
outside of those, `torch.autograd` is called straight, which saves 0.1 ms a step: as much as 16 pairs of 40 x 40 take.
The chain of derivatives is written once, here:

    score  --autograd-->  gradient operator  --autograd-->  second operator  --autograd-->  eager, to any order

The temperature needs no engine. score(S, o, e, T) = T f(S / T, o / T, e / T) is homogeneous of degree one and its
gradient of degree zero (Euler), so with E = <S, dS> + <o, do> + <e, de>

    dscore / dT = (score - E) / T        and for the gradient's own cotangents        d / dT = -<(S, o, e), H v> / T.

Tensors at this level: scores (B, N, M); gap_open, gap_extend three-dimensional and broadcastable to it, in the compute
dtype (float64 for float64 scores, else float32); temperature 0-d; lengths both None or both (B,) int32.
"""

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from lac_kernels import eager
from lac_kernels.reference import compute_dtype

BACKENDS = ("auto", "reference", "eager", "cpu", "triton")
_ENGINES = {"eager": "lac_kernels.eager", "cpu": "lac_kernels.cpu", "triton": "lac_kernels.triton_wavefront"}
_PREFERRED = {"cpu": "cpu", "cuda": "triton"}  # by device type; elsewhere eager


def unavailable(backend: str, device: torch.device) -> str | None:
    """Why this backend cannot run on this device, with the remedy; None if it can."""
    if backend in ("auto", "reference"):
        return None
    try:
        reason: str | None = importlib.import_module(_ENGINES[backend]).unavailable(device)
    except ImportError as error:
        return f"{error}; install it, or use backend='eager'"
    return reason


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


@cache
def _engine(backend: str, device: torch.device) -> ModuleType:
    name = _PREFERRED.get(device.type, "eager") if backend == "auto" else backend
    reason = unavailable(name, device)
    if reason is not None:
        if backend != "auto":
            raise RuntimeError(f"backend={backend!r} cannot run on device {str(device)!r}: {reason}")
        _warn_once(f"lac: the {name} engine cannot run on {device.type} ({reason}); using the slower eager engine")
        name = "eager"
    return importlib.import_module(_ENGINES[name])


def _forward(
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    save: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Score (B,), and what the gradient operator needs (empty unless `save`)."""
    score, saved = _engine(backend, scores.device).forward(
        scores, gap_open, gap_extend, temperature, lengths1, lengths2, save
    )
    return score, saved


forward_op = torch.library.custom_op("lac::smith_waterman", _forward, mutates_args=())


@forward_op.register_fake
def _(
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    save: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    score = scores.new_empty(scores.shape[0], dtype=compute_dtype(scores.dtype))
    if not save:
        return score, score.new_empty(0)
    saved: Tensor = _engine(backend, scores.device).saved_like(scores, gap_open, gap_extend)
    return score, saved


def _gradient(
    grad: Tensor,
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    saved: Tensor,
    dtype: torch.dtype,
    gaps: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """grad[b] dscore[b]/dscores (B, N, M) of `dtype`, and the gaps' gradients, empty unless `gaps`."""
    d_scores, d_open, d_extend = _engine(backend, scores.device).gradient(
        grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2, saved, dtype, gaps
    )
    return d_scores, d_open, d_extend


gradient_op = torch.library.custom_op("lac::smith_waterman_gradient", _gradient, mutates_args=())


@gradient_op.register_fake
def _(
    grad: Tensor,
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    saved: Tensor,
    dtype: torch.dtype,
    gaps: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    d_scores = scores.new_empty(scores.shape, dtype=dtype)
    if not gaps:
        return d_scores, gap_open.new_empty(0), gap_extend.new_empty(0)
    return d_scores, gap_open.new_empty(gap_open.shape), gap_extend.new_empty(gap_extend.shape)


def _second(
    grad: Tensor,
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    v_scores: Tensor,
    v_open: Tensor,
    v_extend: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Derivatives of sum_b grad[b] <v, dscore[b]/d(S, o, e)> with respect to S, o, e and grad."""
    h_scores, h_open, h_extend, h_grad = _engine(backend, scores.device).second(
        grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2, v_scores, v_open, v_extend
    )
    return h_scores, h_open, h_extend, h_grad


second_op = torch.library.custom_op("lac::smith_waterman_second", _second, mutates_args=())


@second_op.register_fake
def _(
    grad: Tensor,
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    v_scores: Tensor,
    v_open: Tensor,
    v_extend: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        scores.new_empty(scores.shape, dtype=compute_dtype(scores.dtype)),
        gap_open.new_empty(gap_open.shape),
        gap_extend.new_empty(gap_extend.shape),
        grad.new_empty(grad.shape),
    )


def _dot(pairs: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    return torch.stack([(x.to(y.dtype) * y).sum() for x, y in pairs]).sum()


def _setup_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, _, ctx.backend = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward_forward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    scores, gap_open, gap_extend, temperature, lengths1, lengths2, score, saved = ctx.saved_tensors
    if grad is None:
        return (None,) * 8
    need_scores, need_open, need_extend, need_temperature = ctx.needs_input_grad[:4]
    d_scores, d_open, d_extend = gradient(
        grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2, saved,
        score.dtype if need_temperature else scores.dtype, need_open or need_extend or need_temperature, ctx.backend,
    )  # fmt: skip
    d_temperature = None
    if need_temperature:
        expected = _dot(((scores, d_scores), (gap_open, d_open), (gap_extend, d_extend)))
        d_temperature = ((grad * score).sum() - expected) / temperature
    return (
        d_scores.to(scores.dtype) if need_scores else None,
        d_open if need_open else None,
        d_extend if need_extend else None,
        d_temperature,
        None, None, None, None,
    )  # fmt: skip


def _setup_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, _, _, ctx.gaps, ctx.backend = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_gradient(
    ctx: Any, v_scores: Tensor | None, v_open: Tensor | None, v_extend: Tensor | None
) -> tuple[Tensor | None, ...]:
    grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2 = ctx.saved_tensors
    nothing = grad.new_zeros((1, 1, 1))
    h_scores, h_open, h_extend, h_grad = second(
        grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2,
        nothing.expand(scores.shape) if v_scores is None else v_scores,
        nothing if v_open is None or not ctx.gaps else v_open,
        nothing if v_extend is None or not ctx.gaps else v_extend,
        ctx.backend,
    )  # fmt: skip
    need_grad, need_scores, need_open, need_extend, need_temperature = ctx.needs_input_grad[:5]
    d_temperature = None
    if need_temperature:
        d_temperature = -_dot(((scores, h_scores), (gap_open, h_open), (gap_extend, h_extend))) / temperature
    return (
        h_grad if need_grad else None,
        h_scores.to(scores.dtype) if need_scores else None,
        h_open if need_open else None,
        h_extend if need_extend else None,
        d_temperature,
        None, None, None, None, None, None,
    )  # fmt: skip


def _setup_second(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:-1])


def _backward_second(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """Third and higher orders: differentiate the eager engine's torch operations.

    By views of the inputs, since an input may itself depend on another.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [
            x if x is None or not needed else x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            for x, needed in zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        ]
        outputs = eager.second(*inputs)
        wanted = [k for k, needed in enumerate(ctx.needs_input_grad) if needed]
        found = torch.autograd.grad(
            outputs, [inputs[k] for k in wanted], grads, create_graph=create_graph, allow_unused=True
        )
    result: list[Tensor | None] = [None] * 11
    for k, value in zip(wanted, found, strict=True):
        result[k] = value
    return tuple(result)


_PLAIN = frozenset((Tensor, Parameter, type(None), torch.dtype, bool, str))  # no subclass of Tensor but Parameter


def _plain(inputs: tuple[Any, ...]) -> bool:
    """Nothing but autograd looks on, and all tensors are what they seem."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and _PLAIN.issuperset(map(type, inputs))
        and not inputs[0].is_meta
    )


def _differentiable(
    op: Any, run: Callable[..., tuple[Tensor, ...]], setup: Callable[..., None], backward: Callable[..., Any]
) -> Callable[..., tuple[Tensor, ...]]:
    """Gives an operator its derivative; returns what calls it, or its plain form where that will do."""
    op.register_autograd(backward, setup_context=setup)

    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        output = run(*inputs)
        setup(ctx, inputs, output)
        return output

    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    plain: Any = type(f"{run.__name__}_plain", (torch.autograd.Function,), members)

    def call(*inputs: Any) -> tuple[Tensor, ...]:
        if not _plain(inputs):
            found: tuple[Tensor, ...] = op(*inputs)
        elif torch.is_grad_enabled() and any(x.requires_grad for x in inputs if isinstance(x, Tensor)):
            found = plain.apply(*inputs)
        else:
            found = run(*inputs)
        return found

    return call


forward = _differentiable(forward_op, _forward, _setup_forward, _backward_forward)
gradient = _differentiable(gradient_op, _gradient, _setup_gradient, _backward_gradient)
second = _differentiable(second_op, _second, _setup_second, _backward_second)


@torch.library.custom_op("lac::hard_smith_waterman", mutates_args=())
def hard_op(
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Best score (B,), matched cells (B, min(N, M), 2) filled up with -1, and their number (B,)."""
    score, path, count = _engine(backend, scores.device).hard(scores, gap_open, gap_extend, lengths1, lengths2)
    return score, path, count


@hard_op.register_fake
def _(
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    b, n, m = scores.shape
    return (
        scores.new_empty(b, dtype=compute_dtype(scores.dtype)),
        scores.new_empty((b, min(n, m), 2), dtype=torch.int64),
        scores.new_empty(b, dtype=torch.int64),
    )
