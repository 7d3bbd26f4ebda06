"""Poses as an unknown camera sees them, and joints that are hidden."""

import math
import os

import numpy as np
import pytest
from made_up_data import RECORDINGS, write_official, write_packed

from lac.data import load, uiprmd
from lac.data.cameras import FAR, NEAR, TILT, seen, with_hidden_joints
from lac.errors import ConfigError
from lac.pictures import Signals, Source, frame_pictures

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


def test_a_clip_is_seen_by_one_camera():
    frames = poses(6)
    whole = seen(frames, np.random.default_rng(3))
    for k in range(6):
        assert np.array_equal(seen(frames[k : k + 1], np.random.default_rng(3))[0], whole[k])
    assert not np.allclose(seen(frames, np.random.default_rng(4)), whole, atol=0.1)


def test_what_is_nearer_looks_larger():
    near, away = (np.array([[[x, 0.3, 0.5]]], np.float32) for x in (0.9, -0.9))
    (nearer,), (farther,) = (seen(point, Draws(0.0, 0.0, 3.0))[0] for point in (near, away))
    assert (nearer > np.array([0.3, 0.5])).all()
    assert (farther < np.array([0.3, 0.5])).all()


def test_a_turn_of_the_person_is_a_turn_of_the_camera():
    frames, angle = poses(), 0.7
    x, y = frames[..., 0], frames[..., 1]
    turned = np.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], -1)
    turned = np.concatenate([turned, frames[..., 2:]], axis=-1)
    one, other = seen(turned, Draws(0.4, 0.1, 5.0)), seen(frames, Draws(0.4 + angle, 0.1, 5.0))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_the_share_of_hidden_joints(share):
    frames = poses(400)
    result = with_hidden_joints(frames, share, np.random.default_rng(1))
    hidden = (result == 0).all(axis=2)
    assert abs(hidden.mean() - share) < 0.02
    assert np.array_equal(result[~hidden], frames[~hidden])
    assert result.dtype == np.float32
    assert np.array_equal(with_hidden_joints(frames, share, np.random.default_rng(1)), result)
    if share:  # drawn for each joint and each frame of its own
        assert (np.abs(hidden.mean(axis=0) - share) < 0.12).all()
        assert (hidden[1:] != hidden[:-1]).mean() == pytest.approx(2 * share * (1 - share), abs=0.02)


# The options of the data set


@pytest.fixture(scope="module", params=[write_packed, write_official])
def root(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uiprmd")
    return request.param(folder / "uiprmd.npz" if request.param is write_packed else folder)


@pytest.mark.parametrize("camera", ["clip", "person"])
@pytest.mark.parametrize("untrimmed", [True, False])
def test_a_camera_sees_the_clips_as_they_are(root, camera, untrimmed, monkeypatch):
    plain = load("uiprmd", root, movement="all", untrimmed=untrimmed)
    given = []

    def watched(poses, rng):
        given.append(poses)
        return seen(poses, rng)

    monkeypatch.setattr(uiprmd, "seen", watched)
    data = load("uiprmd", root, movement="all", untrimmed=untrimmed, camera=camera)
    assert data.name == f"{plain.name}, a camera per {camera}"
    assert (plain.feature_shape, data.feature_shape) == ((17, 3), (17, 2))
    assert len(given) == len(RECORDINGS)
    assert {poses.tobytes() for poses in given} == {clip.frames.tobytes() for clip in plain.train + plain.val}
    for clip, pose in zip(data.train + data.val, plain.train + plain.val, strict=True):
        assert (clip.name, clip.action, clip.person) == (pose.name, pose.action, pose.person)
        assert np.array_equal(clip.times, pose.times)
        assert (clip.labels is None and pose.labels is None) or np.array_equal(clip.labels, pose.labels)


@pytest.mark.parametrize(("camera", "count"), [("person", 4), ("clip", len(RECORDINGS))])
def test_cameras_are_of_clips_or_of_persons(root, camera, count, monkeypatch):
    def number(poses, rng):
        """In place of the picture the first number that its camera is made of."""
        return np.full((len(poses), 17, 2), rng.random(), np.float32)

    monkeypatch.setattr(uiprmd, "seen", number)

    def cameras(seed):
        data = load("uiprmd", root, movement="all", camera=camera, seed=seed)
        return {(clip.person, clip.frames[0, 0, 0]) for clip in data.train + data.val}

    drawn = cameras(0)
    assert len(drawn) == len({value for _, value in drawn}) == count
    assert drawn == cameras(0)
    assert not {value for _, value in drawn} & {value for _, value in cameras(1)}


@pytest.mark.parametrize("camera", [None, "clip"])
def test_hidden_joints_are_hidden_after_all(root, camera):
    options = {"movement": "all", "camera": camera}
    plain, hidden, again, other = (
        load("uiprmd", root, **options, **more)
        for more in ({}, {"hidden": 0.3}, {"hidden": 0.3}, {"hidden": 0.3, "seed": 1})
    )
    assert hidden.name == f"{plain.name}, 30% of the joints hidden"
    assert load("uiprmd", root, hidden=0.004).name.endswith(", 0.4% of the joints hidden")
    gone = total = 0
    for a, b, c in zip(plain.train + plain.val, hidden.train + hidden.val, again.train + again.val, strict=True):
        assert np.array_equal(b.frames, c.frames)
        shown = (b.frames != 0).any(axis=2)
        assert np.array_equal(b.frames[shown], a.frames[shown])
        gone, total = gone + (~shown[:, 1:]).sum(), total + shown[:, 1:].size
    pelvis = 1 / 16  # which is at 0 anyway
    assert gone / total == pytest.approx(0.3 * (1 - pelvis) + pelvis, abs=0.02)
    # Other joints in each clip, and by each seed.
    patterns = {(clip.frames[:20] == 0).all(axis=2).tobytes() for clip in hidden.train + other.train}
    assert len(patterns) == 2 * len(hidden.train)


# The published data


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
@pytest.mark.parametrize("camera", [None, "clip"])
def test_people_are_drawn_on_their_feet(camera):
    data = load("uiprmd", movement="sit_to_stand", camera=camera)
    head, foot = uiprmd.JOINTS.index("head"), uiprmd.JOINTS.index("lt")
    for clip in data.val[:10]:
        (pose,) = frame_pictures(Source.of(clip, data), [0], Signals([clip]), rate=uiprmd.RATE)
        assert pose.points[head, 1] > pose.points[foot, 1]


@real
def test_hidden_joints_in_the_data_set():
    plain, hidden = load("uiprmd"), load("uiprmd", hidden=0.25)
    assert hidden.name == "uiprmd deep_squat untrimmed, 25% of the joints hidden"
    share = np.mean([(a.frames == 0).all(2)[:, 1:].mean() for a in hidden.train])
    assert 0.2 < share < 0.35  # the pelvis is at 0 anyway
    assert all(np.array_equal(a.times, b.times) for a, b in zip(plain.train, hidden.train, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera": "each"}, "camera must be 'clip', 'person' or None"),
        ({"hidden": 1.0}, r"hidden must lie in \[0, 1\)"),
        ({"hidden": -0.1}, r"hidden must lie in \[0, 1\)"),
        ({"camera": "None"}, "camera must be 'clip', 'person' or None"),
    ],
)
def test_bad_options_are_told(options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load("uiprmd", tmp_path, **options)
