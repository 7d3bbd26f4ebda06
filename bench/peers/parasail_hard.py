"""parasail (C, SIMD): the hard Smith-Waterman score of residue strings, the limit T -> 0 without a gradient."""

from importlib.metadata import version

import parasail

from bench.peers import GAP_EXTEND, GAP_OPEN, LETTERS, NOT_COMPARABLE, Answer, Call, Inputs, strings

WHAT = "hard local affine score of strings in integers; no gradient, one thread"
VERSION = version("parasail")


def prepare(inputs: Inputs, threads: int) -> Call:
    pairs = list(zip(*strings(inputs), strict=True))
    matrix = parasail.matrix_create(LETTERS, 10, -10)
    open_, extend = round(10 * GAP_OPEN), round(10 * GAP_EXTEND)

    def run() -> Answer:
        for first, second in pairs:
            parasail.sw_striped_16(first, second, open_, extend, matrix)
        return NOT_COMPARABLE

    return run
