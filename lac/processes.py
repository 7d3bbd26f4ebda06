"""What the processes of torch.distributed tell each other: numbers over the host, tensors with their gradients."""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

# torch 2.13 has renamed them.
_all_gather: Any = getattr(dist, "all_gather_single", None) or getattr(dist, "all_gather_into_tensor", None)
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or getattr(dist, "reduce_scatter_tensor", None)


def count() -> int:
    """How many processes there are to talk to, this one among them: 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


# The default group, and what its processes talk by on the host. Not kept alive: their threads have to end with them.
_host: list[Any] = [lambda: None, lambda: None]


def _on_host() -> Any:
    """A group of all processes that talks by gloo; made once, by all of them at the same call."""
    world = dist.group.WORLD
    if _host[0]() is not world:
        group = world if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        _host[:] = weakref.ref(world), weakref.ref(group)
    return _host[1]()


def told(value: T) -> list[T]:
    """What every process says, process after process; anything that can be pickled. No device is waited for."""
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, value, group=_on_host())
    return everyone


def untraced(call: F) -> F:
    """As `torch.compiler.disable`, which imports the compiler at once, hence the way of torch's own modules."""
    return cast(F, _disable_dynamo(call))


@untraced
def summed(x: Tensor) -> Tensor:
    """The sum over all processes, without a gradient."""
    if count() == 1:
        return x.detach()
    total = x.detach().clone()
    dist.all_reduce(total)
    return total


def from_first(x: Tensor) -> Tensor:
    """The tensor of process 0, in the place of one of the same shape and type."""
    sent = x.clone()
    dist.broadcast(sent, src=0)
    return sent


def gathered(x: Tensor, others: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Numbers of all W processes, of which each has as many, in one call.

    Args:
        x: (n,) floating point. It travels as it is; its gradient, the sum of what all processes have of it, travels in
            `dtype`. All processes have to take that gradient, or none; they may take derivatives of any order.
        others: (m,) uint8: bytes of anything that has no gradient.
        dtype: of the result, not narrower than x.

    Returns:
        (W, n) of `dtype` and (W, m), row p from process p.
    """
    everyone: tuple[Tensor, Tensor] = _Gather.apply(x, others, dtype)
    return everyone


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, others: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        sent = torch.cat((x.contiguous().view(torch.uint8), others))
        everyone = sent.new_empty(dist.get_world_size() * len(sent))
        _all_gather(everyone, sent)
        rows = everyone.reshape(-1, len(sent))
        size = len(sent) - len(others)
        return rows[:, :size].contiguous().view(x.dtype).to(dtype), rows[:, size:].contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, torch.dtype], output: tuple[Tensor, Tensor]) -> None:
        ctx.dtype = inputs[0].dtype
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        return _Own.apply(gradient).to(ctx.dtype), None, None


class _Own(torch.autograd.Function):
    """(W, n) -> (n,): the row of this process in the sum over all processes."""

    @staticmethod
    def forward(rows: Tensor) -> Tensor:
        own = rows.new_empty(rows.shape[1])
        _reduce_scatter(own, rows.flatten())
        return own

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gathered(gradient, gradient.new_empty(0, dtype=torch.uint8), gradient.dtype)[0]
