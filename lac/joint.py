"""The batch of all processes: what the pairs of one are compared with."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lac import processes
from lac.call import Batch, Joint
from lac.consensus import Group
from lac.sequences import Sequences, compute_dtype, masked_sequences
from lac.similarity import unit

Sides = tuple[bool, bool]


class _Piece(NamedTuple):
    """A tensor (B, ...) or (B, T, ...) of a process, to be sent."""

    name: str
    of: Tensor
    side: int


def with_others(batch: Batch, sides: Sides, recordings: Sides) -> Batch:
    """The same pairs, to be compared with those of all processes, which have to call this together.

    The joint order is process after process, each in its own order.

    Args:
        batch: the pairs of this process.
        sides: whether sequences 1, and sequences 2, of the others are needed.
        recordings: whether they are recordings that a consensus aligns: then their guides and teachers are, too.

    Raises:
        ValueError: the processes call the loss with arguments of different kinds.
    """
    if not any(sides):
        return batch
    embeddings, others = _pieces(batch, sides, recordings)
    dtype = compute_dtype(*batch.embeddings)
    groups = None if batch.groups is None else torch.as_tensor(batch.groups).tolist()
    sizes = tuple(len(batch.first.lengths) if k == 0 else batch.embeddings[k - 1].shape[1] for k in range(3))
    everyone = processes.told((_kinds(batch, embeddings, others), sizes, groups))
    _check([kinds for kinds, _, _ in everyone])
    widest = [max(size[k] for _, size, _ in everyone) for k in range(3)]

    # Every process sends as many numbers; what was padded to a whole batch is cut off again.
    wire = [_padded(piece, widest) for piece in (*embeddings, *others)]
    first = wire[: len(embeddings)]
    narrow = first[0].dtype if len(first) == 1 else torch.promote_types(first[0].dtype, first[1].dtype)
    rest = torch.cat([x.contiguous().flatten().view(torch.uint8) for x in wire[len(embeddings) :]])
    z, bytes_ = processes.gathered(torch.cat([x.to(narrow).flatten() for x in first]), rest, dtype)
    counts = [size[0] for _, size, _ in everyone]
    kept = None
    if min(counts) < widest[0]:
        places = [p * widest[0] + k for p, of_process in enumerate(counts) for k in range(of_process)]
        kept = torch.tensor(places, device=z.device)
    received = [*_unpacked(z, first, kept, dtype), *_unpacked(bytes_, wire[len(embeddings) :], kept)]
    by_name = {piece.name: x for piece, x in zip((*embeddings, *others), received, strict=True)}
    rank = processes.rank()
    joint_groups = [number for *_, numbers in everyone for number in numbers or ()]
    return batch._replace(joint=_joint(batch, by_name, sum(counts[:rank]), dtype, joint_groups))


def _pieces(batch: Batch, sides: Sides, recordings: Sides) -> tuple[list[_Piece], list[_Piece]]:
    """What is sent of the sides that are needed: embeddings, and what has no gradient."""
    embeddings, others = [], []
    for k, sequences in enumerate((batch.first, batch.second)):
        if not sides[k]:
            continue
        embeddings.append(_Piece(f"z{k + 1}", batch.embeddings[k], k))
        others += [_Piece(f"times{k + 1}", sequences.times, k), _Piece(f"lengths{k + 1}", sequences.lengths, k)]
        if batch.group is not None and recordings[k]:
            for name, given in (("guide", batch.group.guides[k]), ("teacher", batch.group.teachers[k])):
                if given is not None:
                    others.append(_Piece(f"{name}{k + 1}", given.detach(), k))
    return embeddings, others


def _kinds(batch: Batch, embeddings: list[_Piece], others: list[_Piece]) -> dict[str, str]:
    """What has to be the same in all processes, in words."""
    kinds = {
        piece.name: " ".join([str(piece.of.dtype), *(f"of {size} dimensions" for size in piece.of.shape[2:])])
        for piece in (*embeddings, *others)
    }
    kinds["a gradient"] = str([piece.name for piece in embeddings if piece.of.requires_grad])
    kinds["groups"] = "given" if batch.group is not None else "none"
    kinds["dtypes"] = str(compute_dtype(*batch.embeddings))
    return kinds


def _check(everyone: list[dict[str, str]]) -> None:
    first = everyone[0]
    for rank, kinds in enumerate(everyone):
        for name in (*first, *kinds):
            here, there = first.get(name, "none"), kinds.get(name, "none")
            if here != there:
                raise ValueError(
                    f"LACLoss(gather=True) is called alike in all processes, but {name} is {here} in process 0 and "
                    f"{there} in process {rank}"
                )


def _padded(piece: _Piece, widest: list[int]) -> Tensor:
    """(B, T, ...) with as many sequences and frames as any process has; times repeat the last one."""
    x = piece.of
    if x.dim() > 1:
        more = widest[1 + piece.side] - x.shape[1]
        if piece.name.startswith("times"):
            x = torch.cat((x, x[:, -1:].expand(-1, more)), dim=1)
        else:
            x = pad(x, (*(0, 0) * (x.dim() - 2), 0, more))
    return pad(x, (*(0, 0) * (x.dim() - 1), 0, widest[0] - len(x)))


def _unpacked(rows: Tensor, like: list[Tensor], kept: Tensor | None, dtype: torch.dtype | None = None) -> list[Tensor]:
    """The tensors whose numbers, or whose bytes where no `dtype` is given, are the columns of (W, n)."""
    sizes = [x.numel() * (1 if dtype else x.element_size()) for x in like]
    whole = []
    for columns, x in zip(rows.split(sizes, dim=1), like, strict=True):
        numbers = columns if dtype else columns.contiguous().view(x.dtype)
        joined = numbers.reshape(-1, *x.shape[1:])
        whole.append(joined if kept is None else joined[kept])
    return whole


def _joint(batch: Batch, by_name: dict[str, Tensor], start: int, dtype: torch.dtype, groups: list[int]) -> Joint:
    def side(k: int) -> Sequences | None:
        z = by_name.get(f"z{k}")
        if z is None:
            return None
        sequences = masked_sequences(z, by_name[f"times{k}"], by_name[f"lengths{k}"], dtype)
        return sequences._replace(z=unit(sequences.z))

    group = None
    if batch.group is not None:
        numbers = torch.tensor(groups, device=batch.group.groups.device)
        guides, teachers = ((by_name.get(f"{name}1"), by_name.get(f"{name}2")) for name in ("guide", "teacher"))
        group = Group(numbers, guides, teachers)
    return Joint(side(1), side(2), group, start, groups)


class Share(NamedTuple):
    """The recordings of a group in all processes, and which of them are of this one.

    Attributes:
        members: their places among all recordings.
        own: the places of those of this process among the members.
        rows: the places of the same among all recordings of this process.
    """

    members: list[int]
    own: list[int]
    rows: list[int]


def shares(groups: list[int], start: int, count: int, sides: int) -> list[Share]:
    """The groups that a process has a recording of.

    Args:
        groups: of the pairs of all processes.
        start: the first pair of this process.
        count: how many it has.
        sides: whether the sequences 1 of all pairs are recordings, or 1 and then 2.
    """
    pairs: dict[int, list[int]] = {group: [] for group in groups[start : start + count]}
    for pair, group in enumerate(groups):
        if group in pairs:
            pairs[group].append(pair)
    result = []
    for of_group in pairs.values():
        each = [(side, pair) for side in range(sides) for pair in of_group]
        own = [k for k, (_, pair) in enumerate(each) if start <= pair < start + count]
        members = [side * len(groups) + pair for side, pair in each]
        result.append(Share(members, own, [each[k][0] * count + each[k][1] - start for k in own]))
    return result
