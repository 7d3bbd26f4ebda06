"""Programs of loads, stores, atomics and barriers drawn at random, and what must be found in them.

One kernel plays a script: each thread has a list of operations on a few words of shared and of global memory. A second
pair of eyes, `races`, says from the script and nothing else which accesses are in order. So what the emulator should
find is known for any script, on any schedule.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import ptxemu
from ptxemu_cases import buffer

NOTHING, LOAD, STORE, LOAD_SHARED, STORE_SHARED, BARRIER, WARP_BARRIER, ADD = range(8)
ACCESSES = {LOAD: "r", STORE: "w", LOAD_SHARED: "r", STORE_SHARED: "w", ADD: "a"}
WORDS = 6

PTX = """
.version 8.0
.target sm_90
.address_size 64
.visible .entry play(.param .u64 script, .param .u64 memory, .param .u32 length)
{
.shared .align 4 .b8 words[64];
.reg .pred %p<9>; .reg .b32 %r<12>; .reg .b64 %rd<12>;
ld.param.b64 %rd0, [script]; ld.param.b64 %rd1, [memory]; ld.param.b32 %r0, [length];
mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
mad.lo.s32 %r4, %r2, %r3, %r1;
mul.lo.s32 %r4, %r4, %r0;
mul.wide.s32 %rd2, %r4, 8; add.s64 %rd0, %rd0, %rd2;
mov.b32 %r5, 0;
$next:
setp.ge.s32 %p0, %r5, %r0;
@%p0 bra $done;
ld.global.v2.b32 {%r6, %r7}, [%rd0];
add.s64 %rd0, %rd0, 8; add.s32 %r5, %r5, 1;
mul.lo.s32 %r8, %r7, 4;
mul.wide.s32 %rd3, %r7, 4; add.s64 %rd3, %rd1, %rd3;
mov.u32 %r9, words; add.s32 %r8, %r8, %r9;
add.s32 %r10, %r4, %r5;
setp.eq.s32 %p1, %r6, 1; @%p1 ld.global.b32 %r11, [%rd3];
setp.eq.s32 %p2, %r6, 2; @%p2 st.global.b32 [%rd3], %r10;
setp.eq.s32 %p3, %r6, 3; @%p3 ld.shared.b32 %r11, [%r8];
setp.eq.s32 %p4, %r6, 4; @%p4 st.shared.b32 [%r8], %r10;
setp.eq.s32 %p5, %r6, 5; @!%p5 bra $no_barrier; bar.sync 0;
$no_barrier:
setp.eq.s32 %p6, %r6, 6; @!%p6 bra $no_warp_barrier; bar.warp.sync -1;
$no_warp_barrier:
setp.eq.s32 %p7, %r6, 7; @%p7 atom.global.gpu.relaxed.add.u32 %r11, [%rd3], 1;
bra $next;
$done:
ret;
}
"""


class Access(NamedTuple):
    cta: int
    thread: int
    phase: int  # barriers of the CTA before it
    warp_phase: int  # barriers of either kind before it, of its warp
    kind: str  # "r", "w", or "a" for an atomic
    shared: bool
    word: int


def random_script(seed: int, ctas: int, threads: int, length: int) -> np.ndarray:
    """(ctas, threads, length, 2): operation and word. A barrier stands at one place in all threads that it holds."""
    rng = np.random.default_rng(seed)
    script = np.zeros((ctas, threads, length, 2), np.int32)
    for cta in script:
        for step in range(length):
            kind = rng.integers(7)
            if kind < 3:
                cta[:, step, 0] = BARRIER
            elif kind == 3:
                warps = rng.random(threads // 32) < 0.7
                cta[np.repeat(warps, 32), step, 0] = WARP_BARRIER
            else:
                operation = rng.choice([LOAD, STORE, LOAD_SHARED, STORE_SHARED, ADD])
                cta[rng.integers(threads), step] = operation, rng.integers(WORDS)
    return script


def accesses(script: np.ndarray) -> list[Access]:
    found = []
    for c, cta in enumerate(script):
        for t, operations in enumerate(cta):
            phase = warp_phase = 0
            for operation, word in operations:
                if operation == BARRIER:
                    phase += 1
                if operation in (BARRIER, WARP_BARRIER):
                    warp_phase += 1
                if operation in ACCESSES:
                    shared = operation in (LOAD_SHARED, STORE_SHARED)
                    found.append(Access(c, t, phase, warp_phase, ACCESSES[operation], shared, word))
    return found


def races(script: np.ndarray) -> set[tuple[bool, int]]:
    """Words, in shared memory or not, on which two accesses conflict without order between them."""

    def conflict(a: Access, b: Access) -> bool:
        if (a.shared, a.word) != (b.shared, b.word) or (a.shared and a.cta != b.cta):
            return False
        if (a.cta, a.thread) == (b.cta, b.thread) or a.kind + b.kind in ("rr", "aa"):
            return False
        if a.cta != b.cta:
            return True
        if a.thread // 32 == b.thread // 32:
            return a.warp_phase == b.warp_phase
        return a.phase == b.phase

    return {(a.shared, int(a.word)) for a, b in combinations(accesses(script), 2) if conflict(a, b)}


RACES = {
    ptxemu.Kind.RACE_IN_WARP, ptxemu.Kind.RACE_BETWEEN_WARPS, ptxemu.Kind.RACE_BETWEEN_CTAS,
    ptxemu.Kind.SAME_VALUE_RACE, ptxemu.Kind.REPLICAS_DIFFER,
}  # fmt: skip


def play(script: np.ndarray, **options: object) -> list[ptxemu.Finding]:
    """What the emulator finds when the script runs."""
    ctas, threads, length, _ = script.shape
    memory = np.zeros(WORDS, np.int32)
    arguments = [buffer(script), buffer(memory), length.to_bytes(4, "little")]
    return ptxemu.run(
        PTX, (ctas,), threads, arguments, options=ptxemu.Options(raise_findings=False, **options)
    ).findings
