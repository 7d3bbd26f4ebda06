"""pysdtw: soft-DTW with autograd, compiled by numba."""

from importlib.metadata import version

import numba
import torch
from pysdtw.sdtw_cpu import SoftDTWcpu

from bench.peers import NOT_COMPARABLE, TEMPERATURE, Answer, Call, Inputs, sizes

WHAT = "soft-DTW (three moves, global, no gaps of its own); gradient of the distances"
VERSION = version("pysdtw")


def prepare(inputs: Inputs, threads: int) -> Call:
    numba.set_num_threads(threads)
    distances = inputs.scores.square().requires_grad_()
    lengths = torch.tensor(sizes(inputs)).T.contiguous()

    def run() -> Answer:
        torch.autograd.grad(SoftDTWcpu.apply(distances, lengths, TEMPERATURE, 0.0).sum(), distances)
        return NOT_COMPARABLE

    return run
