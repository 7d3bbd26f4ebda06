"""Every way in which `LACLoss` is called, at any size: its settings, embeddings, and the arguments beside them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lac import LACLoss, self_similarity


class Way(NamedTuple):
    """Settings of the loss, and which arguments come: the times, of one clock or two, groups, guides and teachers."""

    settings: dict[str, Any]
    times: bool = False
    same_clock: bool = True
    groups: bool = False
    both: bool = False  # guides and teachers of both sequences

    def loss(self, e: int, **more: Any) -> LACLoss:
        """Of embeddings (B, T, e); its penalties moved off where they start, so that all that is learned matters."""
        loss = LACLoss(**{"embed_dim": e} | self.settings | more)
        g = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in loss.aligner.gaps.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=g, dtype=torch.float64))
        return loss

    def arguments(self, z1: Tensor, z2: Tensor, seed: int = 0) -> dict[str, Any]:
        """Ragged lengths, an empty pair among three or more, and what else this way takes."""
        g = torch.Generator().manual_seed(seed + 1000)
        (b, n, _), m = z1.shape, z2.shape[1]
        lengths1, lengths2 = (torch.randint(1, most + 1, (b,), generator=g) for most in (n, m))
        if b > 2:
            lengths2[1] = 0
        lengths1[0], lengths2[0] = n, m
        given: dict[str, Any] = {"lengths1": lengths1, "lengths2": lengths2}
        if self.times:
            times1, times2 = (torch.rand(b, t, generator=g, dtype=torch.float32).cumsum(1) for t in (n, m))
            given |= {"times1": times1, "times2": times2, "same_clock": self.same_clock}
        if self.groups:
            given |= {"groups": torch.arange(b) // 4, "guide1": self_similarity(z1.detach(), lengths1)}
            given |= {"teacher1": z1.detach() + 0.1}
        if self.both:
            given |= {"guide2": self_similarity(z2.detach(), lengths2), "teacher2": z2.detach() + 0.1}
        return given


WAYS = {
    "two recordings": Way({}),
    "one clock": Way({}, times=True),
    "contrast with a clock": Way({"sequence_form": "contrast", "negatives": "both"}, times=True),
    "contextual gaps": Way({"gaps": "contextual", "negatives": "batch"}),
    "two clocks": Way({"gaps": "interval", "learn_similarity": True}, times=True, same_clock=False),
    "the score": Way({"sequence_form": "score", "gaps": "constant"}, times=True),
    "groups of one clock": Way({}, times=True, groups=True),
    "groups of recordings": Way({}, groups=True, both=True),
}


def embedded(b: int, n: int, m: int, e: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """z1 (b, n, e) and z2 (b, m, e), requiring gradients; every four pairs show the same, with noise on it."""
    g = torch.Generator().manual_seed(seed)
    action = torch.randn(-(-b // 4), max(n, m), e, generator=g, dtype=torch.float64).cumsum(1)
    shown = action.repeat_interleave(4, 0)[:b]
    both = (shown[:, :t] + 0.3 * torch.randn(b, t, e, generator=g, dtype=torch.float64) for t in (n, m))
    return [z.to(dtype).requires_grad_() for z in both]
