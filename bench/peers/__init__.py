"""What users could take instead, each as `prepare(scores, threads) -> run`.

scores (B, N, M) float32; run() does one forward and backward and gives the Answer, as far as it is that of the same
recursion. A module says in WHAT what it computes, in VERSION which release it is. Importing one fails where its package
is not installed.
"""

from collections.abc import Sequence

import numpy as np

from lac.benchmark import GAP_EXTEND, GAP_OPEN, Answer, Run

TEMPERATURE = 1.0
NOT_COMPARABLE = Answer(None, None)
LETTERS = "ACDEFGHIKLMNPQRSTVWY"

__all__ = ["GAP_EXTEND", "GAP_OPEN", "LETTERS", "NOT_COMPARABLE", "TEMPERATURE", "Answer", "Run", "strings"]


def strings(shape: Sequence[int]) -> tuple[list[str], list[str]]:
    """B strings of N letters and B of M, for peers that align strings."""
    b, n, m = shape
    random = np.random.default_rng(0)
    first, second = (["".join(random.choice(list(LETTERS), size)) for _ in range(b)] for size in (n, m))
    return first, second
