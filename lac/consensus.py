"""The consensus of the alignments of several sequences that show the same thing."""

import torch
from torch import Tensor


def consistent_alignments(posteriors: Tensor, groups: Tensor) -> Tensor:
    """The probabilistic consistency transformation: what the third sequences say of each pair.

        C_ij = (2 P_ij + sum over k other than i, j of the group of P_ik P_kj) / n,   n the size of the group.

    Args:
        posteriors: (C, C, T, T) floating point, of C sequences padded to T frames: [i, j] of the frames of i and j,
            0 at padding, [j, i] its transpose. What stands at [i, i] is not looked at.
        groups: (C,) integers; sequences of equal number show the same thing.

    Returns:
        (C, C, T, T): 0 at [i, i] and between groups.

    Source: C. Do et al., "ProbCons: Probabilistic consistency-based multiple sequence
    alignment", Genome Research 15, 2005.
    """
    c, t = posteriors.shape[0], posteriors.shape[2]
    alike = (groups[:, None] == groups) & ~torch.eye(c, dtype=torch.bool, device=posteriors.device)
    p = torch.where(alike[:, :, None, None], posteriors, 0)
    dense = p.permute(0, 2, 1, 3).reshape(c * t, c * t)
    thirds = (dense @ dense).reshape(c, t, c, t).permute(0, 2, 1, 3)
    size = (alike.sum(1) + 1).to(p)[:, None, None, None]
    return torch.where(alike[:, :, None, None], (2 * p + thirds) / size, 0)
