"""What a step of training sees: the views of a batch, the groups that learn from each other, and their teacher."""

import copy

import numpy as np
import pytest
import torch
from tiny_run import SETTINGS

from lac import self_similarity
from lac.data import Clip, Dataset
from lac.data.augment import view_batches
from lac.errors import CheckpointError, ConfigError
from lac.runs import checkpoint, fit
from lac.runs.config import TrainConfig
from lac.runs.sampling import Sampler
from lac.runs.state import start

CPU = torch.device("cpu")


def settings(**changes):
    return TrainConfig.read(None, SETTINGS | {name.replace("_", ".", 1): value for name, value in changes.items()})


def clips_of(actions):
    rng = np.random.default_rng(0)
    return [
        Clip(f"{k}", rng.normal(k, 0.01, (20, 2)), np.arange(20) / 25, None, action) for k, action in enumerate(actions)
    ]


def clip_numbers(batch):
    """Which clip each view was drawn from; clip k lies around k."""
    return (batch.frames.mean(dim=2).sum(dim=1) / batch.lengths).round().int().tolist()


def dataset_of(actions):
    *train, val = clips_of(f"{actions}-")
    return Dataset("made up", train, [val], [])


def fitted(state, config, dataset, **options):
    fit.fit(state, Sampler.of(config, dataset.train), config.train, **options)
    return state


def equal(module, other):
    return all(torch.equal(x, y) for x, y in zip(module.parameters(), other.parameters(), strict=True))


def test_both_views_are_of_one_clip():
    first, second = Sampler.of(settings(train_batch=6), clips_of("aabbbc"))(3)
    assert clip_numbers(first) == clip_numbers(second)
    assert sorted(clip_numbers(first)) == [0, 1, 2, 3, 4, 5]


def test_groups_come_from_the_action():
    actions = "aabbbc"
    batches = Sampler.of(settings(train_batch=6), clips_of(actions))(3)
    numbers = clip_numbers(batches[0])
    for batch in batches:
        assert batch.groups.dtype == torch.int64
        for i, group in zip(numbers, batch.groups, strict=True):
            for j, other in zip(numbers, batch.groups, strict=True):
                assert (actions[i] == actions[j]) == bool(group == other)


@pytest.mark.parametrize(("actions", "changes"), [("abcdef", {}), ("aabbbc", {"loss_consensus_weight": 0})])
def test_without_two_clips_of_an_action_there_are_no_groups(actions, changes):
    config = settings(train_batch=6, **changes)
    for batch in Sampler.of(config, clips_of(actions))(3):
        assert batch.groups is None
        assert batch.guide is None
    dataset = dataset_of(actions)
    state = start(config, dataset, CPU)
    assert state.teacher is None
    before = copy.deepcopy(state.encoder)
    fitted(state, config, dataset)
    assert state.step == 12
    assert not equal(state.encoder, before)
    assert state.history["consensus"] == [0.0] * 7


def test_a_batch_holds_clips_of_an_action_by_eight_at_a_time():
    actions = "a" * 20 + "b" * 20 + "c" * 3
    sampler = Sampler.of(settings(train_batch=19), clips_of(actions))
    seen = set()
    for step in range(20):
        numbers = clip_numbers(sampler(step)[0])
        assert len(set(numbers)) == 19  # none twice, as long as there are enough
        seen.update(numbers)
        left = "".join(actions[k] for k in numbers)
        while len(left) >= 8:
            together = 3 if left[0] == "c" else 8  # all that the action has; what the batch has no room for is cut
            assert left[:together] == left[0] * together
            left = left[together:]
    assert seen == set(range(43))


def test_more_pairs_than_clips_are_drawn_in_rounds():
    numbers = clip_numbers(Sampler.of(settings(train_batch=10), clips_of("aabbc"))(0)[0])
    assert sorted(numbers) == sorted([0, 1, 2, 3, 4] * 2)


def test_the_guide_of_a_view_is_the_self_similarity_of_the_whole_clip():
    clips, config = clips_of("aab"), settings(train_batch=3)
    first, _ = Sampler.of(config, clips)(0)
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    times = torch.from_numpy(np.stack([clip.times for clip in clips]))
    rows = self_similarity(frames, times=times, reach=config.train.reach)
    assert first.guide.shape == (*first.frames.shape[:2], 20)
    for k, number in enumerate(clip_numbers(first)):
        for frame, guide in zip(first.frames[k, : first.lengths[k]], first.guide[k], strict=False):
            places = (frames[number] == frame).all(1).nonzero().flatten().tolist()
            assert any(torch.allclose(guide, rows[number, place].float(), atol=1e-5) for place in places)


def test_a_reach_of_nothing_gives_no_guide_but_groups():
    config, dataset = settings(train_batch=6, train_reach=0), dataset_of("aabbbc")
    for batch in Sampler.of(config, dataset.train)(3):
        assert batch.guide is None
        assert batch.groups is not None
    state = fitted(start(config, dataset, CPU), config, dataset)
    assert state.teacher is not None
    with pytest.raises(ConfigError, match="reach must not be negative"):
        settings(train_reach=-1)


def test_a_guide_that_a_clip_brings_is_kept():
    clips = [Clip(c.name, c.frames, c.times, None, c.action, guide=np.full((20, 3), 7.0)) for c in clips_of("aab")]
    first, _ = Sampler.of(settings(train_batch=3), clips)(0)
    assert first.guide.shape[2] == 3
    assert (first.guide[0, : first.lengths[0]] == 7).all()


def test_a_batch_depends_on_seed_and_step_only():
    clips = clips_of("aaaa")
    config = settings(train_batch=10)
    again = Sampler.of(config, clips)(3)
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(Sampler.of(config, clips)(3), again, strict=True))
    for k, batch in enumerate(again):
        alike = view_batches(clips, clip_numbers(batch), seed=0, step=3, **config.augment)[k]
        assert torch.equal(batch.frames, alike.frames)
        assert torch.equal(batch.times, alike.times)
    for other in (Sampler.of(config, clips)(4), Sampler.of(settings(train_batch=10, train_seed=1), clips)(3)):
        assert not torch.equal(other[0].frames, again[0].frames)


def test_distractors_surround_views():
    first, _ = Sampler.of(settings(train_batch=4, augment_max_distractors=5), clips_of("abcd"))(0)
    assert not first.source.all()


def test_the_teacher_is_a_slow_mean_of_the_encoder():
    config, dataset = settings(train_steps=3, train_teacher=0.9), dataset_of("aaaab")
    state = start(config, dataset, CPU)
    assert equal(state.teacher, state.encoder)
    assert not any(p.requires_grad for p in state.teacher.parameters())
    mean = [p.detach().clone() for p in state.encoder.parameters()]
    step = state.optimiser.step

    def followed():
        step()
        for m, p in zip(mean, state.encoder.parameters(), strict=True):
            m.mul_(0.9).add_(0.1 * p.detach())

    state.optimiser.step = followed
    fitted(state, config, dataset)
    for m, p in zip(mean, state.teacher.parameters(), strict=True):
        torch.testing.assert_close(m, p)
    assert not equal(state.teacher, state.encoder)
    alike = fitted(
        start(settings(train_steps=3, train_teacher=0), dataset, CPU), settings(train_teacher=0, train_steps=3), dataset
    )
    for m, p in zip(alike.encoder.parameters(), alike.teacher.parameters(), strict=True):
        torch.testing.assert_close(m, p)


class Killed(BaseException):
    pass


def test_an_interrupted_run_goes_on_to_the_same_bits_with_its_teacher(tmp_path):
    config, dataset = settings(train_log_every=1), dataset_of("aaaab")
    straight = fitted(start(config, dataset, CPU), config, dataset)

    def stop(progress):
        if progress.step >= 7:
            raise Killed

    with pytest.raises(Killed):
        fitted(
            start(config, dataset, CPU), config, dataset, on_progress=stop,
            on_save=lambda state: checkpoint.save(state, tmp_path),
        )  # fmt: skip
    saved = torch.load(tmp_path / "trainer.pt", weights_only=True)
    assert saved["step"] == 5
    assert saved["teacher"].keys() == saved["encoder"].keys()
    assert any(not torch.equal(saved["teacher"][name], saved["encoder"][name]) for name in saved["encoder"])
    state = start(config, dataset, CPU)
    checkpoint.restore(state, tmp_path)
    fitted(state, config, dataset)
    assert equal(state.encoder, straight.encoder)
    assert equal(state.teacher, straight.teacher)
    assert equal(state.loss, straight.loss)
    assert state.history == straight.history


@pytest.mark.parametrize(
    ("before", "after", "words"), [("aab", "abc", "has a teacher"), ("abc", "aab", "has no teacher")]
)
def test_a_checkpoint_of_other_clips_is_refused(tmp_path, before, after, words):
    config = settings()
    checkpoint.save(start(config, dataset_of(before), CPU), tmp_path)
    with pytest.raises(CheckpointError, match=f"{words}: it was trained on other clips"):
        checkpoint.restore(start(config, dataset_of(after), CPU), tmp_path)


def test_a_run_that_begins_with_the_weights_of_another_teaches_itself_by_them(tmp_path):
    config, dataset = settings(), dataset_of("aab")
    checkpoint.save(fitted(start(config, dataset, CPU), config, dataset), tmp_path)
    state = start(settings(train_seed=1), dataset, CPU)
    checkpoint.begin_with(state, tmp_path)
    assert equal(state.teacher, state.encoder)
