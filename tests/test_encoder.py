"""FrameEncoder: attention over time and nothing else."""

import pytest
import torch
from torch import nn

from lac import FrameEncoder


def make(input_dim=6, **options) -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(input_dim, embed_dim=8, width=16, heads=2, **options).eval()


def test_frames_of_one_video_never_influence_another():
    encoder, frames = make(), torch.randn(3, 7, 6)
    z = encoder(frames)
    frames[1] += 1
    changed = encoder(frames)
    torch.testing.assert_close(changed[[0, 2]], z[[0, 2]], rtol=0, atol=0)
    assert (changed[1] - z[1]).abs().min(dim=1).values.max() > 0
    torch.testing.assert_close(encoder(frames[2:]), z[2:], rtol=1e-5, atol=1e-6)


def test_every_frame_sees_its_whole_sequence():
    encoder, frames = make(), torch.randn(1, 7, 6)
    before = encoder(frames)
    frames[0, 6] += 1
    assert ((encoder(frames) - before).abs().amax(dim=2) > 0).all()


def test_padding_changes_nothing():
    encoder, frames = make(), torch.randn(2, 9, 6)
    times = torch.rand(2, 9).cumsum(1)
    lengths = torch.tensor([9, 5])
    frames[1, 5:] = float("nan")
    times[1, 5:] = float("nan")
    z = encoder(frames, times=times, lengths=lengths)
    torch.testing.assert_close(z[1:, :5], encoder(frames[1:, :5], times=times[1:, :5]), rtol=1e-5, atol=1e-6)
    assert (z[1, 5:] == 0).all()


def test_only_differences_of_real_time_matter():
    encoder, frames = make(), torch.randn(1, 8, 6)
    times = torch.rand(1, 8).cumsum(1)
    z = encoder(frames, times=times)
    torch.testing.assert_close(encoder(frames, times=times + 3), z, rtol=1e-4, atol=1e-5)
    assert (encoder(frames, times=times * 1.5) - z).abs().max() > 1e-3
    # without times, the frame index
    torch.testing.assert_close(encoder(frames), encoder(frames, times=torch.arange(8.0)[None]))


def test_times_of_any_size_keep_their_digits():
    encoder, frames = make(), torch.randn(2, 8, 6)
    ticks = torch.randint(1, 60, (2, 8)).cumsum(1)
    expected = encoder(frames, times=ticks.double() * 0.04)
    torch.testing.assert_close(encoder(frames, times=ticks.double() * 0.04 + 1.76e9), expected, rtol=1e-4, atol=1e-5)
    expected = encoder(frames, times=ticks)
    for times in (ticks.int() + 2**30, ticks + 2**60, (ticks + 7).to(torch.int16)):
        torch.testing.assert_close(encoder(frames, times=times), expected, rtol=0, atol=0)


def test_what_stands_at_padding_reaches_no_gradient():
    encoder, lengths = make(), [0, 3, 8]
    result = []
    for fill in (0.0, float("nan"), float("inf"), 1e30):
        padding = torch.arange(8) >= torch.tensor(lengths)[:, None]
        frames = torch.ones(3, 8, 6).cumsum(1).sin().masked_fill(padding[:, :, None], fill).requires_grad_()
        times = torch.arange(8.0).expand(3, 8).masked_fill(padding, fill).requires_grad_()
        z = encoder(frames, times=times, lengths=lengths)
        gradients = torch.autograd.grad(z.square().sum(), [frames, times, *encoder.parameters()])
        result.append([z, *gradients])
    for other in result[1:]:
        for x, y in zip(other, result[0], strict=True):
            assert y.isfinite().all()
            torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_autocast_takes_any_floating_frames():
    encoder, frames = make(), torch.randn(2, 5, 6)
    z = encoder(frames)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (frames, frames.bfloat16()):
            torch.testing.assert_close(encoder(given).float(), z, rtol=0.1, atol=0.05)
    with pytest.raises(TypeError, match=r"frames are torch.bfloat16 but the encoder is torch.float32"):
        encoder(frames.bfloat16())


@pytest.mark.slow
def test_one_graph_serves_every_shape():
    torch._dynamo.reset()
    encoder = make()
    compiled = torch.compile(encoder, fullgraph=True, dynamic=True, backend="aot_eager")
    for b, t in ((2, 6), (3, 9), (4, 5)):
        frames, times = torch.randn(b, t, 6), torch.rand(b, t).cumsum(1)
        lengths = torch.randint(0, t + 1, (b,))
        expected = encoder(frames, times=times, lengths=lengths)
        torch.testing.assert_close(compiled(frames, times=times, lengths=lengths), expected, rtol=1e-4, atol=1e-5)


def test_a_sequence_without_a_frame_is_finite():
    encoder, frames = make(), torch.randn(2, 4, 6, requires_grad=True)
    z = encoder(frames, lengths=torch.tensor([0, 4]))
    assert (z[0] == 0).all()
    z.sum().backward()
    assert frames.grad.isfinite().all()


def test_images_through_a_small_or_a_given_backbone():
    images = torch.rand(2, 3, 3, 24, 20)
    small = make(None, backbone="small")
    assert small(images).shape == (2, 3, 8)
    torch.testing.assert_close(small(images[:1]), small(images)[:1], rtol=1e-4, atol=1e-5)
    given = make(backbone=nn.Sequential(nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten()))
    images.requires_grad_()
    given(images).sum().backward()
    assert images.grad.abs().max() > 0
    with pytest.raises(ValueError, match=r"\(B, T, C, H, W\), got \(2, 3, 6\)"):
        small(torch.rand(2, 3, 6))


def test_config_rebuilds_the_encoder():
    encoder = make(None, layers=1, dropout=0.3, longest_wavelength=9.0, backbone="small")
    again = FrameEncoder(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    images = torch.rand(1, 2, 3, 16, 16)
    torch.testing.assert_close(again.eval()(images), encoder(images))


def test_poses_are_flattened_and_wrong_input_is_named():
    encoder = make()
    frames = torch.randn(2, 4, 2, 3)
    torch.testing.assert_close(encoder(frames), encoder(frames.flatten(2)))
    with pytest.raises(ValueError, match=r"6 features \(input_dim\), got 5 from shape \(2, 4, 5\)"):
        encoder(torch.randn(2, 4, 5))
    with pytest.raises(ValueError, match=r"times must be \(2, 4\)"):
        encoder(frames, times=torch.arange(4))
    for options, message in (
        ({"heads": 3}, "multiple of 2 x heads"),
        ({"shortest_wavelength": 0.0}, "0 < shortest_wavelength"),
        ({"backbone": "resnet"}, "backbone must be 'small', .*, got 'resnet'"),
        ({"backbone": "small"}, "'small' returns 576 features a frame, got input_dim 6"),
    ):
        with pytest.raises(ValueError, match=message):
            FrameEncoder(6, width=16, **options)
