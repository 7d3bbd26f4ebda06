"""LACLoss against plain loops, its laws, and what it does with awkward input."""

import math

import pytest
import torch
from embedded import FORMS, cosine, embeddings, frame_numbers, similarity

from lac import LACLoss, smith_waterman, soft_alignment
from lac.parts import cross_entropy, frame_target
from lac.sequences import sequence_pairs


def gaussian(times1: list[float], times2: list[float], sigma: float) -> list[list[float]]:
    """P, with times in units of the mean interval."""
    spans = times1[-1] - times1[0] + times2[-1] - times2[0]
    unit = spans / (len(times1) + len(times2) - 2)
    rows = [[math.exp(-(((s - t) / unit) ** 2) / (2 * sigma**2)) for t in times2] for s in times1]
    return [[p / sum(row) for p in row] for row in rows]


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
    own = similarity(loss, z1[0], z2[0])
    posterior = soft_alignment(own, gap_open=0.3, gap_extend=0.2, temperature=0.3)
    expected = 0.0
    for p, logits, n, m in ((posterior, own, 6, 8), (posterior.T, own.T, 8, 6)):
        target = gaussian(list(range(n)), list(range(m)), 2.5)
        for i in range(n):
            total = sum(math.exp(x) for x in logits[i].tolist())
            left = max(1 - 1e-6 - sum(p[i].tolist()), 0)
            for j in range(m):
                q = p[i, j].item() + (left + 1e-6) * math.exp(logits[i, j].item()) / total
                expected -= 0.5 * target[i][j] * math.log(q) / n
    assert abs(loss(z1, z2, **frame_numbers(z1, z2)).item() - expected) < 1e-6


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
    loss = LACLoss(sequence_form=form, gaps=gaps, embed_dim=16, learn_similarity=True)
    terms = loss.terms(z1.float(), z2.float(), **frame_numbers(z1, z2))
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
            loss(z1, z1 if seed % 2 else z2, **frame_numbers(z1, z2)).backward()
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
        value = loss(*pair, **frame_numbers(*pair))
        gradients = torch.autograd.grad(value, pair)
        for gradient in gradients:
            assert gradient.isfinite().all()
            assert gradient.norm(dim=2).min() > 1e-3 / n  # every frame is told where to go
        with torch.no_grad():
            step = [x - 0.1 * x.norm() / g.norm() * g for x, g in zip(pair, gradients, strict=True)]
            assert loss(*step, **frame_numbers(*step)) < value - 0.05


@pytest.mark.parametrize(("shift", "start"), [(15, 9), (30, 4.7)])
def test_a_shifted_sequence_finds_its_way_back(shift, start):
    z = embeddings(b=1, n=60, e=16)[0].detach().float()
    pair = [z.clone().requires_grad_(), z.roll(shift, 1).requires_grad_()]
    loss, clock = LACLoss(frame_weight=0), frame_numbers(*pair)
    optimiser = torch.optim.Adam(pair, lr=0.05)
    assert loss(*pair, **clock) > start
    for _ in range(60):
        optimiser.zero_grad()
        loss(*pair, **clock).backward()
        optimiser.step()
    assert loss(*pair, **clock) < 4  # a sequence against itself, not trained, has 7.5


@pytest.mark.parametrize("temperature", [0.02, 0.2])
def test_a_frame_that_is_let_go_costs_as_much_as_guessing(temperature):
    """log M, of the M frames of its own pair, where its own similarities say nothing."""
    z1, z2 = (z.detach() for z in embeddings(b=2, n=12, m=9))
    first, second = sequence_pairs(z1, z2, *frame_numbers(z1, z2).values(), [12, 7], [9, 5])
    clock = frame_target(first, second, 1.3)
    scores = torch.zeros(2, 12, 9, dtype=torch.float64)
    value = cross_entropy(clock, torch.zeros_like(clock), scores, first, second)
    torch.testing.assert_close(value, torch.tensor([9.0, 5.0], dtype=torch.float64).log(), rtol=1e-4, atol=0)
    # An alignment has one match at least: of two sequences with nothing in common all frames but one are let go.
    loss = LACLoss(margin=30.0, frame_weight=0, temperature=temperature, gaps="constant")
    sequence = loss.terms(z1, z2, **frame_numbers(z1, z2)).sequence
    # That one costs -log e, the others log M and, for their own similarities are random cosines, 2 more at most.
    assert (sequence < 0.5 * (math.log(12) + math.log(9)) + (14 + 3) / 9 + 2).all()


def test_of_all_posteriors_the_clock_s_own_costs_least():
    """A proper score: rows of any mass are charged as the probabilities they stand for."""
    z1, z2 = (z.detach() for z in embeddings(b=1, n=12, m=9))
    first, second = sequence_pairs(z1, z2, *frame_numbers(z1, z2).values(), None, None)
    clock, scores = frame_target(first, second, 1.3), torch.zeros(1, 12, 9, dtype=torch.float64)
    best = cross_entropy(clock, clock, scores, first, second)
    g = torch.Generator().manual_seed(0)
    for _ in range(50):
        other = torch.rand(1, 12, 9, generator=g, dtype=torch.float64)
        other *= torch.rand(1, 12, 1, generator=g) / other.sum(2, keepdim=True)
        assert cross_entropy(clock, 0.9 * clock + 0.1 * other, scores, first, second) > best
        assert cross_entropy(clock, other, scores, first, second) > best


def test_gradients_where_the_alignment_is_wrong_equal_differences():
    z = embeddings(b=1, n=8, e=3)[0].detach()
    for temperature in (0.2, 0.02):
        loss = LACLoss(frame_weight=0, temperature=temperature, backend="eager").double()
        pair = (z.clone().requires_grad_(), z.roll(4, 1).requires_grad_())
        with_clock = lambda x, y, loss=loss: loss(x, y, **frame_numbers(x, y))  # noqa: E731
        assert torch.autograd.gradcheck(with_clock, pair, rtol=1e-4, atol=1e-7)
    assert torch.autograd.gradgradcheck(with_clock, tuple(x[:, :4].detach().requires_grad_() for x in pair))


@pytest.mark.parametrize(
    ("backend", "temperature", "scale", "accuracy"),
    # Where rows are matched all but for 1e-5, what is left of them is known to a rounding of 1: the first and the last.
    [(name, 0.2, 1.0, 1e-2) for name in ("eager", "cpu")]
    + [(name, *pair, 1e-4) for name in ("eager", "cpu") for pair in ((0.02, 1.0), (0.01, 5.0), (1e-3, 1.0))]
    + [("cpu", 1.0, 100.0, 2e-2)],  # eager does not know how small a probability below 1e-10 is
)
def test_dividing_by_small_probabilities_amplifies_nothing(backend, temperature, scale, accuracy):
    """By the scores, the gradients of the cross-entropy add up to 2 (min(N, M) + 1) / T at most."""
    z, other = (x.detach() for x in embeddings(b=2, n=50, m=50, e=16))
    z = z / z.norm(dim=2, keepdim=True)
    loss = LACLoss(frame_weight=0, temperature=temperature, scale=scale, backend=backend)
    for second in (z.roll(25, 1), other, z + 0.1 * other):
        result = {}
        for dtype in (torch.float32, torch.float64):
            pair = [x.to(dtype).clone().requires_grad_() for x in (z, second)]
            result[dtype] = torch.autograd.grad(loss(*pair, **frame_numbers(*pair)), pair)
        for single, double in zip(result[torch.float32], result[torch.float64], strict=True):
            rounding = 2**-24 * scale / temperature  # where the gradient is next to nothing: of a score, by T
            assert (single - double).norm() < accuracy * double.norm() + rounding
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
    expected = loss(z1, z2, **frame_numbers(z1, z2))
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


@pytest.mark.parametrize("form", [*FORMS, None])
def test_padding_changes_nothing_whatever_it_holds(form):
    z1, z2 = embeddings(b=2)
    loss = LACLoss(sequence_form=form)
    lengths1, lengths2 = torch.tensor([6, 4]), torch.tensor([5, 8])
    result = loss.terms(z1, z2, lengths1=lengths1, lengths2=lengths2, **frame_numbers(z1, z2, form))
    wide = [
        torch.cat((z.detach(), torch.full_like(z, float("nan"))), 1).masked_fill(
            (torch.arange(2 * z.shape[1]) >= k[:, None])[:, :, None], float("nan")
        )
        for z, k in ((z1, lengths1), (z2, lengths2))
    ]
    for z in wide:
        z.requires_grad_()
    padded = loss.terms(*wide, lengths1=lengths1, lengths2=lengths2, **frame_numbers(*wide, form))
    for x, y in zip(result, padded, strict=True):
        torch.testing.assert_close(x, y)
    padded.total.sum().backward()
    for z, k in zip(wide, (lengths1, lengths2), strict=True):
        assert z.grad.isfinite().all()
        assert (z.grad[torch.arange(z.shape[1]) >= k[:, None]] == 0).all()


@pytest.mark.parametrize("gaps", ["constant", "learned", "interval"])
@pytest.mark.parametrize("form", [*FORMS, None])
def test_a_pair_without_frames_is_as_if_it_were_not_there(form, gaps):
    z1, z2 = (z.detach().float() for z in embeddings(b=5))
    loss = LACLoss(sequence_form=form, gaps=gaps, negatives="both", n_negatives=9)
    lengths1, lengths2 = torch.tensor([0, 1, 6, 6, 0]), torch.tensor([8, 1, 0, 8, 0])
    full = torch.tensor([1, 3])
    z1.requires_grad_()
    result = loss.terms(z1, z2, lengths1=lengths1, lengths2=lengths2, **frame_numbers(z1, z2, form))
    alone = loss.terms(
        z1[full], z2[full], lengths1=lengths1[full], lengths2=lengths2[full], **frame_numbers(z1[full], z2[full], form)
    )
    for x, y in zip(result, alone, strict=True):
        torch.testing.assert_close(x[full], y)
        assert (x[[0, 2, 4]] == 0).all()
    value = loss(z1, z2, lengths1=lengths1, lengths2=lengths2, **frame_numbers(z1, z2, form))
    torch.testing.assert_close(value, alone.total.mean())
    value.backward()
    assert z1.grad.isfinite().all()
    assert (z1.grad[[0, 2, 4]] == 0).all()
    assert (z1.grad[3] != 0).all()


@pytest.mark.parametrize("negatives", ["reversed", "batch", "both"])
@pytest.mark.parametrize("form", [*FORMS, None])
def test_a_batch_without_frames_is_zero_and_so_are_its_gradients(form, negatives):
    z1, z2 = embeddings()
    loss = LACLoss(sequence_form=form, negatives=negatives, learn_similarity=True)
    value = loss(z1, z2, lengths1=0, lengths2=[0, 3, 8], **frame_numbers(z1, z2, form))
    assert value == 0
    value.backward()
    for x in (z1, z2, *loss.parameters()):
        assert (x.grad == 0).all()


def test_one_frame_is_a_sequence():
    z1, z2 = torch.randn(1, 1, 4), torch.randn(1, 1, 4)
    for form in (*FORMS, None):
        assert LACLoss(sequence_form=form)(z1, z2, **frame_numbers(z1, z2, form)).isfinite()


@pytest.mark.parametrize("size", [1e-25, 1e-3, 1.0, 1e5, 1e25, 1e37])
@pytest.mark.parametrize("form", [*FORMS, None])
def test_embeddings_of_any_size_have_a_direction_and_a_gradient(form, size):
    z1, z2 = (z.detach().float() for z in embeddings())
    loss, clock = LACLoss(sequence_form=form), frame_numbers(z1, z2, form)
    expected = torch.autograd.grad(loss(z1.requires_grad_(), z2, **clock), z1)[0]
    large = (z1.detach() * size).requires_grad_()
    value = loss(large, z2, **clock)
    (gradient,) = torch.autograd.grad(value, large)
    if size >= 1e-2:  # the cosine does not ask how long a vector is
        torch.testing.assert_close(value, loss(z1, z2, **clock))
        torch.testing.assert_close(gradient * size, expected, rtol=1e-3, atol=1e-6)
    else:
        assert gradient.double().norm() < 1e3 * expected.norm() * 10
    if form is not None or size > 1e-9:  # without a clock it is less than float32 can hold
        assert (gradient != 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("form", [*FORMS, None])
def test_an_embedding_of_zeros_has_a_bounded_gradient(form, dtype):
    z1, z2 = (z.detach().to(dtype) for z in embeddings())
    z1[1, 2] = z2[1, 3] = 0
    z1.requires_grad_()
    loss = LACLoss(sequence_form=form)
    (gradient,) = torch.autograd.grad(loss(z1, z2, **frame_numbers(z1, z2, form)), z1)
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
    for form in (*FORMS, None):
        terms = LACLoss(sequence_form=form, negatives="reversed", n_negatives=1).terms(
            z1, z2, **frame_numbers(z1, z2, form)
        )
        assert terms.total.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("form", [*FORMS, None])
def test_float32_inside_autocast_and_for_half_input(form):
    z1, z2 = (z.detach().float() for z in embeddings())
    loss, clock = LACLoss(sequence_form=form), frame_numbers(z1, z2, form)
    expected = loss(z1, z2, **clock)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(z1, z2, **clock), expected, rtol=0, atol=0)
        torch.testing.assert_close(loss.scores(z1, z2), loss.scores(z1.double(), z2).float())
    half = loss(z1.bfloat16(), z2.bfloat16(), **clock)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(z1.bfloat16().float(), z2.bfloat16().float(), **clock))


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


def test_a_pair_that_matches_scores_above_one_that_does_not():
    z1, z2 = embeddings(n=20, m=20, e=32)
    loss = LACLoss(sequence_form="contrast")
    same, other = loss.terms(z1, z1), loss.terms(z1, z2)
    assert (same.score > other.score).all()
    assert (same.sequence < other.sequence).all()


def test_the_score_of_a_step_is_solved_once(monkeypatch):
    from lac_kernels import cpu

    forward, calls = cpu.forward, []
    monkeypatch.setattr(cpu, "forward", lambda *given: calls.append(1) or forward(*given))
    for form in FORMS:
        LACLoss(sequence_form=form, backend="cpu")(*embeddings(), **frame_numbers(*embeddings()))
    assert len(calls) == len(FORMS)
