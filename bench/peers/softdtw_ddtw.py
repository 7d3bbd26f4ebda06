"""dDTW toolbox: soft-DTW with autograd, its numba backend on a CPU."""

from importlib.metadata import version

import numba
import torch
from ddtw import SDTW
from torch import Tensor

from peers import TEMPERATURE, Run, Sizes

WHAT = "soft-DTW (three moves, global, no gaps of its own) of the padded batch; gradient of the distances"
VERSION = version("ddtw")


def prepare(sizes: Sizes, scores: Tensor, threads: int) -> Run:
    numba.set_num_threads(threads)
    distances = scores.square().requires_grad_()
    loss = SDTW(gamma=TEMPERATURE, normalization="none", backend="cpu_numba")

    def run() -> None:
        torch.autograd.grad(loss(C=distances), distances)

    return run
