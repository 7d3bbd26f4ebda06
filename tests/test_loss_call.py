"""What the call of LACLoss means: clocks, groups, reductions, and what is refused."""

import pytest
import torch
from embedded import FORMS, RAGGED, embeddings, frame_numbers

from lac import LACLoss
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
