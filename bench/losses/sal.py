"""Shuffle and learn."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .base import PairLoss, Sequences


class SaL(PairLoss):
    r"""Are three frames in order? A classifier of their embeddings, learned with the encoder, has to tell.

    Of five frames a < b < c < d < e drawn from a view, (b, c, d) is in order, (b, a, d) and (b, e, d) are not; each
    triplet is reversed half the time. A quarter is in order. Cross-entropy, mean over the triplets of both views.

    Source: I. Misra, C. L. Zitnick, M. Hebert, "Shuffle and Learn: Unsupervised Learning using Temporal Order
    Verification", ECCV 2016; 8 triplets from each view and layers of 128, 64 and 2 on the three embeddings beside each
    other as in the comparison of D. Dwibedi et al. (2019). There is no optical flow to draw from where much moves:
    frames are drawn evenly. A view of fewer than five frames is left out.

    The frames are drawn by torch's generator of the CPU, five numbers for each triplet: `torch.manual_seed` repeats
    them, and they do not depend on padding. They do depend on a pair's place in its batch.
    """

    views = "same"

    def __init__(self, *, embed_dim: int = 128, triplets: int = 8) -> None:
        super().__init__()
        self.triplets = triplets
        layers = (nn.Linear(3 * embed_dim, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))
        self.classifier = nn.Sequential(*layers)

    def pairs(self, first: Sequences, second: Sequences) -> Tensor:
        per_view = torch.stack([self._view(first), self._view(second)])
        used = torch.stack([first.lengths, second.lengths]) >= 5
        return (per_view * used).sum(0) / used.sum(0).clamp(min=1)

    def _view(self, sequence: Sequences) -> Tensor:
        b = len(sequence.z)
        shuffled = torch.arange(self.triplets) < 3 * self.triplets // 4
        five = draw_frames(sequence.lengths.cpu(), self.triplets, 5)  # (B, triplets, 5) sorted
        outer = torch.where(torch.rand(b, self.triplets) < 0.5, five[..., 0], five[..., 4])
        three = torch.stack([five[..., 1], torch.where(shuffled, outer, five[..., 2]), five[..., 3]], dim=-1)
        three = torch.where(torch.rand(b, self.triplets, 1) < 0.5, three, three.flip(-1)).to(sequence.z.device)
        z = sequence.z[torch.arange(b, device=sequence.z.device)[:, None, None], three]
        logits = self.classifier(z.flatten(2).to(next(self.classifier.parameters()).dtype))
        answer = (~shuffled).long().to(logits.device).expand(b, -1)  # class 1: in order
        return cross_entropy(logits.flatten(0, 1), answer.flatten(), reduction="none").reshape(b, -1).mean(1)


def draw_frames(lengths: Tensor, sets: int, k: int) -> Tensor:
    """k different frames of each sequence, in order, every choice equally likely: (B,) -> (B, sets, k).

    Of a sequence of fewer than k frames, frame 0.
    """
    enough = (lengths >= k)[:, None]
    drawn = torch.empty(len(lengths), sets, 0, dtype=torch.long)
    for taken in range(k):
        left = (lengths - taken).clamp(min=1)[:, None]
        frame = (torch.rand(len(lengths), sets) * left).long().clamp(max=left - 1)  # its number among those left
        for other in drawn.unbind(-1):
            frame = frame + (frame >= other)
        drawn = torch.cat([drawn, frame[..., None]], dim=-1).sort(-1).values
    return torch.where(enough[..., None], drawn, 0)
