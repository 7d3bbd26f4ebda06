"""What users could take instead, each as `prepare(sizes, scores, threads) -> run`.

sizes: (n, m) of each pair; scores: (B, N, M) float32, padded; run() does one forward and backward. A module says in
WHAT what it computes, in VERSION which release it is, and returns a score per pair where that is comparable (the same
recursion with open = 1, extend = 0.4, T = 1), else None.
"""

from collections.abc import Callable

import torch

Sizes = list[tuple[int, int]]
Run = Callable[[], "torch.Tensor | None"]
GAP_OPEN, GAP_EXTEND, TEMPERATURE = 1.0, 0.4, 1.0
