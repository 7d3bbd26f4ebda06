"""The part of a video that moves: found where it was drawn, and kept in features of its own."""

import numpy as np
import pytest
import torch
from tiny_video import write_video

import lac.data
from lac.data import folder
from lac.data.crop import box_of, moving_box
from lac.data.features import FrameFeatures
from lac.data.video import Box, read_numbered
from lac.errors import ConfigError
from lac.model import backbone

HEIGHT, WIDTH = 90, 160
COUNT = 50  # frames, 25 a second
SQUARE = 16


def film(path, *, moving=True, flicker=0, noise=0):
    """A red square that goes up and down, 40 to 56 and 20 to 66 pixels from the top left, before a patched wall."""
    rng = np.random.default_rng(0)
    wall = rng.integers(60, 120, size=(9, 16, 3)).repeat(10, axis=0).repeat(10, axis=1)
    pictures = []
    for k in range(COUNT):
        picture = wall + flicker * np.sin(k) + noise * rng.normal(size=wall.shape)
        if moving:
            top = 20 + round(30 * (1 - np.cos(k / 4)) / 2)
            picture[top : top + SQUARE, 40 : 40 + SQUARE] = (230, 20, 20)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return write_video(path, np.stack(pictures), np.arange(COUNT) / 25)


@pytest.mark.parametrize("unrest", [{}, {"flicker": 10, "noise": 5}])
def test_the_box_is_around_what_moves(tmp_path, unrest):
    path = film(tmp_path / "a.mp4", **unrest)
    box = moving_box(path)
    # 46 of 90 pixels of the height, 15 % of that on each side; as much of the width, where the square is narrower.
    assert box.side == pytest.approx(46 / 90 * 1.3, abs=0.06)  # not each frame is looked at
    assert box.top + box.side / 2 == pytest.approx(43 / 90, abs=0.04)
    assert box.left == pytest.approx(0, abs=0.01)  # else the square, at .3, would lie in its middle
    assert moving_box(path) == box
    whole, part = (read_numbered(path, size=64, box=one).frames for one in (None, box))
    assert part.shape == whole.shape == (COUNT, 64, 64, 3)
    red = [(frames[..., 0] > 190) & (frames[..., 1] < 60) for frames in (whole, part)]
    assert red[1].mean() == pytest.approx(red[0].mean() / box.side**2, rel=0.1)  # all of it, and larger


def test_of_frames_as_they_are(tmp_path):
    path = film(tmp_path / "a.mp4")
    whole = read_numbered(path).frames
    part = read_numbered(path, box=Box(0.5, 0.25, 0.4)).frames
    np.testing.assert_array_equal(part, whole[:, 45:81, 40:104])
    assert read_numbered(path, box=Box(0.6, 0.6, 0.4)).frames.shape == (COUNT, 36, 64, 3)


@pytest.mark.parametrize("unrest", [{}, {"flicker": 10, "noise": 5}])
def test_a_still_clip_stays_whole(tmp_path, unrest):
    assert moving_box(film(tmp_path / "a.mp4", moving=False, **unrest)) is None


def test_boxes_of_changes():
    change = np.zeros((64, 64))
    assert box_of(change) is None
    change[60:, 30:34] = 50
    assert box_of(change) == Box(0.75, pytest.approx(32 / 64 - 0.125), 0.25)  # not beyond the edge, nor too small
    change[0, 0] = 7  # something small and far away, beside so much change
    assert box_of(change).side == 0.25
    change[:] = 30
    change[10:20] = 90  # a camera that moves
    assert box_of(change) is None
    change[:] = 0
    change[:, ::2] = 10
    assert box_of(change) is None


def test_clips_of_a_folder_and_files(tmp_path, monkeypatch):
    """The option reaches images, features and single files, and has features of its own."""
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "cache"))
    for k in range(2):
        film(tmp_path / "mine" / "videos" / f"{k}.mp4", noise=k)
    options = {"size": 32, "fps": 10.0, "backbone": None}
    moving, whole = (lac.data.load("folder", tmp_path / "mine", crop=crop, **options) for crop in ("moving", None))
    assert not np.allclose(moving.train[0].frames, whole.train[0].frames, atol=0.1)
    alone = folder.read_clip(moving.videos[moving.train[0].name], crop="moving", **options)
    np.testing.assert_array_equal(alone.frames, moving.train[0].frames)
    with pytest.raises(ConfigError, match=r"data\.options\.crop must be 'moving' or null, got 'person'"):
        lac.data.load("folder", tmp_path / "mine", crop="person", **options)

    monkeypatch.setattr(backbone, "is_trained", lambda name: True)
    monkeypatch.setattr("lac.data.features.is_trained", lambda name: True)
    torch.manual_seed(0)
    cropped, plain = (FrameFeatures("small", fps=10.0, size=32, rate=25.0, crop=crop) for crop in ("moving", None))
    plain.backbone.load_state_dict(cropped.backbone.state_dict())
    path = moving.videos[moving.train[0].name]
    one, other = plain.read(path), cropped.read(path)
    np.testing.assert_array_equal(one.times, other.times)
    assert not np.allclose(one.frames, other.frames)
    assert len(list((tmp_path / "cache" / "features").glob("*.npz"))) == 2
