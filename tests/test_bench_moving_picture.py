"""The moving picture of two recordings aligned."""

import numpy as np
from PIL import Image

from bench.moving_picture import moments, pictures
from lac.data import Clip


def test_the_second_follows_the_first_between_its_matches():
    clip = Clip("a", np.zeros((20, 3, 2), np.float32), np.arange(20) / 25)
    path = np.array([[4, 2], [8, 10]])
    shown = list(moments(clip, clip, path))
    assert shown[:5] == [(0, 2, False), (2, 2, False), (4, 2, True), (6, 6, True), (8, 10, True)]
    assert shown[-1] == (18, 10, False)


def test_poses_are_drawn_in_colour_where_they_match_and_in_grey_elsewhere():
    rng = np.random.default_rng(0)
    first, second = (
        Clip(name, rng.normal(size=(8, 4, 2)).astype(np.float32), np.arange(8) / 25) for name in ("a$^$", "b")
    )
    drawn = pictures(first, second, np.array([[0, 1], [3, 4]]), ((0, 1), (1, 2), (2, 3)))
    assert [picture.size for picture in drawn] == [(512, 320)] * 4
    right = [np.asarray(picture.convert("RGB"), int)[:, 256:] for picture in drawn]
    blue = [int(((half[:, :, 2] - half[:, :, 0]) > 100).sum()) for half in right]
    assert blue[0] > 200
    assert blue[-1] == 0
    assert isinstance(drawn[0], Image.Image)
