"""The parts of the loss: what each compares, given sequences of unit vectors."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from lac.sequences import NEVER, Sequences, mean_interval


def frame_target(first: Sequences, second: Sequences, sigma: float) -> Tensor:
    """P[i,j] = exp(-(t1_i - t2_j)^2 / (2 sigma^2)), rows normalised: (B, T1, T2), by the clock, 0 at padding.

    t in units of the pair's mean interval between frames.
    """
    apart = (first.times[:, :, None] - second.times[:, None, :]) / mean_interval(first, second)[:, None, None]
    apart = apart.to(torch.promote_types(apart.dtype, first.z.dtype))
    logits = (-(apart**2) / (2 * sigma**2)).masked_fill(~second.valid[:, None, :], NEVER)
    inside = first.valid[:, :, None] & second.valid[:, None, :]
    return (torch.softmax(logits, dim=2) * inside).to(first.z.dtype)


_SHARE = 1e-6  # e of the form "posterior": of the frames' own similarities in what stands for the alignment
_LEAST = 1e-30  # of q, below which the alignment is left out of its logarithm; no gradient is divided by less


def cross_entropy(clock: Tensor, posterior: Tensor, scores: Tensor, first: Sequences, second: Sequences) -> Tensor:
    """-mean_i sum_j P[i,j] log q[i,j] per pair, (B,): q = p + ((1 - e - r_i)+ + e) softmax_j(S), e = _SHARE.

    r_i = sum_j p[i,j]: what the alignment leaves of a frame is guessed by the frame's own similarities, so that q adds
    up to 1 over the frames of the other sequence. What is left of a row is known to a rounding of 1 only; below e it is
    e. Where q underflows its logarithm is that of e softmax_j(S), taken before the exponential, and has a gradient at
    any distance.
    """
    log_own = log_softmax(scores.masked_fill(~second.valid[:, None, :], NEVER), dim=2)
    left = (1 - _SHARE - posterior.sum(2, keepdim=True)).clamp(min=0) + _SHARE
    q = posterior + left * log_own.exp()
    log_own = log_own + math.log(_SHARE)
    log_q = torch.where(q < _LEAST, log_own, q.clamp(min=_LEAST).log())
    return -(clock * torch.where(clock > 0, log_q, 0.0)).sum((1, 2)) / first.divisor()


def frame_part(first: Sequences, second: Sequences, clock: tuple[Tensor, Tensor], temperature: float) -> Tensor:
    """Mean of the two directions of KL(clock || softmax_j(cos / temperature)) per pair, (B,)."""
    logits = first.z @ second.z.mT / temperature
    return 0.5 * (_divergence(clock[0], logits, first, second) + _divergence(clock[1], logits.mT, second, first))


def _divergence(clock: Tensor, logits: Tensor, first: Sequences, second: Sequences) -> Tensor:
    """mean_i sum_j P[i,j] (log P[i,j] - log Q[i,j]) per pair, (B,): Q = softmax_j of the logits, P the clock."""
    log_q = log_softmax(logits.masked_fill(~second.valid[:, None, :], NEVER), dim=2)
    inside = clock > 0
    divergence = clock * (torch.where(inside, clock, 1.0).log() - torch.where(inside, log_q, 0.0))
    return divergence.sum((1, 2)) / first.divisor()


def candidates(own: Tensor, b: int, negatives: str, n_others: int | None, n_negatives: int) -> Tensor:
    """What each own sequence 1 of a batch of b is contrasted with, (A, K): its partner, and then its negatives.

    Number k is sequence k of the batch, b + k the same played backwards. Negatives are the next `n_others` of the
    batch, and `n_negatives` of it backwards, of which the partner is the first.
    """
    partner = own[:, None]
    chosen = [partner]
    if negatives in ("batch", "both"):
        others = b - 1 if n_others is None else min(n_others, b - 1)
        chosen.append((partner + torch.arange(1, others + 1, device=own.device)) % b)
    if negatives in ("reversed", "both"):
        chosen.append(b + (partner + torch.arange(min(n_negatives, b), device=own.device)) % b)
    return torch.cat(chosen, dim=1)


def agreement(
    targets: Tensor, trust: Tensor, own: Sequences, recordings: Sequences, temperature: float
) -> tuple[Tensor, Tensor]:
    """-sum_j w[i,j] sum Q[i,j] log softmax(z_i z_j' / temperature), and sum Q, of each own recording i: (A,) both.

    Args:
        targets: Q (A, B, N, N), 0 at padding.
        trust: w (A, B).
        own: the A recordings i.
        recordings: all B of them.
        temperature: > 0.
    """
    a, n, _ = own.z.shape
    logits = (own.z.flatten(0, 1) / temperature) @ recordings.z.flatten(0, 1).mT
    logits = logits.reshape(a, n, *recordings.valid.shape)
    normaliser = logits.masked_fill(~recordings.valid, NEVER).logsumexp(3)
    targets = targets.permute(0, 2, 1, 3)
    mass = targets.sum(3)
    each = (trust * ((mass * normaliser).sum(1) - (targets * logits).sum((1, 3)))).sum(1)
    return each, mass.sum((1, 2))


def consensus_part(each: Tensor, mass: Tensor, sums: Callable[[Tensor], Tensor]) -> Tensor:
    """What each recording has by `agreement`, per unit of Q: (A,).

    It is divided by the mean of sum Q over the recordings with any, so that their mean is that of all Q; `sums` makes
    the sums over these recordings those over all.
    """
    there, whole = sums(torch.stack(((mass > 0).sum().to(mass.dtype), mass.sum())))
    part: Tensor = each * there / whole.clamp(min=_LEAST)
    return part


def per_frame(score: Tensor, first: Sequences, second: Sequences) -> Tensor:
    """The score of each pair divided by the length of its shorter sequence, (B,)."""
    return score / torch.minimum(first.divisor(), second.divisor())
