"""parasail (C, SIMD): the hard Smith-Waterman score of residue strings, the limit T -> 0 without a gradient."""

from importlib.metadata import version

import numpy as np
import parasail
from torch import Tensor

from peers import GAP_EXTEND, GAP_OPEN, Run, Sizes

WHAT = "hard local affine score of strings in integers; no gradient, one thread"
VERSION = version("parasail")
LETTERS = "ACDEFGHIKLMNPQRSTVWY"


def prepare(sizes: Sizes, scores: Tensor, threads: int) -> Run:
    random = np.random.default_rng(0)
    pairs = [["".join(random.choice(list(LETTERS), length)) for length in size] for size in sizes]
    matrix = parasail.matrix_create(LETTERS, 10, -10)
    open_, extend = round(10 * GAP_OPEN), round(10 * GAP_EXTEND)

    def run() -> None:
        for first, second in pairs:
            parasail.sw_striped_16(first, second, open_, extend, matrix)

    return run
