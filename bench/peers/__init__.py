"""What users could take instead, each as `prepare(inputs, threads) -> call`.

inputs: scores (B, N, M) float32 and, of a ragged batch, lengths; call() does one forward and backward and gives the
Answer, as far as it is that of the same recursion. A module says in WHAT what it computes, in VERSION which release it
is, in RAGGED what it does with a ragged batch if not what its cells need. Importing one fails where its package is not
installed.
"""

import numpy as np

from lac.measure.problem import GAP_EXTEND, GAP_OPEN, Inputs
from lac.measure.sides import Answer, Call

TEMPERATURE = 1.0
NOT_COMPARABLE = Answer(None, None)
LETTERS = "ACDEFGHIKLMNPQRSTVWY"

__all__ = [
    "GAP_EXTEND",
    "GAP_OPEN",
    "LETTERS",
    "NOT_COMPARABLE",
    "TEMPERATURE",
    "Answer",
    "Call",
    "Inputs",
    "sizes",
    "strings",
]  # fmt: skip


def sizes(inputs: Inputs) -> tuple[list[int], list[int]]:
    """The lengths of the B first sequences and of the B second ones."""
    b, n, m = inputs.scores.shape
    if inputs.lengths is None:
        return [n] * b, [m] * b
    return inputs.lengths[0].tolist(), inputs.lengths[1].tolist()


def strings(inputs: Inputs) -> tuple[list[str], list[str]]:
    """Letters instead of frames, for peers that align strings."""
    random = np.random.default_rng(0)
    first, second = (["".join(random.choice(list(LETTERS), size)) for size in each] for each in sizes(inputs))
    return first, second
