"""self_similarity against plain loops, and its laws; what centring takes off."""

import math

import pytest
import torch
from torch import Tensor

from lac import self_similarity
from lac.sequences import Sequences
from lac.similarity import centred, unit
from lac_kernels.problem import valid_frames


def recordings(b: int = 3, t: int = 30, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Frames (b, t, 5, 3), uneven times in seconds, ragged lengths."""
    g = torch.Generator().manual_seed(seed)
    frames = torch.randn(b, t, 5, 3, generator=g, dtype=torch.float64).cumsum(1)
    times = (0.02 + 0.05 * torch.rand(b, t, generator=g, dtype=torch.float64)).cumsum(1) + 7.0
    return frames, times, torch.tensor([t, t - 7, 4])[:b]


def at(frames: Tensor, times: list[float], moment: float) -> Tensor:
    moment = min(max(moment, times[0]), times[-1])
    for k in range(len(times) - 1):
        if times[k] <= moment <= times[k + 1]:
            share = (moment - times[k]) / (times[k + 1] - times[k])
            return frames[k] + share * (frames[k + 1] - frames[k])
    return frames[-1]


def by_loops(frames: Tensor, times: Tensor, lengths: Tensor, reach: float, count: int) -> list[Tensor]:
    clips = []
    for x, t, length in zip(frames, times.tolist(), lengths.tolist(), strict=True):
        steps = [k for k in range(-count, count + 1) if k]
        rows = [
            [(x[i] - at(x[:length], t[:length], t[i] + reach * k / count)).norm().item() for k in steps]
            for i in range(length)
        ]
        mean = sum(map(sum, rows)) / (length * 2 * count)
        clips.append(torch.tensor(rows, dtype=torch.float64) / mean)
    everything = torch.cat(clips)
    mean, deviation = everything.mean(0), everything.std(0, unbiased=False)
    return [(rows - mean) / deviation / ((rows - mean) / deviation).norm(dim=1, keepdim=True) for rows in clips]


@pytest.mark.parametrize(("reach", "count"), [(0.8, 10), (0.3, 3)])
def test_self_similarity_equals_plain_loops(reach, count):
    frames, times, lengths = recordings()
    result = self_similarity(frames, lengths, times=times, reach=reach, count=count)
    assert result.shape == (3, 30, 2 * count)
    for rows, expected in zip(result, by_loops(frames, times, lengths, reach, count), strict=True):
        torch.testing.assert_close(rows[: len(expected)], expected, atol=1e-6, rtol=1e-5)
        assert (rows[len(expected) :] == 0).all()


def test_without_times_offsets_are_in_frames():
    frames = recordings()[0]
    numbers = torch.arange(30, dtype=torch.float64).expand(3, 30)
    torch.testing.assert_close(self_similarity(frames), self_similarity(frames, times=numbers, reach=20.0))


def test_the_place_the_direction_and_the_size_of_a_recording_do_not_matter():
    frames, times, lengths = recordings()
    expected = self_similarity(frames, lengths, times=times)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    moved = frames.clone()
    moved[0] = 3.5 * frames[0] @ turn + torch.tensor([100.0, -20.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(self_similarity(moved, lengths, times=times), expected)


def test_the_sampling_rate_does_not_matter():
    t = torch.linspace(0, 4, 401, dtype=torch.float64)
    frames = torch.stack([torch.sin(2 * t), torch.cos(3 * t), t.square() / 8], dim=1)[None]
    fine, coarse = (self_similarity(frames[:, ::k], times=t[None, ::k]) for k in (4, 8))
    torch.testing.assert_close(fine[:, ::2], coarse, atol=0.03, rtol=0)


def test_padding_changes_nothing_whatever_it_holds():
    frames, times, lengths = recordings()
    expected = self_similarity(frames, lengths, times=times)
    rubbish = torch.where(valid_frames(lengths, 30)[:, :, None, None], frames, float("nan"))
    torch.testing.assert_close(self_similarity(rubbish, lengths, times=times), expected)


def test_frames_that_do_not_change_say_nothing():
    frames = recordings()[0]
    frames[1] = frames[1, :1] * 1e6
    result = self_similarity(frames)
    assert result.isfinite().all()
    only = self_similarity(torch.full((2, 9, 4), 0.1))
    assert (only == 0).all()
    assert self_similarity(torch.randn(2, 1, 4)).shape == (2, 1, 20)
    assert (self_similarity(frames, 0) == 0).all()


@pytest.mark.parametrize(
    ("frames", "options", "error", "message"),
    [
        (torch.zeros(2, 5), {}, ValueError, "frames must be"),
        (torch.zeros(2, 5, 3, dtype=torch.int64), {}, TypeError, "floating-point"),
        (torch.zeros(2, 5, 3), {"reach": 0.0}, ValueError, "reach must be positive"),
        (torch.zeros(2, 5, 3), {"count": 0}, ValueError, "count must be at least 1"),
        (torch.zeros(2, 5, 3), {"lengths": [5, 6]}, ValueError, "lengths must lie between"),
        (torch.zeros(2, 5, 3), {"times": torch.zeros(2, 4)}, ValueError, "times must be"),
        (torch.zeros(1, 2, 3), {"times": torch.tensor([[1.0, 0.0]])}, ValueError, "times"),
    ],
)
def test_bad_input_is_told(frames, options, error, message):
    with pytest.raises(error, match=message):
        self_similarity(frames, **options)


def sequences(z: Tensor, lengths: Tensor) -> Sequences:
    valid = valid_frames(lengths, z.shape[1])
    z = torch.where(valid[:, :, None], unit(z), 0)
    return Sequences(z, torch.arange(z.shape[1]).expand(valid.shape).float(), lengths, valid)


def test_centring_takes_off_what_is_common():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(2, 50, 8, generator=g, dtype=torch.float64)
    lengths = torch.tensor([50, 1])
    result = centred(sequences(z, lengths))
    first = unit(z[0])
    expected = first - (1 - 1 / 50) * first.mean(0)
    torch.testing.assert_close(result[0], expected / expected.norm(dim=1, keepdim=True))
    torch.testing.assert_close(result[1, 0], unit(z[1, 0]))  # a single frame has nothing to be told apart from
    assert (result[1, 1:] == 0).all()
    common = torch.randn(8, generator=g, dtype=torch.float64)
    far = unit(unit(z[:1]) + 3 * common / common.norm())
    alike = centred(sequences(z[:1], lengths[:1])) @ centred(sequences(far, lengths[:1])).mT
    assert alike[0].diagonal().mean() > 0.8
    assert (unit(z[0]) @ far[0].mT).diagonal().mean() < 0.6
    assert math.isclose(result[0].norm(dim=1).mean().item(), 1.0, rel_tol=1e-6)
