# mypy: disable-error-code="no-untyped-def, assignment"
"""How warps and programs wait for each other's edges.

*Warps of a program.* One barrier at the start of each block of BLOCK steps, and one before each group of strips. A
column's record is stored at step c + L - 1 + w LAG by the last lane of warp w, and loaded by the first lane of warp w
+ 1 for step c + (w + 1) LAG, U steps before it. With LAG = L + BLOCK + U - 1 that is BLOCK steps after the store, so
a barrier lies between. The sweep back is the mirror image: warp w + 1 is at a column LAG steps before warp w is.

*Programs of a pair*, one group of strips each (`Layout.waits`):

1. A program takes a ticket, and waits for the group before its own only, whose ticket is smaller: that program has
   started, and what has started keeps running. So there is no deadlock, whatever number of programs run at a time.
2. The last warp stores a block's records, plain stores. The barrier that follows orders the stores of all threads
   before what the first thread does next, which is the release of its flag: the columns that are ready, at the scope
   of the GPU. A release is cumulative.
3. Who waits polls the flag by plain loads, since an acquire drops the first-level cache, then acquires it once: it
   sees that release or a later one of the same thread. A barrier; then all threads load, plain loads again. No record
   is loaded, ahead or not, before the flag said that it is ready.
4. At the end each program stores its part of the result; barrier; then it counts itself, acquire and release at once.
   Who is last has acquired the parts of all others, and adds them up in their order.

Counters (the ticket; of each pair how many have arrived; of each group its flag) are zero before the launch.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def take_turn(counters, B):
    """The pair and, counted from the one that waits for nobody, the group of this program."""
    turn = tl.atomic_add(counters, 1, sem="relaxed", scope="gpu")
    return turn % B, turn // B


@triton.jit
def gate_of(counters, b, B, turn, waits, gives, LAYOUT: tl.constexpr):
    """The flags of the group before and of this one, and whether it waits for that one, and the next one for it."""
    if LAYOUT.waits:
        flag = counters + 1 + B + b * (tl.num_programs(0) // B) + turn
        return flag - 1, flag, waits, gives
    else:
        return ()


@triton.jit
def enter(gate, ready, need, LAYOUT: tl.constexpr):
    """Before a block that needs so many columns of the group before; `ready` are known to be. Returns how many are."""
    if LAYOUT.waits:
        flag, _own, waits, _gives = gate
        if waits & (ready < need):
            while ready < need:
                ready = tl.load(flag, volatile=True)
            ready = tl.atomic_add(flag, 0, sem="acquire", scope="gpu")
        tl.debug_barrier()
    elif LAYOUT.warps > 1:
        tl.debug_barrier()
    return ready


@triton.jit
def leave(gate, ready, LAYOUT: tl.constexpr):
    """After a block, with which so many columns of this group's edge are ready."""
    if LAYOUT.waits:
        _flag, own, _waits, gives = gate
        tl.debug_barrier()
        if gives & (ready > 0):
            tl.atomic_xchg(own, ready, sem="release", scope="gpu")


@triton.jit
def is_last(counters, b, B):
    """Whether all other programs of the pair have arrived here."""
    tl.debug_barrier()
    last = tl.atomic_add(counters + 1 + b, 1, sem="acq_rel", scope="gpu") == tl.num_programs(0) // B - 1
    tl.debug_barrier()
    return last
