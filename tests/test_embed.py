"""Clips that are too long to be embedded at once."""

import numpy as np
import pytest
import torch

from lac import FrameEncoder, embed
from lac.data import Clip
from lac.embed import embed_clips, embed_long


class Watched(torch.nn.Module):
    """The time of each frame, and of the first and the last frame that it is embedded with."""

    def __init__(self):
        super().__init__()
        self.longest = 0

    def forward(self, frames, *, times, lengths):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.longest = max(self.longest, frames.shape[1])
        ends = [frames[:, :1].expand_as(frames), frames[:, -1:].expand_as(frames)]
        return torch.cat([frames, *ends], dim=2)


def numbered(count):
    """A clip whose frames are their own numbers."""
    number = np.arange(count)
    return Clip("long", number[:, None], 7 + number / 10, number, guide=np.ones((count, 2)))


@pytest.mark.parametrize("window", [4, 7, 8, 20])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 20, 21, 22, 35, 100])
def test_every_frame_sees_a_quarter_of_the_window_on_both_sides(count, window):
    model = Watched().train()
    frame, first, last = embed_long(model, numbered(count), window=window).T
    np.testing.assert_array_equal(frame, np.arange(count))
    assert (first <= np.maximum(frame - window // 4, 0)).all()
    assert (last >= np.minimum(frame + window // 4, count - 1)).all()
    assert (last - first < window).all()
    assert model.longest <= window
    assert model.training


def test_a_clip_that_fits_is_embedded_whole_and_a_long_one_nearly_so():
    torch.manual_seed(0)
    encoder = FrameEncoder(3, width=16, embed_dim=8, heads=2)
    rng = np.random.default_rng(0)
    clip = Clip("walk", rng.normal(size=(400, 3)).cumsum(0) / 5, np.arange(400) / 10)
    (whole,) = embed_clips(encoder, [clip])
    np.testing.assert_array_equal(embed_long(encoder, clip, window=400), whole)
    windows = embed_long(encoder, clip, window=200)
    assert windows.shape == whole.shape
    assert windows.dtype == whole.dtype == np.float32
    cosine = (windows * whole).sum(1) / np.linalg.norm(windows, axis=1) / np.linalg.norm(whole, axis=1)
    assert cosine.min() > 0.9


@pytest.mark.promise("torch")
@pytest.mark.parametrize("options", [{}, {"layers": 0}, {"heads": 4, "longest_wavelength": 9.0}])
def test_a_clip_is_embedded_alone_as_in_a_batch_and_in_chunks(options, monkeypatch, record_property):
    """A clip is embedded alone, in a batch beside longer ones and among pieces of a long one: the same values."""
    torch.manual_seed(0)
    encoder = FrameEncoder(3, **{"width": 16, "embed_dim": 8, "heads": 2} | options)
    rng = np.random.default_rng(0)
    counts = [1, 2, 9, 30, 17, 60, 5, 44]
    clips = [Clip(f"walk{t}", rng.normal(size=(t, 3)).cumsum(0) / 5, 1.7e9 + np.arange(t) / 10) for t in counts]
    alone = [embed_clips(encoder, [clip])[0] for clip in clips]
    worst, cases = 0.0, 0
    for batch_size in (2, 3, 8):
        for z, expected in zip(embed_clips(encoder, clips, batch_size=batch_size), alone, strict=True):
            worst, cases = max(worst, float(np.abs(z - expected).max())), cases + 1
    long = Clip("long", rng.normal(size=(300, 3)).cumsum(0) / 5, np.arange(300) / 10)
    together = embed_long(encoder, long, window=64)  # many windows in a batch
    monkeypatch.setattr(embed, "WINDOW", 64)  # one at a time
    worst = max(worst, float(np.abs(embed_long(encoder, long, window=64) - together).max()))
    for clip, expected in zip(clips, alone, strict=True):
        worst, cases = max(worst, float(np.abs(embed_long(encoder, clip, window=64) - expected).max())), cases + 1
    record_property("cases", cases + 1)
    record_property("worst", worst)
    record_property("limit", 2e-6)
    assert worst <= 2e-6


def test_long_clips_are_embedded_so_wherever_clips_are(monkeypatch):
    monkeypatch.setattr(embed, "WINDOW", 20)
    model = Watched()
    short, long = embed_clips(model, [numbered(5), numbered(90)])
    assert model.longest == 20
    np.testing.assert_array_equal(short, embed_long(model, numbered(5)))
    np.testing.assert_array_equal(long, embed_long(model, numbered(90), window=20))


@pytest.mark.parametrize("window", [0, 3, -8, 8.0, None])
def test_windows_of_no_frame_are_refused(window):
    with pytest.raises(ValueError, match=f"window must be a whole number of frames, at least 4, got {window}"):
        embed_long(Watched(), numbered(9), window=window)
