"""What training knows of clips beside their frames."""

import numpy as np
import pytest
import torch

from lac import self_similarity
from lac.data import Clip, Dataset
from lac.data.augment import collate, two_views, view, whole
from lac.errors import DataError
from lac.guides import groups_of, with_guides


def clip(name: str, frames: int = 30, action: str = "", shape: tuple[int, ...] = (5,), **more) -> Clip:
    rng = np.random.default_rng(sum(map(ord, name)))
    x = rng.normal(size=(frames, *shape)).cumsum(axis=0)
    return Clip(name, x, np.sort(rng.uniform(0, frames / 25, frames)) + 3, None, action, **more)


def test_clips_of_one_action_are_a_group():
    assert groups_of([clip("a"), clip("b", action="x"), clip("c", action="y")]) is None
    groups = groups_of([clip("a", action="x"), clip("b", action="y"), clip("c", action="x")])
    assert groups.tolist() == [0, 1, 0]
    assert groups_of([clip("a"), clip("b")]).tolist() == [0, 0]  # a data set that names no action has one


def test_guides_are_the_self_similarity_of_whole_clips():
    clips = [clip("a"), clip("b", 20), clip("c", 25)]
    frames, times = torch.zeros(3, 30, 5), torch.zeros(3, 30, dtype=torch.float64)
    for k, one in enumerate(clips):
        frames[k, : len(one)] = torch.from_numpy(one.frames)
        times[k, : len(one)] = torch.from_numpy(one.times)
    expected = self_similarity(frames, [30, 20, 25], times=times, reach=0.3)
    for guided, rows in zip(with_guides(clips, 0.3), expected, strict=True):
        assert guided.guide.dtype == np.float32
        np.testing.assert_allclose(guided.guide, rows[: len(guided)].numpy(), atol=1e-5)


def test_own_guides_and_none():
    own = [clip("a", guide=np.ones((30, 2))), clip("b", guide=np.zeros((30, 2)))]
    assert [x.guide.tolist() for x in with_guides(own, 0.3)] == [x.guide.tolist() for x in own]
    assert all(x.guide is None for x in with_guides([clip("a"), clip("b")], 0.0))


def test_pictures_are_made_small_first():
    pictures = [clip(name, 6, shape=(3, 64, 32)) for name in "ab"]
    small = [Clip(x.name, x.frames.reshape(6, 3, 16, 4, 16, 2).mean(axis=(3, 5)), x.times) for x in pictures]
    for large, expected in zip(with_guides(pictures, 0.1), with_guides(small, 0.1), strict=True):
        np.testing.assert_allclose(large.guide, expected.guide, atol=1e-4)


def test_views_carry_the_guide_of_their_frames():
    clips = with_guides([clip("a", 60), clip("b", 60)], 0.5)
    rows = {row.tobytes(): guide for x in clips for row, guide in zip(x.frames, x.guide, strict=True)}
    views = two_views(clips[0], np.random.default_rng(0), frames=20, distractors=clips, max_distractors=9)
    for drawn in views:
        assert len(drawn.guide) == len(drawn.frames)
        assert all((rows[f.tobytes()] == g).all() for f, g in zip(drawn.frames, drawn.guide, strict=True))
    batch = collate([*views, whole(clips[1])])
    assert batch.guide.shape == (3, 60, 20)
    assert (batch.guide[0, len(views[0]) :] == 0).all()
    assert collate([views[0], whole(clip("c"))]).guide is None


def test_a_view_has_a_guide_where_all_of_its_frames_have():
    guided, bare = with_guides([clip("a"), clip("b")], 0.5), [clip("c")]
    rng = np.random.default_rng(0)
    assert view(guided[0], rng, distractors=guided, max_distractors=5).guide.dtype == np.float32
    assert view(guided[0], rng, distractors=bare, max_distractors=5).guide is None
    assert view(bare[0], rng, distractors=guided, max_distractors=5).guide is None
    noisy = view(guided[0], rng, frames=30, region=1.0, noise=0.5)  # noise is on the frames alone
    assert np.array_equal(noisy.guide, guided[0].guide)
    assert not np.allclose(noisy.frames, guided[0].frames)


def test_own_guides_are_used_where_all_clips_have_one():
    own, bare = clip("a", guide=np.ones((30, 2))), clip("b")
    mixed, none = with_guides([own, bare], 0.3), with_guides([clip("a"), bare], 0.3)
    for one, other in zip(mixed, none, strict=True):
        assert np.array_equal(one.guide, other.guide)


def test_guides_are_converted_and_kept_as_they_are():
    guide = np.arange(90).reshape(30, 3)
    assert clip("a", guide=guide).guide.dtype == np.float32
    assert np.array_equal(clip("a", guide=guide).guide, guide)
    assert np.array_equal(whole(clip("a", guide=guide)).guide, guide)


def test_guides_of_different_clips_must_be_comparable():
    two, other, three, none = (
        clip(name, guide=guide)
        for name, guide in zip("abcd", (*map(np.ones, ((30, 2), (30, 2), (30, 3))), None), strict=True)
    )
    assert Dataset("x", [two], [other], []).val[0].guide is not None
    with pytest.raises(DataError, match="clip 'c' has 3 numbers a frame in its guide, 'a' 2; guides are compared"):
        Dataset("x", [two, other], [three], [])
    with pytest.raises(DataError, match="clip 'd' has no numbers a frame in its guide, 'a' 2"):
        Dataset("x", [two, none], [other], [])
    with pytest.raises(DataError, match="clip 'a' has 2 numbers a frame in its guide, 'd' none"):
        Dataset("x", [none], [two], [])
    with pytest.raises(ValueError, match=r"guides of one width, got \[2, 3\]"):
        collate([whole(two), whole(three)])


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (np.ones((29, 2)), "a row for each of 30 frames"),
        (np.ones(30), "a row for each of 30 frames"),
        (np.ones((30, 0)), "a row for each of 30 frames"),
        (np.full((30, 2), np.nan), "be finite"),
    ],
)
def test_bad_guides_are_told(guide, message):
    with pytest.raises(DataError, match=f"clip 'a': guide must.*{message}"):
        clip("a", guide=guide)
