"""Several recordings of one action, aligned by what they agree about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lac import checks, processes, solve
from lac.checks import Length
from lac.precision import without_autocast
from lac.sequences import Sequences, mean_interval, recordings_of
from lac.similarity import centred, unit
from lac.solve import Pairs
from lac_kernels.problem import valid_frames

Solve = Callable[[Tensor, Tensor], Tensor]

_CELLS = 1 << 22  # of the pairs that are aligned at a time


def consistent_alignments(
    posteriors: Tensor, groups: Tensor, lengths: Length = None, *, n_thirds: int | None = None
) -> Tensor:
    r"""The probabilistic consistency transformation: what every third recording of the group says about a pair.

    For recordings i and j of a group of n, P[i, j] the posterior of their alignment,

        C[i, j] = (2 P[i, j] + sum over k other than i, j of P[i, k] P[k, j]) / n.

    Frames that truly match are matched by way of every third recording; wrong matches scatter. A recording that is
    alone in its group, pairs of different groups and the diagonal [i, i] stay as they are.

    Memory: about six more tensors of the size of `posteriors`, 4 (B N)^2 bytes each. Time: (B N)^2 K N products for K
    thirds.

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
    thirds = drawn(shape[0], n_thirds, posteriors.device)
    with without_autocast(posteriors):
        return _consistent(torch.where(inside, posteriors, 0), _partners(groups, lengths), thirds)[0]


def _partners(groups: Tensor, lengths: Tensor) -> Tensor:
    """(B, B) whether two are different recordings of one group, both with frames."""
    there = lengths > 0
    alone = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    return (groups[:, None] == groups[None, :]) & ~alone & there[:, None] & there[None, :]


class Thirds(NamedTuple):
    """Recordings that were drawn to take part as thirds.

    Attributes:
        places: (K,) int64 among the recordings.
        there: (K,) bool, False for one that was drawn but is not among them.
    """

    places: Tensor
    there: Tensor


def drawn(b: int, n_thirds: int | None, device: torch.device) -> Thirds | None:
    """`n_thirds` of b recordings, by torch's generator; `None` where all take part."""
    if n_thirds is None or n_thirds >= b:
        return None
    return Thirds(torch.randperm(b, device=device)[:n_thirds], torch.ones(n_thirds, dtype=torch.bool, device=device))


def _consistent(posteriors: Tensor, partners: Tensor, thirds: Thirds | None) -> tuple[Tensor, Tensor]:
    """C, and what the thirds alone say: the mean of P[i, k] P[k, j], 0 where there is none; (B, B, N, N) both."""
    b, _, n, _ = posteriors.shape
    between, left = posteriors * partners[:, :, None, None], partners.to(posteriors.dtype)
    flat = between.permute(0, 2, 1, 3).reshape(b * n, b * n)
    if thirds is not None:
        there = thirds.there.to(posteriors.dtype)
        flat = (flat.reshape(b * n, b, n)[:, thirds.places] * there[:, None]).flatten(1)
        left = left[:, thirds.places] * there
    count = left @ left.mT
    each = partners / count.clamp(min=1)
    support = _gram(flat).reshape(b, n, b, n).permute(0, 2, 1, 3) * each[:, :, None, None]
    size = (partners.sum(1, keepdim=True) + 1).to(posteriors.dtype)
    # Where no third was drawn there is nothing but the pair itself to go by.
    share = torch.where((count > 0) & partners, (size - 2) / size, 0)
    return torch.lerp(posteriors, support, share[:, :, None, None]), support


_ROWS = 160  # of a product that is not worth splitting


def _gram(x: Tensor) -> Tensor:
    """x x', of which the part above the diagonal is not computed twice: (R, K) -> (R, R)."""
    if len(x) <= _ROWS:
        return x @ x.mT
    first, second = x[: len(x) // 2], x[len(x) // 2 :]
    mixed = first @ second.mT
    rows = torch.cat((_gram(first), mixed), 1), torch.cat((mixed.mT, _gram(second)), 1)
    return torch.cat(rows)


class AlignedTogether(NamedTuple):
    """How B recordings align by what they agree about; no gradient.

    Attributes:
        posterior: (B, B, N, N), that of recordings i and j at [i, j], the transpose of [j, i]; 0 at padding, on the
            diagonal, and between different groups.
        trust: (B, B) from 0 to 1, how far the recordings of the group confirm each other's alignments: one figure for
            all pairs of a group; 0 between groups, and where no third recording is there to confirm anything.
    """

    posterior: Tensor
    trust: Tensor


@dataclass(frozen=True)
class Consensus:
    r"""Aligns several recordings of an action by what they agree about: the settings, and the steps.

    1. Frames are compared by u, unit embeddings minus what is common to their recording (as in `LACLoss`), and by a
       guide d, unit vectors such as `lac.self_similarity`, where there is one:
       s = ((1 - guide_weight) u u' + guide_weight d d') / its root mean square over all frames of the batch. So what
       follows is in units of how much frames differ, and fits itself to the data.
    2. Every two recordings of a group are aligned: P, the posterior for scores s - `margin`, gaps `gap_open` and
       `gap_extend`, at `temperature`.
    3. `consistent_alignments` makes C of P: true matches agree by every third recording, wrong ones scatter.
    4. They are aligned once more, by scores 6 (C - 0.05) with gaps 0.3, 0.05 at temperature 0.1. C is a probability, so
       these are in no unit of the data. A path is whole again, and a frame that has no partner is let go.
    5. The targets are this posterior, Q, spread by a Gaussian of `spread` mean intervals along both recordings:
       positions are known no better, and targets that are a little wrong do no harm where they are wide.
    6. How far is a group to be trusted? D is the mean over the thirds k of P[i,k] P[k,j], spread by 1 interval; r[t]
       and c[s] are what it leaves open of row t and of column s. For recordings of N and M frames
       I = sum Q log(D[t,s] sqrt(N M) + r[t] c[s]) / (min(N, M) log sqrt(N M)), before Q is spread, says how much
       likelier its matches are by the word of the others than by chance, and how many there are: 1 if each frame of
       the shorter recording is matched and all others confirm it. With m the mean of I over the pairs of the group,
       the trust is 15 m - 1/2, at least 0 and at most 1. It is the group's: pairs that are hard to align teach most.

    Args:
        guide_weight: of d, in [0, 1]. Default 0.5.
        margin: similarity above which two frames match. Default 1.5, as all that follow in units of s.
        gap_open: >= 0. Default 1.5.
        gap_extend: >= 0. Default 0.3.
        temperature: > 0. Default 0.6.
        spread: see 5, >= 0, in mean intervals between frames. Default 2.
        n_thirds: recordings that take part as thirds, drawn by torch's generator where there are more. Default 8.

    Raises:
        ValueError, TypeError: an argument out of its range.

    Examples:
        >>> z, groups = torch.randn(5, 40, 128), torch.zeros(5, dtype=torch.long)
        >>> Consensus()(z, groups).posterior.shape
        torch.Size([5, 5, 40, 40])
    """

    guide_weight: float = 0.5
    margin: float = 1.5
    gap_open: float = 1.5
    gap_extend: float = 0.3
    temperature: float = 0.6
    spread: float = 2.0
    n_thirds: int = 8

    def __post_init__(self) -> None:
        if not 0 <= checks.finite("guide_weight", self.guide_weight) <= 1:
            raise ValueError(f"guide_weight must lie in [0, 1], got {self.guide_weight}")
        checks.finite("margin", self.margin)
        checks.cost("gap_open", self.gap_open)
        checks.cost("gap_extend", self.gap_extend)
        checks.temperature(self.temperature)
        checks.weight("spread", self.spread)
        checks.count("n_thirds", self.n_thirds)

    def __call__(
        self,
        z: Tensor,
        groups: Tensor,
        lengths: Length = None,
        *,
        times: Tensor | None = None,
        guide: Tensor | None = None,
        backend: str = "auto",
    ) -> AlignedTogether:
        """Align all recordings of each group with each other.

        Args:
            z: (B, N, E) embeddings; raw features where nothing has been learned.
            groups: (B,) integers: recordings of equal number show the same action.
            lengths: (B,) integers, the frames that are no padding; default N.
            times: (B, N), default the frame numbers; they tell how wide `spread` is.
            guide: (B, N, K) floating point, such as `lac.self_similarity`. Only the direction of its rows counts.
            backend: of the alignments, as in `lac.smith_waterman`.

        Raises:
            ValueError, TypeError: arguments of the wrong shape, type or range.
            RuntimeError: a backend was named that cannot run here.
        """
        given = self.given(z, groups, lengths, times=times, guide=guide)
        with without_autocast(z):
            return self.align(given, checks.backend(backend))

    def given(
        self,
        z: Tensor,
        groups: Tensor,
        lengths: Length = None,
        *,
        times: Tensor | None = None,
        guide: Tensor | None = None,
    ) -> "Recordings":
        """The arguments of the call, checked, as the steps take them."""
        sequences = recordings_of(z, times, lengths)
        sequences = sequences._replace(z=unit(sequences.z))
        groups = checks.groups(groups, z.shape[0], z.device)
        checks.guide("guide", guide, "z", tuple(z.shape[:2]), sequences.lengths)
        with without_autocast(z):
            return recordings((sequences,), Group(groups, (guide, None)))

    def align(self, given: "Recordings", backend: str) -> AlignedTogether:
        """The steps, of what has been checked."""
        with torch.no_grad():
            seen = given.seen
            partners = _partners(given.groups, seen.lengths)
            frames = self.compared(given)

            def first(i: Tensor, j: Tensor) -> Tensor:
                return self.matched(frames[i] @ frames[j].mT, seen, i, j, backend)

            thirds = drawn(len(partners), self.n_thirds, partners.device) if given.whole is None else given.whole.thirds
            agreed, support = self.agreed(_every_pair(partners, seen, first), partners, thirds)
            confirmed = agreed.new_zeros(partners.shape)
            near, wide = (_near(seen, width).to(agreed.dtype) for width in (_WIDTH, self.spread))

            def second(i: Tensor, j: Tensor) -> Tensor:
                posterior = self.again(agreed[i, j], seen, i, j, backend)
                by_thirds = near[i] @ support[i, j] @ near[j].mT
                confirmed[i, j] = confirmed[j, i] = _information(posterior, by_thirds, seen, i, j)
                return wide[i] @ posterior @ wide[j].mT

            posterior = _every_pair(partners, seen, second)
            return AlignedTogether(posterior, self.trusted(confirmed, partners))

    def compared(self, given: "Recordings") -> Tensor:
        """Step 1: frames (B, N, F) such that s = f f'."""
        if given.whole is not None:
            return _scaled(self._weighted(given), given.whole.size)
        return self.compared_apart([given])[0]

    def compared_apart(self, given: Sequence["Recordings"]) -> list[Tensor]:
        """Step 1 of several batches together, none padded to the length of another."""
        size = self.size(given)
        return [_scaled(self._weighted(one), size) for one in given]

    def whole(self, given: "Recordings") -> "Whole":
        """What processes that align parts of these have in common; process 0 draws the thirds of all."""
        thirds = drawn(len(given.groups), self.n_thirds, given.groups.device)
        if thirds is not None:
            thirds = thirds._replace(places=processes.from_first(thirds.places))
        return Whole(self.size([given]), thirds)

    def size(self, given: Sequence["Recordings"]) -> Tensor:
        """The root mean square of all similarities before they are scaled by it, 0-d; no gradient."""
        flat = [self._weighted(one).flatten(0, 1) for one in given]
        if flat[0].shape[1] <= sum(map(len, flat)):
            products = torch.stack([frames.mT @ frames for frames in flat]).sum(0)
        else:
            products = torch.cat(flat) @ torch.cat(flat).mT  # of the same norm
        lengths = torch.stack([one.seen.lengths.sum() for one in given]).sum()
        size: Tensor = products.norm() / lengths.clamp(min=1)
        return size

    def _weighted(self, given: "Recordings") -> Tensor:
        """u beside d, (B, N, F), each by the root of its weight."""
        if given.guide is None:
            return given.seen.z
        return torch.cat(((1 - self.guide_weight) ** 0.5 * given.seen.z, self.guide_weight**0.5 * given.guide), dim=2)

    def matched(self, similarity: Tensor, seen: Sequences, i: Tensor, j: Tensor, backend: str) -> Tensor:
        """Step 2 of the pairs (i[k], j[k]): (K, N, N) -> (K, N, N)."""
        gaps = {"gap_open": self.gap_open, "gap_extend": self.gap_extend}
        return _posterior(similarity - self.margin, seen, i, j, gaps, self.temperature, backend)

    def agreed(self, posteriors: Tensor, partners: Tensor, thirds: Thirds | None) -> tuple[Tensor, Tensor]:
        """Step 3: C, and what the thirds alone say."""
        return _consistent(posteriors, partners, thirds)

    def again(self, agreed: Tensor, seen: Sequences, i: Tensor, j: Tensor, backend: str) -> Tensor:
        """Step 4 of the pairs (i[k], j[k])."""
        return _posterior(_SHARPNESS * (agreed - _WORTH), seen, i, j, _GAPS, _TEMPERATURE, backend)

    def trusted(self, information: Tensor, partners: Tensor) -> Tensor:
        """Step 6: from I of all pairs and who are partners, (B, B) both, to (B, B)."""
        partners = partners.to(information.dtype)
        together = partners.clone().fill_diagonal_(1)  # all of a group, one that is alone with itself
        mean = (together @ (information * partners)).sum(1) / (together @ partners).sum(1).clamp(min=1)
        return (_SURE * mean - _DOUBT).clamp(0, 1)[:, None] * partners


_SHARPNESS, _WORTH, _GAPS, _TEMPERATURE = 6.0, 0.05, {"gap_open": 0.3, "gap_extend": 0.05}, 0.1  # of step 4
_WIDTH, _SURE, _DOUBT, _LEAST = 1.0, 15.0, 0.5, 1e-6  # of step 6: intervals, and the least probability


def _information(posterior: Tensor, support: Tensor, seen: Sequences, i: Tensor, j: Tensor) -> Tensor:
    """I of step 6 of the pairs (i[k], j[k]), D being `support`: (K,)."""
    rows, columns = (1 - support.sum(dim, keepdim=True).clamp(max=1) for dim in (2, 1))
    n, m = seen.divisor()[i].to(support.dtype), seen.divisor()[j].to(support.dtype)
    frames = (n * m).sqrt()[:, None, None]
    nats = torch.addcmul(rows * columns, support, frames).clamp(min=_LEAST).log()
    most = torch.minimum(n, m) * frames[:, 0, 0].log()
    return (posterior * nats).sum((1, 2)) / torch.where(most > 0, most, 1)


def _posterior(
    scores: Tensor, seen: Sequences, i: Tensor, j: Tensor, gaps: dict[str, float], temperature: float, backend: str
) -> Tensor:
    pairs = Pairs(scores, seen.lengths[i].to(torch.int32), seen.lengths[j].to(torch.int32))
    return solve.score_and_posterior(pairs, **gaps, temperature=temperature, backend=backend)[1]


def _every_pair(partners: Tensor, recordings: Sequences, solved: Solve) -> Tensor:
    """(B, B, N, N) of `solved(i, j)` (P, N, N) for pairs i < j, and its transposes; 0 where they are no partners."""
    b, n, _ = recordings.z.shape
    first, second = torch.triu_indices(b, b, 1, device=recordings.z.device)
    result = recordings.z.new_zeros(b, b, n, n)
    at_a_time = max(1, _CELLS // (n * n))
    for i, j in zip(first.split(at_a_time), second.split(at_a_time), strict=True):
        posterior = solved(i, j) * partners[i, j, None, None]
        result[i, j] = posterior
        result[j, i] = posterior.mT
    return result


def _near(recordings: Sequences, width: float) -> Tensor:
    """(B, N, N) where the mass of a frame [.., .., s] goes: a Gaussian of `width` mean intervals that adds up to 1."""
    if width == 0:
        return torch.eye(recordings.z.shape[1], device=recordings.z.device).expand(len(recordings.z), -1, -1)
    times, interval = recordings.times, mean_interval(recordings, recordings)
    apart = (times[:, :, None] - times[:, None, :]) / interval[:, None, None]
    apart = apart.to(torch.promote_types(apart.dtype, recordings.z.dtype))
    inside = recordings.valid[:, :, None] & recordings.valid[:, None, :]
    weight = torch.where(inside, torch.exp(-(apart**2) / (2 * width**2)), 0)
    return weight / weight.sum(1, keepdim=True).clamp(min=1e-6)


def _scaled(frames: Tensor, size: Tensor) -> Tensor:
    return frames / torch.where(size > 0, size, 1).sqrt()


class Whole(NamedTuple):
    """What is common to all recordings of a batch.

    Attributes:
        size: 0-d, see `Consensus.size`.
        thirds: that were drawn of them; `None`: all.
    """

    size: Tensor
    thirds: Thirds | None


class Recordings(NamedTuple):
    """The sequences of a batch that are recordings of their own, with all that the consensus is made of.

    Attributes:
        z: of unit vectors, as they are trained.
        seen: of centred unit vectors, by which they are aligned; no gradient.
        guide: (B, N, K) unit vectors, or `None`.
        groups: (B,) int64.
        whole: of the batch that these were taken from, or `None`: they are all.
    """

    z: Sequences
    seen: Sequences
    guide: Tensor | None
    groups: Tensor
    whole: Whole | None = None

    def members(self, places: Tensor, whole: Whole) -> "Recordings":
        """Those of these places (K,), whole groups."""
        thirds = whole.thirds
        if thirds is not None:
            same = thirds.places[:, None] == places
            thirds = Thirds(same.int().argmax(1), same.any(1))
        guide = None if self.guide is None else self.guide[places]
        z, seen = self.z.selected(places), self.seen.selected(places)
        return Recordings(z, seen, guide, self.groups[places], Whole(whole.size, thirds))


class Group(NamedTuple):
    """What the loss is told of the recordings' groups: groups (B,), guides and teachers of sequences 1 and 2."""

    groups: Tensor
    guides: tuple[Tensor | None, Tensor | None] = (None, None)
    teachers: tuple[Tensor | None, Tensor | None] = (None, None)


def recordings(sequences: Sequence[Sequences], given: Group) -> Recordings:
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
