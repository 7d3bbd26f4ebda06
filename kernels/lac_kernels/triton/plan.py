"""How a problem is run: rows per lane, warps per pair, steps per segment, programs, and the memory that this takes.

Which form (`choose`) does B pairs of N with M frames, on a GPU of P multiprocessors with warps of 32 lanes. A strip is
32 R rows; S strips make a pair; B S <= 8 P, two warps for each scheduler, is what a GPU can do at once:

    N up to 32                              R = 1, W = 1
    B S <= 8 P and S <= 8, of the smallest  W = S, rounded up to a power of two: the warps of a pair run beside each
      R = 2, 4 or 8 with which they are       other and hand their edges on
    B S <= 8 P and N > 1024                 W = 4, R = the smallest such: programs that wait for one another, a group of
                                              strips each. (If S <= 4, as above.)
    likewise, where programs may not wait   W = 8, R = 8: a program does a pair's groups of strips one after another
    else                                    W = 1, R = 8 or what covers N: there are pairs enough

R goes no further than registers do (MOST_ROWS).

Steps are kept for the backward kernel where B S <= 8 P and it takes at most KEPT bytes; else states at the start of
segments, in an eighth of the scores' bytes.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
import triton

from lac_kernels.reference import compute_dtype
from lac_kernels.triton.layout import HEADER, Layout
from lac_kernels.triton.values import EXTENDED, MAXIMUM, SCALED

# More rows would spill registers: of scalar gaps, of gaps per cell, with tangents, with tangents of gaps per cell.
MOST_ROWS = {SCALED.value: (8, 4, 4, 2), EXTENDED.value: (4, 2, 2, 2), MAXIMUM.value: (4, 4)}

MOST_WARPS = 8  # of a program: 256 threads of 255 registers are all that a multiprocessor has
WARPS_WAITING = 4  # of a program that waits for others
LONG = 32  # times the lanes: pairs beyond gain by programs that wait
BUSY = 8  # warps per multiprocessor, beyond which more of them gain nothing
KEPT = 256 << 20  # bytes

SCRATCH_SHARE = 16  # where warps are BUSY, more of them share scratch of as many words as a sixteenth of the scores has
SEGMENT = 16  # segments are a multiple of it: finer ones save little memory
FORMS = 64


class Limits(NamedTuple):
    """What plans keep to. The defaults are for use; others reach what else takes long sequences or many pairs."""

    most_rows: int = 8  # per lane, if registers allow as many
    most_warps: int = MOST_WARPS  # of a program
    saved_share: int = 8  # `saved` takes this part of the scores' bytes, where steps are not kept
    kept: int = KEPT
    waits: bool | None = None  # None: as `choose` says
    programs: int | None = None  # at most, of the backward kernel
    lanes: int | None = None  # None: as many as a warp of the device has
    processors: int | None = None  # None: as many as the device has


DEFAULT = Limits()


class Shape(NamedTuple):
    """Of a problem: B, N, M, the dtype of the scores, where it runs, and which derivatives and gaps it has."""

    b: int
    n: int
    m: int
    dtype: torch.dtype
    device: torch.device
    dual: bool
    cell: bool

    @property
    def mode(self) -> int:
        """In which it runs first; float64 has no use for SCALED."""
        return int(EXTENDED.value if self.dtype == torch.float64 else SCALED.value)


class Form(NamedTuple):
    """What a forward and a backward kernel have in common, beside the numbers."""

    rows: int
    warps: int
    waits: bool
    keep: bool

    @property
    def code(self) -> int:
        """From 0 to FORMS - 1."""
        rows, warps = self.rows.bit_length() - 1, self.warps.bit_length() - 1
        return ((rows * 4 + warps) * 2 + self.waits) * 2 + self.keep

    @staticmethod
    def of_code(code: int) -> "Form":
        return Form(1 << (code >> 4), 1 << (code >> 2 & 3), bool(code >> 1 & 1), bool(code & 1))


class Plan(NamedTuple):
    """How a problem is run. Sizes are in words."""

    layout: Layout
    extended: Layout | None  # for the pairs for which the layout's numbers are not safe
    segment: int  # steps between saved states
    segment_extended: int
    saved_step: int  # `saved` per pair
    programs: int
    programs_back: int  # of the backward kernel
    edge_rows: int  # of its scratch, the rows of edges
    edges_step: int  # these in all, of a program or, where programs wait, of a pair
    scratch_step: int  # and the slots of a program


@cache
def device_lanes() -> int:
    """The threads of a warp; the interpreter, which has none, takes a GPU's."""
    if triton.knobs.runtime.interpret:
        return 32
    return int(triton.runtime.driver.active.get_current_target().warp_size)


@cache
def is_cuda() -> bool:
    """Whether kernels are compiled for CUDA. Elsewhere it is not known that a program that has begun keeps running."""
    return not triton.knobs.runtime.interpret and triton.runtime.driver.active.get_current_target().backend == "cuda"


@cache
def processors_of(device: torch.device) -> int:
    """The multiprocessors; what stands in for a GPU has those of an H100."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def most_rows(mode: int, shape: Shape, limits: Limits) -> int:
    return min(limits.most_rows, MOST_ROWS[mode][2 * shape.dual + shape.cell])


def busy_warps(shape: Shape, limits: Limits) -> int:
    return BUSY * (limits.processors or processors_of(shape.device))


def choose(b: int, n: int, rows: int, busy: int, may_wait: bool, limits: Limits) -> tuple[int, int, bool]:
    """Rows per lane (at most `rows`), warps per program, and whether programs wait, where `busy` warps are enough: see
    above.
    """
    lanes = limits.lanes or device_lanes()

    def strips(r: int) -> int:
        return -(-n // (r * lanes))

    def tried() -> Iterator[int]:
        r = 2 if n > lanes else 1
        while r < rows:
            yield r
            r *= 2
        yield rows

    fitting = [r for r in tried() if b * strips(r) <= busy]
    most_strips = min(limits.most_warps, WARPS_WAITING) if may_wait and n > LONG * lanes else limits.most_warps
    for r in fitting:
        if strips(r) <= most_strips:
            return r, 1 << (strips(r) - 1).bit_length(), False
    if fitting and limits.most_warps > 1:
        if may_wait:
            return fitting[0], min(WARPS_WAITING, limits.most_warps), True
        return rows, limits.most_warps, False
    return next((r for r in tried() if strips(r) == 1), rows), 1, False


def form_of(shape: Shape, limits: Limits = DEFAULT) -> Form:
    may_wait = is_cuda() if limits.waits is None else limits.waits
    rows = most_rows(shape.mode, shape, limits)
    rows, warps, waits = choose(shape.b, shape.n, rows, busy_warps(shape, limits), may_wait, limits)
    form = Form(rows, warps, waits, True)
    layout = layout_of(shape, shape.mode, form, limits, gaps=True)
    words = shape.b * layout.saved_words(shape.n, shape.m, 1)
    keep = (
        shape.b * layout.strips(shape.n) <= busy_warps(shape, limits)
        and words * compute_dtype(shape.dtype).itemsize <= limits.kept
    )
    return form._replace(keep=bool(keep))


def layout_of(shape: Shape, mode: int, form: Form, limits: Limits, *, gaps: bool) -> Layout:
    lanes = limits.lanes or device_lanes()
    rows = min(form.rows, most_rows(mode, shape, limits))
    first = mode == shape.mode
    return Layout.of(
        mode, rows, lanes, form.warps, compute_dtype(shape.dtype), shape.n, dual=shape.dual, cell=shape.cell,
        gaps=gaps, keep=form.keep and first, waits=form.waits and first,
    )  # fmt: skip


def saved_words(shape: Shape, form: Form, limits: Limits = DEFAULT) -> int:
    """Per pair: the steps, or a share of the scores' bytes. The remainder by FORMS is the form's code, so that the
    backward kernel goes by the form that the forward kernel had, also if it is given another number of pairs.
    """
    if form.keep:
        words = layout_of(shape, shape.mode, form, limits, gaps=True).saved_words(shape.n, shape.m, 1)
    else:
        share = limits.saved_share * compute_dtype(shape.dtype).itemsize
        words = HEADER.value + shape.n * shape.m * shape.dtype.itemsize * (1 + shape.dual) // share
    return (words + FORMS - 1) // FORMS * FORMS + form.code


def shortest_segment(layout: Layout, n: int, m: int, most: int) -> int:
    """The steps between states that fit, with the edges, into `most` words."""
    steps = layout.steps(m)
    segment = SEGMENT
    while segment < steps and layout.saved_words(n, m, segment) > most:
        segment += SEGMENT
    return min(segment, steps)


def check_row(m: int, layouts: list[Layout]) -> None:
    """Raises:
    ValueError: rows of m columns are so long that the slots of one do not fit into offsets of 32 bits.
    """
    most = min((1 << 31) // layout.slot for layout in layouts)
    if max(layout.steps(m) for layout in layouts) >= most:
        raise ValueError(
            f"the Triton engine takes gradients of up to about {most} columns of such scores, got {m}: swap the two "
            "sequences, if the other is shorter, or take backend='eager'"
        )


def soft_plan(shape: Shape, form: Form, limits: Limits, *, save: bool, gaps: bool) -> Plan:
    b, n, m, *_ = shape
    form = form if save else form._replace(keep=False)
    modes = (SCALED, EXTENDED) if shape.mode == SCALED.value else (EXTENDED,)
    layouts = [layout_of(shape, mode.value, form, limits, gaps=gaps) for mode in modes]
    if save:
        check_row(m, layouts)
        words = saved_words(shape, form, limits)
    else:
        words = max(layout.saved_words(n, m, layout.steps(m)) for layout in layouts)
    segments = [
        layout.steps(m) if layout.keep or not save else shortest_segment(layout, n, m, words) for layout in layouts
    ]
    edge_rows = max(layout.edges_back(n) for layout in layouts)
    edges_step = edge_rows * m * max(layout.multi * layout.edge_back for layout in layouts)
    scratch_step = max(layout.slot_words(segment) for layout, segment in zip(layouts, segments, strict=True))
    programs = programs_back = b * layouts[0].groups(n) if form.waits else b
    if form.warps == 1 and not form.keep:
        busy = max(busy_warps(shape, limits), b * n * m // SCRATCH_SHARE // max(edges_step + scratch_step, 1))
        programs_back = min(b, busy, limits.programs or b)
    return Plan(
        layouts[0], (*layouts, None)[1], segments[0], segments[-1], words, programs, programs_back, edge_rows,
        edges_step, scratch_step,
    )  # fmt: skip


def hard_layout(shape: Shape, limits: Limits) -> Layout:
    rows = most_rows(MAXIMUM.value, shape, limits)
    rows, warps, _ = choose(shape.b, shape.n, rows, busy_warps(shape, limits), False, limits)
    return layout_of(shape, MAXIMUM.value, Form(rows, warps, False, False), limits, gaps=False)
