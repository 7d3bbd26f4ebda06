"""What a frame looks like."""

import warnings

import numpy as np
import pytest

from lac.data import Clip
from lac.pictures import WINDOW, Joints, Signals, Source, Window, frame_pictures, plot_retrieval


def clip_of(frames, name="a", rate=10):
    return Clip(name, frames, np.arange(len(frames)) / rate)


def pictures(frames, numbers, **options):
    clip = clip_of(np.asarray(frames, dtype=np.float64))
    return frame_pictures(Source(clip, **options), numbers, Signals([clip]), rate=25.0)


def test_an_image_spans_the_values_of_its_clip():
    frames = np.linspace(-1, 3, 4)[:, None, None, None] * np.ones((4, 3, 5, 6))
    shown = pictures(frames, [3, 0])
    assert [picture.shape for picture in shown] == [(5, 6, 3)] * 2
    assert [(picture.min(), picture.max()) for picture in shown] == [(255, 255), (0, 0)]


def test_a_pose_is_turned_upright_and_keeps_its_bones():
    (flat,) = pictures([[[1, 2], [3, 5]]], [0], bones=[(0, 1)])
    assert flat == Joints(flat.points, [(0, 1)])
    np.testing.assert_allclose(flat.points, [[1, -2], [3, -5]])
    (seen,) = pictures([[[1, 2], [3, 5]]], [0], upwards=True)
    np.testing.assert_allclose(seen.points, [[1, 2], [3, 5]])
    (deep,) = pictures([[[1, 2, 7], [0, 0, 9]]], [0])
    np.testing.assert_allclose(deep.points, [[0.71 * 3, 7], [0, 9]])


def test_anything_else_is_the_signals_around_the_frame():
    frames = np.arange(60).reshape(30, 2)
    first, middle = pictures(frames, [0, 15])
    assert isinstance(first, Window)
    np.testing.assert_allclose([first.seconds[0], first.seconds[-1]], [0, WINDOW], atol=0.01)
    np.testing.assert_allclose([middle.seconds[0], middle.seconds[-1]], [-WINDOW, WINDOW], atol=0.01)
    np.testing.assert_array_equal(middle.values[middle.seconds == 0], [frames[15]])


def test_of_many_features_the_directions_of_greatest_variance_are_shown():
    rng = np.random.default_rng(0)
    scales = np.array([0.1, 5, 0.1, 0.1, 20, 0.1, 1, 0.1, 0.1])  # nine features, three of them vary
    clips = [clip_of(rng.normal(size=(400, 9)) * scales + 3, name) for name in "ab"]
    shown = Signals(clips)(clips[0])
    assert shown.shape == (400, 3)
    for component, feature in enumerate((4, 1, 6)):
        assert abs(np.corrcoef(shown[:, component], clips[0].frames[:, feature])[0, 1]) > 0.99
    few = clip_of(rng.normal(size=(5, 8)))
    np.testing.assert_array_equal(Signals([few])(few), few.frames)


def test_features_beyond_number_and_clips_of_a_frame_are_shown():
    rng = np.random.default_rng(0)
    wide = [clip_of(rng.normal(size=(60, 20_000)), name) for name in "ab"]  # their covariance alone would be 3 GB
    assert Signals(wide)(wide[0]).shape == (60, 3)
    for frames in (np.ones((1, 20)), np.ones((40, 20)), rng.normal(size=(3, 20))):
        clip = clip_of(frames)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(Signals([clip])(clip)).all()


def test_borders_say_whether_the_phase_agrees():
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    figure = plot_retrieval([[image] * 4], [["a"] * 4], [[None, True, False, None]])
    colours = [axes.spines["top"].get_edgecolor() for axes in figure.axes]
    assert len(set(colours)) == 4
    red, green = colours[2], colours[1]
    assert red[0] > red[1]
    assert green[1] > green[0]
    with pytest.raises(ValueError, match="rows of one length"):
        plot_retrieval([[image], [image, image]], [["a"], ["a", "b"]])
