"""Random alignment problems, for fuzzing and for the tests of every engine."""

import math
import random

import torch
from torch import Tensor

from lac_kernels import problem
from lac_kernels.problem import valid_frames
from lac_kernels.reference import compute_dtype

RUBBISH = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30)  # to stand beyond the lengths


class Problem(problem.Problem):
    """A problem, and what tests do with it."""

    def double(self) -> "Problem":
        return self._replace(
            scores=self.scores.double(),
            gap_open=self.gap_open.double(),
            gap_extend=self.gap_extend.double(),
            temperature=self.temperature.double(),
        )

    @property
    def shape(self) -> tuple[Tensor, Tensor]:
        """The valid rows and columns of each pair, (B,) and (B,)."""
        b, n, m = self.scores.shape
        rows = torch.full((b,), n) if self.lengths1 is None else self.lengths1
        columns = torch.full((b,), m) if self.lengths2 is None else self.lengths2
        return rows, columns

    def pair(self, k: int) -> "Problem":
        """One pair by itself, cut to its lengths."""
        rows, columns = self.shape
        n, m = int(rows[k]), int(columns[k])

        def cut(gap: Tensor) -> Tensor:
            return gap[k : k + 1, : n if gap.shape[1] > 1 else 1, : m if gap.shape[2] > 1 else 1]

        lengths1, lengths2 = rows[k : k + 1], columns[k : k + 1]
        scores, gap_open, gap_extend = self.scores[k : k + 1, :n, :m], cut(self.gap_open), cut(self.gap_extend)
        return Problem(scores, gap_open, gap_extend, self.temperature, lengths1, lengths2)

    def spoilt(self, rubbish: float) -> "Problem":
        """The same with rubbish beyond the lengths, of gaps per cell, row or column too."""
        rows, columns = (valid_frames(lengths, t) for lengths, t in zip(self.shape, self.scores.shape[1:], strict=True))

        def spoil(x: Tensor) -> Tensor:
            inside = rows[:, :, None] if x.shape[1] > 1 else torch.ones(1, 1, 1, dtype=torch.bool)
            inside = inside & (columns[:, None, :] if x.shape[2] > 1 else True)
            return torch.where(inside.expand(x.shape), x, rubbish)

        return self._replace(
            scores=spoil(self.scores), gap_open=spoil(self.gap_open), gap_extend=spoil(self.gap_extend)
        )


def random_problem(
    seed: int,
    pairs: int,
    most_n: int,
    most_m: int,
    *,
    gaps: str | None = None,
    steep: float = 1e6,
    dear: float = 20.0,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """A problem that depends on its arguments alone; its lengths are ragged, some 0.

    T is 1e-4 to 10, |S| / T up to 10 in half of them and up to about `steep` in the others; some cells are forbidden in
    a quarter. Gaps are 0, up to T or up to `dear` T, in places infinite.

    Args:
        seed: of all draws.
        pairs: B.
        most_n, most_m: N and M are drawn from 1 to these.
        gaps: "scalar", "pair" or "cell"; None draws a shape that broadcasts to the cells, for each gap its own.
        steep: the largest |S| / T, about.
        dear: the largest gap, in T.
        dtype: of the scores, clamped to what float16 holds where that is the dtype.
    """
    pick, g = random.Random(seed), torch.Generator().manual_seed(seed)
    n, m = pick.randint(1, most_n), pick.randint(1, most_m)
    temperature = 10 ** pick.uniform(-4, 1)
    scores = torch.randn(pairs, n, m, generator=g)
    kind = pick.randrange(4)
    if kind == 1:
        scores = scores - 0.5 + 1.5 * torch.eye(n, m)
    elif kind == 2:
        scores = torch.where(torch.rand(scores.shape, generator=g) < 0.2, scores.abs(), -scores.abs())
    ratio = pick.uniform(-1, 1) if pick.random() < 0.5 else pick.uniform(-1, math.log10(steep))
    scores *= temperature * 10**ratio / 3
    if kind == 3:
        scores[torch.rand(scores.shape, generator=g) < pick.choice((0.1, 0.5, 0.95))] = -torch.inf
    shapes = [(pairs, pick.choice((1, n)), pick.choice((1, m))) for _ in range(2)]
    if gaps is not None:
        shapes = [{"scalar": (1, 1, 1), "pair": (pairs, 1, 1), "cell": (pairs, n, m)}[gaps]] * 2
    costs = [torch.rand(shape, generator=g) * temperature * pick.choice((0.0, 1.0, dear)) for shape in shapes]
    if pick.random() < 0.1:
        costs[0][torch.rand(shapes[0], generator=g) < 0.3] = torch.inf
    lengths = [torch.randint(0 if pick.random() < 0.5 else k, k + 1, (pairs,), generator=g).int() for k in (n, m)]
    if dtype == torch.float16:
        scores = scores.clamp(-6e4, 6e4).masked_fill(scores.isneginf(), -torch.inf)
    compute = compute_dtype(dtype)
    gap_open, gap_extend = (cost.to(compute) for cost in costs)
    return Problem(
        scores.to(dtype), gap_open, gap_extend, torch.tensor(temperature, dtype=compute), lengths[0], lengths[1]
    )


def rounding_unit(engine: str, value: float) -> float:
    """max(1, V 2^-G): in what unit errors of an engine's float32 gradients stand where scores are V in units of T.

    Exponents are known to V 2^-24. Engines that multiply mantissas lose nothing up to V of 1e4 (G = 14), the eager one,
    which adds numbers of the size of V, up to 100 (G = 7).
    """
    return max(1.0, value * 2.0 ** -(7 if engine == "eager" else 14))


def long_problem(n: int, m: int, b: int = 2, scale: float = 1.0) -> Problem:
    """Up to two pairs with a match along the diagonal, the second one shorter.

    Scores that are large against the temperature need numbers with exponents.
    """
    g = torch.Generator().manual_seed(n + m)
    scores = torch.randn(b, n, m, generator=g) - 0.3 + 2 * torch.eye(n, m)
    gap = torch.ones(1, 1, 1)
    lengths = (torch.tensor([n, max(1, n - 37)][:b]).int(), torch.tensor([m, max(1, m - 5)][:b]).int())
    return Problem(scores * scale, gap, 0.3 * gap, torch.tensor(0.5), *lengths)
