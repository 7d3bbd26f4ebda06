"""Poses as an unknown camera sees them, joints that are hidden, and several movements in a data set."""

import math
import os

import numpy as np
import pytest

from lac.data import load, uiprmd
from lac.data.cameras import FAR, NEAR, TILT, seen, with_hidden_joints
from lac.errors import ConfigError
from lac.runs.config import TrainConfig

REAL = os.environ.get("LAC_UIPRMD")
real = pytest.mark.skipif(not REAL, reason="needs the data set: set LAC_UIPRMD")


class Draws:
    """A generator that gives these numbers, and keeps what it was asked."""

    def __init__(self, *values: float) -> None:
        self.values, self.asked = list(values), []

    def uniform(self, low: float, high: float) -> float:
        self.asked.append((low, high))
        return self.values.pop(0)


def poses(frames: int = 5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (frames, 17, 3)).astype(np.float32)


def test_a_camera_equals_a_plain_loop():
    turn, tilt, far = 1.1, -0.2, 4.0
    draws = Draws(turn, tilt, far)
    frames = poses()
    result = seen(frames, draws)
    assert draws.asked == [(0, 2 * math.pi), (-TILT, TILT), (NEAR, FAR)]
    assert result.dtype == np.float32
    for frame, shown in zip(frames.tolist(), result, strict=True):
        for (x, y, z), point in zip(frame, shown, strict=True):
            x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
            x, z = x * math.cos(tilt) - z * math.sin(tilt), x * math.sin(tilt) + z * math.cos(tilt)
            np.testing.assert_allclose(point, [y * far / (far - x), z * far / (far - x)], rtol=1e-5, atol=1e-6)


def test_a_level_camera_far_away_keeps_heights():
    frames = poses()
    np.testing.assert_allclose(seen(frames, Draws(2.0, 0.0, 1e9))[..., 1], frames[..., 2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_the_share_of_hidden_joints(share):
    frames = poses(400)
    result = with_hidden_joints(frames, share, np.random.default_rng(1))
    hidden = (result == 0).all(axis=2)
    assert abs(hidden.mean() - share) < 0.02
    assert np.array_equal(result[~hidden], frames[~hidden])


@real
def test_cameras_of_clips_and_of_persons(monkeypatch):
    plain, clip, again = (load("uiprmd", camera=camera) for camera in (None, "clip", "clip"))
    assert clip.name == "uiprmd deep_squat untrimmed, a camera per clip"
    assert plain.feature_shape == (17, 3)
    assert clip.feature_shape == (17, 2)
    for a, b, pose in zip(clip.train, again.train, plain.train, strict=True):
        assert np.array_equal(a.frames, b.frames)
        assert a.name == pose.name
        assert np.array_equal(a.times, pose.times)
    # In place of the picture the first number that its camera is made of.
    monkeypatch.setattr(uiprmd, "seen", lambda poses, rng: np.full((len(poses), 17, 2), rng.random(), np.float32))
    for camera, count in (("person", 6), ("clip", 60)):
        data = load("uiprmd", camera=camera)
        assert data.name == f"uiprmd deep_squat untrimmed, a camera per {camera}"
        numbers = {(x.person, x.frames[0, 0, 0]) for x in data.train}
        assert len(numbers) == len({number for _, number in numbers}) == count


@real
def test_hidden_joints_in_the_data_set():
    plain, hidden = load("uiprmd"), load("uiprmd", hidden=0.25)
    assert hidden.name == "uiprmd deep_squat untrimmed, 25% of the joints hidden"
    share = np.mean([(a.frames == 0).all(2)[:, 1:].mean() for a in hidden.train])
    assert 0.2 < share < 0.35  # the pelvis is at 0 anyway
    assert all(np.array_equal(a.times, b.times) for a, b in zip(plain.train, hidden.train, strict=True))


@real
def test_several_movements():
    single, both = load("uiprmd", movement="sit_to_stand"), load("uiprmd", movement=["sit_to_stand", "1"])
    assert both.name == "uiprmd deep_squat+sit_to_stand untrimmed"
    assert len(both.label_names) == 8
    assert both.label_names[4:] == [f"sit_to_stand: {name}" for name in single.label_names]
    own = {clip.name: clip for clip in both.train}
    for clip in single.train[:5]:
        assert own[clip.name].action == "sit_to_stand"
        assert set(np.unique(own[clip.name].labels)) <= {-1, 4, 5, 6, 7}
    everything = load("uiprmd", movement="all", untrimmed=False)
    assert everything.name == "uiprmd all trimmed"
    assert len({clip.action for clip in everything.train}) == 10
    assert {clip.action for clip in everything.train if clip.labels is not None} == {"deep_squat", "sit_to_stand"}
    settings = {"data.name": "uiprmd", "data.options.movement": ["deep_squat", "sit_to_stand"]}
    assert TrainConfig.read(None, settings).data.load().name == both.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera": "each"}, "camera must be 'clip', 'person' or None"),
        ({"hidden": 1.0}, r"hidden must lie in \[0, 1\)"),
        ({"hidden": -0.1}, r"hidden must lie in \[0, 1\)"),
        ({"movement": []}, "movement must name one movement at least"),
        ({"movement": ["deep_squat", "jumping"]}, "unknown movement 'jumping'"),
    ],
)
def test_bad_options_are_told(options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load("uiprmd", tmp_path, **options)
