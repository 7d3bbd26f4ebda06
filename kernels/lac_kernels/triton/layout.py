# mypy: disable-error-code="no-untyped-def"
"""Where things lie in memory, said once for kernels and launchers.

`saved`, one piece per pair, from the forward to the backward kernel:

    header                            three words: INVERSE, EXPONENT, FLAG
    edges     strips - 1              each `edge` words per column: what a strip's last row hands on
    and then, where steps are kept,
    slots     strips x steps          each `slot` words: what the backward step needs of the forward step
    or else
    states    groups x (segments - 1) each `state` words: what the forward sweep goes on with

Scratch of the backward kernel: edges, of a strip's first row, a few per program (where programs wait, all of a pair);
and of each program, unless steps are kept, the slots of a segment for each of its warps.

Inside an edge the words of a column lie together; inside a state and a slot, those of one kind, one per thread. A value
takes one to three words: m, its exponent in EXTENDED, its tangent if dual. SCALED adds one for the exponent of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from lac_kernels.triton.values import EXTENDED, MAXIMUM, SCALED

INVERSE = tl.constexpr(0)  # the mantissa of 1 / Z; 0 if there is no alignment, NaN if the gradients are not known
EXPONENT = tl.constexpr(1)  # the exponent of Z
FLAG = tl.constexpr(2)  # 1 where SCALED was not safe, and EXTENDED did the pair
HEADER = tl.constexpr(3)  # words

# By rows per lane, in scaled numbers: how many steps before their use scores, edges and slots are loaded, forward and
# in the sweep back. What is not here is loaded one step before: more takes registers that are not there.
AHEAD = {1: (4, 4), 2: (4, 4), 4: (2, 2), 8: (2, 1)}
AHEAD_MORE = {1: (2, 2), 2: (2, 2)}  # with tangents or gaps per cell
BLOCK = 8  # steps between two barriers; steps, segments and what is loaded ahead divide into it
BLOCK_WAITING = 16  # where programs wait for each other, which costs more than a barrier


@dataclass(frozen=True)
class Layout:
    """What a kernel is compiled for: numbers, rows, lanes, warps, the words that things take. `Layout.of` makes one.

    The words are fields, not methods, because Triton's cache knows a constant by its fields.
    """

    mode: int  # SCALED, EXTENDED or MAXIMUM
    dual: bool  # values have tangents
    cell: bool  # a gap may differ from cell to cell
    multi: bool  # more than one strip
    gaps: bool  # the backward kernel gives the gradients of the gaps
    keep: bool  # every step is kept for the backward kernel, which need not run forward again
    waits: bool  # the groups of a pair are done by programs that wait for one another
    rows: int  # per lane
    lanes: int  # of a warp
    warps: int  # of a program, one strip each
    threads: int  # of a program
    block: int  # steps between two barriers
    lag: int  # steps that a warp is behind the one above it
    ahead: int  # steps between a load and its use, forward
    ahead_back: int  # and in the sweep back
    dtype: Any  # of the values, Triton's
    words: int  # a value, per thread or column
    handed: int  # values that a strip hands on downwards
    edge: int  # these, per column
    edge_back: int  # what it hands on upwards, three values
    state: int  # a saved state, all threads
    values: int  # a slot, values per cell
    slot: int  # a slot, words of all lanes

    @staticmethod
    def of(
        mode: int, rows: int, lanes: int, warps: int, dtype: torch.dtype, n: int, *,
        dual: bool, cell: bool, gaps: bool, keep: bool = False, waits: bool = False,
    ) -> Layout:  # fmt: skip
        words = 1 + (mode == EXTENDED.value) + dual
        exponent = int(mode == SCALED.value)
        handed = 3 if mode == MAXIMUM.value else 2
        values = (5 if cell else 3) if gaps or keep else 1
        known = AHEAD if not (dual or cell) else AHEAD_MORE if not (dual and cell) else {}
        ahead, ahead_back = known.get(rows, (1, 1)) if mode == SCALED.value else (1, 1)
        block = BLOCK_WAITING if waits else BLOCK
        return Layout(
            mode=mode,
            dual=dual,
            cell=cell,
            multi=n > rows * lanes,
            gaps=gaps,
            keep=keep,
            waits=waits,
            rows=rows,
            lanes=lanes,
            warps=warps,
            threads=warps * lanes,
            block=block,
            lag=lanes + block + max(ahead, ahead_back) - 1,
            ahead=ahead,
            ahead_back=ahead_back,
            dtype=tl.float64 if dtype == torch.float64 else tl.float32,
            words=words,
            handed=handed,
            edge=handed * words + exponent,
            edge_back=3 * words + exponent,
            state=((3 * rows + 1 + handed) * words + exponent) * warps * lanes,
            values=values,
            slot=(values * rows * words + exponent) * lanes,
        )

    def strips(self, n: int) -> int:
        return -(-n // (self.rows * self.lanes))

    def groups(self, n: int) -> int:
        """Of as many strips as there are warps."""
        return -(-self.strips(n) // self.warps)

    def steps(self, m: int, warps: int | None = None) -> int:
        """Of so many warps: `steps_of`."""
        last = (self.warps if warps is None else warps) - 1
        return -(-(m + self.lanes - 1 + last * self.lag) // self.block) * self.block

    def saved_words(self, n: int, m: int, segment: int) -> int:
        """Of a pair."""
        strips = self.strips(n)
        words = int(HEADER.value) + (strips - 1) * self.edge * m
        if self.keep:
            return words + strips * self.steps(m, 1) * self.slot
        return words + self.groups(n) * ((self.steps(m) - 1) // segment) * self.state

    def edges_back(self, n: int) -> int:
        """Rows of edges of the sweep back. Warps that do not wait for others need one each, and one to begin from."""
        return self.strips(n) if self.waits else min(self.strips(n), self.warps + 1)

    def slot_words(self, segment: int) -> int:
        """Of a program's scratch."""
        return 0 if self.keep else self.warps * segment * self.slot


# the same on the device


@triton.jit
def lane_and_warp(LAYOUT: tl.constexpr):
    thread = tl.arange(0, LAYOUT.threads)
    return thread % LAYOUT.lanes, thread // LAYOUT.lanes


@triton.jit
def steps_of(m, last, LAYOUT: tl.constexpr):
    """The steps in which warps 0 to `last` do all columns: a thread is at column t - lane - warp LAG at step t."""
    return tl.cdiv(m + (LAYOUT.lanes - 1) + last * LAYOUT.lag, LAYOUT.block) * LAYOUT.block


@triton.jit
def strips_of(n, LAYOUT: tl.constexpr):
    return tl.cdiv(n, LAYOUT.rows * LAYOUT.lanes)


@triton.jit
def edges_at(head):
    return head + HEADER


@triton.jit
def record_at(edge, column, COUNT: tl.constexpr, LAYOUT: tl.constexpr):
    """Where an edge of so many values has a column."""
    return edge + column * (COUNT * LAYOUT.words + (LAYOUT.mode == SCALED))


@triton.jit
def after_edges(head, N, M, LAYOUT: tl.constexpr):
    """Where slots or states begin."""
    return edges_at(head) + tl.cast(strips_of(N, LAYOUT) - 1, tl.int64) * LAYOUT.edge * M


@triton.jit
def kept_slots(head, strip, N, M, LAYOUT: tl.constexpr):
    """Where step 0 of each thread is kept: of a strip, one slot for each column + lane."""
    lane, warp = lane_and_warp(LAYOUT)
    row = strip * steps_of(M, 0, LAYOUT) - warp * LAYOUT.lag
    return after_edges(head, N, M, LAYOUT) + row.to(tl.int64) * LAYOUT.slot + lane


@triton.jit
def state_at(head, group, start, segment, N, M, LAYOUT: tl.constexpr):
    """Where a group's state before step `start` > 0 lies."""
    index = group * ((steps_of(M, LAYOUT.warps - 1, LAYOUT) - 1) // segment) + start // segment - 1
    states = after_edges(head, N, M, LAYOUT)
    return states + tl.cast(index, tl.int64) * LAYOUT.state + tl.arange(0, LAYOUT.threads)
