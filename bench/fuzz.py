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
import sys
import time
from typing import Any

import torch
from torch import Tensor

from bench.poison import BYTES, poisoned
from bench.problems import RUBBISH, Problem, random_problem, rounding_unit
from bench.rows import RESULTS, append_rows, command_line
from lac import smith_waterman, soft_alignment
from lac.measure.errors import relative_error
from lac.measure.rows import context

ROWS = RESULTS / "fuzz.csv"
MEASURED = ("score", "posterior", "gap_open", "gap_extend", "temperature", "second")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
LIMITS = {
    "float32": dict.fromkeys(MEASURED, 1e-4) | {"score": 1e-5},
    "float64": dict.fromkeys(MEASURED, 1e-10) | {"score": 1e-13, "temperature": 1e-8},  # (score - E) / T cancels
}


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
    unit = rounding_unit(engine, (exact["score"].abs().max() / t).item())
    result = {}
    for name, x in exact.items():
        if name == "score":
            result[name] = relative_error(found[name], x, t.item(), each=True)
        else:
            result[name] = relative_error(found[name], x, 1e-3 if name.startswith("gap") else 1.0) / unit
    return result


def cut(exact: dict[str, Tensor], p: Problem, k: int) -> dict[str, Tensor]:
    """The results of one pair out of those of its batch, but for the temperature, which all share."""
    n, m = (int(lengths[k]) for lengths in p.shape)
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
        p, second = random_problem(at, pairs, most_n, most_m), at % 10 == 0
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
