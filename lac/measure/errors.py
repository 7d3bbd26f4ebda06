"""The error of a result against an exact one: the one metric of the tests, of fuzzing and of `lac-bench`."""

import torch
from torch import Tensor, isfinite

# What is smaller than this is judged absolutely: a posterior is a probability, a gap's derivative an expected number
# of gaps, the temperature's an entropy, so 1 is their natural unit; of scores it is the temperature of most problems.
FLOOR = 1.0


def relative_error(result: Tensor, exact: Tensor, floor: float = FLOOR, *, each: bool = False) -> float:
    """The largest deviation, relative to the largest exact value, or to `floor` where all are smaller.

    Args:
        result: any shape and dtype; compared in float64.
        exact: of the same shape.
        floor: > 0, in the unit of `exact`.
        each: every entry relative to itself (or to `floor`) instead of to the largest; for scores, whose pairs have
            nothing to do with each other.

    Returns:
        0 for empty tensors, infinity where the result is not finite though the exact value is.
    """
    if result.shape != exact.shape:
        raise ValueError(f"a result of shape {tuple(result.shape)} against an exact one of {tuple(exact.shape)}")
    if exact.numel() == 0:
        return 0.0
    result, exact = result.detach().double(), exact.detach().double()
    if not bool(isfinite(result[isfinite(exact)]).all()):
        return float("inf")
    size = exact.abs() if each else exact.abs().max()
    return float(((result - exact).abs() / size.clamp(min=floor)).max())


def allowed(additions: int, value: float, computed: torch.dtype, stored: torch.dtype) -> tuple[float, float]:
    """What rounding costs, of a score and of a derivative by the scores.

    N + M additions on the way through the matrix, whose errors add up as independent ones do, cost 4 sqrt(N + M) eps
    / 2 of the score V; in the exponent of a probability, V times that; and a derivative one more rounding in the
    scores' own type.

    Args:
        additions: N + M.
        value: |V|, at least 1.
        computed: the dtype that is computed in.
        stored: that of the scores.
    """
    rounding = 2 * additions**0.5 * torch.finfo(computed).eps
    return rounding, value * rounding + torch.finfo(stored).eps
