"""tslearn: its batched soft-DTW recursion and gradient, compiled by numba, on a padded batch."""

from importlib.metadata import version

import numba
import numpy as np
from tslearn.metrics.soft_dtw_fast import _njit_soft_dtw_batch, _njit_soft_dtw_grad_batch

from bench.peers import NOT_COMPARABLE, TEMPERATURE, Answer, Call, Inputs

WHAT = "soft-DTW (three moves, global, no gaps of its own); gradient of the distances"
VERSION = version("tslearn")


RAGGED = "every pair as long as the longest"


def prepare(inputs: Inputs, threads: int) -> Call:
    numba.set_num_threads(threads)
    scores = inputs.scores
    b, n, m = scores.shape
    distances = np.zeros((b, n + 1, m + 1))
    distances[:, :n, :m] = scores.square().numpy()

    def run() -> Answer:
        table, gradient = np.zeros((2, b, n + 2, m + 2))
        _njit_soft_dtw_batch(distances[:, :n, :m], table, TEMPERATURE)
        _njit_soft_dtw_grad_batch(distances, table, gradient, TEMPERATURE)
        return NOT_COMPARABLE

    return run
