"""What the loss is called with, checked once."""

from typing import NamedTuple

from torch import Tensor

from lac import checks
from lac.checks import Length
from lac.consensus import Group
from lac.sequences import Sequences, sequence_pairs
from lac.similarity import centred, unit

Two = tuple[Tensor | None, Tensor | None]


class Batch(NamedTuple):
    """Pairs of sequences of unit vectors, sequence k of both being a pair.

    Attributes:
        first: sequences 1.
        second: sequences 2.
        clock: whether equal times match.
        group: what is known of the recordings' groups, or `None`.
        embeddings: z1 and z2 as they came.
        groups: likewise.
        joint: what the pairs are compared with.
    """

    first: Sequences
    second: Sequences
    clock: bool
    group: Group | None
    embeddings: tuple[Tensor, Tensor]
    groups: Tensor | None
    joint: "Joint"

    def sides(self) -> int:
        """How many sequences of each pair are recordings of their own: 1, or both."""
        if self.clock or self.group is None:
            return 1
        return 2 if (self.group.guides[0] is None) == (self.group.guides[1] is None) else 1


class Joint(NamedTuple):
    """The pairs of all processes, or of the one that is alone.

    Attributes:
        first: sequences 1, of unit vectors; `None` where no part of the loss needs those of other processes.
        second: sequences 2, likewise.
        group: what is known of the recordings' groups, or `None`.
        start: the place of the first pair of this process.
        groups: (B,) of all pairs, on the host; `None` in a process that is alone.
    """

    first: Sequences | None
    second: Sequences | None
    group: Group | None
    start: int = 0
    groups: list[int] | None = None


def checked_call(
    z1: Tensor,
    z2: Tensor,
    times: Two,
    lengths: tuple[Length, Length],
    same_clock: bool,
    groups: Tensor | None,
    guides: Two,
    teachers: Two,
) -> Batch:
    """The arguments of `LACLoss`, those of sequences 1 and 2 together.

    Raises:
        ValueError, TypeError: as there.
    """
    first, second = unit_pairs(z1, z2, *times, *lengths)
    clock = checks.flag("same_clock", same_clock) and times[0] is not None
    if groups is None:
        for name, value in zip(("guide1", "guide2", "teacher1", "teacher2"), (*guides, *teachers), strict=True):
            if value is not None:
                raise ValueError(f"{name} serves the consensus of a group: pass groups, too, or leave it out")
        return Batch(first, second, clock, None, (z1, z2), None, Joint(first, second, None))
    numbers = checks.groups(groups, z1.shape[0], z1.device)
    for k, (z, sequences) in enumerate(((z1, first), (z2, second))):
        checks.guide(f"guide{k + 1}", guides[k], f"z{k + 1}", tuple(z.shape[:2]), sequences.lengths)
        teacher = teachers[k]
        if teacher is not None:
            checks.embeddings(f"teacher{k + 1}", teacher, tuple(z.shape[:2]))
            checks.same_device(f"teacher{k + 1}", teacher, f"z{k + 1}", z.device)
    for name, both in (("guide", guides), ("teacher", teachers)):
        sizes = [x.shape[2] for x in both if x is not None]
        if not clock and len(set(sizes)) > 1:
            raise ValueError(f"{name}1 and {name}2 must agree in their last dimension, got {sizes[0]} and {sizes[1]}")
    group = Group(numbers, guides, teachers)
    return Batch(first, second, clock, group, (z1, z2), groups, Joint(first, second, group))


def unit_pairs(
    z1: Tensor, z2: Tensor, times1: Tensor | None, times2: Tensor | None, lengths1: Length, lengths2: Length
) -> tuple[Sequences, Sequences]:
    """The sequences of each pair, checked, of unit vectors."""
    first, second = sequence_pairs(z1, z2, times1, times2, lengths1, lengths2)
    return first._replace(z=unit(first.z)), second._replace(z=unit(second.z))


def centred_pairs(first: Sequences, second: Sequences) -> tuple[Sequences, Sequences]:
    """Sequences of unit vectors minus what is common to each."""
    return first._replace(z=centred(first)), second._replace(z=centred(second))
