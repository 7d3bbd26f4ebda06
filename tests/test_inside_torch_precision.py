"""Autocast and gradient scaling, another default dtype, deterministic algorithms: what is computed stays the same."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from ways_of_calling import WAYS, embedded

from lac import Consensus, FrameEncoder, LACLoss, SmithWaterman, consistent_alignments, self_similarity
from lac.gaps import ConstantGaps, ContextualGaps, IntervalGaps, LearnedGaps
from lac.measure.errors import relative_error

pytestmark = pytest.mark.promise("torch")
HALF = (torch.bfloat16, torch.float16)


def adversarial(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """Embeddings that half precision is hard on, rounded to it."""
    z1, z2 = (z.detach() for z in embedded(5, 7, 9, 8))
    some = torch.randn(5, 9, 8, generator=torch.Generator().manual_seed(3)) > 0
    mixed = [torch.where(some[:, : z.shape[1]], z * 6e4 / z.abs().max(), z * 1e-7) for z in (z1, z2)]
    cases = {
        "plain": (z1, z2),
        "huge": (z1 * 6e4 / z1.abs().max(), z2 * 6e4 / z2.abs().max()),
        "tiny": (z1 * 1e-7, z2 * 1e-7),
        "huge and tiny": (mixed[0], mixed[1]),
        "zeros": (torch.zeros_like(z1), torch.zeros_like(z2)),
        "zeros and others": (z1, torch.zeros_like(z2)),
        "duplicates": (z1[:1, :1].expand_as(z1), z1[:1, :1].expand_as(z2)),
        "one frame": (z1[:, :1], z2[:, :1]),
    }
    return {name: (a.to(dtype), b.to(dtype)) for name, (a, b) in cases.items()}


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", WAYS)
def test_half_precision_embeddings_cost_what_they_cost_in_float32(name, dtype, record_property):
    """Inside autocast, the loss of half-precision embeddings is that in float32, bit for bit; gradients finite."""
    loss = WAYS[name].loss(8)
    learned = [p for p in loss.parameters() if p.requires_grad]
    cases = adversarial(dtype)
    for what, pair in cases.items():
        given = WAYS[name].arguments(*pair)
        found = []
        for halves in (False, True):
            z = [(x.clone() if halves else x.float()).requires_grad_() for x in pair]
            torch.manual_seed(0)
            with torch.autocast("cpu", dtype, enabled=halves):
                value = loss(*z, **given)
            found.append((value, *torch.autograd.grad(value, [*z, *learned], allow_unused=True)))
        (exact, *wide), (value, *gradients) = found
        assert value.dtype == torch.float32, what
        assert torch.equal(value, exact), what
        for x, y in zip(gradients, wide, strict=True):
            assert y is None or y.isfinite().all(), what
            assert x is None or torch.equal(x, y.to(x.dtype)), what
    record_property("cases", len(cases))


@pytest.mark.parametrize("dtype", HALF)
def test_what_the_loss_is_made_of_is_float32_inside_autocast(dtype):
    """Inside autocast, alignments with any gap model, guides and consensus are those outside it, bit for bit."""
    z1, z2 = (z.detach() for z in embedded(4, 7, 9, 8))
    scores, groups = LACLoss().scores(z1, z2), torch.tensor([0, 0, 0, 1])
    contextual = ContextualGaps(8)
    torch.nn.init.normal_(contextual.weight)
    aligners = [SmithWaterman(gaps) for gaps in (contextual, LearnedGaps(), IntervalGaps(), ConstantGaps())]

    def results() -> list[Tensor]:
        found = [self_similarity(z1), LACLoss().scores(z1, z2), *LACLoss().align(z1, z2)[:2], *Consensus()(z1, groups)]
        for aligner in aligners:
            found += [aligner(scores, z1=z1, z2=z2), aligner.soft_alignment(scores, z1=z1, z2=z2)]
            found += [aligner.hard_alignment(scores, z1=z1, z2=z2).score]
        return [*found, consistent_alignments(found[4], groups)]

    expected = results()
    with torch.autocast("cpu", dtype):
        for x, y in zip(results(), expected, strict=True):
            assert x.dtype == torch.float32
            assert torch.equal(x, y)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", WAYS)
def test_steps_with_a_gradient_scaler(name, dtype, record_property):
    """Autocast with GradScaler: steps of encoder and loss are taken, and leave every weight finite."""
    torch.manual_seed(0)
    encoder, loss = FrameEncoder(8, embed_dim=8, width=8, heads=2, layers=1), WAYS[name].loss(8)
    learned = [p for p in (*encoder.parameters(), *loss.parameters()) if p.requires_grad]
    optimiser, scaler = torch.optim.SGD(learned, lr=1e-3), torch.amp.GradScaler("cpu")
    frames = [z.detach() for z in embedded(5, 7, 9, 8)]
    frames[0][0, 2], frames[1][:, 3] = 0.0, 1e-7
    frames[0][3] = frames[0][3, :1]
    taken = 0
    for _ in range(10):
        before = [p.detach().clone() for p in learned]
        optimiser.zero_grad()
        with torch.autocast("cpu", dtype):
            z1, z2 = (encoder(x) for x in frames)
            assert z1.dtype == dtype
            given = WAYS[name].arguments(z1, z2)
            value = loss(z1, z2, **given)
        scaler.scale(value).backward()
        scaler.step(optimiser)
        scaler.update()
        assert value.isfinite()
        assert all(p.isfinite().all() for p in learned)
        taken += any(not torch.equal(p, q) for p, q in zip(learned, before, strict=True))
    assert taken >= 7  # float16 overflows until the scale, 2^16 at first, is small enough
    record_property("cases", 10)


@pytest.fixture
def default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def values(name: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The parts of the loss and the gradients of float32 embeddings."""
    z = embedded(5, 7, 9, 8, dtype=dtype)
    loss = WAYS[name].loss(8)
    torch.manual_seed(0)
    terms = loss.terms(*z, **WAYS[name].arguments(*z))
    return (*terms, *torch.autograd.grad(terms.total.sum(), z))


@pytest.mark.parametrize("name", WAYS)
def test_another_default_dtype_changes_no_value(name, record_property):
    """torch.set_default_dtype(float64): the loss of embeddings of either dtype stays, and so does its dtype."""
    worst = {}
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
        expected = values(name, dtype)
        torch.set_default_dtype(torch.float64)
        try:
            found = values(name, dtype)
        finally:
            torch.set_default_dtype(torch.float32)
        assert [x.dtype for x in found] == [x.dtype for x in expected]
        worst[dtype] = max(relative_error(x, y, 1e-2) for x, y in zip(found, expected, strict=True))
        assert worst[dtype] <= limit
    record_property("worst", worst[torch.float32])
    record_property("limit", 1e-5)


def direction(z: Tensor) -> Tensor:
    """z / (|z|^4 + e^4)^(1/4), of rows."""
    return z / (z.square().sum(-1, keepdim=True) ** 2 + 1e-12) ** 0.25


def test_float64_is_not_rounded_to_float32_on_the_way():
    """Of float64 embeddings the scores and the targets of the clock are right to 12 digits, whatever the lengths."""
    z1, z2 = (z.detach() for z in embedded(4, 7, 9, 8, dtype=torch.float64))
    loss = LACLoss().double()
    for n, m in ((7, 9), (3, 7), (6, 5)):
        result = loss.scores(z1, z2, [n] * 4, [m] * 4)[:, :n, :m]
        u1, u2 = (direction(z[:, :t]) for z, t in ((z1, n), (z2, m)))
        c1, c2 = (
            direction(u - u.mean(1, keepdim=True) * (1 - 1 / u.shape[1])) * u.square().sum(2, keepdim=True)
            for u in (u1, u2)
        )
        expected = softplus(loss.raw_scale) * (c1 @ c2.mT - loss.margin)
        assert (result - expected).abs().max() < 1e-12
        clock = {"times1": torch.arange(7).expand(4, 7), "times2": torch.arange(9).expand(4, 9)}
        frame = loss.terms(z1, z2, **clock, lengths1=[n] * 4, lengths2=[m] * 4).frame
        apart = torch.arange(n, dtype=torch.float64)[:, None] - torch.arange(m, dtype=torch.float64)
        p, logits = -(apart**2) / (2 * 1.3**2), u1 @ u2.mT / 0.1
        there, back = (
            (p.softmax(dim) * (p.log_softmax(dim) - logits.log_softmax(dim + 1))).sum((1, 2)) / count
            for dim, count in ((1, n), (0, m))
        )
        torch.testing.assert_close(frame, 0.5 * (there + back), rtol=1e-12, atol=1e-12)


def test_an_encoder_and_its_checkpoint_under_another_default_dtype(default_float64, tmp_path):
    """torch.set_default_dtype(float64): an encoder and an aligner that were made in float32 go on in float32."""
    from lac.runs import checkpoint

    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    encoder, aligner = FrameEncoder(8, embed_dim=8, width=8, heads=2).eval(), SmithWaterman()
    frames, scores = torch.randn(2, 7, 8), torch.randn(2, 7, 9)
    expected, score = encoder(frames), aligner(scores)
    checkpoint.write_encoder(tmp_path, encoder)
    torch.set_default_dtype(torch.float64)
    assert torch.equal(encoder(frames), expected)
    assert torch.equal(aligner(scores), score)
    read = checkpoint.read_encoder(tmp_path)(frames)
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, expected)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", WAYS)
def test_deterministic_algorithms(name, deterministic):
    """torch.use_deterministic_algorithms(True): every way of calling the loss runs, and twice to the same bits."""
    for x, y in zip(values(name, torch.float32), values(name, torch.float32), strict=True):
        assert torch.equal(x, y)


def test_consensus_is_deterministic(deterministic):
    """torch.use_deterministic_algorithms(True): a consensus runs, and twice to the same bits."""
    z, groups = embedded(6, 12, 12, 8)[0].detach(), torch.tensor([0, 0, 1, 0, 1, 0])
    for x, y in zip(*(Consensus()(z, groups) for _ in range(2)), strict=True):
        assert torch.equal(x, y)


def test_training_under_another_default_dtype(default_float64, tmp_path):
    """torch.set_default_dtype(float64): training goes on in float32, with a teacher and groups too."""
    from tiny_run import SETTINGS, write_clips

    from lac.runs.config import TrainConfig
    from lac.runs.fit import fit
    from lac.runs.sampling import Sampler
    from lac.runs.state import start

    config = TrainConfig.read(None, SETTINGS | {"data.name": "folder", "data.root": str(write_clips(tmp_path))})
    dataset = config.data.load(torch.device("cpu"))
    state = start(config, dataset, torch.device("cpu"))
    fit(state, Sampler.of(config, dataset.train), config.train)
    modules = (state.encoder, state.loss, *([] if state.teacher is None else [state.teacher]))
    assert {x.dtype for module in modules for x in module.state_dict().values()} == {torch.float32}
    assert state.step == 12
