"""What LACLoss does with groups, guides and teachers."""

import copy

import pytest
import torch
from embedded import frame_numbers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lac import Consensus, LACLoss, self_similarity

GROUPS = torch.tensor([0, 0, 1, 0, 2, 0])


def pairs(b: int = 6, n: int = 12, m: int = 14, e: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Embeddings that drift, so that neighbours are alike."""
    g = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(b, t, e, generator=g, dtype=torch.float64).cumsum(1) for t in (n, m))
    z2[:, :n] = z1 + 0.3 * torch.randn(b, n, e, generator=g, dtype=torch.float64)
    for k in (1, 3, 5):  # what GROUPS puts with recording 0
        z1[k], z2[k] = z1[0] + 0.1 * k, z2[0] - 0.1 * k
    return z1, z2


def by_loops(
    loss: LACLoss, z: Tensor, groups: Tensor, guide: Tensor | None = None, seen: Tensor | None = None
) -> Tensor:
    """The consensus part of each recording, (B,)."""
    together = loss.consensus(z if seen is None else seen, groups, guide=guide)
    unit = z / z.norm(dim=2, keepdim=True)
    each, mass = z.new_zeros(len(z)), z.new_zeros(len(z))
    for i, a in enumerate(unit):
        for j, b in enumerate(unit):
            if i != j:
                log_q = torch.log_softmax(a @ b.T / loss.frame_temperature, dim=1)
                each[i] -= together.trust[i, j] * (together.posterior[i, j] * log_q).sum()
                mass[i] += together.posterior[i, j].sum()
    return each / (mass.sum() / (mass > 0).sum())


def test_the_part_equals_plain_loops():
    z1, z2 = pairs()
    loss = LACLoss()
    guide = self_similarity(z1)
    for given in (None, guide):
        terms = loss.terms(z1, z2, groups=GROUPS, guide1=given, **frame_numbers(z1, z2))
        torch.testing.assert_close(terms.consensus, by_loops(loss, z1, GROUPS, given), atol=1e-4, rtol=1e-4)
        assert (terms.consensus[[2, 4]] == 0).all()
        assert (terms.consensus[[0, 1, 3, 5]] > 0).all()
        torch.testing.assert_close(terms.total, terms.sequence + terms.frame + 2 * terms.consensus)


def test_a_teacher_is_what_recordings_are_aligned_by():
    z1, z2 = pairs()
    teacher = pairs(seed=1)[0]
    loss = LACLoss()
    result = loss.terms(z1, z2, groups=GROUPS, teacher1=teacher, **frame_numbers(z1, z2)).consensus
    torch.testing.assert_close(result, by_loops(loss, z1, GROUPS, seen=teacher), atol=1e-4, rtol=1e-4)
    plain = loss.terms(z1, z2, groups=GROUPS, **frame_numbers(z1, z2)).consensus
    own = loss.terms(z1, z2, groups=GROUPS, teacher1=z1, **frame_numbers(z1, z2)).consensus
    torch.testing.assert_close(own, plain)


def test_without_a_clock_both_sequences_are_recordings():
    z1, z2 = pairs(m=12)
    loss = LACLoss(consensus=Consensus(n_thirds=99))
    both = by_loops(loss, torch.cat((z1, z2)), torch.cat((GROUPS, GROUPS))).reshape(2, -1).mean(0)
    torch.testing.assert_close(loss.terms(z1, z2, groups=GROUPS).consensus, both, atol=1e-4, rtol=1e-4)
    own_clocks = loss.terms(z1, z2, groups=GROUPS, same_clock=False, **frame_numbers(z1, z2)).consensus
    torch.testing.assert_close(own_clocks, both, atol=1e-4, rtol=1e-4)
    guide1, guide2 = self_similarity(z1), self_similarity(z2)
    with_both = loss.terms(z1, z2, groups=GROUPS, guide1=guide1, guide2=guide2).consensus
    expected = by_loops(loss, torch.cat((z1, z2)), torch.cat((GROUPS, GROUPS)), torch.cat((guide1, guide2)))
    torch.testing.assert_close(with_both, expected.reshape(2, -1).mean(0), atol=1e-4, rtol=1e-4)
    first_alone = loss.terms(z1, z2, groups=GROUPS, guide1=guide1).consensus
    torch.testing.assert_close(first_alone, by_loops(loss, z1, GROUPS, guide1), atol=1e-4, rtol=1e-4)


def test_recordings_of_unequal_lengths_are_padded_alike():
    z1, z2 = pairs()
    loss = LACLoss(consensus=Consensus(n_thirds=99))
    wide = torch.cat((z1, torch.full((6, 2, 8), float("nan"), dtype=z1.dtype)), 1)
    lengths = {"lengths1": [12] * 6, "lengths2": [14] * 6}
    torch.testing.assert_close(
        loss.terms(wide, z2, groups=GROUPS, **lengths).consensus, loss.terms(z1, z2, groups=GROUPS).consensus
    )


def test_gradients_reach_what_is_trained_alone():
    z1, z2 = pairs()
    loss = LACLoss(sequence_weight=0, frame_weight=0)
    leaves = [x.clone().requires_grad_() for x in (z1, z2, self_similarity(z1), self_similarity(z2), z1 + 0.1, z2)]
    a, b, guide1, guide2, teacher1, teacher2 = leaves
    given = {"guide1": guide1, "guide2": guide2, "teacher1": teacher1, "teacher2": teacher2}
    loss(a, b, groups=GROUPS, **given).backward()
    assert (a.grad[[0, 1, 3, 5]].norm(dim=2) > 0).all()
    assert (b.grad[[0, 1, 3, 5]].norm(dim=2) > 0).any(dim=1).all()
    assert (a.grad[[2, 4]] == 0).all()  # two recordings of a group, z1 and z2, have no third
    assert all(x.grad is None for x in leaves[2:])
    a.grad = None
    loss(a, z2, groups=GROUPS, guide1=guide1, **frame_numbers(a, b)).backward()
    assert (a.grad[[2, 4]] == 0).all()


def test_groups_of_one_empty_recordings_and_still_guides_give_nothing():
    z1, z2 = (z.requires_grad_() for z in pairs())
    loss = LACLoss(sequence_weight=0, frame_weight=0)
    times = frame_numbers(z1, z2)
    for value in (
        loss(z1, z2, groups=torch.arange(6), **times),
        loss(z1, z2, groups=GROUPS, lengths1=0, **times),
        loss(z1[:1], z2[:1], groups=GROUPS[:1], **frame_numbers(z1[:1], z2[:1])),
    ):
        assert value == 0
        (gradient,) = torch.autograd.grad(value, z1)
        assert (gradient == 0).all()
    still = self_similarity(torch.ones(6, 12, 3))
    assert loss(z1, z2, groups=GROUPS, guide1=still, **times).isfinite()


def test_an_empty_pair_is_nobody_s_third():
    z1, z2 = pairs()
    loss = LACLoss(sequence_weight=0, frame_weight=0)
    lengths = [12, 0, 12, 12, 12, 12]
    left = [0, 2, 3, 4, 5]
    result = loss.terms(z1, z2, groups=GROUPS, lengths1=lengths, **frame_numbers(z1, z2)).consensus
    alone = loss.terms(z1[left], z2[left], groups=GROUPS[left], **frame_numbers(z1[left], z2[left])).consensus
    torch.testing.assert_close(result[left], alone)
    assert result[1] == 0


def test_the_order_of_the_pairs_and_the_reduction():
    z1, z2 = pairs()
    order = torch.tensor([5, 3, 1, 0, 4, 2])
    terms = LACLoss().terms(z1, z2, groups=GROUPS, **frame_numbers(z1, z2))
    moved = LACLoss().terms(z1[order], z2[order], groups=GROUPS[order], **frame_numbers(z1, z2))
    for name in ("total", "consensus", "frame"):
        torch.testing.assert_close(getattr(moved, name), getattr(terms, name)[order])
    call = {"groups": GROUPS, **frame_numbers(z1, z2)}
    torch.testing.assert_close(LACLoss(reduction="none")(z1, z2, **call), terms.total)
    torch.testing.assert_close(LACLoss(reduction="sum")(z1, z2, **call), terms.total.sum())
    torch.testing.assert_close(LACLoss()(z1, z2, **call), terms.total.mean())


def test_negatives_are_of_other_groups():
    """Another recording of the group is no negative: moving it changes nothing; one of another group does."""
    z1, z2 = pairs()
    loss = LACLoss(consensus_weight=0, n_negatives=1)
    expected = loss.terms(z1, z2, groups=GROUPS).sequence
    for changed, differs in ((3, False), (2, True)):
        moved = z2.clone()
        moved[changed] = z1[0][torch.arange(14) % 12]
        assert (abs(loss.terms(z1, moved, groups=GROUPS).sequence[0] - expected[0]) > 1e-6) == differs
    without = loss.terms(z1, z2).sequence
    torch.testing.assert_close(without, LACLoss(negatives="reversed", n_negatives=1).terms(z1, z2).sequence)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"groups": torch.zeros(5).long()}, ValueError, r"groups must have shape \(6,\)"),
        ({"groups": torch.zeros(6)}, TypeError, "groups must hold integers"),
        ({"groups": torch.zeros(6).bool()}, TypeError, "groups must hold integers"),
        ({"guide1": torch.zeros(6, 12, 3)}, ValueError, "guide1 serves the consensus of a group: pass groups"),
        ({"teacher2": torch.zeros(6, 14, 8)}, ValueError, "teacher2 serves"),
        ({"groups": GROUPS, "guide1": torch.zeros(6, 11, 3)}, ValueError, r"guide1 must be \(6, 12, K\)"),
        ({"groups": GROUPS, "guide2": torch.zeros(6, 14, 0)}, ValueError, r"guide2 must be \(6, 14, K\)"),
        ({"groups": GROUPS, "guide1": torch.zeros(6, 12, 3).long()}, TypeError, "guide1 must be floating point"),
        ({"groups": GROUPS, "teacher1": torch.zeros(6, 12)}, ValueError, "teacher1 must be"),
        ({"groups": GROUPS, "guide1": torch.full((6, 12, 3), float("nan"))}, ValueError, "guide1 must be finite"),
        (
            {"groups": GROUPS, "guide1": torch.zeros(6, 12, 3), "guide2": torch.zeros(6, 14, 4)},
            ValueError,
            "guide1 and guide2 must agree",
        ),
        ({"same_clock": None}, TypeError, "same_clock must be True or False"),
    ],
)
def test_bad_input_is_told(given, error, message):
    with pytest.raises(error, match=message):
        LACLoss()(*pairs(), **given)


def test_a_consensus_must_be_one():
    with pytest.raises(TypeError, match=r"consensus must be a lac\.Consensus"):
        LACLoss(consensus=0.3)
    assert LACLoss(consensus=Consensus(spread=1)).consensus.spread == 1


def test_rubbish_at_padding_of_guide_and_teacher_changes_nothing():
    z1, z2 = pairs()
    guide = self_similarity(z1)
    lengths = torch.tensor([12, 9, 12, 10, 12, 11])
    padding = (torch.arange(12) >= lengths[:, None])[:, :, None]
    call = {"groups": GROUPS, "lengths1": lengths, **frame_numbers(z1, z2)}
    expected = LACLoss().terms(z1, z2, guide1=guide, teacher1=z1, **call)
    bad = (x.masked_fill(padding, float("nan")) for x in (guide, z1))
    result = LACLoss().terms(z1, z2, guide1=next(bad), teacher1=next(bad), **call)
    for a, b in zip(result, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype):
    z1, z2 = pairs()
    expected = LACLoss().terms(z1, z2, groups=GROUPS, **frame_numbers(z1, z2)).consensus
    result = LACLoss().terms(z1.to(dtype), z2.to(dtype), groups=GROUPS, **frame_numbers(z1, z2)).consensus
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, rtol=1e-3 if dtype == torch.float32 else 0.2, atol=0.02)


def test_it_compiles_as_one_graph():
    z1, z2 = (z.float() for z in pairs())
    loss, guide = LACLoss(), self_similarity(z1)

    def value(a, b):
        return loss(a, b, groups=GROUPS, guide1=guide, teacher1=a, **frame_numbers(a, b))

    compiled = torch.compile(value, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z1, z2), value(z1, z2))


class _NoReads(TorchDispatchMode):
    """Fails where a value is brought to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was read"
        assert "nonzero" not in str(func)
        return func(*args, **(kwargs or {}))


def test_values_are_not_read(monkeypatch):
    z1, z2 = (z.float() for z in pairs())
    loss, guide = copy.deepcopy(LACLoss()), self_similarity(z1)
    monkeypatch.setattr("lac.checks.readable", lambda *_: False)  # as on a GPU
    with _NoReads():
        loss(z1, z2, groups=GROUPS, guide1=guide, teacher1=z1, **frame_numbers(z1, z2))
        loss(z1, z2, groups=GROUPS)
