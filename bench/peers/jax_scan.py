"""The recursion in JAX the way SMURF writes its own: rotate the scores, lax.scan over anti-diagonals, jit, grad."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from bench.peers import GAP_EXTEND, GAP_OPEN, Answer, Call, Inputs
from lac.measure.sides import forbidden

WHAT = "this recursion; lax.scan over rotated scores, jit and grad"
VERSION = jax.__version__
NEVER = -1e30


def rotated(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every diagonal and place (sequence 1): the row, the column, and whether that is a cell."""
    row = np.broadcast_to(np.arange(n), (n + m - 1, n))
    column = np.arange(n + m - 1)[:, None] - row
    return row, column.clip(0, m - 1), (column >= 0) & (column < m)


def pair_score(scores: jax.Array) -> jax.Array:
    n, m = scores.shape
    row, column, inside = rotated(n, m)
    diagonals = jnp.where(inside, scores[row, column], NEVER)

    def shift(x: jax.Array) -> jax.Array:
        return jnp.pad(x[:-1], (1, 0), constant_values=NEVER)

    def step(carry, s):
        before, (d, x, y) = carry
        old_d, old_x, old_y = before
        new_x = jnp.logaddexp(d - GAP_OPEN, x - GAP_EXTEND)
        moves = jnp.stack((shift(d) - GAP_OPEN, shift(x) - GAP_OPEN, shift(y) - GAP_EXTEND))
        new_y = jax.nn.logsumexp(moves, axis=0)
        starts = jnp.stack((jnp.zeros(n), shift(old_d), shift(old_x), shift(old_y)))
        new_d = s + jax.nn.logsumexp(starts, axis=0)
        return ((d, x, y), (new_d, new_x, new_y)), new_d

    never = jnp.full(n, NEVER)
    _, ends = jax.lax.scan(step, ((never,) * 3, (never,) * 3), diagonals)
    return jax.nn.logsumexp(ends)


solve = jax.jit(jax.vmap(jax.value_and_grad(pair_score)))


RAGGED = "padded"


def prepare(inputs: Inputs, threads: int) -> Call:
    values = jnp.array(forbidden(inputs.scores, inputs.lengths).numpy())

    def run() -> Answer:
        score, gradient = (torch.from_numpy(np.array(x)) for x in solve(values))
        return Answer(score, gradient)

    return run
