"""LACLoss against plain loops, its laws, and what it does with awkward input."""

import math

import pytest
import torch
from torch import Tensor

from lac import LACLoss, smith_waterman, soft_alignment
from lac.gaps import ContextualGaps

FORMS = ("contrast", "score", "posterior")


def embeddings(b: int = 3, n: int = 6, m: int = 8, e: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(b, t, e, generator=g, dtype=torch.float64) for t in (n, m))
    return z1.requires_grad_(), z2.requires_grad_()


def cosine(a: Tensor, b: Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


def gaussian(times1: list[float], times2: list[float], sigma: float) -> list[list[float]]:
    """P, with times in units of the mean interval."""
    spans = times1[-1] - times1[0] + times2[-1] - times2[0]
    unit = spans / (len(times1) + len(times2) - 2)
    rows = [[math.exp(-(((s - t) / unit) ** 2) / (2 * sigma**2)) for t in times2] for s in times1]
    return [[p / sum(row) for p in row] for row in rows]


def similarity(loss: LACLoss, z1: Tensor, z2: Tensor) -> Tensor:
    scale, margin = loss.learned()["scale"].double(), loss.learned()["margin"].double()
    return torch.stack([torch.stack([scale * (cosine(a, b) - margin) for b in z2]) for a in z1])


def test_contrastive_part_equals_plain_loops():
    z1, z2 = embeddings(b=1)
    times1, times2 = [0.0, 0.2, 0.3, 0.5, 0.9, 1.0], [0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 1.1, 1.3]
    loss = LACLoss(alignment_weight=0, tau=0.2, sigma=1.5)
    found = loss(z1, z2, times1=torch.tensor([times1]), times2=torch.tensor([times2]))
    expected = 0.0
    for x, y, s, t in ((z1[0], z2[0], times1, times2), (z2[0], z1[0], times2, times1)):
        target = gaussian(s, t, 1.5)
        divergence = 0.0
        for i, a in enumerate(x):
            logits = [cosine(a, b) / 0.2 for b in y]
            log_sum = math.log(sum(map(math.exp, logits)))
            divergence += sum(p * (math.log(p) - q + log_sum) for p, q in zip(target[i], logits, strict=True))
        expected += 0.5 * divergence / len(x)
    assert abs(found.item() - expected) < 1e-5  # times are float32


def test_score_form_is_minus_the_score_per_frame():
    z1, z2 = embeddings(b=1)
    loss = LACLoss(alignment="score", contrastive_weight=0, gap_open=0.3, gap_extend=0.2, temperature=0.15)
    expected = smith_waterman(similarity(loss, z1[0], z2[0]), gap_open=0.3, gap_extend=0.2, temperature=0.15)
    assert abs(loss(z1, z2).item() + expected.item() / 6) < 1e-6


def test_posterior_form_is_a_cross_entropy_against_the_clock():
    z1, z2 = embeddings(b=1)
    loss = LACLoss(
        alignment="posterior",
        contrastive_weight=0,
        gap_open=0.3,
        gap_extend=0.2,
        temperature=0.3,
        sigma=2.5,
    )
    posterior = soft_alignment(similarity(loss, z1[0], z2[0]), gap_open=0.3, gap_extend=0.2, temperature=0.3)
    own = similarity(loss, z1[0], z2[0]) / 0.3
    expected = 0.0
    for p, logits, n, m in ((posterior, own, 6, 8), (posterior.T, own.T, 8, 6)):
        target = gaussian(list(range(n)), list(range(m)), 2.5)
        for i in range(n):
            total = sum(math.exp(x) for x in logits[i].tolist())
            for j in range(m):
                q = 0.999 * p[i, j].item() + 0.001 * math.exp(logits[i, j].item()) / total
                expected -= 0.5 * target[i][j] * math.log(q) / n
    assert abs(loss(z1, z2).item() - expected) < 1e-6


@pytest.mark.parametrize(("negatives", "count"), [("reversed", 2), ("reversed", 9), ("batch", 9), ("both", 9)])
def test_contrast_form_is_a_log_softmax_over_candidates(negatives, count):
    z1, z2 = embeddings(b=3)
    loss = LACLoss(
        alignment="contrast",
        contrastive_weight=0,
        negatives=negatives,
        n_negatives=count,
        contrast_temperature=0.05,
    )
    gaps = {"gap_open": loss.learned()["gap_open"], "gap_extend": loss.learned()["gap_extend"]}
    total = 0.0
    for k in range(3):
        candidates = [z2[k]]
        if negatives in ("batch", "both"):
            candidates += [z2[other] for other in range(3) if other != k]
        if negatives in ("reversed", "both"):
            candidates += [z2[(k + s) % 3].flip(0) for s in range(min(count, 3))]
        logits = [
            smith_waterman(similarity(loss, z1[k], y), temperature=0.2, **gaps).item() / 6 / 0.05 for y in candidates
        ]
        total -= logits[0] - math.log(sum(map(math.exp, logits)))
    assert abs(loss(z1, z2).item() - total / 3) < 1e-6


@pytest.mark.parametrize("gaps", ["constant", "learned", "interval", "contextual"])
@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_that_matters_gets_a_gradient(form, gaps):
    z1, z2 = embeddings(e=16)
    loss = LACLoss(alignment=form, gaps=gaps, embed_dim=16)
    terms = loss.terms(z1.float(), z2.float())
    torch.testing.assert_close(
        terms.total, loss.alignment_weight * terms.alignment + loss.contrastive_weight * terms.contrastive
    )
    assert all(x.shape == (3,) for x in terms)
    terms.total.mean().backward()
    assert z1.grad.abs().min() > 0
    for name, parameter in loss.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_which_forms_can_move_a_penalty_both_ways():
    """dscore/dgap is never positive: "score" always lowers penalties, the other forms may raise them."""
    signs = {"score": set(), "contrast": set(), "posterior": set()}
    for form, seen in signs.items():
        for seed in range(8):
            z1, z2 = embeddings(n=20, m=20, e=16, seed=seed)
            # a sharp clock asks for few gaps where the partner is the same sequence, and for many where it is not
            loss = LACLoss(
                alignment=form,
                contrastive_weight=0,
                temperature=0.4,
                margin=0,
                sigma=0.3,
                contrast_temperature=0.1,
            )
            loss(z1, z1 if seed % 2 else z2).backward()
            seen.add(loss.aligner.gaps.open.grad.sign().item())
    assert signs == {"score": {1.0}, "contrast": {1.0, -1.0}, "posterior": {1.0, -1.0}}


@pytest.mark.parametrize("form", FORMS)
def test_times_may_be_frames_or_seconds_from_any_start(form):
    z1, z2 = embeddings()
    loss = LACLoss(alignment=form)
    t1, t2 = (torch.arange(z.shape[1], dtype=torch.float64).expand(z.shape[:2]) for z in (z1, z2))
    expected = loss(z1, z2)
    torch.testing.assert_close(loss(z1, z2, times1=t1, times2=t2), expected)
    torch.testing.assert_close(loss(z1, z2, times1=t1 / 25 + 7, times2=t2 / 25 + 7), expected)


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_nothing_whatever_it_holds(form):
    z1, z2 = embeddings(b=2)
    loss = LACLoss(alignment=form)
    lengths1, lengths2 = torch.tensor([6, 4]), torch.tensor([5, 8])
    found = loss.terms(z1, z2, lengths1=lengths1, lengths2=lengths2)
    wide = [
        torch.cat((z.detach(), torch.full_like(z, float("nan"))), 1).masked_fill(
            (torch.arange(2 * z.shape[1]) >= k[:, None])[:, :, None], float("nan")
        )
        for z, k in ((z1, lengths1), (z2, lengths2))
    ]
    for z in wide:
        z.requires_grad_()
    padded = loss.terms(*wide, lengths1=lengths1, lengths2=lengths2)
    for x, y in zip(found, padded, strict=True):
        torch.testing.assert_close(x, y)
    padded.total.sum().backward()
    for z, k in zip(wide, (lengths1, lengths2), strict=True):
        assert z.grad.isfinite().all()
        assert (z.grad[torch.arange(z.shape[1]) >= k[:, None]] == 0).all()


@pytest.mark.parametrize("gaps", ["constant", "learned", "interval"])
@pytest.mark.parametrize("form", FORMS)
def test_empty_and_one_frame_sequences_are_finite(form, gaps):
    z1, z2 = (z.detach().float() for z in embeddings(b=4))
    z1[3] = 0  # the cosine of a zero vector
    z1.requires_grad_()
    loss = LACLoss(alignment=form, gaps=gaps, negatives="both")
    terms = loss.terms(z1, z2, lengths1=torch.tensor([0, 1, 6, 6]), lengths2=torch.tensor([8, 1, 0, 8]))
    assert all(x.isfinite().all() for x in terms)
    assert terms.contrastive[0] == terms.contrastive[2] == 0
    terms.total.mean().backward()
    assert z1.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in loss.parameters())
    one = LACLoss(alignment=form, gaps=gaps)(torch.randn(1, 1, 4), torch.randn(1, 1, 4))
    assert one.isfinite()


def test_nan_in_a_valid_frame_is_not_hidden():
    z1, z2 = (z.detach() for z in embeddings())
    z1[1, 2] = float("nan")
    terms = LACLoss().terms(z1, z2)
    assert terms.total.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("form", FORMS)
def test_float32_inside_autocast_and_for_half_input(form):
    z1, z2 = (z.detach().float() for z in embeddings())
    loss = LACLoss(alignment=form)
    expected = loss(z1, z2)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(z1, z2), expected, rtol=0, atol=0)
    half = loss(z1.bfloat16(), z2.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(z1.bfloat16().float(), z2.bfloat16().float()))


def test_a_pair_that_matches_scores_above_one_that_does_not():
    z1, z2 = embeddings(n=20, m=20, e=32)
    loss = LACLoss(alignment="contrast")
    same, other = loss.terms(z1, z1), loss.terms(z1, z2)
    assert (same.score > other.score).all()
    assert (same.alignment < other.alignment).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alignment": "soft"}, "alignment must be one of 'contrast', 'score', 'posterior'; got 'soft'"),
        ({"gaps": "affine"}, "gaps must be one of .*got 'affine'"),
        ({"gaps": "contextual"}, "needs the size of the embeddings: pass embed_dim"),
        ({"negatives": "none"}, "negatives must be one of"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"sigma": -1.0}, "sigma must be positive"),
        ({"n_negatives": 0}, "n_negatives must be at least 1, got 0"),
        ({"alignment_weight": -1.0}, "alignment_weight must not be negative"),
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
