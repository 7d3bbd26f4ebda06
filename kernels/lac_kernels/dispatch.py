"""Which form of an operator is for whom: the table stands at `differentiable`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

_PLAIN = frozenset((Tensor, Parameter, type(None), torch.dtype, bool, str))  # no subclass of Tensor but Parameter


def transformed() -> bool:
    """Whether a transform of torch.func, or forward-mode differentiation, is at work."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def differentiated(*tensors: Tensor) -> bool:
    """Whether derivatives by one of the tensors may be asked for."""
    return (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)) or transformed()


def traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0


def readable(x: Tensor) -> bool:
    """Whether these are numbers in memory: not traced, fake or meta, nor one of many problems under torch.vmap."""
    if traced():
        return False
    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return type(x) in _PLAIN and torch._C._has_storage(x) and not x.is_meta


def is_plain(inputs: tuple[Any, ...]) -> bool:
    """All tensors are what they seem, and nothing that could look into an operator asks for it."""
    return (
        not traced()
        and _PLAIN.issuperset(map(type, inputs))
        and not inputs[0].is_meta
        and False not in [torch._C._has_storage(x) for x in inputs if isinstance(x, Tensor)]
    )


Call = Callable[..., tuple[Tensor, ...]]


def undifferentiated(op: Any, run: Call, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The operator below autograd: the engine itself, or `op` where something looks into it."""
    result: tuple[Tensor, ...] = run(*inputs) if is_plain(inputs) else op(*inputs)
    return result


def differentiable(op: Any, run: Call, function: Any) -> Call:
    """What calls an operator, in the form that fits.

    | who looks on                                   | form                                                     |
    |------------------------------------------------|----------------------------------------------------------|
    | torch.compile; tracing, fake and meta tensors  | `op`, opaque, with its derivative registered             |
    | torch.func, forward-mode differentiation       | `function`, which has rules for vmap and for tangents    |
    | autograd                                       | the same in the old style, which saves torch 0.02 ms     |
    | nobody                                         | `run`, the engine                                        |

    Args:
        op: the operator as torch knows it.
        run: what it runs.
        function: the `torch.autograd.Function` of its derivatives, tangents and rule for vmap.
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
        result: tuple[Tensor, ...] = function.apply(*inputs)
        return result

    def keep_whole() -> None:
        torch.compiler.allow_in_graph(transform)

    # What `torch.compiler.assume_constant_result` sets, which would take two seconds of imports: torch.compile runs
    # this function while it traces, and then does not look into `transform`, whose rules it does not know.
    keep_whole._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def call(*inputs: Any) -> tuple[Tensor, ...]:
        if transformed():
            if torch.compiler.is_compiling():
                keep_whole()
            result = transform(*inputs)
        elif not is_plain(inputs):
            result = op(*inputs)
        elif torch.is_grad_enabled() and any(x.requires_grad for x in inputs if isinstance(x, Tensor)):
            result = Plain.apply(*inputs)
        else:
            result = run(*inputs)
        return result

    return call
