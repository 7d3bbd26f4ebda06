"""The recursion as torch operators: one forward, its gradient, and the Hessian-vector product behind the gradient.

Each operator hands the work to an *engine*, a module chosen by `backend`. The chain of derivatives is written once:

    score  --autograd-->  gradient operator  --autograd-->  second operator  --autograd-->  eager, to any order

and each link has its rules for forward mode (`jvp`: the Hessian is symmetric, so a tangent is the next operator's
product) and for `torch.vmap` (`fold.py`: the engine's own batch). Each operator comes in forms that share these rules;
`dispatch.py` says which is for whom.

The temperature needs no engine. score(S, o, e, T) = T f(S / T, o / T, e / T) is homogeneous of degree one and its
gradient of degree zero (Euler), so with E = <S, dS> + <o, do> + <e, de>

    dscore / dT = (score - E) / T        and for the gradient's own cotangents        d / dT = -<(S, o, e), H v> / T.

Tensors at this level: scores (B, N, M); gap_open, gap_extend three-dimensional and broadcastable to it, in the compute
dtype (float64 for float64 scores, else float32); temperature 0-d; lengths both None or both (B,) int32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lac_kernels import eager
from lac_kernels.dispatch import differentiable, undifferentiated
from lac_kernels.engines import engine
from lac_kernels.fold import Fold
from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import compute_dtype


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
    problem = Problem(scores, gap_open, gap_extend, temperature, lengths1, lengths2)
    score, saved = engine(backend, scores.device).forward(problem, save)
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
    problem = Problem(scores, gap_open, gap_extend, temperature, lengths1, lengths2)
    saved: Tensor = engine(backend, scores.device).saved_like(problem)
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
    problem = Problem(scores, gap_open, gap_extend, temperature, lengths1, lengths2)
    d_scores, d_open, d_extend = engine(backend, scores.device).gradient(grad, problem, saved, dtype, gaps)
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
    problem = Problem(scores, gap_open, gap_extend, temperature, lengths1, lengths2)
    hessian_vector = getattr(engine(backend, scores.device), "second", eager.second)
    h_scores, h_open, h_extend, h_grad = hessian_vector(grad, problem, Direction(v_scores, v_open, v_extend))
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


def _finite(x: Tensor) -> Tensor:
    """0 for what is infinite or NaN: a forbidden cell, an impossible gap or padding, none of which has a share."""
    return torch.where(x.isfinite(), x, 0.0)


def _expected(p: Problem, d_scores: Tensor, d_open: Tensor, d_extend: Tensor) -> Tensor:
    """E = <S, dS> + <o, do> + <e, de>, 0-d."""
    pairs = ((p.scores, d_scores), (p.gap_open, d_open), (p.gap_extend, d_extend))
    return torch.stack([(_finite(x).to(y.dtype) * y).sum() for x, y in pairs]).sum()


class _Score(Function):
    """Score and what is saved of it, differentiable by scores, gaps and temperature."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return undifferentiated(forward_op, _forward, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, _, ctx.backend = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors, *output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 8
        *tensors, score, saved = ctx.saved_tensors
        p = Problem(*tensors)
        need_scores, need_open, need_extend, need_temperature, *_ = ctx.needs_input_grad
        dtype = score.dtype if need_temperature else p.scores.dtype
        gaps = need_open or need_extend or need_temperature
        d_scores, d_open, d_extend = gradient(grad, *p, saved, dtype, gaps, ctx.backend)
        d_temperature = None
        if need_temperature:
            d_temperature = ((grad * score).sum() - _expected(p, d_scores, d_open, d_extend)) / p.temperature
        return (
            d_scores.to(p.scores.dtype) if need_scores else None,
            d_open if need_open else None,
            d_extend if need_extend else None,
            d_temperature,
            None, None, None, None,
        )  # fmt: skip

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None]:
        *tensors, score, saved = ctx.saved_tensors
        p = Problem(*tensors)
        gap_open, gap_extend = (gap.expand(len(p.scores), -1, -1) for gap in (p.gap_open, p.gap_extend))
        p = p._replace(gap_open=gap_open, gap_extend=gap_extend)  # of each pair, so that the gradients are, too
        d = gradient(torch.ones_like(score), *p, saved, score.dtype, True, ctx.backend)
        by_scores, by_open, by_extend, by_temperature, *_ = tangents
        change = torch.zeros_like(score)
        for tangent, d_x in zip((by_scores, by_open, by_extend), d, strict=True):
            if tangent is not None:
                change = change + (tangent * d_x).sum((1, 2))
        if by_temperature is not None:
            values = (p.scores, gap_open, gap_extend)
            expected = sum((_finite(x) * d_x).sum((1, 2)) for x, d_x in zip(values, d, strict=True))
            change = change + by_temperature * (score - expected) / p.temperature
        return change, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        (*tensors, save, backend), (*dims, _, _) = inputs, in_dims
        fold = Fold.of(info, tensors, dims)
        score, saved = forward(*fold.problem(), save, backend)
        return (fold.apart(score * fold.rate), fold.apart(saved) if save else saved.expand(fold.size, 0)), (0, 0)


class _Gradient(Function):
    """The score's gradient, differentiable by the upstream gradient, scores, gaps and temperature."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return undifferentiated(gradient_op, _gradient, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.dtype, ctx.gaps, ctx.backend = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, v_scores: Tensor | None, v_open: Tensor | None, v_extend: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        grad, *tensors, _ = ctx.saved_tensors
        p = Problem(*tensors)
        if not ctx.gaps:
            v_open = v_extend = None
        direction = _direction(p.scores, grad, v_scores, v_open, v_extend)
        h_scores, h_open, h_extend, h_grad = second(grad, *p, *direction, ctx.backend)
        need_grad, need_scores, need_open, need_extend, need_temperature, *_ = ctx.needs_input_grad
        d_temperature = None
        if need_temperature:
            d_temperature = -_expected(p, h_scores, h_open, h_extend) / p.temperature
        return (
            h_grad if need_grad else None,
            h_scores.to(p.scores.dtype) if need_scores else None,
            h_open if need_open else None,
            h_extend if need_extend else None,
            d_temperature,
            None, None, None, None, None, None,
        )  # fmt: skip

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The Hessian is symmetric, so the tangent along v is the second operator's; v holds T's by homogeneity."""
        grad, *tensors, saved = ctx.saved_tensors
        p = Problem(*tensors)
        by_grad, by_scores, by_open, by_extend, by_temperature, *_ = tangents
        direction = [by_scores, by_open, by_extend]
        if by_temperature is not None:
            values = (p.scores, p.gap_open, p.gap_extend)
            shares = [_finite(x).to(p.temperature.dtype) * (-by_temperature / p.temperature) for x in values]
            direction = [y if x is None else x + y for x, y in zip(direction, shares, strict=True)]
        *change, _ = second(grad, *p, *_direction(p.scores, grad, *direction), ctx.backend)
        if by_grad is not None:
            linear = gradient(by_grad, *p, saved, compute_dtype(p.scores.dtype), True, ctx.backend)
            change = [x + y for x, y in zip(change, linear, strict=True)]
        d_scores, d_open, d_extend = change
        if not ctx.gaps:
            d_open, d_extend = d_open.new_empty(0), d_extend.new_empty(0)
        return d_scores.to(ctx.dtype), d_open, d_extend

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        grad, *tensors, saved, dtype, gaps, backend = inputs
        grad_dim, *dims, saved_dim, _, _, _ = in_dims
        fold = Fold.of(info, tensors, dims)
        grad, saved = fold.pairs(grad, grad_dim), fold.whole(saved, saved_dim)
        d_scores, d_open, d_extend = gradient(grad, *fold.problem(), saved, dtype, gaps, backend)
        if gaps:
            d_open, d_extend = fold.gaps_apart(d_open, d_extend)
        else:
            d_open, d_extend = (d.expand(fold.size, 0) for d in (d_open, d_extend))
        return (fold.apart(d_scores), d_open, d_extend), (0, 0, 0)


class _Second(Function):
    """The Hessian-vector product; its own derivatives are those of the eager engine's torch operations."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return undifferentiated(second_op, _second, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:-1])
        ctx.save_for_forward(*inputs[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted = [k for k, needed in enumerate(ctx.needs_input_grad) if needed]
        _, pull = torch.func.vjp(*_eager_second(ctx.saved_tensors, wanted))[:2]
        result: list[Tensor | None] = [None] * 11
        for k, value in zip(wanted, pull(tuple(grads)), strict=True):
            result[k] = value
        return tuple(result)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        """Twice transposed: torch has no forward mode within forward mode's own rules."""
        moved = [k for k, tangent in enumerate(tangents[:-1]) if tangent is not None]
        value, pull = torch.func.vjp(*_eager_second(ctx.saved_tensors, moved))[:2]
        _, push = torch.func.vjp(pull, tuple(torch.zeros_like(x) for x in value))[:2]
        (change,) = push(tuple(tangents[k] for k in moved))
        result: tuple[Tensor, ...] = change
        return result

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        grad, *tensors, v_scores, v_open, v_extend, backend = inputs
        grad_dim, *dims, scores_dim, open_dim, extend_dim, _ = in_dims
        fold = Fold.of(info, tensors, dims)
        grad, v_scores = fold.pairs(grad, grad_dim), fold.pairs(v_scores, scores_dim)
        v_open, v_extend = fold.pairs(v_open, open_dim), fold.pairs(v_extend, extend_dim)
        *h, h_grad = second(grad, *fold.problem(), v_scores, v_open, v_extend, backend)
        if isinstance(fold.rate, Tensor):
            h = [x / fold.rate[:, None, None] for x in h]
        h_scores, h_open, h_extend = h
        return (fold.apart(h_scores), *fold.gaps_apart(h_open, h_extend), fold.apart(h_grad)), (0, 0, 0, 0)


def _eager_second(inputs: tuple[Any, ...], free: list[int]) -> tuple[Any, ...]:
    """`eager.second` as a function of some of its inputs, and these: as views, since one may depend on another."""

    def of(*values: Tensor) -> tuple[Tensor, ...]:
        replaced = dict(zip(free, values, strict=True))
        grad, *tensors, v_scores, v_open, v_extend = (replaced.get(k, x) for k, x in enumerate(inputs))
        return eager.second(grad, Problem(*tensors), Direction(v_scores, v_open, v_extend))

    return of, *(inputs[k].view_as(inputs[k]) for k in free)


def _direction(scores: Tensor, grad: Tensor, *v: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros in place of what is None: directions of scores, gap_open, gap_extend."""
    nothing = grad.new_zeros((1, 1, 1))
    v_scores, v_open, v_extend = (nothing if x is None else x for x in v)
    return v_scores.expand(scores.shape), v_open, v_extend


forward = differentiable(forward_op, _forward, _Score)
gradient = differentiable(gradient_op, _gradient, _Gradient)
second = differentiable(second_op, _second, _Second)


@torch.library.custom_op("lac::hard_smith_waterman", mutates_args=())
def hard_op(
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
    lengths1: Tensor | None,
    lengths2: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Best score (B,), matched cells (B, min(N, M), 2) filled up with -1, and their number (B,)."""
    problem = Problem(scores, gap_open, gap_extend, temperature, lengths1, lengths2)
    score, path, count = engine(backend, scores.device).hard(problem)
    return score, path, count


@hard_op.register_fake
def _(
    scores: Tensor,
    gap_open: Tensor,
    gap_extend: Tensor,
    temperature: Tensor,
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
