"""dDTW toolbox: soft-DTW with autograd, its numba backend on a CPU."""

from importlib.metadata import version

import numba
import torch
from ddtw import SDTW

from bench.peers import NOT_COMPARABLE, TEMPERATURE, Answer, Call, Inputs

WHAT = "soft-DTW (three moves, global, no gaps of its own); gradient of the distances"
VERSION = version("ddtw")


RAGGED = "every pair as long as the longest"


def prepare(inputs: Inputs, threads: int) -> Call:
    numba.set_num_threads(threads)
    distances = inputs.scores.square().requires_grad_()
    loss = SDTW(gamma=TEMPERATURE, normalization="none", backend="cpu_numba")

    def run() -> Answer:
        torch.autograd.grad(loss(C=distances), distances)
        return NOT_COMPARABLE

    return run
