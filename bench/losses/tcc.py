"""Temporal cycle-consistency."""

import torch
from torch import Tensor

from .base import NEVER, PairLoss, Sequences, phase, squared_distances


class TCC(PairLoss):
    r"""A frame goes to its soft nearest neighbour in the other clip and back; it should arrive at its own time.

    With similarities -|u - v|^2 / (E temperature) of embeddings as they are, not normalised,

        alpha = softmax_j(sim(u_i, v_j)),  n_i = sum_j alpha_j v_j,  beta = softmax_k(sim(n_i, u_k)),
        mu = sum_k beta_k t_k,  var = sum_k beta_k (t_k - mu)^2,  loss_i = (t_i - mu)^2 / var + weight log var,

    mean over the frames of both clips, each cycling through the other: the cycle-back regression with variance.
    t is the time as a share of the clip; its scale only adds a constant. Temperature 0.1, weight 0.001.

    Source: D. Dwibedi, Y. Aytar, J. Tompson, P. Sermanet, A. Zisserman, "Temporal Cycle-Consistency Learning", CVPR
    2019. Here every clip cycles through one other, the partner of its pair, not through all of a batch of one action.
    var is kept above 1e-8, for a sequence of one frame has none.
    """

    views = "action"

    def __init__(self, *, temperature: float = 0.1, variance_weight: float = 0.001) -> None:
        super().__init__()
        self.temperature, self.variance_weight = temperature, variance_weight

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        return (self._cycle(first, second) + self._cycle(second, first)) / (first.divisor() + second.divisor())

    def _cycle(self, first: Sequences, second: Sequences) -> Tensor:
        """Sum over the frames of `first`: (B,)."""
        neighbour = self._attention(first.z, second) @ second.z
        beta = self._attention(neighbour, first)
        t = phase(first)
        mean = (beta * t[:, None, :]).sum(2)
        variance = (beta * (t[:, None, :] - mean[:, :, None]) ** 2).sum(2).clamp(min=1e-8)
        per_frame = (t - mean) ** 2 / variance + self.variance_weight * variance.log()
        return torch.where(first.valid, per_frame, 0).sum(1)

    def _attention(self, z: Tensor, keys: Sequences) -> Tensor:
        logits = -squared_distances(z, keys.z) / (z.shape[2] * self.temperature)
        return torch.softmax(logits.masked_fill(~keys.valid[:, None, :], NEVER), dim=2)
