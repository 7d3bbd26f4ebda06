"""Random problems by the thousand: the error of an engine against float64, with memory full of rubbish.

    python -m bench.fuzz --engine cpu --cases 20000
    python -m bench.fuzz --engine eager --cases 2000

A case is one call of the engine and of its gradients (of scores, gaps and temperature; second order in every tenth) on
one pair, or on a ragged batch whose padding is rubbish. Exact is the eager engine in float64, which the tests hold to
the reference, on many pairs at once. An error of the score is relative to max(|score|, T); of the posterior absolute;
of the gaps' derivatives relative to the largest, or to 1e-3; of the temperature's (an entropy) relative, or to 1.

A score of V in units of T is known to V 2^-24 in float32, and so is each exponent that a gradient is made of. So errors
of gradients stand in units of max(1, V 2^-G): the engines that multiply mantissas (cpu, triton) lose nothing up to V of
1e4 (G = 14), the eager one, which adds numbers of the size of V, up to 100 (G = 7). Rows go to bench/results/fuzz.csv.
"""

import argparse
import itertools
import random
import sys
import time
from typing import Any

import torch
from torch import Tensor

from bench.poison import BYTES, poisoned
from bench.rows import RESULTS, append_rows, command_line
from lac import smith_waterman, soft_alignment
from lac.measure.rows import context
from lac_kernels import problem

ROWS = RESULTS / "fuzz.csv"
MEASURED = ("score", "posterior", "gap_open", "gap_extend", "temperature", "second")
RUBBISH = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LIMITS = {
    "float32": dict.fromkeys(MEASURED, 1e-4) | {"score": 1e-5},
    "float64": dict.fromkeys(MEASURED, 1e-10) | {"score": 1e-13, "temperature": 1e-8},  # (score - E) / T cancels
}


class Problem(problem.Problem):
    """A problem, and what tests do with it."""

    def double(self) -> "Problem":
        return Problem(*(x.double() for x in self[:4]), *self[4:])

    def pair(self, k: int) -> "Problem":
        """One pair by itself, cut to its lengths."""
        n, m = int(self.lengths1[k]), int(self.lengths2[k])
        gaps = (g[k : k + 1, : n if g.shape[1] > 1 else 1, : m if g.shape[2] > 1 else 1] for g in self[1:3])
        return Problem(
            self.scores[k : k + 1, :n, :m], *gaps, self.temperature, self.lengths1[k : k + 1], self.lengths2[k : k + 1]
        )

    def spoilt(self, rubbish: float) -> "Problem":
        """The same with rubbish beyond the lengths, of gaps per cell, row or column too."""
        rows = torch.arange(self.scores.shape[1]) < self.lengths1[:, None]
        columns = torch.arange(self.scores.shape[2]) < self.lengths2[:, None]
        tensors = []
        for x in self[:3]:
            inside = rows[:, :, None] if x.shape[1] > 1 else torch.ones(1, 1, 1, dtype=torch.bool)
            inside = inside & (columns[:, None, :] if x.shape[2] > 1 else True)
            tensors.append(torch.where(inside.expand(x.shape), x, rubbish))
        return Problem(*tensors, *self[3:])


def draw(seed: int, pairs: int, most_n: int, most_m: int) -> Problem:
    """T 1e-4 to 10, |S| / T up to 1e6 (half of them up to 10); gaps of every shape, 0 to 20 T, infinite at places."""
    pick, g = random.Random(seed), torch.Generator().manual_seed(seed)
    n, m = pick.randint(1, most_n), pick.randint(1, most_m)
    temperature = 10 ** pick.uniform(-4, 1)
    scores = torch.randn(pairs, n, m, generator=g)
    kind = pick.randrange(4)
    if kind == 1:
        scores = scores - 0.5 + 1.5 * torch.eye(n, m)
    elif kind == 2:
        scores = torch.where(torch.rand(scores.shape, generator=g) < 0.2, scores.abs(), -scores.abs())
    scores *= temperature * 10 ** (pick.uniform(-1, 1) if pick.random() < 0.5 else pick.uniform(-1, 6)) / 3
    if kind == 3:
        scores[torch.rand(scores.shape, generator=g) < pick.choice((0.1, 0.5, 0.95))] = -torch.inf
    shapes = [(pairs, pick.choice((1, n)), pick.choice((1, m))) for _ in range(2)]
    gaps = [torch.rand(shape, generator=g) * temperature * pick.choice((0.0, 1.0, 20.0)) for shape in shapes]
    if pick.random() < 0.1:
        gaps[0][torch.rand(shapes[0], generator=g) < 0.3] = torch.inf
    lengths = [torch.randint(0 if pick.random() < 0.5 else k, k + 1, (pairs,), generator=g).int() for k in (n, m)]
    return Problem(scores, *gaps, torch.tensor(temperature), *lengths)


def solve(p: Problem, backend: str, dtype: torch.dtype, second: bool) -> dict[str, Tensor]:
    """Everything that can be asked of a problem, one row per pair; derivatives of sum_b score_b."""
    s, o, e, t = (x.to(dtype).requires_grad_() for x in p[:4])
    number = p.temperature.item()
    options: dict[str, Any] = {"gap_open": o, "gap_extend": e, "lengths": p[4:], "backend": backend}
    score = smith_waterman(s, temperature=number, **options)
    d_scores, d_open, d_extend = torch.autograd.grad(score.sum(), (s, o, e))
    found = {"score": score, "posterior": d_scores, "gap_open": d_open, "gap_extend": d_extend}
    found["temperature"] = torch.autograd.grad(smith_waterman(s, temperature=t, **options).sum(), t)[0][None]
    if second:
        posterior = soft_alignment(s, temperature=number, **options)
        weight = torch.arange(posterior.shape[2], dtype=posterior.dtype).cos()
        found["second"] = torch.autograd.grad((posterior * weight).sum(), s)[0] * number
    return {name: x.detach().double() for name, x in found.items()}


def errors(found: dict[str, Tensor], exact: dict[str, Tensor], p: Problem, engine: str) -> dict[str, float]:
    """Largest error of each result, in the units of the module's docstring."""
    t = p.temperature.double()
    unit = torch.clamp(exact["score"].abs().max() / t * 2.0 ** -(7 if engine == "eager" else 14), min=1)
    result = {}
    for name, x in exact.items():
        y = found[name]
        scale = x.abs().max().clamp(min=1e-3 if name.startswith("gap") else 1.0) * unit
        wrong = (y - x).abs() / (torch.maximum(x.abs(), t) if name == "score" else scale)
        result[name] = float("inf") if not torch.isfinite(y).all() else wrong.max().item() if wrong.numel() else 0.0
    return result


def cut(exact: dict[str, Tensor], p: Problem, k: int) -> dict[str, Tensor]:
    """The results of one pair out of those of its batch, but for the temperature, which all share."""
    n, m = int(p.lengths1[k]), int(p.lengths2[k])
    result = {"score": exact["score"][k : k + 1]}
    for name, x in exact.items():
        if x.dim() == 3:
            result[name] = x[k : k + 1, : n if x.shape[1] > 1 else 1, : m if x.shape[2] > 1 else 1]
    return result


def fuzz(
    engine: str, dtype: str, cases: int, *, seed: int = 0, pairs: int = 15, most_n: int = 100, most_m: int = 400
) -> tuple[dict[str, float], int, list[str]]:
    """Worst errors, how many cases there were, and which of them went beyond the limits."""
    worst, failures, done = dict.fromkeys(MEASURED, 0.0), [], 0
    kind = DTYPES[dtype]
    for at in itertools.count(seed):
        if done >= cases:
            break
        p, second = draw(at, pairs, most_n, most_m), at % 10 == 0
        torch.set_num_threads(1)
        exact = solve(p.double(), "eager", torch.float64, second)
        torch.set_num_threads(1 + at % 3)
        with poisoned(BYTES[at % len(BYTES)]):
            for k in range(-1, pairs):
                if k < 0:
                    q, right = p.spoilt(RUBBISH[at % len(RUBBISH)]), exact
                else:
                    q, right = p.pair(k), cut(exact, p, k)
                    if 0 in q.scores.shape:
                        continue
                found = solve(q, engine, kind, second)
                done += 1
                for name, error in errors(found, right, p, engine).items():
                    worst[name] = max(worst[name], error)
                    if not error <= LIMITS[dtype][name]:
                        failures.append(f"seed {at}, pair {k}: {name} {error:.3g}")
    return worst, done, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="cpu", help="cpu, eager or triton (default: cpu)")
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first batch")
    options = parser.parse_args()
    began = time.monotonic()
    worst, cases, failures = fuzz(options.engine, options.dtype, options.cases, seed=options.seed)
    seconds = time.monotonic() - began
    for line in failures[:20]:
        print(line)
    where = context(torch.device("cpu"), command_line("fuzz"))
    row = {"engine": options.engine, "dtype": options.dtype, "cases": str(cases), "beyond": str(len(failures))}
    row |= {name: f"{value:.2g}" for name, value in worst.items()} | {"seconds": f"{seconds:.0f}", **where}
    print(row)
    append_rows(ROWS, [row], list(row))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
