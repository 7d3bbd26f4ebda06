"""LACLoss against plain loops, its laws, and what it does with awkward input."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor

from lac import LACLoss, hard_alignment, smith_waterman, soft_alignment
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


def test_frame_part_equals_plain_loops():
    z1, z2 = embeddings(b=1)
    times1, times2 = [0.0, 0.2, 0.3, 0.5, 0.9, 1.0], [0.1, 0.2, 0.4, 0.6, 0.7, 0.8, 1.1, 1.3]
    loss = LACLoss(sequence_weight=0, frame_temperature=0.2, sigma=1.5)
    result = loss(z1, z2, times1=torch.tensor([times1]), times2=torch.tensor([times2]))
    expected = 0.0
    for x, y, s, t in ((z1[0], z2[0], times1, times2), (z2[0], z1[0], times2, times1)):
        target = gaussian(s, t, 1.5)
        divergence = 0.0
        for i, a in enumerate(x):
            logits = [cosine(a, b) / 0.2 for b in y]
            log_sum = math.log(sum(map(math.exp, logits)))
            divergence += sum(p * (math.log(p) - q + log_sum) for p, q in zip(target[i], logits, strict=True))
        expected += 0.5 * divergence / len(x)
    assert abs(result.item() - expected) < 1e-5  # times are float32


def test_score_form_is_minus_the_score_per_frame():
    z1, z2 = embeddings(b=1)
    loss = LACLoss(sequence_form="score", frame_weight=0, gap_open=0.3, gap_extend=0.2, temperature=0.15)
    expected = smith_waterman(similarity(loss, z1[0], z2[0]), gap_open=0.3, gap_extend=0.2, temperature=0.15)
    assert abs(loss(z1, z2).item() + expected.item() / 6) < 1e-6


def test_posterior_form_is_a_cross_entropy_against_the_clock():
    z1, z2 = embeddings(b=1)
    loss = LACLoss(
        sequence_form="posterior",
        frame_weight=0,
        gap_open=0.3,
        gap_extend=0.2,
        temperature=0.3,
        sigma=2.5,
    )
    posterior = soft_alignment(similarity(loss, z1[0], z2[0]), gap_open=0.3, gap_extend=0.2, temperature=0.3)
    own = similarity(loss, z1[0], z2[0])
    expected = 0.0
    for p, logits, n, m in ((posterior, own, 6, 8), (posterior.T, own.T, 8, 6)):
        target = gaussian(list(range(n)), list(range(m)), 2.5)
        for i in range(n):
            total = sum(math.exp(x) for x in logits[i].tolist())
            for j in range(m):
                q = (1 - 1e-6) * p[i, j].item() + 1e-6 * math.exp(logits[i, j].item()) / total
                expected -= 0.5 * target[i][j] * math.log(q) / n
    assert abs(loss(z1, z2).item() - expected) < 1e-6


@pytest.mark.parametrize(("negatives", "count"), [("reversed", 2), ("reversed", 9), ("batch", 9), ("both", 9)])
def test_contrast_form_is_a_log_softmax_over_candidates(negatives, count):
    z1, z2 = embeddings(b=3)
    loss = LACLoss(
        sequence_form="contrast",
        frame_weight=0,
        negatives=negatives,
        n_negatives=count,
        sequence_temperature=0.05,
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
    loss = LACLoss(sequence_form=form, gaps=gaps, embed_dim=16)
    terms = loss.terms(z1.float(), z2.float())
    torch.testing.assert_close(terms.total, loss.sequence_weight * terms.sequence + loss.frame_weight * terms.frame)
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
                sequence_form=form,
                frame_weight=0,
                temperature=0.4,
                margin=0,
                sigma=0.3,
                sequence_temperature=0.1,
            )
            loss(z1, z1 if seed % 2 else z2).backward()
            seen.add(loss.aligner.gaps.open.grad.sign().item())
    assert signs == {"score": {1.0}, "contrast": {1.0, -1.0}, "posterior": {1.0, -1.0}}


@pytest.mark.parametrize("n", [6, 60, 200, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["eager", "cpu"])
def test_the_posterior_form_is_never_flat(backend, dtype, n):
    """A sequence against itself, shifted: the alignment is sure of the wrong matches, and gives the right ones 0."""
    z = embeddings(b=1, n=n, e=16, seed=n)[0].detach().to(dtype)
    loss = LACLoss(frame_weight=0, backend=backend)
    for shift in (1, n // 4, n // 2) if backend == "cpu" or n < 100 else (n // 2,):
        pair = [z.clone().requires_grad_(), z.roll(shift, 1).requires_grad_()]
        value = loss(*pair)
        gradients = torch.autograd.grad(value, pair)
        for gradient in gradients:
            assert gradient.isfinite().all()
            assert gradient.norm(dim=2).min() > 1e-3 / n  # every frame is told where to go
        with torch.no_grad():
            step = [x - 0.1 * x.norm() / g.norm() * g for x, g in zip(pair, gradients, strict=True)]
            assert loss(*step) < value - 0.05


def test_a_shifted_sequence_finds_its_way_back():
    z = embeddings(b=1, n=60, e=16)[0].detach().float()
    pair = [z.clone().requires_grad_(), z.roll(30, 1).requires_grad_()]
    loss = LACLoss(frame_weight=0)
    optimiser = torch.optim.Adam(pair, lr=0.05)
    start = loss(*pair).item()
    for _ in range(60):
        optimiser.zero_grad()
        loss(*pair).backward()
        optimiser.step()
    assert start > 15
    assert loss(*pair) < 5  # a sequence against itself, not trained, has 9


def test_gradients_where_the_alignment_is_wrong_equal_differences():
    z = embeddings(b=1, n=8, e=3)[0].detach()
    for temperature in (0.2, 0.02):
        loss = LACLoss(frame_weight=0, temperature=temperature, backend="eager").double()
        pair = (z.clone().requires_grad_(), z.roll(4, 1).requires_grad_())
        assert torch.autograd.gradcheck(loss, pair, rtol=1e-4, atol=1e-7)
    assert torch.autograd.gradgradcheck(loss, tuple(x[:, :4].detach().requires_grad_() for x in pair))


@pytest.mark.parametrize(
    ("backend", "temperature", "scale"),
    [(name, *pair) for name in ("eager", "cpu") for pair in ((0.2, 1.0), (0.02, 1.0), (0.01, 5.0), (1e-3, 1.0))]
    + [("cpu", 1.0, 100.0)],  # eager does not know how small a probability below 1e-10 is
)
def test_dividing_by_small_probabilities_amplifies_nothing(backend, temperature, scale):
    """By the scores, the gradients of the cross-entropy add up to 2 (min(N, M) + 1) / T at most."""
    z, other = (x.detach() for x in embeddings(b=2, n=50, m=50, e=16))
    z = z / z.norm(dim=2, keepdim=True)
    loss = LACLoss(frame_weight=0, temperature=temperature, scale=scale, backend=backend)
    for second in (z.roll(25, 1), other, z + 0.1 * other):
        result = {}
        for dtype in (torch.float32, torch.float64):
            pair = [x.to(dtype).clone().requires_grad_() for x in (z, second)]
            result[dtype] = torch.autograd.grad(loss(*pair), pair)
        for single, double in zip(result[torch.float32], result[torch.float64], strict=True):
            assert (single - double).norm() < 1e-4 * double.norm()
        assert result[torch.float32][0].norm(dim=2).sum() < scale * 2 * 51 / temperature


UNITS = {
    "frames": lambda t: t,
    "seconds": lambda t: t / 25 + 7,
    "Unix time": lambda t: t / 25 + 1.76e9,
    "nanoseconds since 1970": lambda t: (t * 40_000_000).long() + 1_760_000_000_000_000_000,
    "integers from 2^24": lambda t: t.int() + 2**24,
    "days": lambda t: t / 25 / 86400,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_times_may_be_in_any_unit_from_any_start(form, dtype):
    z1, z2 = (z.detach().to(dtype) for z in embeddings())
    loss = LACLoss(sequence_form=form)
    t1, t2 = (torch.arange(z.shape[1], dtype=torch.float64).expand(z.shape[:2]) for z in (z1, z2))
    expected = loss(z1, z2)
    for name, unit in UNITS.items():
        torch.testing.assert_close(
            loss(z1, z2, times1=unit(t1), times2=unit(t2)), expected, rtol=2e-5, atol=1e-6, msg=name
        )


def test_reversed_negatives_keep_their_uneven_intervals():
    z1, z2 = (z.detach() for z in embeddings(b=1))
    t1, t2 = (torch.rand(1, z.shape[1], dtype=torch.float64).cumsum(1) for z in (z1, z2))
    loss = LACLoss(sequence_form="contrast", frame_weight=0, gaps="interval", sequence_temperature=0.05)
    result = loss(z1, z2, times1=t1 + 1.76e9, times2=t2 + 1.76e9)
    logits = []
    for y, t in ((z2, t2), (z2.flip(1), -t2.flip(1))):
        scores = loss.aligner(loss.scores(z1, y), times1=t1, times2=t)
        logits.append(scores.item() / 6 / 0.05)
    assert abs(result.item() - math.log(1 + math.exp(logits[1] - logits[0]))) < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_padding_changes_nothing_whatever_it_holds(form):
    z1, z2 = embeddings(b=2)
    loss = LACLoss(sequence_form=form)
    lengths1, lengths2 = torch.tensor([6, 4]), torch.tensor([5, 8])
    result = loss.terms(z1, z2, lengths1=lengths1, lengths2=lengths2)
    wide = [
        torch.cat((z.detach(), torch.full_like(z, float("nan"))), 1).masked_fill(
            (torch.arange(2 * z.shape[1]) >= k[:, None])[:, :, None], float("nan")
        )
        for z, k in ((z1, lengths1), (z2, lengths2))
    ]
    for z in wide:
        z.requires_grad_()
    padded = loss.terms(*wide, lengths1=lengths1, lengths2=lengths2)
    for x, y in zip(result, padded, strict=True):
        torch.testing.assert_close(x, y)
    padded.total.sum().backward()
    for z, k in zip(wide, (lengths1, lengths2), strict=True):
        assert z.grad.isfinite().all()
        assert (z.grad[torch.arange(z.shape[1]) >= k[:, None]] == 0).all()


@pytest.mark.parametrize("gaps", ["constant", "learned", "interval"])
@pytest.mark.parametrize("form", FORMS)
def test_a_pair_without_frames_is_as_if_it_were_not_there(form, gaps):
    z1, z2 = (z.detach().float() for z in embeddings(b=5))
    loss = LACLoss(sequence_form=form, gaps=gaps, negatives="both", n_negatives=9)
    lengths1, lengths2 = torch.tensor([0, 1, 6, 6, 0]), torch.tensor([8, 1, 0, 8, 0])
    full = torch.tensor([1, 3])
    z1.requires_grad_()
    result = loss.terms(z1, z2, lengths1=lengths1, lengths2=lengths2)
    alone = loss.terms(z1[full], z2[full], lengths1=lengths1[full], lengths2=lengths2[full])
    for x, y in zip(result, alone, strict=True):
        torch.testing.assert_close(x[full], y)
        assert (x[[0, 2, 4]] == 0).all()
    value = loss(z1, z2, lengths1=lengths1, lengths2=lengths2)
    torch.testing.assert_close(value, alone.total.mean())
    value.backward()
    assert z1.grad.isfinite().all()
    assert (z1.grad[[0, 2, 4]] == 0).all()
    assert (z1.grad[3] != 0).all()


@pytest.mark.parametrize("negatives", ["reversed", "batch", "both"])
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_without_frames_is_zero_and_so_are_its_gradients(form, negatives):
    z1, z2 = embeddings()
    loss = LACLoss(sequence_form=form, negatives=negatives)
    value = loss(z1, z2, lengths1=0, lengths2=[0, 3, 8])
    assert value == 0
    value.backward()
    for x in (z1, z2, *loss.parameters()):
        assert (x.grad == 0).all()


def test_one_frame_is_a_sequence():
    for form in FORMS:
        assert LACLoss(sequence_form=form)(torch.randn(1, 1, 4), torch.randn(1, 1, 4)).isfinite()


@pytest.mark.parametrize("size", [1e-25, 1e-3, 1.0, 1e5, 1e25, 1e37])
def test_embeddings_of_any_size_have_a_direction_and_a_gradient(size):
    z1, z2 = (z.detach().float() for z in embeddings())
    loss = LACLoss()
    expected = torch.autograd.grad(loss(z1.requires_grad_(), z2), z1)[0]
    large = (z1.detach() * size).requires_grad_()
    value = loss(large, z2)
    (gradient,) = torch.autograd.grad(value, large)
    if size >= 1e-2:  # the cosine does not ask how long a vector is
        torch.testing.assert_close(value, loss(z1, z2))
        torch.testing.assert_close(gradient * size, expected, rtol=1e-3, atol=1e-6)
    else:
        assert gradient.double().norm() < 1e3 * expected.norm() * 10
    assert (gradient != 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("form", FORMS)
def test_an_embedding_of_zeros_has_a_bounded_gradient(form, dtype):
    z1, z2 = (z.detach().to(dtype) for z in embeddings())
    z1[1, 2] = z2[1, 3] = 0
    z1.requires_grad_()
    loss = LACLoss(sequence_form=form)
    (gradient,) = torch.autograd.grad(loss(z1, z2), z1)
    norms = gradient.float().norm(dim=2)
    assert norms.isfinite().all()
    assert norms[1, 2] < 1e3 * 20  # 1 / e, times the derivative by a unit vector: about 1 / frame_temperature
    torch.testing.assert_close(loss.scores(z1, z2)[1, 2].float(), torch.full((8,), -0.5))  # no direction: cosine 0


def test_first_and_second_derivatives_of_the_similarity_near_zero():
    z1, z2 = (z.detach()[:1, :3] for z in embeddings())
    z1[0, 0], z1[0, 1] = 0, z1[0, 1] * 1e-3
    loss = LACLoss().double()
    pair = (z1.requires_grad_(), z2.requires_grad_())
    assert torch.autograd.gradcheck(loss.scores, pair, eps=1e-8, rtol=1e-4, atol=1e-3)
    assert torch.autograd.gradgradcheck(loss.scores, pair, eps=1e-8, rtol=1e-3, atol=1e-1)


def test_nan_in_a_valid_frame_is_not_hidden():
    z1, z2 = (z.detach() for z in embeddings())
    z1[1, 2] = float("nan")
    terms = LACLoss().terms(z1, z2)
    assert terms.total.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("form", FORMS)
def test_float32_inside_autocast_and_for_half_input(form):
    z1, z2 = (z.detach().float() for z in embeddings())
    loss = LACLoss(sequence_form=form)
    expected = loss(z1, z2)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(z1, z2), expected, rtol=0, atol=0)
        torch.testing.assert_close(loss.scores(z1, z2), loss.scores(z1.double(), z2).float())
    half = loss(z1.bfloat16(), z2.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(z1.bfloat16().float(), z2.bfloat16().float()))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["contrast", "posterior"])
def test_one_graph_serves_every_shape(form):
    torch._dynamo.reset()
    loss = LACLoss(sequence_form=form, gaps="interval")
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for b, n, m in ((2, 6, 7), (3, 9, 5)):
        z1, z2 = (torch.randn(b, t, 8, requires_grad=True) for t in (n, m))
        given = {"times1": torch.rand(b, n).cumsum(1), "times2": torch.rand(b, m, dtype=torch.float64).cumsum(1)}
        given |= {"lengths1": torch.tensor([n, 0, 2][:b]), "lengths2": torch.tensor([m - 1, 2, 4][:b])}
        expected = torch.autograd.grad(loss(z1, z2, **given), (z1, z2))
        result = torch.autograd.grad(compiled(z1, z2, **given), (z1, z2))
        for x, y in zip(result, expected, strict=True):
            torch.testing.assert_close(x, y)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2  # the first shape alone, then any shape


def test_copies_and_stored_weights_give_the_same_loss():
    z1, z2 = embeddings()
    for gaps in ("constant", "learned", "contextual", "interval"):
        loss = LACLoss(gaps=gaps, embed_dim=5)
        with torch.no_grad():
            for parameter in loss.parameters():
                parameter.add_(0.1)
        file = io.BytesIO()
        torch.save(loss, file)
        file.seek(0)
        loaded = LACLoss(gaps=gaps, embed_dim=5)
        loaded.load_state_dict(loss.state_dict())
        for other in (copy.deepcopy(loss), torch.load(file, weights_only=False), loaded):
            assert other(z1, z2) == loss(z1, z2)


def test_a_pair_that_matches_scores_above_one_that_does_not():
    z1, z2 = embeddings(n=20, m=20, e=32)
    loss = LACLoss(sequence_form="contrast")
    same, other = loss.terms(z1, z1), loss.terms(z1, z2)
    assert (same.score > other.score).all()
    assert (same.sequence < other.sequence).all()


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


RAGGED = {"lengths1": torch.tensor([6, 0, 4, 1]), "lengths2": torch.tensor([8, 3, 0, 5])}


def in_seconds(b: int, n: int, m: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(3)
    times1, times2 = (torch.rand(b, t, generator=g, dtype=torch.float64).cumsum(1) for t in (n, m))
    return {"times1": times1, "times2": times2}


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
        unit1, unit2 = (x / x.norm(dim=-1, keepdim=True) for x in (z1[k : k + 1, :n], z2[k : k + 1, :m]))
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
    loss = LACLoss(learn_similarity=False, gaps="constant").double()
    for name in ("scores", "posterior", "score"):
        torch.autograd.gradcheck(lambda z1, z2, name=name: getattr(loss.align(z1, z2), name), (z1, z2))
    aligned = loss.align(z1, z2)
    assert not aligned.best_score.requires_grad
    assert not any(path.requires_grad for path in aligned.path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lengths", [{}, RAGGED], ids=["full", "ragged"])
def test_reduction(form, lengths):
    z1, z2 = embeddings(b=4)
    total = LACLoss(sequence_form=form).terms(z1, z2, **lengths).total
    values = LACLoss(sequence_form=form, reduction="none")(z1, z2, **lengths)
    assert torch.equal(values, total)
    torch.testing.assert_close(LACLoss(sequence_form=form, reduction="sum")(z1, z2, **lengths), total.sum())
    pairs = 2 if lengths else 4  # that have frames
    torch.testing.assert_close(LACLoss(sequence_form=form)(z1, z2, **lengths), total.sum() / pairs)


def test_the_score_of_a_step_is_solved_once(monkeypatch):
    from lac_kernels import cpu

    forward, calls = cpu.forward, []
    monkeypatch.setattr(cpu, "forward", lambda *given: calls.append(1) or forward(*given))
    for form in FORMS:
        LACLoss(sequence_form=form, backend="cpu")(*embeddings())
    assert len(calls) == len(FORMS)
