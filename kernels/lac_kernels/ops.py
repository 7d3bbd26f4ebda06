"""The recursion as torch operators: one forward, its gradient, and the Hessian-vector product behind the gradient.

Each operator hands the work to an *engine*, a module chosen by `backend`. The chain of derivatives is written once:

    score  --autograd-->  gradient operator  --autograd-->  second operator  --autograd-->  eager, to any order

and each link has its rules for forward mode (`jvp`: the Hessian is symmetric, so a tangent is the next operator's
product) and for `torch.vmap` (`_Fold`: the engine's own batch). Each operator comes in forms that share these rules;
`_differentiable` says which is for whom.

The temperature needs no engine. score(S, o, e, T) = T f(S / T, o / T, e / T) is homogeneous of degree one and its
gradient of degree zero (Euler), so with E = <S, dS> + <o, do> + <e, de>

    dscore / dT = (score - E) / T        and for the gradient's own cotangents        d / dT = -<(S, o, e), H v> / T.

Tensors at this level: scores (B, N, M); gap_open, gap_extend three-dimensional and broadcastable to it, in the compute
dtype (float64 for float64 scores, else float32); temperature 0-d; lengths both None or both (B,) int32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from lac_kernels import eager
from lac_kernels.engines import engine
from lac_kernels.problem import Direction, Problem
from lac_kernels.reference import FORBIDDEN, compute_dtype


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
    saved: Tensor = engine(backend, scores.device).saved_like(scores)
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


def _dot(pairs: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    return torch.stack([(_finite(x).to(y.dtype) * y).sum() for x, y in pairs]).sum()


class _Score(Function):
    """Score and what is saved of it, differentiable by scores, gaps and temperature."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return _undifferentiated(forward_op, _forward, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, _, ctx.backend = inputs
        ctx.save_for_backward(*tensors, *output)
        ctx.save_for_forward(*tensors, *output)
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        scores, gap_open, gap_extend, temperature, lengths1, lengths2, score, saved = ctx.saved_tensors
        if grad is None:
            return (None,) * 8
        need_scores, need_open, need_extend, need_temperature = ctx.needs_input_grad[:4]
        dtype = score.dtype if need_temperature else scores.dtype
        gaps = need_open or need_extend or need_temperature
        d_scores, d_open, d_extend = gradient(
            grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2, saved, dtype, gaps, ctx.backend
        )
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

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None]:
        scores, gap_open, gap_extend, temperature, lengths1, lengths2, score, saved = ctx.saved_tensors
        gaps = tuple(gap.expand(len(scores), -1, -1) for gap in (gap_open, gap_extend))
        ones = torch.ones_like(score)
        d = gradient(ones, scores, *gaps, temperature, lengths1, lengths2, saved, score.dtype, True, ctx.backend)
        change = torch.zeros_like(score)
        for tangent, d_x in zip(tangents[:3], d, strict=True):
            if tangent is not None:
                change = change + (tangent * d_x).sum((1, 2))
        if tangents[3] is not None:
            expected = sum((_finite(x) * d_x).sum((1, 2)) for x, d_x in zip((scores, *gaps), d, strict=True))
            change = change + tangents[3] * (score - expected) / temperature
        return change, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        *tensors, save, backend = inputs
        fold = _Fold(info.batch_size, in_dims, tensors[0], tensors[3])
        score, saved = forward(*fold.problem(tensors, in_dims), save, backend)
        return (fold.apart(score * fold.rate), fold.apart(saved) if save else saved.expand(fold.size, 0)), (0, 0)


class _Gradient(Function):
    """The score's gradient, differentiable by the upstream gradient, scores, gaps and temperature."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return _undifferentiated(gradient_op, _gradient, inputs)

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
        grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2, _ = ctx.saved_tensors
        if not ctx.gaps:
            v_open = v_extend = None
        h_scores, h_open, h_extend, h_grad = second(
            grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2,
            *_direction(scores, grad, v_scores, v_open, v_extend), ctx.backend,
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

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The Hessian is symmetric, so the tangent along v is the second operator's; v holds T's by homogeneity."""
        grad, scores, gap_open, gap_extend, temperature, lengths1, lengths2, saved = ctx.saved_tensors
        problem = (scores, gap_open, gap_extend, temperature, lengths1, lengths2)
        by_grad, *direction, by_temperature = tangents[:5]
        if by_temperature is not None:
            shares = [_finite(x).to(temperature.dtype) * (-by_temperature / temperature) for x in problem[:3]]
            direction = [y if x is None else x + y for x, y in zip(direction, shares, strict=True)]
        *change, _ = second(grad, *problem, *_direction(scores, grad, *direction), ctx.backend)
        if by_grad is not None:
            linear = gradient(by_grad, *problem, saved, change[0].dtype, True, ctx.backend)
            change = [x + y for x, y in zip(change, linear, strict=True)]
        if not ctx.gaps:
            change[1:] = [x.new_empty(0) for x in change[1:]]
        return change[0].to(ctx.dtype), change[1], change[2]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        grad, *tensors, saved, dtype, gaps, backend = inputs
        fold = _Fold(info.batch_size, in_dims[1:], tensors[0], tensors[3])
        grad, saved = fold.pairs(grad, in_dims[0]), fold.whole(saved, in_dims[7])
        d_scores, *d_gaps = gradient(grad, *fold.problem(tensors, in_dims[1:]), saved, dtype, gaps, backend)
        if gaps:
            d_gaps = [fold.apart_gap(*x) for x in zip(d_gaps, tensors[1:3], in_dims[2:4], strict=True)]
        else:
            d_gaps = [d.expand(fold.size, 0) for d in d_gaps]
        return (fold.apart(d_scores), *d_gaps), (0, 0, 0)


class _Second(Function):
    """The Hessian-vector product; its own derivatives are those of the eager engine's torch operations."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return _undifferentiated(second_op, _second, inputs)

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
        fold = _Fold(info.batch_size, in_dims[1:], tensors[0], tensors[3])
        grad, *v = map(fold.pairs, (grad, v_scores, v_open, v_extend), (in_dims[0], *in_dims[7:10]))
        *h, h_grad = second(grad, *fold.problem(tensors, in_dims[1:]), *v, backend)
        if isinstance(fold.rate, Tensor):
            h = [x / fold.rate[:, None, None] for x in h]
        h_gaps = [fold.apart_gap(*x) for x in zip(h[1:], tensors[1:3], in_dims[2:4], strict=True)]
        return (fold.apart(h[0]), *h_gaps, fold.apart(h_grad)), (0, 0, 0, 0)


def _eager_second(inputs: tuple[Any, ...], free: list[int]) -> tuple[Any, ...]:
    """`eager.second` as a function of some of its inputs, and these: as views, since one may depend on another."""

    def of(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(free, values, strict=True))
        grad, *rest = (given.get(k, x) for k, x in enumerate(inputs))
        return eager.second(grad, Problem(*rest[:6]), Direction(*rest[6:]))

    return of, *(inputs[k].view_as(inputs[k]) for k in free)


def _direction(scores: Tensor, grad: Tensor, *v: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros in place of what is None: directions of scores, gap_open, gap_extend."""
    nothing = grad.new_zeros((1, 1, 1))
    v_scores, v_open, v_extend = (nothing if x is None else x for x in v)
    return v_scores.expand(scores.shape), v_open, v_extend


class _Fold:
    """Many problems under `torch.vmap` as one batch: V problems of B pairs become V B pairs.

    The engines take one temperature; if each problem has its own, the pairs are solved in units of theirs (`rate`).
    """

    def __init__(self, size: int, in_dims: tuple[int | None, ...], scores: Tensor, temperature: Tensor) -> None:
        self.size = size
        self.b = scores.movedim(in_dims[0], 0).shape[1] if in_dims[0] is not None else scores.shape[0]
        self.rate: Tensor | float = 1.0
        if in_dims[3] is not None:
            self.rate = temperature.repeat_interleave(self.b)

    def pairs(self, x: Tensor, dim: int | None) -> Tensor:
        """(B, ...) or (1, ...) of each problem -> (V B, ...)."""
        x = x.unsqueeze(0) if dim is None else x.movedim(dim, 0)
        return x.expand(self.size, self.b, *x.shape[2:]).reshape(self.size * self.b, *x.shape[2:])

    def whole(self, x: Tensor | None, dim: int | None) -> Tensor | None:
        """The same in memory of its own, as engines want lengths and what they saved."""
        return None if x is None else self.pairs(x, dim).contiguous()

    def problem(self, tensors: Sequence[Any], in_dims: tuple[int | None, ...]) -> tuple[Any, ...]:
        """Scores, gaps, temperature and lengths of all pairs."""
        scores, gap_open, gap_extend = (self.pairs(x, dim) for x, dim in zip(tensors[:3], in_dims[:3], strict=True))
        lengths = (self.whole(x, dim) for x, dim in zip(tensors[4:6], in_dims[4:6], strict=True))
        temperature = tensors[3]
        if isinstance(self.rate, Tensor):
            scores = torch.where(scores <= FORBIDDEN, -torch.inf, scores)
            scores, gap_open, gap_extend = (x / self.rate[:, None, None] for x in (scores, gap_open, gap_extend))
            temperature = torch.ones_like(self.rate[0])
        return scores, gap_open, gap_extend, temperature, *lengths

    def apart(self, x: Tensor) -> Tensor:
        """(V B, ...) -> (V, B, ...)."""
        return x.reshape(self.size, self.b, *x.shape[1:])

    def apart_gap(self, d: Tensor, gap: Tensor, dim: int | None) -> Tensor:
        """The gradient of a gap for each problem: summed over its pairs if they share it."""
        shared = (gap if dim is None else gap.movedim(dim, 0)[0]).shape[0] == 1
        d = self.apart(d)
        return d.sum(1, keepdim=True) if shared else d


_PLAIN = frozenset((Tensor, Parameter, type(None), torch.dtype, bool, str))  # no subclass of Tensor but Parameter


def _transformed() -> bool:
    """Whether a transform of torch.func, or forward-mode differentiation, is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def differentiated(*tensors: Tensor) -> bool:
    """Whether derivatives by one of the tensors may be asked for."""
    return (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)) or _transformed()


def _traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def readable(x: Tensor) -> bool:
    """Whether these are numbers in memory: not traced, fake or meta, nor one of many problems under torch.vmap."""
    if _traced():
        return False
    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return type(x) in _PLAIN and torch._C._has_storage(x) and not x.is_meta


def _plain(inputs: tuple[Any, ...]) -> bool:
    """All tensors are what they seem, and nothing that could look into an operator asks for it."""
    return (
        not _traced()
        and _PLAIN.issuperset(map(type, inputs))
        and not inputs[0].is_meta
        and False not in [torch._C._has_storage(x) for x in inputs if isinstance(x, Tensor)]
    )


_Call = Callable[..., tuple[Tensor, ...]]


def _undifferentiated(op: Any, run: _Call, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = run(*inputs) if _plain(inputs) else op(*inputs)
    return found


def _differentiable(op: Any, run: _Call, function: Any) -> _Call:
    """What calls an operator, in the form that fits:

    | who looks on                                   | form                                                     |
    |------------------------------------------------|----------------------------------------------------------|
    | torch.compile; tracing, fake and meta tensors  | `op`, opaque, with its derivative registered             |
    | torch.func, forward-mode differentiation       | `function`, which has rules for vmap and for tangents    |
    | autograd                                       | the same in the old style, which saves torch 0.02 ms     |
    | nobody                                         | `run`, the engine                                        |
    """
    op.register_autograd(function.backward, setup_context=function.setup_context)

    class Plain(Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            output = run(*inputs)
            function.setup_context(ctx, inputs, output)
            return output

        backward = staticmethod(function.backward)

    def transform(*inputs: Any) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = function.apply(*inputs)
        return found

    def keep_whole() -> None:
        torch.compiler.allow_in_graph(transform)

    # What `torch.compiler.assume_constant_result` sets, which would take two seconds of imports: torch.compile runs
    # this function while it traces, and then does not look into `transform`, whose rules it does not know.
    keep_whole._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def call(*inputs: Any) -> tuple[Tensor, ...]:
        if _transformed():
            if torch.compiler.is_compiling():
                keep_whole()
            found = transform(*inputs)
        elif not _plain(inputs):
            found = op(*inputs)
        elif torch.is_grad_enabled() and any(x.requires_grad for x in inputs if isinstance(x, Tensor)):
            found = Plain.apply(*inputs)
        else:
            found = run(*inputs)
        return found

    return call


forward = _differentiable(forward_op, _forward, _Score)
gradient = _differentiable(gradient_op, _gradient, _Gradient)
second = _differentiable(second_op, _second, _Second)


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
