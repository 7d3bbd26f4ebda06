"""Pairs of embedded sequences, and what `LACLoss` computes of them in plain loops."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lac import LACLoss

FORMS = ("contrast", "score", "posterior")
RAGGED = {"lengths1": torch.tensor([6, 0, 4, 1]), "lengths2": torch.tensor([8, 3, 0, 5])}


def embeddings(b: int = 3, n: int = 6, m: int = 8, e: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(b, t, e, generator=g, dtype=torch.float64) for t in (n, m))
    return z1.requires_grad_(), z2.requires_grad_()


def frame_numbers(z1: Tensor, z2: Tensor, form: str | None = "posterior") -> dict[str, Tensor]:
    """The frame numbers as the one clock of each pair; no times for the form `None`, the default without a clock."""
    if form is None:
        return {}
    times1, times2 = (torch.arange(z.shape[1]).expand(z.shape[:2]) for z in (z1, z2))
    return {"times1": times1, "times2": times2}


def in_seconds(b: int, n: int, m: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(3)
    times1, times2 = (torch.rand(b, t, generator=g, dtype=torch.float64).cumsum(1) for t in (n, m))
    return {"times1": times1, "times2": times2}


def cosine(a: Tensor, b: Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


def centred(z: Tensor) -> Tensor:
    """(T, E): the direction of each frame minus (1 - 1 / T) times their mean."""
    frames = [frame / frame.norm() for frame in z]
    shared = sum(frames) / len(frames) * (1 - 1 / len(frames))
    return torch.stack([(frame - shared) / (frame - shared).norm() for frame in frames])


def similarity(loss: LACLoss, z1: Tensor, z2: Tensor) -> Tensor:
    """(N, E), (M, E): the scores (N, M) of one pair."""
    scale, margin = softplus(loss.raw_scale).double(), loss.margin.double()
    return torch.stack([torch.stack([scale * (cosine(a, b) - margin) for b in centred(z2)]) for a in centred(z1)])
