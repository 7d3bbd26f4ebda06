"""The emulator finds each race, and nothing else, on every schedule."""

import numpy as np
import pytest
from ptxemu_cases import needs_compiler
from ptxemu_scripts import BARRIER, LOAD_SHARED, NOTHING, RACES, STORE_SHARED, WARP_BARRIER, play, races, random_script

pytestmark = needs_compiler

SCHEDULES = [
    {"schedule": schedule, "preempt": preempt, "seed": 3}
    for schedule, preempt in (("forward", 0), ("reverse", 0), ("random", 4), ("warp", 4))
]


@pytest.mark.parametrize("options", SCHEDULES, ids=lambda options: options["schedule"])
@pytest.mark.parametrize("resident", [1, 3])
def test_what_races_in_random_programs_is_found_and_nothing_else(options, resident):
    some = none = 0
    for seed in range(60):
        script = random_script(seed, ctas=1 + seed % 3, threads=32 * (1 + seed % 4), length=14)
        expected = (
            {word for shared, word in races(script) if not shared},
            {word for shared, word in races(script) if shared},
        )
        found = [f for f in play(script, resident=resident, **options) if f.kind in RACES]
        # A finding is told once for a pair of instructions: all words are known where there are two kinds of them.
        in_buffer = {f.offset // 4 for f in found if f.buffer == 1}
        in_shared = {f.offset // 4 for f in found if f.buffer is None}
        assert in_buffer <= expected[0], seed
        assert in_shared <= expected[1], seed
        assert bool(in_buffer) == bool(expected[0]), seed
        assert bool(in_shared) == bool(expected[1]), seed
        some += bool(found)
        none += not found
    assert some > 5
    assert none > 5


def pipeline(barrier: int) -> np.ndarray:
    """Each thread writes a word of shared memory, and the next reads it, over and over."""
    script = np.zeros((1, 64, 12, 2), np.int32)
    for step in range(3):
        for thread in range(64 if barrier == BARRIER else 32):
            word = thread % 4 if thread < 4 else 5
            neighbour = (thread + 1) % 4
            at = 4 * step
            if thread < 4:
                script[0, thread, at] = STORE_SHARED, word
                script[0, thread, at + 2] = LOAD_SHARED, neighbour
            script[0, thread, at + 1] = script[0, thread, at + 3] = barrier, 0
    return script


@pytest.mark.parametrize("barrier", [BARRIER, WARP_BARRIER])
@pytest.mark.parametrize("options", SCHEDULES, ids=lambda options: options["schedule"])
def test_each_barrier_that_is_dropped_is_found_or_stands_at_the_end(options, barrier):
    script = pipeline(barrier)
    assert not races(script)
    assert not play(script, **options)
    for step in range(1, 12, 2):
        mutant = script.copy()
        mutant[0, :, step] = NOTHING
        needed = step != 11  # after the last one nothing is written
        assert bool(races(mutant)) == needed
        assert bool(play(mutant, **options)) == needed
