"""Sequence contrastive loss."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from .base import NEVER, PairLoss, Sequences


class SCL(PairLoss):
    r"""Where a frame lies in the other view by the clock, learned from its embedding.

        P[i,j] = exp(-(t_i - t_j)^2 / (2 variance)), rows normalised,   Q[i,j] = softmax_j(cos(z1_i, z2_j) / T),

    KL(P || Q), mean over the frames, mean of both directions. The negatives of a frame are the other frames of the
    other view, none of its own view or of other clips. t in frames of the clip, variance 10, temperature T 0.1.

    Source: M. Chen, F. Wei, C. Li, D. Cai, "Frame-wise Action Representations for Long Videos via Sequence Contrastive
    Learning", CVPR 2022. Without its projection head, as the encoder is the same for every loss.
    """

    views = "same"

    def __init__(self, *, variance: float = 10.0, temperature: float = 0.1) -> None:
        super().__init__()
        self.variance, self.temperature = variance, temperature

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        logits = normalize(first.z, dim=2) @ normalize(second.z, dim=2).mT / self.temperature
        return 0.5 * (self._divergence(logits, first, second) + self._divergence(logits.mT, second, first))

    def _divergence(self, logits: Tensor, first: Sequences, second: Sequences) -> Tensor:
        log_p = by_clock(first, second, self.variance)
        log_q = log_softmax(logits.masked_fill(~second.valid[:, None, :], NEVER), dim=2)
        return first.mean((log_p.exp() * torch.where(second.valid[:, None, :], log_p - log_q, 0)).sum(2))


def by_clock(first: Sequences, second: Sequences, variance: float) -> Tensor:
    """log P (B, T1, T2): a Gaussian of the difference in time, normalised over the valid frames of `second`."""
    apart = first.times[:, :, None] - second.times[:, None, :]
    return log_softmax((-(apart**2) / (2 * variance)).masked_fill(~second.valid[:, None, :], NEVER), dim=2)
