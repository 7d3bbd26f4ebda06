"""How long the kernels take on an H100, by an estimate from machine code. Nothing here was timed.

A pass takes the cycles of its steps (CYCLES, as one warp alone needs them, or as many as all warps of a scheduler have
instructions), a barrier per block, and for programs that wait a hand-over per group; or as long as its memory takes.
"""

from typing import NamedTuple

from lac_kernels.reference import compute_dtype
from lac_kernels.triton.layout import Layout
from lac_kernels.triton.plan import Form, Limits, Shape, form_of, layout_of
from lac_kernels.triton.values import SCALED

# Of an H100 SXM.
PROCESSORS = 132
SCHEDULERS = 4  # of each of them
HERTZ = 1.755e9
BYTES_PER_SECOND = 3.35e12

# Assumed, in cycles.
BARRIER = 100  # with the loop around it, per block
WAIT = 600  # the same where programs wait
HAND_OVER = 1800  # from a program's release to the loads of the next one

H100 = Limits(lanes=32, processors=PROCESSORS, waits=True)


class Step(NamedTuple):
    """What a warp needs for a step of a sweep: cycles, if loads take 280, and instructions."""

    cycles: float
    instructions: float


class Sweeps(NamedTuple):
    """The forward kernel's sweep, and the backward kernel's; that has a second one unless steps are kept."""

    forward: Step
    back: Step
    replay: Step = Step(0, 0)


class Kind(NamedTuple):
    """A form, as far as its steps differ."""

    rows: int
    several_warps: bool
    several_strips: bool
    waits: bool
    keep: bool
    dual: bool

    @staticmethod
    def of(layout: Layout) -> "Kind":
        return Kind(layout.rows, layout.warps > 1, layout.multi, layout.waits, layout.keep, layout.dual)


# From `tests/triton_budget.json`: sm_90, scaled numbers, scalar gaps with gradients.
CYCLES: dict[Kind, Sweeps] = {
    Kind(2, True, True, False, True, False): Sweeps(Step(256, 106.8), Step(263.2, 148)),
    Kind(1, False, False, False, True, False): Sweeps(Step(171.2, 65.5), Step(158.8, 79)),
    Kind(2, False, False, False, True, False): Sweeps(Step(191.2, 85.5), Step(210.2, 120.8)),
    Kind(4, True, True, False, True, False): Sweeps(Step(295.5, 151.6), Step(401, 236)),
    Kind(4, True, True, False, False, False): Sweeps(Step(251.5, 131.5), Step(460.5, 219.5), Step(284, 129)),
    Kind(8, True, True, False, True, False): Sweeps(Step(426.5, 235.5), Step(703, 397.1)),
    Kind(2, True, True, True, True, False): Sweeps(Step(232.8, 106.8), Step(258, 147.3)),
    Kind(2, True, True, True, False, False): Sweeps(Step(206, 92.7), Step(270.5, 143), Step(216.8, 87.7)),
    Kind(8, False, False, False, False, False): Sweeps(Step(259.5, 184.1), Step(692, 361), Step(382, 191.5)),
    Kind(2, False, False, False, False, False): Sweeps(Step(160.2, 75.3), Step(211, 119.7), Step(190.5, 74.8)),
    Kind(8, False, True, False, False, False): Sweeps(Step(314, 203.5), Step(683, 374), Step(427, 205.6)),
    Kind(2, False, False, False, True, True): Sweeps(Step(272, 146.5), Step(341.5, 238)),
    Kind(2, True, True, False, True, True): Sweeps(Step(335.5, 173.5), Step(429, 278.5)),
    Kind(4, False, True, False, False, True): Sweeps(Step(461, 242.9), Step(750, 438), Step(402, 238)),
}


def estimate(shape: Shape, backward: bool) -> float | None:
    """Seconds of one pass, without its launch; None for a form whose steps are not known."""
    form = form_of(shape, H100)
    layout = layout_of(shape, shape.mode, form, H100, gaps=True)
    sweeps = CYCLES.get(Kind.of(layout))
    if sweeps is None or layout.mode != SCALED.value or layout.cell:
        return None
    used = (sweeps.back, sweeps.replay) if backward else (sweeps.forward,)
    cycles = sum(_cycles(shape, form, layout, step) for step in used if step.cycles)
    return max(cycles / HERTZ, _bytes(shape, layout, backward) / BYTES_PER_SECOND)


def _cycles(shape: Shape, form: Form, layout: Layout, step: Step) -> float:
    groups = layout.groups(shape.n)
    programs = shape.b * (groups if form.waits else 1)
    warps = -(-programs // PROCESSORS) * form.warps / SCHEDULERS  # of a scheduler
    pace = max(step.cycles, warps * step.instructions)
    steps = layout.steps(shape.m)
    if form.waits:
        behind = layout.lanes - 1 + (form.warps - 1) * layout.lag + layout.block + layout.ahead
        return (steps + (groups - 1) * behind) * pace + steps / layout.block * WAIT + (groups - 1) * HAND_OVER
    barriers = steps / layout.block * BARRIER if form.warps > 1 else 0
    return groups * (steps * pace + barriers)


def _bytes(shape: Shape, layout: Layout, backward: bool) -> float:
    """Of scores, gradient and kept steps; what segments need stays in caches."""
    size = compute_dtype(shape.dtype).itemsize
    cells = shape.b * shape.n * shape.m
    kept = shape.b * layout.saved_words(shape.n, shape.m, 1) * size if layout.keep else 0
    scores = cells * shape.dtype.itemsize * (1 + shape.dual)
    passes = (2 if layout.keep else 3) if backward else 1  # with the gradient; without kept steps scores are read twice
    return passes * scores + kept
