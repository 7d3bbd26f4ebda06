"""The recursion as one would write it in torch: anti-diagonals of the whole batch, logsumexp, autograd."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from peers import GAP_EXTEND, GAP_OPEN, Run, Sizes

WHAT = "this recursion; batched torch wavefront, logsumexp under autograd"
VERSION = torch.__version__
NEVER = -1e30


def skew(scores: Tensor) -> Tensor:
    """(B, N, M) to (N + M - 1, B, N)."""
    b, n, m = scores.shape
    wide = pad(scores, (0, n), value=NEVER).reshape(b, n * (m + n))
    return wide[:, : n * (m + n - 1)].reshape(b, n, m + n - 1).permute(2, 0, 1)


def shift(x: Tensor) -> Tensor:
    return pad(x[:, :-1], (1, 0), value=NEVER)


def score(scores: Tensor) -> Tensor:
    diagonals = skew(scores)
    never = torch.full_like(diagonals[0], NEVER)
    D, X, Y = (never, never), never, never
    before = [torch.stack((never, never, never))] * 2
    ends = []
    for s in diagonals:
        D, X, Y = before[1]
        new_x = torch.logaddexp(D - GAP_OPEN, X - GAP_EXTEND)
        new_y = torch.logsumexp(torch.stack((shift(D) - GAP_OPEN, shift(X) - GAP_OPEN, shift(Y) - GAP_EXTEND)), dim=0)
        old = before[0]
        start = torch.zeros_like(never)
        new_d = s + torch.logsumexp(torch.stack((start, shift(old[0]), shift(old[1]), shift(old[2]))), dim=0)
        before = [before[1], torch.stack((new_d, new_x, new_y))]
        ends.append(new_d)
    return torch.logsumexp(torch.stack(ends), dim=(0, 2))


def prepare(sizes: Sizes, scores: Tensor, threads: int) -> Run:
    scores = scores.clone()
    for k, (n, m) in enumerate(sizes):
        scores[k, n:] = scores[k, :, m:] = NEVER
    scores.requires_grad_()

    def run() -> Tensor:
        found = score(scores)
        torch.autograd.grad(found.sum(), scores)
        return found.detach()

    return run
