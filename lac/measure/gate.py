"""Correctness before timing: a side that disagrees with float64 is not timed."""

import re
from collections.abc import Callable, Iterable

import torch

from lac.measure.clock import too_large
from lac.measure.errors import allowed, relative_error
from lac.measure.problem import Inputs, Shape, random_inputs
from lac.measure.sides import Answer, Side, of_backend
from lac_kernels import reference

_CHECKED_CELLS = 2**22  # the float64 check takes as many pairs as fit
_CHECK_BYTES = 1000.0  # roughly what the eager engine needs for a cell in float64
_GATE_SHAPE = Shape(1, 12, 18)


def exact_answer(inputs: Inputs, mode: str, backend: str = "eager") -> Answer | None:
    """The answer in float64, for as many pairs as a check may take; `None` if that is none."""
    _, n, m = inputs.scores.shape
    pairs = min(len(inputs.scores), _CHECKED_CELLS // (n * m))
    needed = _CHECK_BYTES * pairs * n * m * (4 if mode == "second" else 1)
    if pairs == 0 or too_large(needed, inputs.scores.device) is not None:
        return None
    lengths = inputs.lengths and (inputs.lengths[0][:pairs], inputs.lengths[1][:pairs])
    few = Inputs(inputs.scores[:pairs].double(), inputs.direction[:pairs].double(), lengths)
    score = of_backend(backend)(few, "forward")().score
    derivative = None if mode == "forward" else of_backend(backend)(few, mode)().derivative
    return Answer(score, derivative)


def errors(answer: Answer, exact: Answer, inputs: Inputs) -> list[tuple[float, float]]:
    """`relative_error` and what is `allowed`, of the score and of the derivative as far as there is one.

    `exact` may hold fewer pairs.
    """
    dtype = inputs.scores.dtype
    value = 1.0 if exact.score is None else float(exact.score.abs().max().clamp(min=1))
    limits = allowed(sum(inputs.scores.shape[1:]), value, reference.compute_dtype(dtype), dtype)
    return [
        (relative_error(part[: len(true)], true), limit)
        for part, true, limit in zip(answer, exact, limits, strict=True)
        if part is not None and true is not None
    ]


def judge(answer: Answer, exact: Answer | None, inputs: Inputs) -> tuple[float, str | None]:
    """The largest error, nan where nothing can be compared, and why the side must not be timed if one is too large."""
    measured = [] if exact is None else errors(answer, exact, inputs)
    for error, limit in measured:
        if not error <= limit:
            return error, f"WRONG: error {error:.1e} against float64, {limit:.1e} allowed; not timed"
    return max((error for error, _ in measured), default=float("nan")), None


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
    small = random_inputs(_GATE_SHAPE, mode, dtype, device, seed=0)
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
                reason = judge(side.prepare(small, mode)(), exact, small)[1]
            except Exception as error:  # whatever a side may raise, the others go on
                reason = failure(error)
        if reason is not None:
            refused[side.name] = reason
    return refused


def failure(error: Exception) -> str:
    """What a side raised, in a line."""
    text = " ".join(str(error).split())
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or re.search(r"not enough memory|t allocate", text):
        return "out of memory"
    return f"failed: {text[:200] or type(error).__name__}"
