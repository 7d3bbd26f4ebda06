"""Several recordings of one action, aligned by what they agree about."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lac import checks, solve
from lac.checks import Length
from lac.sequences import Sequences
from lac.similarity import centred, unit
from lac.solve import Pairs
from lac_kernels.problem import valid_frames

Match = Callable[[Tensor, Tensor, Tensor], Tensor]

_CELLS = 1 << 22  # of the pairs that are aligned at a time


def consistent_alignments(
    posteriors: Tensor, groups: Tensor, lengths: Length = None, *, n_thirds: int | None = None
) -> Tensor:
    r"""The probabilistic consistency transformation: what every third recording of the group says about a pair.

    For recordings i and j of a group of n, P[i, j] the posterior of their alignment,

        C[i, j] = (2 P[i, j] + sum over k other than i, j of P[i, k] P[k, j]) / n.

    Frames that truly match are matched by way of every third recording; wrong matches scatter. A recording that is
    alone in its group, pairs of different groups and the diagonal [i, i] stay as they are.

    Memory: two more tensors of the size of `posteriors`, 4 (B N)^2 bytes each. Time: (B N)^2 K N products for K thirds.

    Args:
        posteriors: (B, B, N, N) floating point, posteriors[j, i] the transpose of posteriors[i, j].
        groups: (B,) integers: recordings of equal number show the same action.
        lengths: (B,) integers, the frames that are no padding; default N. Padding may hold anything.
        n_thirds: take so many recordings, drawn by torch's generator, as thirds of all pairs, and their mean in place
            of the sum. Default: all.

    Returns:
        (B, B, N, N), of the dtype of `posteriors`, symmetric as they are; 0 at padding. Differentiable.

    Raises:
        ValueError, TypeError: arguments of the wrong shape, type or range.

    References: C. Do, M. Mahabhashyam, M. Brudno, S. Batzoglou, "ProbCons: Probabilistic consistency-based multiple
    sequence alignment", 2005.
    """
    if not isinstance(posteriors, Tensor) or not posteriors.is_floating_point():
        kind = getattr(posteriors, "dtype", type(posteriors).__name__)
        raise TypeError(f"posteriors must be a floating-point tensor, got {kind}")
    shape = tuple(posteriors.shape)
    if len(shape) != 4 or shape[0] != shape[1] or shape[2] != shape[3]:
        raise ValueError(
            f"posteriors must be (B, B, N, N), the alignment of each recording with each, got {shape}; pad to one N"
        )
    groups = checks.groups(groups, shape[0], posteriors.device)
    lengths = checks.lengths("lengths", lengths, shape[0], shape[2], posteriors.device)
    if n_thirds is not None:
        checks.count("n_thirds", n_thirds)
    valid = valid_frames(lengths, shape[2])
    inside = valid[:, None, :, None] & valid[None, :, None, :]
    return _consistent(torch.where(inside, posteriors, 0), _partners(groups, lengths), n_thirds)


def _partners(groups: Tensor, lengths: Tensor) -> Tensor:
    """(B, B) whether two are different recordings of one group, both with frames."""
    there = lengths > 0
    alone = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    return (groups[:, None] == groups[None, :]) & ~alone & there[:, None] & there[None, :]


def _consistent(posteriors: Tensor, partners: Tensor, n_thirds: int | None) -> Tensor:
    b, _, n, _ = posteriors.shape
    between = torch.where(partners[:, :, None, None], posteriors, 0)
    thirds, left = between, partners.to(posteriors.dtype)
    if n_thirds is not None and n_thirds < b:
        chosen = torch.randperm(b, device=posteriors.device)[:n_thirds]
        thirds, left = thirds[:, chosen], left[:, chosen]
    flat = thirds.permute(0, 2, 1, 3).reshape(b * n, -1)
    support = (flat @ flat.mT).reshape(b, n, b, n).permute(0, 2, 1, 3)
    count = (left @ left.mT)[:, :, None, None]
    size = (partners.sum(1) + 1).to(posteriors.dtype)[:, None, None, None]
    # Where no third was drawn there is nothing but the pair itself to go by.
    share = torch.where((count > 0) & partners[:, :, None, None], (size - 2) / size, 0)
    return torch.where(share > 0, (1 - share) * posteriors + share / count.clamp(min=1) * support, posteriors)


_SHARPNESS, _WORTH = 6.0, 0.05  # of the second alignment: score = _SHARPNESS (C - _WORTH)
_AGAIN = {"gap_open": 0.3, "gap_extend": 0.05, "temperature": 0.1}


@dataclass(frozen=True)
class Consensus:
    r"""How several recordings of an action are aligned by what they agree about.

    1. Frames are compared by u, unit embeddings minus what is common to their recording (as in `LACLoss`), and by a
       guide d, unit vectors such as `lac.self_similarity`, where there is one:
       s = (1 - guide_weight) u u' + guide_weight d d'.
    2. Every two recordings of a group are aligned by s: P, the posterior of a differentiable local alignment.
    3. `consistent_alignments` makes C of P: true matches agree by every third recording, wrong ones scatter.
    4. They are aligned once more, by 6 (C - 0.05) with gaps 0.3, 0.05 at temperature 0.1: C is a probability, so these
       are in no unit of the data. A path is whole again, and a frame that has no partner is let go.
    5. Q, this posterior, is spread by a Gaussian of `spread` mean intervals along both recordings: positions are known
       no better, and targets that are a little wrong do no harm where they are wide.

    Args:
        guide_weight: of d, in [0, 1]. Default 0.3.
        spread: see 5, >= 0, in mean intervals between frames. Default 2.
        n_thirds: recordings that take part as thirds, drawn by torch's generator where there are more. Default 16.

    Raises:
        ValueError, TypeError: an argument out of its range.
    """

    guide_weight: float = 0.3
    spread: float = 2.0
    n_thirds: int = 16

    def __post_init__(self) -> None:
        if not 0 <= checks.finite("guide_weight", self.guide_weight) <= 1:
            raise ValueError(f"guide_weight must lie in [0, 1], got {self.guide_weight}")
        checks.weight("spread", self.spread)
        checks.count("n_thirds", self.n_thirds)

    def targets(
        self, recordings: Sequences, guide: Tensor | None, groups: Tensor, match: Match, backend: str
    ) -> Tensor:
        """Q (B, B, N, N), 0 beside the groups' pairs, at padding and on the diagonal; no gradient.

        Args:
            recordings: their z are centred unit embeddings.
            guide: (B, N, K), or `None`.
            groups: (B,) int64.
            match: step 2: `match(s, i, j)` is the posterior (P, N, N) of the pairs (i[k], j[k]).
            backend: of step 4.
        """
        with torch.no_grad():
            partners = _partners(groups, recordings.lengths)
            frames = self.compared(recordings, guide)
            posteriors = _every_pair(recordings, lambda i, j: match(frames[i] @ frames[j].mT, i, j))
            agreed = self.agreed(posteriors, partners)
            again = _every_pair(recordings, lambda i, j: self.again(agreed[i, j], recordings.lengths, i, j, backend))
            return _spread(torch.where(partners[:, :, None, None], again, 0), recordings, self.spread)

    def compared(self, recordings: Sequences, guide: Tensor | None) -> Tensor:
        """(B, N, F) such that s = f f'."""
        if guide is None:
            return recordings.z
        u, d = (1 - self.guide_weight) ** 0.5 * recordings.z, self.guide_weight**0.5 * guide.to(recordings.z.dtype)
        return torch.cat((u, torch.where(recordings.valid[:, :, None], d, 0)), dim=2)

    def agreed(self, posteriors: Tensor, partners: Tensor) -> Tensor:
        """Step 3."""
        return _consistent(posteriors, partners, self.n_thirds)

    def again(self, agreed: Tensor, lengths: Tensor, i: Tensor, j: Tensor, backend: str) -> Tensor:
        """Step 4 of the pairs (i[k], j[k])."""
        pairs = Pairs(_SHARPNESS * (agreed - _WORTH), lengths[i].to(torch.int32), lengths[j].to(torch.int32))
        return solve.score_and_posterior(pairs, **_AGAIN, backend=backend)[1]


def _every_pair(recordings: Sequences, solved: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(B, B, N, N) of `solved(i, j)` (P, N, N) for the pairs i < j, and its transposes; 0 on the diagonal."""
    b, n, _ = recordings.z.shape
    first, second = torch.triu_indices(b, b, 1, device=recordings.z.device)
    result = recordings.z.new_zeros(b, b, n, n)
    at_a_time = max(1, _CELLS // (n * n))
    for i, j in zip(first.split(at_a_time), second.split(at_a_time), strict=True):
        posterior = solved(i, j)
        result[i, j] = posterior
        result[j, i] = posterior.mT
    return result


def _spread(posteriors: Tensor, recordings: Sequences, width: float) -> Tensor:
    """Posteriors (B, B, N, N) spread along both recordings by a Gaussian of `width` mean intervals, no mass lost."""
    if width == 0:
        return posteriors
    times, steps = recordings.times, (recordings.lengths - 1).clamp(min=1)
    interval = (times[:, -1] - times[:, 0]) / steps
    interval = torch.where(interval > 0, interval, 1)[:, None, None]
    apart = (times[:, :, None] - times[:, None, :]) / interval
    inside = recordings.valid[:, :, None] & recordings.valid[:, None, :]
    kernel = torch.where(inside, torch.exp(-(apart**2) / (2 * width**2)), 0).to(posteriors.dtype)
    kernel = kernel / kernel.sum(1, keepdim=True).clamp(min=1e-6)  # where a frame's mass goes adds up to 1
    b, n = times.shape
    rows = (kernel @ posteriors.permute(0, 2, 1, 3).reshape(b, n, b * n)).reshape(b, n, b, n)
    return (rows.permute(2, 0, 1, 3).reshape(b, b * n, n) @ kernel.mT).reshape(b, b, n, n).permute(1, 0, 2, 3)


class Recordings(NamedTuple):
    """The sequences of a batch that are recordings of their own, with all that the consensus is made of.

    Attributes:
        z: of unit vectors, as they are trained.
        seen: of centred unit vectors, by which they are aligned; no gradient.
        guide: (B, N, K) unit vectors, or `None`.
        groups: (B,) int64.
    """

    z: Sequences
    seen: Sequences
    guide: Tensor | None
    groups: Tensor


class Group(NamedTuple):
    """What the loss is told of the recordings' groups: groups (B,), guides and teachers of sequences 1 and 2."""

    groups: Tensor
    guides: tuple[Tensor | None, Tensor | None] = (None, None)
    teachers: tuple[Tensor | None, Tensor | None] = (None, None)


def recordings(sequences: tuple[Sequences, ...], given: Group) -> Recordings:
    """One batch of all recordings: sequences 1, or sequences 1 and then sequences 2 of equal groups, padded alike."""
    frames = max(s.z.shape[1] for s in sequences)
    parts = []
    for s, guide, teacher in zip(sequences, given.guides, given.teachers, strict=False):
        with torch.no_grad():
            embeddings = s if teacher is None else s._replace(z=unit(_inside(s, teacher.to(s.z.dtype))))
            seen = s._replace(z=centred(embeddings)).padded(frames)
            d = None if guide is None else pad(unit(_inside(s, guide.to(s.z.dtype))), (0, 0, 0, frames - s.z.shape[1]))
        parts.append(Recordings(s.padded(frames), seen, d, given.groups))
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    d = None if first.guide is None or second.guide is None else torch.cat((first.guide, second.guide))
    return Recordings(
        first.z.joined(second.z), first.seen.joined(second.seen), d, torch.cat((given.groups, given.groups))
    )


def _inside(sequences: Sequences, x: Tensor) -> Tensor:
    return torch.where(sequences.valid[:, :, None], x.detach(), 0)
