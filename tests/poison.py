"""Memory that nobody has written holds rubbish, so that whatever reads it gives another result."""

import contextlib
from collections.abc import Iterator

import torch

from lac_kernels import cpu

BYTES = (0xFF, 0x7F, 0x01)  # NaN and -1; 3e38 and a huge exponent; nearly 0 and a small one


@contextlib.contextmanager
def poisoned(byte: int = BYTES[0]) -> Iterator[None]:
    """New tensors start as NaN (integers: the largest), the CPU engine's scratch memory is filled with the byte."""
    engine = cpu.unavailable(torch.device("cpu")) is None
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # torch then fills what `empty` gives
    try:
        assert torch.empty(1).isnan()
        if engine:
            cpu.poison(byte)
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        if engine:
            cpu.poison(-1)
