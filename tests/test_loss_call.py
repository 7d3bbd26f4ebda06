"""What the call of LACLoss means: clocks, groups, reductions, and what is refused."""

import pytest
import torch
from embedded import FORMS, RAGGED, embeddings, frame_numbers, in_seconds, similarity

from lac import LACLoss, smith_waterman
from lac.gaps import ContextualGaps


@pytest.mark.parametrize("form", [*FORMS, None])
@pytest.mark.parametrize("lengths", [{}, RAGGED], ids=["full", "ragged"])
def test_reduction(form, lengths):
    z1, z2 = embeddings(b=4)
    arguments = lengths | frame_numbers(z1, z2, form)
    total = LACLoss(sequence_form=form).terms(z1, z2, **arguments).total
    values = LACLoss(sequence_form=form, reduction="none")(z1, z2, **arguments)
    assert torch.equal(values, total)
    torch.testing.assert_close(LACLoss(sequence_form=form, reduction="sum")(z1, z2, **arguments), total.sum())
    pairs = 2 if lengths else 4  # that have frames
    torch.testing.assert_close(LACLoss(sequence_form=form)(z1, z2, **arguments), total.sum() / pairs)


def test_without_times_there_is_no_clock():
    """The frame part is 0, and the sequence part the contrast of the partner with the reversed."""
    z1, z2 = embeddings(b=4)
    terms = LACLoss().terms(z1, z2)
    assert not terms.frame.any()
    contrast = LACLoss(sequence_form="contrast", negatives="reversed", frame_weight=0)
    torch.testing.assert_close(terms.sequence, contrast.terms(z1, z2, **frame_numbers(z1, z2)).sequence)
    torch.testing.assert_close(terms.total, terms.sequence)
    (gradient,) = torch.autograd.grad(terms.total.sum(), z1)
    assert (gradient != 0).all()


def test_two_recordings_are_not_matched_by_index():
    """The same, started at any frame of a cycle: without a clock nothing tells where it began."""
    z1, _ = embeddings(b=2, n=12)
    distractor, _ = embeddings(b=2, n=12, seed=1)
    late = torch.cat((distractor[:, :6], z1, distractor[:, 6:]), 1)
    early = torch.cat((z1, distractor), 1)
    loss = LACLoss()
    torch.testing.assert_close(loss.terms(z1, late).score, loss.terms(z1, early).score, rtol=0.2, atol=0)
    assert loss(z1, late) < 0.01
    clock = loss.terms(z1, late, **frame_numbers(z1, late))
    assert (clock.frame > loss.terms(z1, early, **frame_numbers(z1, early)).frame + 1).all()


def test_with_one_clock_all_times_matter_and_the_alignment_is_held_against_it():
    z1, z2 = embeddings(b=4)
    loss, clock = LACLoss(), frame_numbers(z1, z2)
    terms = loss.terms(z1, z2, **clock)
    assert (terms.frame > 0).all()
    posterior = LACLoss(sequence_form="posterior").terms(z1, z2, **clock)
    for x, y in zip(terms, posterior, strict=True):
        assert torch.equal(x, y)
    later = loss.terms(z1, z2, times1=clock["times1"], times2=clock["times2"] + 3)
    assert (later.frame != terms.frame).all()
    assert (later.sequence != terms.sequence).all()


@pytest.mark.parametrize("call", ["forward", "terms", "align"])
def test_one_of_the_times_alone_is_refused(call):
    z1, z2 = embeddings()
    for name, times in frame_numbers(z1, z2).items():
        with pytest.raises(ValueError, match=f"{name} came without times.: give both"):
            getattr(LACLoss(), call)(z1, z2, **{name: times})


def test_of_two_clocks_the_times_serve_the_gap_model_only():
    z1, z2 = embeddings(b=4)
    times = in_seconds(4, 6, 8)
    shifted = {"times1": times["times1"] + 100, "times2": 3.0 + times["times2"]}
    slower = {"times1": 2 * times["times1"], "times2": times["times2"]}
    for gaps in ("constant", "learned", "interval"):
        loss = LACLoss(gaps=gaps)
        terms = loss.terms(z1, z2, **times, same_clock=False)
        assert not terms.frame.any()
        for x, y in zip(terms, loss.terms(z1, z2, **shifted, same_clock=False), strict=True):
            torch.testing.assert_close(x, y)
        if gaps == "interval":
            assert (loss.terms(z1, z2, **slower, same_clock=False).score != terms.score).all()
        else:
            for others in (loss.terms(z1, z2), loss.terms(z1, z2, **slower, same_clock=False)):
                for x, y in zip(terms, others, strict=True):
                    assert torch.equal(x, y)


@pytest.mark.parametrize("arguments", [{}, in_seconds(3, 6, 8) | {"same_clock": False}], ids=["no times", "two clocks"])
def test_the_form_posterior_needs_a_clock(arguments):
    z1, z2 = embeddings()
    loss = LACLoss(sequence_form="posterior")
    for call in (loss, loss.terms):
        with pytest.raises(
            ValueError, match=r"'posterior' compares the alignment with the clock.*give times1 and times2"
        ):
            call(z1, z2, **arguments)
    assert LACLoss(sequence_form="posterior", sequence_weight=0)(z1, z2, **arguments) == 0  # nothing is asked for


GROUPS = torch.tensor([0, 1, 0, 2, 1])


@pytest.mark.parametrize("negatives", [None, "both", "batch"])
def test_negatives_are_of_other_groups_or_backwards(negatives):
    """Against plain loops: never another recording of the group, played forward."""
    z1, z2 = embeddings(b=5)
    loss = LACLoss(negatives=negatives, n_negatives=2, consensus_weight=0, sequence_temperature=0.05)
    gaps = {"gap_open": loss.learned()["gap_open"], "gap_extend": loss.learned()["gap_extend"], "temperature": 0.2}
    sequence = loss.terms(z1, z2, groups=GROUPS).sequence
    for k in range(5):
        candidates = [z2[k], *(z2[other] for other in range(5) if GROUPS[other] != GROUPS[k])]
        if negatives != "batch":
            candidates += [z2[(k + s) % 5].flip(0) for s in range(2)]
        scores = torch.stack([smith_waterman(similarity(loss, z1[k], y), **gaps) for y in candidates])
        torch.testing.assert_close(sequence[k], -torch.log_softmax(scores / 6 / 0.05, 0)[0], rtol=1e-5, atol=1e-6)


def test_another_recording_of_the_group_is_not_even_looked_at():
    z1, z2 = (z.detach() for z in embeddings(b=5))
    loss = LACLoss(negatives="batch", consensus_weight=0)
    before = loss.terms(z1, z2, groups=GROUPS).sequence
    z2[2] = torch.randn(8, 5)  # of group 0, like pair 0
    after = loss.terms(z1, z2, groups=GROUPS).sequence
    assert (before != after).tolist() == [False, True, True, True, True]
    alone = LACLoss(negatives="batch").terms(z1, z2, groups=torch.zeros(5, dtype=torch.long))
    assert not alone.sequence.any()  # nobody is left to be contrasted with


def test_without_groups_nothing_is_known_about_the_others_of_the_batch():
    z1, z2 = (z.detach() for z in embeddings(b=5))
    default = LACLoss().terms(z1, z2).sequence
    torch.testing.assert_close(default, LACLoss(negatives="reversed").terms(z1, z2).sequence)
    apart = LACLoss(consensus_weight=0).terms(z1, z2, groups=torch.arange(5)).sequence
    torch.testing.assert_close(apart, LACLoss(negatives="both").terms(z1, z2).sequence)
    assert (apart > default).all()


def test_what_serves_the_consensus_is_refused_without_groups():
    z1, z2 = embeddings()
    for name, z in (("guide1", z1), ("guide2", z2), ("teacher1", z1), ("teacher2", z2)):
        with pytest.raises(ValueError, match=f"{name} serves the consensus of a group: pass groups"):
            LACLoss()(z1, z2, **{name: z})


def test_groups_add_the_consensus_part():
    g = torch.Generator().manual_seed(2)
    action = torch.randn(1, 12, 16, generator=g, dtype=torch.float64)
    z1, z2 = (action + 0.3 * torch.randn(5, 12, 16, generator=g, dtype=torch.float64) for _ in range(2))
    z1.requires_grad_()
    loss, clock = LACLoss(), frame_numbers(z1, z2)
    groups = torch.tensor([7, 7, 7, 7, 3])
    for times in ({}, clock):
        without = loss.terms(z1, z2, **times)
        assert not without.consensus.any()
        terms = loss.terms(z1, z2, **times, groups=groups)
        assert (terms.consensus[:4] > 0).all()
        torch.testing.assert_close(terms.total, terms.sequence + terms.frame + terms.consensus)
        (gradient,) = torch.autograd.grad(terms.consensus.sum(), z1)
        assert (gradient[:4].norm(dim=2) > 0).all()
        assert torch.equal(terms.frame, without.frame)
        assert not LACLoss(consensus_weight=0).terms(z1, z2, **times, groups=groups).consensus.any()
    assert loss.terms(z1, z2, **clock, groups=groups).consensus[4] == 0  # alone in its group
    assert not loss.terms(z1, z2, **clock, groups=torch.arange(5)).consensus.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reduction": "max"}, "reduction must be one of 'mean', 'sum', 'none'; got 'max'"),
        ({"sequence_form": "soft"}, "sequence_form must be one of 'posterior', 'contrast', 'score'; got 'soft'"),
        ({"gaps": "affine"}, "gaps must be one of .*got 'affine'"),
        ({"gaps": "contextual"}, "needs the size of the embeddings: pass embed_dim"),
        ({"negatives": "none"}, "negatives must be one of"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"sigma": -1.0}, "sigma must be positive"),
        ({"n_negatives": 0}, "n_negatives must be at least 1, got 0"),
        ({"sequence_weight": -1.0}, "sequence_weight must not be negative"),
        ({"gap_open": 0.0}, "gap_open must be positive and finite to be learned"),
        ({"gaps": "constant", "gap_open": -1.0}, "gap_open is a cost"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        LACLoss(**arguments)


def test_bad_input():
    loss = LACLoss()
    z = torch.randn(2, 5, 4)
    with pytest.raises(ValueError, match=r"z1 must be \(batch, frames, embedding\).*got \(5, 4\)"):
        loss(z[0], z)
    with pytest.raises(ValueError, match="agree in batch and embedding size"):
        loss(z, z[:1])
    with pytest.raises(ValueError, match=r"times2 must be \(2, 5\) like z2, one time per frame, got \(5,\)"):
        loss(z, z, times1=torch.arange(5).expand(2, 5), times2=torch.arange(5))
    with pytest.raises(ValueError, match=r"lengths1 must have shape \(2,\), .*got \(1,\)"):
        loss(z, z, lengths1=torch.tensor([5]))
    with pytest.raises(TypeError, match="z1 must be floating point"):
        loss(z.long(), z)
    with pytest.raises(ValueError, match="made for embeddings of 3 dimensions, got 4 in z1"):
        LACLoss(gaps=ContextualGaps(3))(z, z)
