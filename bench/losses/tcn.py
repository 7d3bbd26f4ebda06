"""Time-contrastive network, single view."""

from torch import Tensor
from torch.nn.functional import normalize, relu

from .base import PairLoss, Sequences, squared_distances


class TCN(PairLoss):
    r"""A frame is nearer to one of about the same time than to one of another time, by a margin.

        max(0, |a - p|^2 - |a - n|^2 + margin),  |t_a - t_p| <= positive,  |t_a - t_n| > negative,

    on normalised embeddings. The anchor is a frame of one view, p and n are frames of the other. Mean over all p and n
    of an anchor, then over the anchors that have both, then over the directions. margin 0.2, positive 5 frames of the
    clip (0.2 s), negative twice that.

    Source: P. Sermanet, C. Lynch, Y. Chebotar, J. Hsu, E. Jang, S. Schaal, S. Levine, "Time-Contrastive Networks:
    Self-Supervised Learning from Video", ICRA 2018, its single-view form. There one p and one n are drawn for each
    anchor; the mean over all is what that draw gives on average, without its noise. There p and n come from the
    anchor's own view; here from the other, where every loss compared finds its counterparts.
    """

    views = "same"

    def __init__(self, *, margin: float = 0.2, positive: float = 5.0, negative: float = 10.0) -> None:
        super().__init__()
        self.margin, self.positive, self.negative = margin, positive, negative

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        distances = squared_distances(normalize(first.z, dim=2), normalize(second.z, dim=2))
        return 0.5 * (self._triplets(distances, first, second) + self._triplets(distances.mT, second, first))

    def _triplets(self, distances: Tensor, first: Sequences, second: Sequences) -> Tensor:
        apart = (first.times[:, :, None] - second.times[:, None, :]).abs()
        inside = first.valid[:, :, None] & second.valid[:, None, :]
        positive, negative = (apart <= self.positive) & inside, (apart > self.negative) & inside
        hinge = relu(distances[:, :, :, None] - distances[:, :, None, :] + self.margin)
        # (B, T1, T2, T2): the sums over p and n as products with their masks
        of_anchor = (hinge * negative[:, :, None, :]).sum(3)
        of_anchor = (of_anchor * positive).sum(2) / (positive.sum(2) * negative.sum(2)).clamp(min=1)
        anchors = (positive.any(2) & negative.any(2)).sum(1)
        return of_anchor.sum(1) / anchors.clamp(min=1)
