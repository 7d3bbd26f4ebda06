"""Triton kernels of more than one warp, for the emulator's own tests."""

import triton
import triton.language as tl


@triton.jit
def add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) + tl.load(y_ptr + offsets, mask=mask), mask=mask)


@triton.jit
def softmax(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + tl.program_id(0) * n + offsets, mask=mask, other=-float("inf"))
    e = tl.exp(x - tl.max(x, 0))
    tl.store(out_ptr + tl.program_id(0) * n + offsets, e / tl.sum(e, 0), mask=mask)


@triton.jit
def gather(x_ptr, index_ptr, out_ptr, N: tl.constexpr, M: tl.constexpr, AXIS: tl.constexpr):
    offsets = tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :]
    tl.store(out_ptr + offsets, tl.gather(tl.load(x_ptr + offsets), tl.load(index_ptr + offsets), axis=AXIS))


@triton.jit
def diagonals(x_ptr, scratch_ptr, out_ptr, steps, BLOCK: tl.constexpr, BUFFERS: tl.constexpr, BARRIERS: tl.constexpr):
    """h[i] = x[t, i] + log(exp h[i] + exp h[i - 1]); the neighbour's h goes through scratch memory.

    With two buffers one barrier per step is enough, with one buffer it takes two.
    """
    offsets = tl.arange(0, BLOCK)
    h = tl.zeros((BLOCK,), tl.float32)
    scratch_ptr += tl.program_id(0) * 2 * BLOCK
    x_ptr += tl.program_id(0) * steps * BLOCK
    for t in range(steps):
        buffer_ptr = scratch_ptr + (t % BUFFERS) * BLOCK
        tl.store(buffer_ptr + offsets, h)
        if BARRIERS > 0:
            tl.debug_barrier()
        before = tl.load(buffer_ptr + offsets - 1, mask=offsets > 0, other=-1e30)
        if BARRIERS > 1:
            tl.debug_barrier()
        high = tl.maximum(h, before)
        h = tl.load(x_ptr + t * BLOCK + offsets) + high + tl.log(1.0 + tl.exp(tl.minimum(h, before) - high))
    tl.store(out_ptr + tl.program_id(0) * BLOCK + offsets, h)


@triton.jit
def count(x_ptr, out_ptr, programs_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    tl.atomic_add(out_ptr + offsets % 7, tl.load(x_ptr + offsets, mask=mask, other=0.0), mask=mask)
    tl.atomic_add(programs_ptr, 1)


@triton.jit
def sums_and_order(x_ptr, sums_ptr, sorted_ptr, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets)
    tl.store(sums_ptr + offsets, tl.cumsum(x, 0))
    tl.store(sorted_ptr + offsets, tl.sort(x))


@triton.jit
def pipeline(
    x_ptr, out_ptr, flag_ptr, ticket_ptr, done_ptr, n,
    BLOCK: tl.constexpr, TICKET: tl.constexpr, ACQUIRE: tl.constexpr, RELEASE: tl.constexpr, SCOPE: tl.constexpr,
):  # fmt: skip
    """Program k adds 1 to what program k - 1 wrote, block by block, while both run; the last to end sums up."""
    lane = tl.arange(0, BLOCK)
    me = tl.program_id(0)
    if TICKET:  # so that whom a program waits for has begun
        me = tl.atomic_add(ticket_ptr, 1, sem="relaxed")
    for i in range(n):
        v = tl.full((BLOCK,), 1.0, tl.float32)
        if me > 0:
            while tl.atomic_add(flag_ptr + me - 1, 0, sem=ACQUIRE, scope=SCOPE) <= i:
                pass
            tl.debug_barrier()
            v += tl.load(x_ptr + ((me - 1) * n + i) * BLOCK + (lane + 5) % BLOCK)
        tl.store(x_ptr + (me * n + i) * BLOCK + lane, v)
        tl.debug_barrier()
        tl.atomic_xchg(flag_ptr + me, i + 1, sem=RELEASE, scope=SCOPE)
    programs = tl.num_programs(0)
    if tl.atomic_add(done_ptr, 1, sem="acq_rel") == programs - 1:
        tl.debug_barrier()
        total = tl.zeros((BLOCK,), tl.float32)
        for k in range(programs):
            total += tl.load(x_ptr + (k * n + n - 1) * BLOCK + lane)
        tl.store(out_ptr + lane, total)


@triton.jit
def carried_twice(x_ptr, out_ptr, steps, BLOCK: tl.constexpr):
    """Two carried variables that begin as one tensor: Triton 3.6 to 3.9 compile a loop that has one of them."""
    offsets = tl.arange(0, BLOCK)
    a = tl.full((BLOCK,), 7.0, tl.float32)
    b = a
    for t in range(steps):
        v = tl.load(x_ptr + t * BLOCK + offsets) + b
        b = a
        a = v
    tl.store(out_ptr + offsets, a)


@triton.jit
def carried_apart(x_ptr, out_ptr, steps, BLOCK: tl.constexpr):
    """The same; each begins as a tensor of its own."""
    offsets = tl.arange(0, BLOCK)
    a = tl.full((BLOCK,), 7.0, tl.float32)
    b = tl.full((BLOCK,), 7.0, tl.float32)
    for t in range(steps):
        v = tl.load(x_ptr + t * BLOCK + offsets) + b
        b = a
        a = v
    tl.store(out_ptr + offsets, a)
