"""What the sides are measured on: shapes, and random scores of such a shape."""

import re
from typing import NamedTuple

import torch
from torch import Tensor

GAP_OPEN, GAP_EXTEND = 1.0, 0.4

_SHAPE = r"\d+x\d+x\d+|\d+x\d+(,\d+x\d+)+"


class Shape(NamedTuple):
    """Sizes of a batch of score matrices; of a ragged one n and m are the largest, and every pair has its own."""

    batch: int
    n: int
    m: int
    lengths1: tuple[int, ...] = ()  # empty where all pairs are n by m
    lengths2: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """`"16x64x64"` is 16 pairs of 64 by 64 frames; `"80x64,33x80"` two pairs of these sizes in one batch.

        Raises:
            ValueError: it does not read so, or a size is 0.
        """
        sizes = [[int(x) for x in part.split("x")] for part in text.split(",")] if re.fullmatch(_SHAPE, text) else []
        if not sizes or any(0 in part for part in sizes):
            raise ValueError(
                "a shape is BATCHxNxM like 16x64x64, or the NxM of each pair of a ragged batch like 80x64,33x80, with "
                f"sizes of at least 1; got {text!r}"
            )
        if len(sizes[0]) == 3:
            batch, n, m = sizes[0]
            return cls(batch, n, m)
        lengths1, lengths2 = zip(*sizes, strict=True)
        return cls.ragged(lengths1, lengths2)

    @classmethod
    def ragged(cls, lengths1: tuple[int, ...], lengths2: tuple[int, ...]) -> "Shape":
        """Pairs of lengths1[k] by lengths2[k] frames, padded to one batch."""
        return cls(len(lengths1), max(lengths1), max(lengths2), lengths1, lengths2)

    @property
    def cells(self) -> int:
        """Without padding."""
        if self.lengths1:
            return sum(n * m for n, m in zip(self.lengths1, self.lengths2, strict=True))
        return self.padded_cells

    @property
    def padded_cells(self) -> int:
        """With padding."""
        return self.batch * self.n * self.m

    def __str__(self) -> str:
        if self.lengths1:
            return ",".join(f"{n}x{m}" for n, m in zip(self.lengths1, self.lengths2, strict=True))
        return f"{self.batch}x{self.n}x{self.m}"


class Inputs(NamedTuple):
    """scores (B, N, M), and for the mode "second" the direction (B, N, M) of the product, else empty.

    lengths: of a ragged batch the two (B,) int32 lengths of each pair; what lies beyond is random as well.
    """

    scores: Tensor
    direction: Tensor
    lengths: tuple[Tensor, Tensor] | None = None


def random_inputs(shape: Shape, mode: str, dtype: torch.dtype, device: torch.device, seed: int) -> Inputs:
    """Standard normal scores, the same for the same seed."""
    generator = torch.Generator(device).manual_seed(seed)
    scores = torch.randn(shape[:3], generator=generator, device=device).to(dtype)
    size = shape[:3] if mode == "second" else (0,)
    direction = torch.randn(size, generator=generator, device=device).to(dtype)
    if not shape.lengths1:
        return Inputs(scores, direction)
    lengths1, lengths2 = (
        torch.tensor(lengths, dtype=torch.int32, device=device) for lengths in (shape.lengths1, shape.lengths2)
    )
    return Inputs(scores, direction, (lengths1, lengths2))
