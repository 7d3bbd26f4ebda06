"""Learning by aligning videos."""

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from lac.runs.warping import end, soft_dtw

from .base import PairLoss, Sequences, phase, squared_distances


class LAV(PairLoss):
    r"""Soft dynamic time warping between two clips, and in each clip a regulariser that keeps its frames apart.

        [softDTW(D) + weight (I(z1) + I(z2))] / N,
        I(z) = sum_ij  d_ij                                    where |i - j| <= window,
                       (1 + (i - j)^2) max(0, margin - d_ij)   elsewhere,

    D and d squared Euclidean distances of normalised embeddings, N the mean length of the two. Smooth minimum
    -gamma log sum exp(-x / gamma). gamma 0.1, weight 0.5, window 10 frames of the clip, margin 2.

    Source: S. Haresh, S. Kumar, H. Coskun, S. N. Syed, A. Konin, M. Z. Zia, Q.-H. Tran, "Learning by Aligning Videos
    in Time", CVPR 2021. As in what its authors ran, i and j in the factor 1 + (i - j)^2 are shares of the clip's
    length; in frames, the regulariser would be some hundred times the alignment.
    """

    views = "action"

    def __init__(
        self, *, gamma: float = 0.1, regulariser_weight: float = 0.5, window: float = 10.0, margin: float = 2.0
    ) -> None:
        super().__init__()
        self.gamma, self.regulariser_weight, self.window, self.margin = gamma, regulariser_weight, window, margin

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        first, second = (s._replace(z=normalize(s.z, dim=2)) for s in (first, second))
        warped = end(soft_dtw(squared_distances(first.z, second.z), self.gamma), first.lengths, second.lengths)
        apart = self._regulariser(first) + self._regulariser(second)
        return (warped + self.regulariser_weight * apart) / (0.5 * (first.divisor() + second.divisor()))

    def _regulariser(self, sequence: Sequences) -> Tensor:
        distances = squared_distances(sequence.z, sequence.z)
        frames, share = sequence.times, phase(sequence)
        near = (frames[:, :, None] - frames[:, None, :]).abs() <= self.window
        factor = 1 + (share[:, :, None] - share[:, None, :]) ** 2
        each = torch.where(near, distances, factor * relu(self.margin - distances))
        return (each * (sequence.valid[:, :, None] & sequence.valid[:, None, :])).sum((1, 2))
