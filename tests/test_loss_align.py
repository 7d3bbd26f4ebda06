"""LACLoss.align: scores, posterior and path by what the loss has learned."""

import math

import pytest
import torch
from embedded import RAGGED, centred, embeddings, in_seconds, similarity

from lac import LACLoss, hard_alignment, smith_waterman, soft_alignment


@pytest.mark.parametrize("gaps", ["constant", "learned", "interval", "contextual"])
@pytest.mark.parametrize("lengths", [{}, RAGGED], ids=["full", "ragged"])
def test_align_is_the_functions_with_the_loss_s_own_similarity_gaps_and_temperature(gaps, lengths):
    z1, z2 = embeddings(b=4)
    times = in_seconds(4, 6, 8)
    loss = LACLoss(gaps=gaps, embed_dim=5, gap_open=0.3, gap_extend=0.2, temperature=0.15)
    if gaps == "contextual":
        torch.nn.init.normal_(loss.aligner.gaps.weight)
    aligned = loss.align(z1, z2, **times, **lengths)
    assert [tuple(x.shape) for x in (*aligned[:2], *aligned[3:])] == [(4, 6, 8), (4, 6, 8), (4,), (4,)]
    for k in range(4):
        n, m = (int(lengths[x][k]) if lengths else t for x, t in (("lengths1", 6), ("lengths2", 8)))
        if not n or not m:
            assert not any(x[k].any() for x in (aligned.scores, aligned.posterior, aligned.score, aligned.best_score))
            assert aligned.path[k].shape == (0, 2)
            continue
        scores = similarity(loss, z1[k, :n], z2[k, :m])
        unit1, unit2 = centred(z1[k, :n])[None], centred(z2[k, :m])[None]
        gap_open, gap_extend = loss.aligner.gaps(
            unit1, unit2, times["times1"][k, None, :n], times["times2"][k, None, :m]
        )
        penalties = {"gap_open": gap_open.reshape(gap_open.shape[-2:]), "gap_extend": gap_extend}
        penalties["gap_extend"] = gap_extend.reshape(gap_extend.shape[-2:])
        best_score, (path,) = hard_alignment(scores, **penalties)
        torch.testing.assert_close(aligned.scores[k, :n, :m], scores)
        torch.testing.assert_close(aligned.posterior[k, :n, :m], soft_alignment(scores, temperature=0.15, **penalties))
        torch.testing.assert_close(aligned.score[k], smith_waterman(scores, temperature=0.15, **penalties))
        torch.testing.assert_close(aligned.best_score[k], best_score)
        assert torch.equal(aligned.path[k], path if best_score > 0 else path[:0])
        assert not aligned.scores[k, n:].any()
        assert not aligned.posterior[k, :, m:].any()


def test_align_gives_no_path_where_nothing_is_in_common():
    z1, z2 = embeddings(b=1)
    aligned = LACLoss(margin=2.0).align(z1, z2)  # above any cosine: every score is negative
    assert aligned.best_score < 0
    assert aligned.path[0].shape == (0, 2)
    assert len(LACLoss(margin=-2.0).align(z1, z2).path[0]) > 0


def test_align_of_one_pair_is_that_of_its_batch_and_padding_is_not_looked_at():
    z1, z2 = (z.detach() for z in embeddings(b=4))
    loss = LACLoss(gaps="interval")
    times = in_seconds(4, 6, 8)
    plain = loss.align(z1, z2, **times, **RAGGED)
    spoiled1, spoiled2 = (
        z.masked_fill((torch.arange(z.shape[1]) >= RAGGED[name][:, None])[:, :, None], math.nan)
        for z, name in ((z1, "lengths1"), (z2, "lengths2"))
    )
    spoiled = loss.align(spoiled1, spoiled2, **times, **RAGGED)
    for k in range(4):
        part = {name: x[k : k + 1] for name, x in (times | RAGGED).items()}
        alone = loss.align(z1[k : k + 1], z2[k : k + 1], **part)
        for x, y, z in zip(plain, alone, spoiled, strict=True):
            torch.testing.assert_close(x[k], y[0])
            assert torch.equal(x[k], z[k])


def test_align_is_differentiable_but_for_the_path():
    z1, z2 = embeddings(b=2, n=4, m=5)
    loss = LACLoss(gaps="constant").double()
    for name in ("scores", "posterior", "score"):
        torch.autograd.gradcheck(lambda z1, z2, name=name: getattr(loss.align(z1, z2), name), (z1, z2))
    aligned = loss.align(z1, z2)
    assert not aligned.best_score.requires_grad
    assert not any(path.requires_grad for path in aligned.path)
