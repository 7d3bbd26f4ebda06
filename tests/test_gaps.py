"""Gap models, and SmithWaterman that owns one."""

import pytest
import torch

from lac import SmithWaterman, hard_alignment, smith_waterman, soft_alignment
from lac.gaps import ConstantGaps, ContextualGaps, IntervalGaps, LearnedGaps


def gap_cost(open_: torch.Tensor, extend: torch.Tensor, first: int, last: int) -> float:
    """Cost of a gap over columns first..last of row 0."""
    return (open_[0, 0, first] + extend[0, 0, first + 1 : last + 1].sum()).item()


def test_the_same_interval_costs_the_same_at_any_sampling_rate():
    gaps = IntervalGaps(gap_open=0.7, gap_rate=0.4)
    costs = []
    for rate in (5, 10, 50):
        times = torch.arange(4 * rate + 1, dtype=torch.float64)[None] / rate
        open_, extend = gaps(None, None, times, times)
        # Row `rate` has the interval 1 / rate like every column; row 0 has none before it.
        open_, extend = open_[:, rate:], extend[:, rate:]
        costs.append(gap_cost(open_, extend, rate + 1, 3 * rate))  # from 1 s to 3 s
    assert costs == pytest.approx([0.7 + 0.4 * 2] * 3, rel=1e-5)
    uneven = torch.tensor([[0.0, 0.1, 0.5, 0.6, 2.0]])
    _, extend = gaps(None, None, uneven, uneven)
    torch.testing.assert_close(extend[0].diagonal(), 0.4 * torch.tensor([0, 0.1, 0.4, 0.1, 1.4]))


def test_contextual_gaps_start_as_learned_scalars_and_depend_on_content():
    z1, z2, t = torch.randn(2, 3, 8), torch.randn(2, 4, 8), torch.zeros(2, 0)
    gaps = ContextualGaps(8, gap_open=0.6, gap_extend=0.2)
    for result, scalar in zip(gaps(z1, z2, t, t), LearnedGaps(0.6, 0.2)(z1, z2, t, t), strict=True):
        assert result.shape == (2, 3, 4)
        torch.testing.assert_close(result, scalar.expand(2, 3, 4))
    torch.nn.init.normal_(gaps.weight)
    open_, extend = gaps(z1, z2, t, t)
    assert open_.std() > 0
    assert open_.min() >= 0
    assert extend.min() >= 0
    bilinear = z1[0, 1] @ gaps.weight[0] @ z2[0, 2] / 8**0.5 + gaps.open
    torch.testing.assert_close(open_[0, 1, 2], torch.nn.functional.softplus(bilinear))


def test_learned_values_are_those_in_use():
    gaps = LearnedGaps(0.8, 1e-4)
    assert gaps.learned()["gap_open"].item() == pytest.approx(0.8)
    assert gaps.learned()["gap_extend"].item() == pytest.approx(1e-4, rel=1e-3)
    assert ConstantGaps(1, 0).learned() == {}
    assert set(IntervalGaps().learned()) == {"gap_open", "gap_rate"}
    for model in (LearnedGaps, IntervalGaps):
        with pytest.raises(ValueError, match="gap_open must be positive"):
            model(0.0)


def test_the_module_equals_the_functions():
    scores = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    module = SmithWaterman((0.9, 0.3), temperature=0.4)
    options = {"gap_open": 0.9, "gap_extend": 0.3}
    torch.testing.assert_close(module(scores), smith_waterman(scores, temperature=0.4, **options))
    torch.testing.assert_close(module.soft_alignment(scores), soft_alignment(scores, temperature=0.4, **options))
    assert module.hard_alignment(scores).paths[1].tolist() == hard_alignment(scores, **options).paths[1].tolist()
    assert list(module.parameters()) == []
    torch.testing.assert_close(module(scores[0]), module(scores)[0])


def test_the_module_owns_learnable_gaps():
    scores = torch.randn(2, 5, 6)
    learned = SmithWaterman()
    learned(scores).sum().backward()
    assert {name for name, p in learned.named_parameters() if p.grad.abs() > 0} == {"gaps.open", "gaps.extend"}
    z1, z2 = torch.randn(2, 5, 4), torch.randn(2, 6, 4)
    contextual = SmithWaterman(ContextualGaps(4))
    contextual(scores, z1=z1, z2=z2).sum().backward()
    assert contextual.gaps.weight.grad.abs().max() > 0
    single = contextual(scores[0], z1=z1[0], z2=z2[0])
    torch.testing.assert_close(single, contextual(scores, z1=z1, z2=z2)[0])
    interval = SmithWaterman(IntervalGaps())
    times = {"times1": torch.arange(5.0).expand(2, 5), "times2": torch.arange(6.0).expand(2, 6)}
    torch.testing.assert_close(interval(scores, **times), interval(scores))
    with pytest.raises(TypeError, match="gaps must be"):
        SmithWaterman("learned")


def test_intervals_keep_their_digits_whatever_the_clock():
    """Seconds, Unix time and nanoseconds since 1970, which float32 does not hold."""
    scores = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0))
    ticks = [torch.randint(1, 9, (2, t), generator=torch.Generator().manual_seed(t)).cumsum(1) for t in (7, 8)]
    seconds = SmithWaterman(IntervalGaps(0.5, 0.4))
    expected = seconds(scores, times1=ticks[0] / 25, times2=ticks[1] / 25)
    result = seconds(scores, times1=ticks[0].double() / 25 + 1.76e9, times2=ticks[1].double() / 25 + 1.76e9)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    since_1970 = [1_760_000_000_000_000_000 + t * 40_000_000 for t in ticks]
    nanoseconds = SmithWaterman(IntervalGaps(0.5, 0.4e-9))
    torch.testing.assert_close(nanoseconds(scores, times1=since_1970[0], times2=since_1970[1]), expected)
    mixed = SmithWaterman(IntervalGaps(0.5, 0.4))(scores, times1=ticks[0] * 2**26, times2=ticks[1].double() * 2**26)
    exact = SmithWaterman(IntervalGaps(0.5, 0.4))(scores, times1=ticks[0] * 2.0**26, times2=ticks[1] * 2.0**26)
    torch.testing.assert_close(mixed, exact)


def test_padding_does_not_reach_the_rate():
    module = SmithWaterman(IntervalGaps())
    scores = torch.randn(2, 5, 6)
    result = []
    for fill in (9.0, float("nan"), float("inf"), -1e30):
        times1, times2 = (torch.arange(float(t)).repeat(2, 1) for t in (5, 6))
        times1[1, 2:], times2[0] = fill, fill
        value = module(scores, times1=times1, times2=times2, lengths=([5, 2], [0, 6]))
        result.append((value, *torch.autograd.grad(value.sum(), module.parameters())))
    for other in result[1:]:
        for x, y in zip(other, result[0], strict=True):
            assert y.isfinite().all()
            torch.testing.assert_close(x, y, rtol=0, atol=0)
