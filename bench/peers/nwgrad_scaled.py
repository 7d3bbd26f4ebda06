"""nwgrad (C++): soft local affine alignment of residue strings, forward-backward in scaled probability space."""

from importlib.metadata import version

import numpy as np
from nwgrad import AlignParams, SeqPairBatch

from bench.peers import GAP_EXTEND, GAP_OPEN, LETTERS, NOT_COMPARABLE, Answer, Call, Inputs, strings

WHAT = "soft local affine alignment of strings; gradient of a 20 x 20 matrix and 4 costs (scaled mode)"
VERSION = version("nwgrad")


def prepare(inputs: Inputs, threads: int) -> Call:
    first, second = strings(inputs)
    # Residues score -1 on average: beyond 700 nats the scaled mode raises, and these stay below.
    matrix = np.random.default_rng(0).normal(-1, 0.5, (20, 20))
    params = AlignParams(matrix, LETTERS, GAP_OPEN, GAP_EXTEND, GAP_OPEN, GAP_EXTEND)
    batch = SeqPairBatch(first, second, params, n_threads=threads, gap_model="affine", mode="local", grad_mode="soft")
    batch.soft_impl = "scaled"

    def run() -> Answer:
        batch.score_and_grad()
        return NOT_COMPARABLE

    return run
