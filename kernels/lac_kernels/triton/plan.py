"""How a problem is run: rows per lane, steps per segment, programs, and the memory that this takes."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from lac_kernels.reference import compute_dtype
from lac_kernels.triton.memory import HEADER, Layout
from lac_kernels.triton.values import EXTENDED, MAXIMUM, SCALED

# More rows would spill registers.
MOST_ROWS = {SCALED.value: 8, EXTENDED.value: 4, MAXIMUM.value: 4}
MOST_ROWS_DUAL = 4

# Fewer programs would leave an H100 idle: 8 warps for each of its 132 multiprocessors; 4 of EXTENDED, whose values
# take twice the scratch, and which does what SCALED could not: as a rule, nothing.
FEWEST_PROGRAMS = {SCALED.value: 1056, EXTENDED.value: 528}
SCRATCH_SHARE = 16  # more programs share scratch of as many words as a sixteenth of the scores has
SEGMENT = 16  # segments are a multiple of it: finer ones save little memory


class Limits(NamedTuple):
    """What plans keep to. The defaults are for use; others reach what else takes long sequences or many pairs."""

    most_rows: int = 8  # per lane, if registers allow as many
    saved_share: int = 8  # `saved` takes this part of the scores' bytes
    programs: int | None = None  # at most, of the backward kernel
    lanes: int | None = None  # None: as many as a warp of the device has


DEFAULT = Limits()


class Plan(NamedTuple):
    """How one mode runs a problem. Sizes are in words."""

    layout: Layout
    segment: int  # steps between saved states
    edge_step: int  # from one strip's edge in `saved` to the next one's; 0 if all strips use one
    saved_step: int  # `saved` per pair
    scratch_step: int  # scratch per program of the backward kernel
    programs: int  # of the backward kernel


def device_lanes() -> int:
    """The threads of a warp; the interpreter, which has none, takes a GPU's."""
    if triton.knobs.runtime.interpret:
        return 32
    return int(triton.runtime.driver.active.get_current_target().warp_size)


def saved_words(scores: Tensor, limits: Limits = DEFAULT) -> int:
    """Per pair: the header, and a share of the scores' bytes."""
    _, n, m = scores.shape
    words = n * m * scores.element_size() // (limits.saved_share * compute_dtype(scores.dtype).itemsize)
    return words + int(HEADER.value)


def rows_per_lane(mode: int, dual: bool, n: int, lanes: int, limits: Limits) -> int:
    """A power of two that covers n, if it may be as large."""
    most = min(limits.most_rows, MOST_ROWS[mode], MOST_ROWS_DUAL if dual else MOST_ROWS[mode])
    rows = 1
    while rows < most and rows * lanes < n:
        rows *= 2
    return rows


def layout_of(scores: Tensor, mode: int, limits: Limits, *, dual: bool, cell: bool, gaps: bool) -> Layout:
    n = scores.shape[1]
    lanes = limits.lanes or device_lanes()
    rows = rows_per_lane(mode, dual, n, lanes, limits)
    return Layout.of(mode, rows, lanes, compute_dtype(scores.dtype), n, dual=dual, cell=cell, gaps=gaps)


def shortest_segment(layout: Layout, n: int, m: int, most: int) -> int:
    """The steps between states that fit, with the edges, into `most` words."""
    steps = layout.steps(m)
    segment = SEGMENT
    while segment < steps and layout.saved_words(n, m, segment) > most:
        segment += SEGMENT
    return min(segment, steps)


def plan_without_saving(layout: Layout, m: int) -> Plan:
    """One segment, and one edge for all strips."""
    saved_step = HEADER.value + layout.multi * layout.edge * m
    return Plan(layout, layout.steps(m), edge_step=0, saved_step=saved_step, scratch_step=0, programs=0)


def plan_with_saving(layout: Layout, scores: Tensor, most: int, limits: Limits) -> Plan:
    b, n, m = scores.shape
    segment = shortest_segment(layout, n, m, most)
    scratch_step = layout.scratch_words(m, segment)
    programs = min(b, max(FEWEST_PROGRAMS[layout.mode], scores.numel() // SCRATCH_SHARE // scratch_step))
    if limits.programs is not None:
        programs = min(programs, limits.programs)
    edge_step = layout.multi * layout.edge * m
    return Plan(layout, segment, edge_step, most, scratch_step, programs)


def soft_plans(scores: Tensor, limits: Limits, *, save: bool, dual: bool, cell: bool, gaps: bool) -> list[Plan]:
    """The modes to launch one after another on one `saved`; float64 has no use for SCALED."""
    modes = (EXTENDED,) if scores.dtype == torch.float64 else (SCALED, EXTENDED)
    layouts = [layout_of(scores, mode.value, limits, dual=dual, cell=cell, gaps=gaps) for mode in modes]
    if save:
        most = saved_words(scores, limits) * (2 if dual else 1)
        return [plan_with_saving(layout, scores, most, limits) for layout in layouts]
    plans = [plan_without_saving(layout, scores.shape[2]) for layout in layouts]
    saved_step = max(plan.saved_step for plan in plans)
    return [plan._replace(saved_step=saved_step) for plan in plans]


def hard_plan(scores: Tensor, limits: Limits, *, cell: bool) -> Plan:
    layout = layout_of(scores, MAXIMUM.value, limits, dual=False, cell=cell, gaps=False)
    return plan_without_saving(layout, scores.shape[2])
