"""pysdtw: soft-DTW with autograd, compiled by numba."""

from importlib.metadata import version

import numba
import torch
from pysdtw.sdtw_cpu import SoftDTWcpu
from torch import Tensor

from peers import TEMPERATURE, Run, Sizes

WHAT = "soft-DTW (three moves, global, no gaps of its own); gradient of the distances"
VERSION = version("pysdtw")


def prepare(sizes: Sizes, scores: Tensor, threads: int) -> Run:
    numba.set_num_threads(threads)
    distances = scores.square().requires_grad_()
    lengths = torch.tensor(sizes)

    def run() -> None:
        torch.autograd.grad(SoftDTWcpu.apply(distances, lengths, TEMPERATURE, 0.0).sum(), distances)

    return run
