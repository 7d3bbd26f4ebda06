"""nwgrad (C++): soft local affine alignment of residue strings, forward-backward in scaled probability space."""

from importlib.metadata import version

import numpy as np
from nwgrad import AlignParams, SeqPairBatch
from torch import Tensor

from peers import GAP_EXTEND, GAP_OPEN, Run, Sizes

WHAT = "soft local affine alignment of strings; gradient of a 20 x 20 matrix and 4 costs (scaled mode)"
VERSION = version("nwgrad")


def prepare(sizes: Sizes, scores: Tensor, threads: int) -> Run:
    random = np.random.default_rng(0)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    first, second = (["".join(random.choice(list(letters), size[k])) for size in sizes] for k in (0, 1))
    # Residues score -1 on average: beyond 700 nats the scaled mode raises, and these stay below.
    matrix = random.normal(-1, 0.5, (20, 20))
    params = AlignParams(matrix, letters, GAP_OPEN, GAP_EXTEND, GAP_OPEN, GAP_EXTEND)
    batch = SeqPairBatch(first, second, params, n_threads=threads, gap_model="affine", mode="local", grad_mode="soft")
    batch.soft_impl = "scaled"

    def run() -> None:
        batch.score_and_grad()

    return run
