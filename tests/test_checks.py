"""Arguments of every kind, at everything that takes them: equal answers where welcome, one refusal where not."""

import fractions
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lac import FrameEncoder, LACLoss, SmithWaterman, hard_alignment, smith_waterman, soft_alignment
from lac.gaps import ConstantGaps, ContextualGaps, IntervalGaps, LearnedGaps

B, T, E = 3, 5, 4
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FORMS = ("contrast", "score", "posterior")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SCORES, Z1, Z2 = random(B, T, T), random(B, T, E, seed=1), random(B, T, E, seed=2)
ENCODER = FrameEncoder(E, embed_dim=4, width=8, heads=2, layers=1)
INTERVAL = SmithWaterman(IntervalGaps(0.5, 0.3))

# Everything that takes lengths, by what it does with those of sequence 1.
WITH_LENGTHS = {
    "smith_waterman": lambda k: smith_waterman(SCORES, lengths=(k, None)),
    "soft_alignment": lambda k: soft_alignment(SCORES, lengths=(k, None)),
    "hard_alignment": lambda k: hard_alignment(SCORES, lengths=(k, None)).score,
    "SmithWaterman": lambda k: INTERVAL(SCORES, lengths=(k, None)),
    "LACLoss": lambda k: LACLoss().terms(Z1, Z2, lengths1=k).total,
    "FrameEncoder": lambda k: ENCODER(Z1, lengths=k),
}
# Everything that takes times, by what it does with those of sequence 1; sequence 2 has frame numbers.
NUMBERS = torch.arange(float(T)).expand(B, T)
WITH_TIMES = {
    "SmithWaterman": lambda t, k=None: INTERVAL(SCORES, times1=t, times2=NUMBERS, lengths=(k, None)),
    "LACLoss": lambda t, k=None: LACLoss().terms(Z1, Z2, times1=t, times2=NUMBERS, lengths1=k).total,
    "FrameEncoder": lambda t, k=None: ENCODER(Z1, times=t, lengths=k),
}


def equal(result: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


@pytest.mark.parametrize("taker", WITH_LENGTHS)
@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(0, T), min_size=B, max_size=B))
def test_lengths_of_every_integer_kind_mean_the_same(taker, lengths):
    call = WITH_LENGTHS[taker]
    expected = call(torch.tensor(lengths))
    for kind in (list(lengths), tuple(lengths), np.array(lengths), np.array(lengths, np.uint16)):
        equal(call(kind), expected)
    for dtype in INTEGERS:
        equal(call(torch.tensor(lengths, dtype=dtype)), expected)
    for length in (lengths[0], np.int32(lengths[0]), torch.tensor(lengths[0])):
        equal(call(length), call([lengths[0]] * B))


@pytest.mark.parametrize("taker", WITH_LENGTHS)
@settings(max_examples=10, deadline=None)
@given(wrong=st.one_of(st.integers(-(2**40), -1), st.integers(T + 1, 2**40)), place=st.integers(0, B - 1))
def test_lengths_out_of_range_are_refused(taker, wrong, place):
    lengths = [1] * B
    lengths[place] = wrong
    for kind in (lengths, torch.tensor(lengths), wrong):
        with pytest.raises(ValueError, match=rf"lengths.* must lie between 0 and {T}, .*; got {wrong}$"):
            WITH_LENGTHS[taker](kind)


@pytest.mark.parametrize("taker", WITH_LENGTHS)
@pytest.mark.parametrize(
    "lengths",
    [
        [1.0, 2.0, 3.0],
        torch.ones(B),
        torch.ones(B, dtype=torch.bool),
        [True, True, False],
        2.0,
        True,
        "3",
        [1, None, 2],
    ],
    ids=repr,
)
def test_lengths_that_are_no_integers_are_refused(taker, lengths):
    with pytest.raises(TypeError, match=r"lengths\S* must hold integers"):
        WITH_LENGTHS[taker](lengths)


@pytest.mark.parametrize("taker", WITH_LENGTHS)
def test_lengths_of_another_shape_are_refused(taker):
    for lengths in ([1, 2], torch.ones(B, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"lengths\S* must have shape \(3,\)"):
            WITH_LENGTHS[taker](lengths)


@pytest.mark.parametrize("taker", WITH_TIMES)
@settings(max_examples=10, deadline=None)
@given(steps=st.lists(st.integers(0, 20), min_size=T, max_size=T), start=st.integers(0, 20))
def test_times_of_every_real_kind_mean_the_same(taker, steps, start):
    call = WITH_TIMES[taker]
    times = (start + torch.tensor(steps).cumsum(0)).expand(B, T)
    expected = call(times.double())
    for dtype in (*INTEGERS, torch.float16, torch.float32):
        torch.testing.assert_close(call(times.clamp(max=100).to(dtype)), call(times.clamp(max=100).double()))
    torch.testing.assert_close(call(times), expected)


@pytest.mark.parametrize("taker", WITH_TIMES)
@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        (NUMBERS.tolist(), TypeError, "must be a torch.Tensor, got list; torch.as_tensor"),
        (NUMBERS.numpy(), TypeError, "must be a torch.Tensor, got ndarray"),
        (NUMBERS > 2, TypeError, "must hold real numbers, got torch.bool"),
        (NUMBERS.to(torch.complex64), TypeError, "must hold real numbers, got torch.complex64"),
        (NUMBERS[0], ValueError, r"must be \(3, 5\) like .*, one time per frame, got \(5,\)"),
        (NUMBERS.T, ValueError, r"must be \(3, 5\) like .*, one time per frame, got \(5, 3\)"),
        (NUMBERS.flip(1), ValueError, "must not decrease within a sequence, got 4.0 and then 3.0 at frames 0 and 1"),
        (NUMBERS.log(), ValueError, "must be finite, got -inf at frame 0 of sequence 0"),
        (NUMBERS / 0, ValueError, "must be finite, got nan at frame 0 of sequence 0"),
    ],
)
def test_times_that_are_none_are_refused(taker, times, error, message):
    with pytest.raises(error, match=f"times.? {message}"):
        WITH_TIMES[taker](times)


@pytest.mark.parametrize("taker", WITH_TIMES)
@pytest.mark.parametrize("content", [math.nan, math.inf, -math.inf, -1e30, 0.0])
def test_times_at_padding_may_be_anything(taker, content):
    times = NUMBERS / 3
    lengths = [5, 3, 0]
    padded = times.masked_fill(torch.arange(T) >= torch.tensor(lengths)[:, None], content)
    equal(WITH_TIMES[taker](padded, lengths), WITH_TIMES[taker](times, lengths))


@pytest.mark.parametrize("taker", WITH_LENGTHS)
def test_lengths_that_cannot_be_read_are_clamped(taker, monkeypatch):
    """As on a GPU, where a look at the values would wait for all work before it."""
    call = WITH_LENGTHS[taker]
    expected = call([T, 0, 2])
    monkeypatch.setattr("lac.checks.readable", lambda *tensors: False)
    for dtype in (torch.int16, torch.int64):
        equal(call(torch.tensor([999, -3, 2], dtype=dtype)), expected)
    equal(call(torch.tensor([2**33 + 1, -(2**33), 2])), expected)


def test_times_come_in_pairs():
    for given_, missing in (("times1", "times2"), ("times2", "times1")):
        for call in (lambda **t: LACLoss()(Z1, Z2, **t), lambda **t: SmithWaterman()(SCORES, **t)):
            with pytest.raises(ValueError, match=f"{given_} came without {missing}"):
                call(**{given_: NUMBERS})


# Every number that is fixed when something is made, with a value that is right for it.
SETTINGS = {
    "LACLoss": (
        LACLoss,
        {
            "gap_open": 0.5, "gap_extend": 0.1, "temperature": 0.2, "margin": 0.5, "scale": 1.0, "sigma": 1.3,
            "frame_temperature": 0.1, "sequence_temperature": 0.02, "sequence_weight": 1.0, "frame_weight": 1.0,
        },
    ),
    "SmithWaterman": (SmithWaterman, {"temperature": 0.5}),
    "ConstantGaps": (ConstantGaps, {"gap_open": 1.0, "gap_extend": 0.5}),
    "LearnedGaps": (LearnedGaps, {"gap_open": 1.0, "gap_extend": 0.5}),
    "ContextualGaps": (lambda **s: ContextualGaps(4, **s), {"gap_open": 1.0, "gap_extend": 0.5}),
    "IntervalGaps": (IntervalGaps, {"gap_open": 1.0, "gap_rate": 0.5}),
    "FrameEncoder": (
        lambda **s: FrameEncoder(4, **s),
        {"dropout": 0.1, "shortest_wavelength": 0.5, "longest_wavelength": 9.0},
    ),
    "smith_waterman": (
        lambda **s: smith_waterman(SCORES, **s), {"gap_open": 1.0, "gap_extend": 0.5, "temperature": 0.5},
    ),
}  # fmt: skip
COUNTS = {
    "LACLoss": (lambda **s: LACLoss(gaps="contextual", **{"embed_dim": 4} | s), {"n_negatives": 4, "embed_dim": 4}),
    "ContextualGaps": (ContextualGaps, {"embed_dim": 4}),
    "FrameEncoder": (
        lambda **s: FrameEncoder(**{"input_dim": 4} | s),
        {"input_dim": 4, "embed_dim": 4, "width": 16, "heads": 2, "layers": 1},
    ),
}
NAMED = [(maker, name) for maker, (_, values) in SETTINGS.items() for name in values]
COUNTED = [(maker, name) for maker, (_, values) in COUNTS.items() for name in values]


@pytest.mark.parametrize(("maker", "name"), NAMED)
def test_numbers_are_real_numbers_and_nothing_else(maker, name):
    make, values = SETTINGS[maker]
    value = values[name]
    for real in (np.float32(value), np.float64(value), fractions.Fraction(value)):
        make(**{name: real})
    for wrong in (True, "1", None, [1.0], np.array(value), np.bool_(True), 1j, NUMBERS):
        if wrong is NUMBERS and maker == "smith_waterman":
            continue  # it takes tensors
        with pytest.raises(TypeError, match=f"{name} must be "):
            make(**{name: wrong})
    for wrong in (math.nan, -1.0, math.inf, -math.inf, np.float32(-1)):
        signless, endless = name == "margin", maker in ("ConstantGaps", "smith_waterman") and name != "temperature"
        if (signless and wrong == -1) or (endless and wrong == math.inf):
            continue  # a margin has no sign, and a gap of infinite cost never occurs
        with pytest.raises(ValueError, match="must "):
            make(**{name: wrong})


@pytest.mark.parametrize(("maker", "name"), COUNTED)
def test_counts_are_integers(maker, name):
    make, values = COUNTS[maker]
    make(**{name: np.int64(values[name])})
    for wrong in (True, 2.5, 2.0, "2", np.float32(2), torch.tensor(2)):
        with pytest.raises(TypeError, match=f"{name} must be an integer, got"):
            make(**{name: wrong})
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        make(**{name: -1})


def test_unknown_names_are_refused_when_a_module_is_made():
    for make in (LACLoss, SmithWaterman):
        with pytest.raises(ValueError, match=r"backend must be one of auto, .*; got 'tritn'"):
            make(backend="tritn")
    with pytest.raises(TypeError, match="learn_similarity must be True or False, got 'no'"):
        LACLoss(learn_similarity="no")
    with pytest.raises(TypeError, match="embed_dim must be an integer, got str"):
        LACLoss(embed_dim="128")
    with pytest.raises(TypeError, match=r"temperature must be a number, got Parameter"):
        SmithWaterman(temperature=torch.nn.Parameter(torch.tensor(1.0)))
    with pytest.raises(TypeError, match=r"backbone must be a name, a torch.nn.Module or None, got int"):
        FrameEncoder(4, backbone=3)
    with pytest.raises(TypeError, match=r"gaps must be a lac.gaps.GapModel or a pair \(open, extend\), got \(1.0,\)"):
        SmithWaterman((1.0,))


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        ({"z1": Z1.mT}, ValueError, r"z1 must be \(3, 5, E\), a row for each frame of the scores, got \(3, 4, 5\)"),
        ({"z2": Z2.mT}, ValueError, r"z2 must be \(3, 5, E\)"),
        ({"z1": Z1.flatten(1)}, ValueError, r"z1 must be \(3, 5, E\)"),
        ({"z1": Z1[0]}, ValueError, r"z1 must be \(3, 5, E\)"),
        ({"z1": Z1.long()}, TypeError, "z1 must be floating point, got torch.int64"),
        ({"z1": Z1.tolist()}, TypeError, "z1 must be a torch.Tensor, got list"),
        ({"times1": NUMBERS.reshape(-1), "times2": NUMBERS}, ValueError, r"times1 must be \(3, 5\) like the rows"),
        ({"times1": NUMBERS, "times2": NUMBERS[:, :4]}, ValueError, r"times2 must be \(3, 5\) like the columns"),
    ],
)
@pytest.mark.parametrize("method", ["forward", "soft_alignment", "hard_alignment"])
def test_the_aligner_reshapes_nothing(method, given_, error, message):
    with pytest.raises(error, match=message):
        getattr(SmithWaterman(), method)(SCORES, **given_)


def test_a_single_pair_has_its_own_layout():
    z, times = {"z1": Z1[0], "z2": Z2[0]}, {"times1": NUMBERS[0], "times2": NUMBERS[0] * 2}
    for gaps in (ContextualGaps(E), IntervalGaps()):
        aligner = SmithWaterman(gaps)
        batch = {name: x[None] for name, x in (z | times).items()}
        equal(aligner(SCORES[0], **z, **times), aligner(SCORES[:1], **batch)[0])
    with pytest.raises(ValueError, match=r"z1 must be \(5, E\)"):
        SmithWaterman()(SCORES[0], z1=Z1[:1], z2=Z2[:1])


def test_embeddings_that_a_gap_model_needs_are_asked_for():
    for given_, missing in (({}, "z1"), ({"z1": Z1}, "z2")):
        with pytest.raises(ValueError, match=f"none came: pass {missing}= of 4 dimensions"):
            SmithWaterman(ContextualGaps(4))(SCORES, **given_)


def test_embeddings_of_two_widths_are_computed_in_the_wider():
    for gaps in ("learned", "contextual", "interval"):
        loss = LACLoss(gaps=gaps, embed_dim=E)
        expected = loss.terms(Z1.double(), Z2.double())
        for x, y in zip(loss.terms(Z1, Z2.double()), expected, strict=True):
            assert x.dtype == torch.float64
            equal(x, y)
    with pytest.raises(ValueError, match="z2 is on meta but z1 is on cpu; move one of them"):
        LACLoss()(Z1, Z2.to("meta"))


def test_frames_of_another_kind_are_refused():
    for frames, error, message in (
        (Z1.double(), TypeError, "frames are torch.float64 but the encoder is torch.float32; convert with"),
        (Z1.long(), TypeError, "frames are torch.int64 but the encoder is torch.float32"),
        (
            Z1[0],
            ValueError,
            r"frames must be \(batch, frames, ...\), got \(5, 4\); for one sequence pass frames\[None\]",
        ),
        (Z1.tolist(), TypeError, "frames must be a torch.Tensor, got list"),
    ):
        with pytest.raises(error, match=message):
            ENCODER(frames)


@pytest.mark.parametrize("gaps", ["learned", "contextual", "interval"])
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=6, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, T), st.integers(0, T)), min_size=B, max_size=B),
    content=st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30]),
)
def test_what_stands_at_padding_reaches_nothing(form, gaps, lengths, content):
    loss = LACLoss(sequence_form=form, gaps=gaps, embed_dim=E, negatives="both", learn_similarity=True)
    lengths1, lengths2 = (torch.tensor(k) for k in zip(*lengths, strict=True))
    result = []
    for fill in (0.0, content):
        given_ = [
            x.masked_fill((torch.arange(T) >= k[:, None]).reshape(B, T, *(1,) * (x.dim() - 2)), fill).requires_grad_()
            for x, k in ((Z1, lengths1), (Z2, lengths2), (NUMBERS / 7, lengths1), (NUMBERS / 9, lengths2))
        ]
        z1, z2, times1, times2 = given_
        value = loss(z1, z2, times1=times1, times2=times2, lengths1=lengths1, lengths2=lengths2)
        wanted = [*given_, *loss.parameters()]
        gradients = torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True)
        result.append([value, *gradients])
    for plain, filled in zip(*result, strict=True):
        assert plain.isfinite().all()
        equal(filled, plain)
