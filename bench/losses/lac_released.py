"""The local-alignment contrastive loss as its authors' released code trains with it."""

import torch
from torch import Tensor, nn

from lac import smith_waterman

from .base import NEVER, PairLoss, Sequences, squared_distances
from .scl import by_clock

RELEASED = 64  # frames on a side of the released gap matrices
GAP_RATE = 1000.0  # the released optimiser steps the gaps by 0.1 where it steps the encoder by 1e-4


class LACAsReleased(PairLoss):
    r"""Contrast in time, plus the soft Smith-Waterman score of 1 / distance^2, which is thereby *minimised*.

        sum_ij KL(P || Q)[i,j] / (T1 T2) + 0.01 (sw(S) + sw(S^T)),   S[i,j] = 1 / |z1_i - z2_j|^2,

    Q = softmax_j(z1_i . z2_j / 0.8) of embeddings as they are, from view 1 to view 2 only, with 1e-6 inside the
    logarithm; P the Gaussian of the difference in frames, variance 10; sw of temperature 0.8.

    Source: K. Oei, A. Gomaa, A. M. Feit, J. Belo, "Self-Supervised Contrastive Learning for Videos using
    Differentiable Local Alignment", 2024, arXiv 2409.04607: the behaviour of its released code, written anew.

    As released: the signs, weights and hyper-parameters above; that the score is large for frames that are alike, so
    that minimising it drives the two views apart; the missing 1 / T in the gradient of the score (its probabilities
    have temperature 1, the score 0.8); gaps that are free matrices of 64 x 64 cells, 1 to start with, the same for both
    directions, stepped a thousand times as far as the encoder. The released cross-entropy of alignments trains nothing
    (its gradient is dropped), so it is left out.

    Not as released: the gradient is that of a recursion at temperature 1 throughout, while the released one mixes
    probabilities at 1 with a table at 0.8 (on random walks of 12 and 24 frames the two differ by 8 % to 31 % in norm,
    at a cosine of at least 0.989); the gradients of gap penalties land on their own cell, not one beside it;
    penalties cannot become negative (they are only ever pushed up); cells beyond 64 x 64 share the last row or column;
    padding is left out; distance^2 is kept above 1e-4, where the released score of equal frames is infinite. The
    released encoder's attention across the clips of a batch is no part of the loss.
    """

    views = "same"

    def __init__(self, *, temperature: float = 0.8, variance: float = 10.0, score_weight: float = 0.01) -> None:
        super().__init__()
        self.temperature, self.variance, self.score_weight = temperature, variance, score_weight
        self.gaps = nn.Parameter(torch.full((2, RELEASED, RELEASED), 1 / GAP_RATE))  # open, extend

    def learned(self) -> dict[str, Tensor]:
        opening, extending = (GAP_RATE * self.gaps.detach()).mean((1, 2))
        return {"gap_open": opening, "gap_extend": extending}

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        log_p = by_clock(first, second, self.variance)
        logits = (first.z @ second.z.mT / self.temperature).masked_fill(~second.valid[:, None, :], NEVER)
        log_q = (torch.softmax(logits, dim=2) + 1e-6).log()
        each = log_p.exp() * torch.where(second.valid[:, None, :], log_p - log_q, 0)
        contrastive = first.mean(each.sum(2)) / second.divisor()
        similarity = 1 / squared_distances(first.z, second.z).clamp(min=1e-4)
        scores = self._score(similarity, first, second) + self._score(similarity.mT, second, first)
        return contrastive + self.score_weight * scores

    def _score(self, similarity: Tensor, first: Sequences, second: Sequences) -> Tensor:
        """The score at `temperature`, with the gradient of the score at 1."""
        rows, columns = (torch.arange(n, device=similarity.device) for n in similarity.shape[1:])
        rows, columns = rows.clamp(max=RELEASED - 1), columns.clamp(max=RELEASED - 1)
        opening, extending = self._penalties()[:, rows[:, None], columns]
        settings = {"gap_open": opening, "gap_extend": extending, "lengths": (first.lengths, second.lengths)}
        trained = smith_waterman(similarity, temperature=1.0, **settings)
        with torch.no_grad():
            value = smith_waterman(similarity, temperature=self.temperature, **settings)
        return trained + (value - trained).detach()

    def _penalties(self) -> Tensor:
        """(2, 64, 64). Their gradient is that of the gaps, so that clipping it does not see the larger step."""
        gaps = self.gaps + ((GAP_RATE - 1) * self.gaps).detach()
        return gaps.clamp(min=0)
