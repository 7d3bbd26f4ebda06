"""Global temporal alignment."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from lac.runs.warping import end, warp

from .base import NEVER, PairLoss, Sequences


class GTA(PairLoss):
    r"""Smooth dynamic time warping over contrastive costs, and consistency of the whole alignment there and back.

        cost[i,j] = -log softmax_i(cos(z1_i, z2_j) / 0.1),
        R12[i,j] = cost[i,j] + sum_k p_k R_k over the three cells before it, p = softmax(-R / 0.1),

    R21 the same from clip 2 to clip 1; A12 = softmax of -R12 over the frames of clip 1, A21 of -R21 over those of clip
    2. A12 A21 should be the identity: cross-entropy of its columns, label smoothing 0.1. The loss is that plus
    0.1 (R12 + R21 in their last cells).

    Source: I. Hadji, K. G. Derpanis, A. D. Jepson, "Representation Learning via Global Temporal Alignment and
    Cycle-Consistency", CVPR 2021. As in what its authors ran, the cross-entropy takes the product of the two
    alignments as logits, and the path's cost is a sum over its cells. They pair one clip with the three others of a
    batch; here each with its partner.
    """

    views = "action"

    def __init__(
        self, *, temperature: float = 0.1, gamma: float = 0.1, dtw_weight: float = 0.1, label_smoothing: float = 0.1
    ) -> None:
        super().__init__()
        self.temperature, self.gamma = temperature, gamma
        self.dtw_weight, self.label_smoothing = dtw_weight, label_smoothing

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        cosine = normalize(first.z, dim=2) @ normalize(second.z, dim=2).mT / self.temperature
        inside = first.valid[:, :, None] & second.valid[:, None, :]
        costs = [self._over(first, cosine), self._over(second, cosine.mT).mT]
        # One table of two batches: the recursion is the same in both directions but for a transposition.
        tables = warp(torch.cat([torch.where(inside, -cost, 0) for cost in costs]), self._smooth_min)
        there, back = tables.chunk(2)
        warped = end(there, first.lengths, second.lengths) + end(back, first.lengths, second.lengths)
        cycle = self._over(first, -there).exp() @ (self._over(second, -back.mT).exp() * first.valid[:, None, :])
        return self._consistency(cycle, first) + self.dtw_weight * warped

    def _over(self, sequence: Sequences, logits: Tensor) -> Tensor:
        """log softmax of (B, T, T') over the valid frames of `sequence`, its rows."""
        return log_softmax(logits.masked_fill(~sequence.valid[:, :, None], NEVER), dim=1)

    def _smooth_min(self, x: Tensor) -> Tensor:
        return (torch.softmax(x / -self.gamma, dim=0) * x).sum(0)

    def _consistency(self, cycle: Tensor, first: Sequences) -> Tensor:
        log_q = torch.where(first.valid[:, :, None], self._over(first, cycle), 0)
        right = log_q.diagonal(dim1=1, dim2=2)
        smoothed = log_q.sum(1) / first.divisor()[:, None]
        return -first.mean((1 - self.label_smoothing) * right + self.label_smoothing * smoothed)
