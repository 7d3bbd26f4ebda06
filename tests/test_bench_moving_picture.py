"""The moving picture of two recordings aligned."""

import numpy as np
import pytest
from PIL import Image

from bench.moving_picture import moments, pictures
from lac.data import Clip
from lac.pictures import Source

BONES = ((0, 1), (1, 2), (2, 3))


def test_the_second_follows_the_first_between_its_matches():
    path = np.array([[4, 2], [8, 10]])
    shown = list(moments(20, path))
    assert shown[:5] == [(0, 2, False), (2, 2, False), (4, 2, True), (6, 6, True), (8, 10, True)]
    assert shown[-1] == (18, 10, False)


def test_poses_are_drawn_in_colour_where_they_match_and_in_grey_elsewhere():
    rng = np.random.default_rng(0)
    first, second = (
        Source(Clip(name, rng.normal(size=(8, 4, 2)).astype(np.float32), np.arange(8) / 25), None, BONES)
        for name in ("a$^$", "b")
    )
    drawn = pictures(first, second, np.array([[0, 1], [3, 4]]))
    assert [picture.size for picture in drawn] == [(512, 320)] * 4
    right = [np.asarray(picture.convert("RGB"), int)[:, 256:] for picture in drawn]
    blue = [int(((half[:, :, 2] - half[:, :, 0]) > 100).sum()) for half in right]
    assert blue[0] > 200
    assert blue[-1] == 0
    assert isinstance(drawn[0], Image.Image)


def test_what_holds_no_poses_is_refused():
    signals = Source(Clip("heart", np.zeros((8, 5), np.float32), np.arange(8) / 25))
    with pytest.raises(ValueError, match="heart holds no poses"):
        pictures(signals, signals, np.array([[0, 1], [3, 4]]))
