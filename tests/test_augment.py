import numpy as np
import pytest
import torch

from lac.data import Clip
from lac.data.augment import collate, two_views, view, view_batches, whole


def clip(length, name="c", first=5.0, step=0.04, value=0.0):
    """A clip whose feature is its own frame number plus ``value``, so that a frame tells where it is from."""
    frames = np.arange(length, dtype=np.float32)[:, None] + value
    return Clip(name, frames, first + step * np.arange(length), np.arange(length) // 10)


SOURCE = clip(120)
OTHERS = [clip(50, "a", value=1000), clip(9, "b", first=0, step=0.1, value=2000)]


def rng(seed=0):
    return np.random.default_rng(seed)


def frame_numbers(one):
    return one.frames[one.source, 0].astype(int)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("length", [1, 2, 30, 41, 120])
def test_views_are_exact_about_their_frames(length, seed):
    source = clip(length)
    for one in two_views(source, rng(seed), frames=40, region=1.5):
        numbers = frame_numbers(one)
        assert one.source.all()
        assert (np.diff(numbers) > 0).all()
        np.testing.assert_allclose(one.times, 0.04 * numbers, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(one.labels, numbers // 10)
        assert 1 <= len(one) <= 40


def test_speed_lies_between_one_and_the_region():
    spans = [frame_numbers(view(SOURCE, rng(seed), frames=40, region=1.5)) for seed in range(200)]
    extent = np.array([numbers[-1] - numbers[0] + 1 for numbers in spans])
    assert all(len(numbers) == 40 for numbers in spans)
    assert extent.min() < 45
    assert 57 < extent.max() <= 60
    # A short clip is thinned as well: 30 frames at a speed of at most 1.5 leave at least 20.
    counts = [len(view(clip(30), rng(seed), frames=40, region=1.5)) for seed in range(200)]
    assert min(counts) in (20, 21)
    assert max(counts) == 30


def test_crops_reach_both_ends():
    spans = [frame_numbers(view(SOURCE, rng(seed), frames=40)) for seed in range(400)]
    assert min(numbers[0] for numbers in spans) == 0
    assert max(numbers[-1] for numbers in spans) == 119


def test_views_of_a_pair_start_near_each_other():
    # Blocks start at most 8 frames apart and hold 40 frames of at most 60, so the first frames differ by 8 +
    # 20 at most, except near the end, where the second block may have to start up to 20 frames earlier.
    for seed in range(200):
        one, other = (frame_numbers(v) for v in two_views(SOURCE, rng(seed), frames=40, region=1.5, offset=0.2))
        assert abs(one[0] - other[0]) <= 48
        assert max(one[0], other[0]) < min(one[-1], other[-1])


def test_no_speed_and_no_offset_give_equal_blocks():
    one, other = two_views(SOURCE, rng(), frames=40, region=1.0, offset=0.0)
    np.testing.assert_array_equal(one.frames, other.frames)
    assert (np.diff(frame_numbers(one)) == 1).all()


@pytest.mark.parametrize("seed", range(30))
def test_distractors_lie_outside_in_time_and_are_marked(seed):
    end = 119 * 0.04
    pair = two_views(
        SOURCE, rng(seed), frames=20, distractors=[SOURCE, *OTHERS], max_distractors=12, distractor_gap=0.5
    )
    for one in pair:
        outside = ~one.source
        assert (one.labels[outside] == -1).all()
        assert (one.frames[outside, 0] >= 1000).all()
        assert (one.frames[one.source, 0] < 1000).all()
        assert (np.diff(one.times) > 0).all()
        assert outside.sum() <= 24
        times = one.times[outside]
        assert ((times <= -0.5) | (times >= end + 0.5)).all()
        np.testing.assert_allclose(one.times[one.source], 0.04 * frame_numbers(one), rtol=0, atol=1e-12)
    # No distractor of one view is near any frame of the other.
    for one, other in (pair, pair[::-1]):
        apart = np.abs(one.times[~one.source][:, None] - other.times)
        assert apart.size == 0 or apart.min() >= 0.5 - 1e-12


def test_distractors_keep_their_own_spacing():
    one = view(clip(10), rng(1), distractors=OTHERS[1:], max_distractors=9)
    outside = ~one.source
    assert outside.sum() > 2
    before = one.times[outside & (one.times < 0)]
    after = one.times[outside & (one.times > 0)]
    for times in (before, after):
        np.testing.assert_allclose(np.diff(times), 0.1, rtol=0, atol=1e-12)


def test_noise_has_the_deviation_asked_for_and_leaves_the_clip_alone():
    source = clip(400)
    before = source.frames.copy()
    one = view(source, rng(), frames=400, region=1.0, noise=0.5)
    deviation = (one.frames - source.frames).std()
    assert abs(deviation - 0.5) < 4 * 0.5 / np.sqrt(2 * 400)
    np.testing.assert_array_equal(source.frames, before)


def test_draws_depend_on_seed_step_and_place_only():
    clips = [SOURCE, *OTHERS]
    options = {"frames": 16, "distractors": clips, "max_distractors": 5}
    first = view_batches(clips, [0, 2, 1], seed=3, step=7, **options)
    again = view_batches(clips, [0, 2, 1], seed=3, step=7, **options)
    for one, other in zip(first, again, strict=True):
        for part, same in zip(one, other, strict=True):
            torch.testing.assert_close(part, same, rtol=0, atol=0)
    later = view_batches(clips, [0, 2, 1], seed=3, step=8, **options)
    assert first[0].frames.shape != later[0].frames.shape or not torch.equal(first[0].frames, later[0].frames)
    shorter = view_batches(clips, [0], seed=3, step=7, **options)
    length = int(shorter[0].lengths[0])
    torch.testing.assert_close(shorter[0].frames[0], first[0].frames[0, :length], rtol=0, atol=0)


def test_collate_pads():
    batch = collate([whole(clip(3)), whole(clip(5, step=0.5))])
    assert (batch.frames.shape, batch.frames.dtype) == ((2, 5, 1), torch.float32)
    assert (batch.times.dtype, batch.lengths.dtype) == (torch.float32, torch.int64)
    assert batch.lengths.tolist() == [3, 5]
    assert batch.frames[0, :, 0].tolist() == [0, 1, 2, 0, 0]
    torch.testing.assert_close(
        batch.times, torch.tensor([[0, 0.04, 0.08, 0.08, 0.08], [0, 0.5, 1, 1.5, 2]]), rtol=0, atol=1e-7
    )
    assert batch.labels.tolist() == [[0, 0, 0, -1, -1], [0] * 5]
    assert batch.source.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch.to("cpu").lengths.tolist() == [3, 5]


def test_collate_without_labels():
    bare = Clip("bare", np.zeros((2, 1)), np.arange(2))
    assert collate([whole(clip(3)), whole(bare)]).labels is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, and finite, got 0"),
        ({"region": 0.9}, "region must be at least 1"),
        ({"offset": 1.0}, "offset must lie within"),
        ({"max_distractors": -1}, "max_distractors must be at least 0"),
        ({"distractor_gap": 0.0}, "distractor_gap must be above 0"),
        ({"distractor_gap": float("inf")}, "distractor_gap must be above 0 seconds, and finite"),
        ({"region": float("inf")}, "region must be at least 1, and finite"),
        ({"frames": 2.5}, "frames must be a whole number of frames, got 2.5"),
        ({"noise": float("nan")}, "noise must be at least 0, and finite, got nan"),
        ({"max_distractors": 3}, "there is no other clip"),
        ({"max_distractors": 3, "distractors": [SOURCE]}, "there is no other clip"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        two_views(SOURCE, rng(), **options)


def test_bad_batches_are_named():
    with pytest.raises(ValueError, match="at least one view"):
        collate([])
    with pytest.raises(ValueError, match="one shape"):
        collate([whole(clip(2)), whole(Clip("w", np.zeros((2, 2)), np.arange(2)))])
