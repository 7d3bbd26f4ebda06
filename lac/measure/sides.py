"""What is measured: the engines of this package and two naive forms, each a side with a call to time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

import lac
from lac.functional import smith_waterman
from lac.measure.problem import GAP_EXTEND, GAP_OPEN, Inputs, Shape
from lac_kernels import engines, reference

MODES = ("forward", "backward", "both", "second")
LOOP, WAVEFRONT = "naive loop", "naive wavefront"

_NEVER = -1e30


class Answer(NamedTuple):
    """Score (B,) and derivative (B, N, M) by the scores, as far as the mode gives them: gradient or product."""

    score: Tensor | None
    derivative: Tensor | None


Call = Callable[[], Answer]
Prepare = Callable[[Inputs, str], Call]
Score = Callable[[Tensor, "tuple[Tensor, Tensor] | None"], Tensor]


@dataclass(frozen=True)
class Side:
    """Something to measure.

    Attributes:
        name: in tables.
        computes: what it computes, where that is not the recursion of this package also how it differs.
        version: of the code that runs.
        prepare: `prepare(inputs, mode)` does what shall not be timed and returns what shall.
        modes: those it knows.
        bytes_per_cell: roughly what it needs beyond the scores (four times that for "second"); decides only whether a
            shape is tried.
        max_cells: the largest problem that is tried, `None` for any.
        ragged: what it does with a ragged batch, if not what its cells need.
        obstacle: why it cannot run here, `None` if it can.
        estimate: seconds by an estimate, of a problem, a mode and the scores' dtype; `None` where there is none.
    """

    name: str
    computes: str
    version: str
    prepare: Prepare
    modes: Sequence[str] = MODES
    bytes_per_cell: int = 64
    max_cells: int | None = None
    ragged: str = ""
    obstacle: str | None = None
    estimate: Callable[[Shape, str, torch.dtype], float | None] | None = None


def differentiated(score: Score, others: Sequence[Tensor] = ()) -> Prepare:
    """`prepare` of a `Side` from a differentiable function, scores (B, N, M) and lengths to (B,).

    The modes: "forward" the score without a graph; "backward" its gradient, from a graph that is there; "both" these
    two; "second" the product of the Hessian with a direction, from a graph that is there. With `others`, "both"
    computes the gradients of these parameters too.
    """

    def prepare(inputs: Inputs, mode: str) -> Call:
        leaf = inputs.scores.detach()
        if mode == "forward":
            return lambda: Answer(score(leaf, inputs.lengths), None)
        leaf.requires_grad_()

        def both() -> Answer:
            value = score(leaf, inputs.lengths)
            return Answer(value.detach(), torch.autograd.grad(value.sum(), [leaf, *others])[0])

        if mode == "both":
            return both
        total = score(leaf, inputs.lengths).sum()
        if mode == "second":
            (gradient,) = torch.autograd.grad(total, leaf, create_graph=True)
            total = (gradient * inputs.direction).sum()
        return lambda: Answer(None, torch.autograd.grad(total, leaf, retain_graph=True)[0])

    return prepare


def of_backend(backend: str) -> Prepare:
    """`prepare` of a `Side` that calls `lac.smith_waterman` with this backend."""
    options = {"gap_open": GAP_OPEN, "gap_extend": GAP_EXTEND}
    return differentiated(lambda scores, lengths: smith_waterman(scores, lengths=lengths, backend=backend, **options))


def own_sides(device: torch.device) -> dict[str, Side]:
    """The two naive forms and every backend of this package, by the names that `--backends` takes."""
    recursion = "this recursion"
    sides = {
        "loop": Side(
            LOOP, f"{recursion}, cell by cell in Python under autograd", torch.__version__, of_backend("reference"),
            bytes_per_cell=30_000, max_cells=2048,
        ),
        "wavefront": Side(
            WAVEFRONT, f"{recursion}, torch operations on anti-diagonals of the batch under autograd",
            torch.__version__, differentiated(wavefront), bytes_per_cell=400, ragged="padded",
        ),
    }  # fmt: skip
    needed = {"eager": 256, "cpu": 12, "triton": 12}
    for backend, size in needed.items():
        obstacle = engines.unavailable(backend, device)
        sides[backend] = Side(
            f"lac {backend}", recursion, lac.__version__, of_backend(backend), bytes_per_cell=size, obstacle=obstacle,
            estimate=h100_seconds if backend == "triton" and obstacle is None else None,
        )  # fmt: skip
    return sides


def h100_seconds(shape: Shape, mode: str, dtype: torch.dtype) -> float | None:
    """What the kernels' machine code is estimated to take on an H100, without launches and torch's own share."""
    if shape.lengths1:
        return None
    from lac_kernels.triton.estimate import estimate
    from lac_kernels.triton.plan import Shape as Problem

    problem = Problem(*shape[:3], dtype, torch.device("cpu"), dual=mode == "second", cell=False)
    passes = {"forward": (False,), "backward": (True,), "both": (False, True), "second": (False, True)}[mode]
    seconds = [estimate(problem, backward) for backward in passes]
    return None if None in seconds else sum(x for x in seconds if x is not None)


def forbidden(scores: Tensor, lengths: tuple[Tensor, Tensor] | None) -> Tensor:
    """The scores with -1e30 in the padding: for sides that know no lengths."""
    if lengths is None:
        return scores
    rows, columns = (
        torch.arange(size, device=scores.device) < length[:, None]
        for size, length in zip(scores.shape[1:], lengths, strict=True)
    )
    return scores.masked_fill(~(rows[:, :, None] & columns[:, None, :]), _NEVER)


def wavefront(scores: Tensor, lengths: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The naive form in torch: scores (B, N, M) to (B,), one anti-diagonal of the whole batch after the other, with
    logsumexp, left to autograd. float32 at least."""
    scores = forbidden(scores.to(reference.compute_dtype(scores.dtype)), lengths)
    b, n, m = scores.shape
    skewed = pad(scores, (0, n), value=_NEVER).reshape(b, n * (m + n))[:, : n * (m + n - 1)]
    nothing = scores.new_zeros((b, n))
    never = scores.new_full((b, n), _NEVER)

    def above(x: Tensor) -> Tensor:
        return pad(x[:, :-1], (1, 0), value=_NEVER)

    D = X = Y = old_D = old_X = old_Y = never
    ends = []
    for s in skewed.reshape(b, n, m + n - 1).unbind(2):
        new_D = s + torch.logsumexp(torch.stack((nothing, above(old_D), above(old_X), above(old_Y))), dim=0)
        new_X = torch.logsumexp(torch.stack((D - GAP_OPEN, X - GAP_EXTEND)), dim=0)
        new_Y = torch.logsumexp(torch.stack((above(D) - GAP_OPEN, above(X) - GAP_OPEN, above(Y) - GAP_EXTEND)), dim=0)
        old_D, old_X, old_Y = D, X, Y
        D, X, Y = new_D, new_X, new_Y
        ends.append(D)
    return torch.logsumexp(torch.stack(ends), dim=(0, 2))
