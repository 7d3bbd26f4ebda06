import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.linear_model import LinearRegression

from lac.data import Clip, Dataset
from lac.embed import embed_clips
from lac.model.encoder import FrameEncoder
from lac.runs import metrics
from lac.runs.controls import controls, raw_features, time_index
from lac.runs.evaluate import evaluate, evaluate_dataset
from lac.runs.events import tags


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def labels(*values):
    return np.array(values)


def judge(train, val, **options):
    """Evaluate lists of (embedding, labels)."""
    return evaluate(
        [embedding for embedding, _ in train],
        [label for _, label in train],
        [embedding for embedding, _ in val],
        [label for _, label in val],
        **options,
    )


def random_clips(seed, count, phases=3, size=4):
    """Clips whose embeddings follow their phases with noise."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(phases, size))
    clips = []
    for _ in range(count):
        label = np.sort(rng.integers(phases, size=rng.integers(8, 14)))
        label[[0, -1]] = 0, phases - 1
        clips.append((centres[label] + 0.7 * rng.normal(size=(len(label), size)), label))
    return clips


TRAIN, VAL = random_clips(0, 5), random_clips(1, 4)


def test_retrieval_by_hand():
    # Clip 0 has frames at 0 and 10, clip 1 at 0.1, 9 and 10.2. For K = 1 the frame at 9 finds the one at 10,
    # which has another label: (1 + 1) / 2 in clip 0, (1 + 0 + 1) / 3 in clip 1. For K = 2 clip 0 finds 0.1, 9
    # and 10.2, 9; clip 1 finds both frames of clip 0. For K = 5 clip 0 has 3 frames to find, two of them with
    # label 0.
    val = [(column(0, 10), labels(0, 1)), (column(0.1, 9, 10.2), labels(0, 0, 1))]
    result = judge(val, val, ks=(1, 2, 5))
    assert result.retrieval == pytest.approx(
        {1: (1 + 2 / 3) / 2, 2: ((1 + 1 / 2) / 2 + 1 / 2) / 2, 5: ((2 / 3 + 1 / 3) / 2 + 1 / 2) / 2}, abs=1e-15
    )


def test_retrieval_shares_the_last_places_among_ties():
    # The frame at 0 sees 1 and 1 (labels 0, 1) at the same distance: the single place counts one half.
    val = [(column(0, 0.9), labels(0, 0)), (column(1, 1), labels(0, 1))]
    mean_of_second = (1 + 0) / 2  # both frames at 1 find the one at 0.9, which has label 0
    assert judge(val, val, ks=(1,)).retrieval[1] == pytest.approx((1 / 2 + mean_of_second) / 2, abs=1e-15)


def test_retrieval_over_other_people_by_hand():
    # As above, with a third clip of the first person at 0.05 and 10.1: clip 0 no longer finds it, clip 1 does.
    val = [
        (column(0, 10), labels(0, 1)),
        (column(0.1, 9, 10.2), labels(0, 0, 1)),
        (column(0.05, 10.1), labels(1, 1)),
    ]
    result = judge(val, val, ks=(1, 2), persons_val=["anna", "ben", "anna"])
    # K = 1: clip 0 finds 0.1 and 10.2; clip 1 finds 0.05 (wrong), 10 (wrong), 10.1; clip 2 finds 0.1 (wrong), 10.2.
    # K = 2: clip 0 finds 0.1, 9 and 10.2, 9; clip 1 finds 0.05, 0, then 10, 10.1 (both wrong), then both (both right);
    # clip 2 finds 0.1, 9 (both wrong) and 10.2, 9.
    of_clips = {1: (1, 1 / 3, 1 / 2), 2: ((1 + 1 / 2) / 2, (1 / 2 + 0 + 1) / 3, (0 + 1 / 2) / 2)}
    assert result.retrieval_other_people == pytest.approx({k: sum(aps) / 3 for k, aps in of_clips.items()}, abs=1e-15)
    assert result.retrieval != result.retrieval_other_people
    assert result.retrieval == judge(val, val, ks=(1, 2)).retrieval


def test_clips_of_a_person_each_are_all_clips():
    result = judge(TRAIN, VAL, persons_val=list("abcd"))
    assert result.retrieval_other_people == result.retrieval


@pytest.mark.parametrize("persons", [None, ["anna"] * 4, ["anna", "ben", "", "ben"]])
def test_where_persons_are_not_known_none_is_another(persons):
    assert judge(TRAIN, VAL, persons_val=persons).retrieval_other_people == {}


def test_persons_of_clips_without_a_phase_do_not_count():
    nothing = (VAL[0][0], VAL[0][1] * 0 - 1)
    assert judge(TRAIN, [*VAL, nothing], persons_val=["anna"] * 4 + ["ben"]).retrieval_other_people == {}
    one = judge(TRAIN, [*VAL, nothing], persons_val=["anna", "ben", "anna", "ben", ""])
    assert one.retrieval_other_people == judge(TRAIN, VAL, persons_val=["anna", "ben"] * 2).retrieval_other_people


def test_kendalls_tau_by_hand():
    # From the first clip to the second the neighbours are 0, 1, 3, 2: five pairs in order, one not, tau = 4 /
    # 6. Back it is the same. The third clip is reversed: tau = -4 / 6 with the second and -1 with the first.
    clips = [column(0, 1, 2, 3), column(0, 1, 3, 2), column(3, 2, 1, 0)]
    val = [(embedding, labels(0, 0, 1, 1)) for embedding in clips]
    result = judge(val, val)
    assert result.kendalls_tau == pytest.approx(2 * (4 / 6 - 1 - 4 / 6) / 6, abs=1e-15)
    assert (result.kendalls_tau_nan, result.kendalls_tau_pairs) == (0, 6)


def test_kendalls_tau_is_scipys():
    rng = np.random.default_rng(3)
    ranks = rng.integers(4, size=(60, 7))
    ranks[7] = 2
    taus = metrics.tau_b(ranks)
    with np.errstate(all="ignore"):
        expected = [kendalltau(np.arange(7), row).statistic for row in ranks]
    np.testing.assert_allclose(taus, expected, rtol=0, atol=1e-14)
    assert np.isnan(taus[7])


def test_stride_thins_both_clips_after_unlabelled_frames_are_dropped():
    # Every second labelled frame is 0, 1, 2; the others would turn the order round.
    kept = column(50, 0, 9, 1, 8, 2, 7, 60)
    label = labels(-1, 0, 0, 0, 1, 1, 1, -1)
    val = [(kept, label), (kept, label)]
    assert judge(val, val, stride=2).kendalls_tau == 1
    assert judge(val, val, stride=1).kendalls_tau == 1  # equal clips match frame by frame
    other = [(kept, label), (column(50, 0, 2, 1, 1, 2, 0, 60), label)]
    assert judge(other, other, stride=2).kendalls_tau == 1
    assert judge(other, other, stride=1).kendalls_tau < 1


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 / 3])
def test_constant_embedding_gives_nan_for_every_pair(value):
    rng = np.random.default_rng(0)
    clips = [(np.full((n, 33), value), np.sort(rng.integers(3, size=n))) for n in (5, 9, 12)]
    result = judge(clips, clips)
    assert math.isnan(result.kendalls_tau)
    assert (result.kendalls_tau_nan, result.kendalls_tau_pairs) == (6, 6)
    # All frames are at the same distance: AP is the share of each label among the other clips, whatever K is.
    values = list(result.retrieval.values())
    np.testing.assert_allclose(values, values[0], rtol=0, atol=1e-15)


def test_nan_is_counted_and_left_out_of_the_mean():
    clips = [column(0, 1, 2), column(0, 1, 2), column(5, 5, 5)]
    val = [(embedding, labels(0, 0, 1)) for embedding in clips]
    # Towards the constant clip all neighbours are its first frame, and so they are from it.
    result = judge(val, val)
    assert (result.kendalls_tau, result.kendalls_tau_nan, result.kendalls_tau_pairs) == (1.0, 4, 6)


def test_progression_of_a_constant_by_hand():
    # Train target of phase 0: (-1, 0, 1, 2) / 4, mean 1/8, which is the prediction. Validation: (0, 1, 2, 3)
    # / 4, mean 3/8, sum of squares 5/16 about it; about 1/8 it is 5/16 + 4/16. R^2 = 1 - 9/5.
    train = [(column(1, 1, 1, 1), labels(0, 0, 1, 1))]
    val = [(column(1, 1, 1, 1), labels(0, 1, 1, 1))] * 2
    assert judge(train, val).event_completion[1.0] == pytest.approx(1 - 9 / 5, abs=1e-14)


def test_progression_of_its_own_target_is_one():
    label = labels(0, 0, 1, 1, 2, 2, 2)
    time = (np.arange(7) - 3)[:, None] / 7
    clips = [(time, label), (time + 0, label)]
    assert judge(clips, clips).event_completion[1.0] == pytest.approx(1, abs=1e-12)


def test_progression_is_the_mean_r2_of_scikit_learn():
    result = judge(TRAIN, VAL)
    scores = []
    for phase in (0, 1):
        parts = []
        for clips in (TRAIN, VAL):
            kept = [(e, label) for e, label in clips if (label == phase).any()]
            targets = [(np.arange(len(label)) - np.nonzero(label == phase)[0].max()) / len(label) for _, label in kept]
            parts += [np.concatenate([e for e, _ in kept]), np.concatenate(targets)]
        scores.append(LinearRegression().fit(parts[0], parts[1]).score(parts[2], parts[3]))
    assert result.event_completion[1.0] == pytest.approx(np.mean(scores), abs=1e-9)


def test_progression_leaves_out_a_phase_that_a_split_lacks():
    time = np.linspace(0, 1, 6)[:, None]
    full, without = labels(0, 0, 1, 1, 2, 2), labels(0, 0, 0, 2, 2, 2)
    # No training clip has phase 1: only phase 0 counts, and there the time fits exactly up to a shift by
    # clip.
    result = judge([(time, without)] * 2, [(time, without), (time, without)])
    assert result.event_completion[1.0] == pytest.approx(1, abs=1e-12)
    # A validation clip without it is left out of it, and the rest is judged.
    result = judge([(time, full)] * 2, [(time, full), (time, without), (time, full)])
    assert math.isfinite(result.event_completion[1.0])
    # Without any phase but the last there is no value.
    only = judge([(time, labels(2, 2, 2, 2, 2, 2))], [(time, full), (time, full)])
    assert math.isnan(only.event_completion[1.0])
    assert math.isnan(only.classification[1.0])


def test_missing_classes_are_told_and_the_rest_is_judged():
    # Label 2 is in no training clip, 3 in no validation clip and not in the first training clip, 1 not in the second.
    def clip(*label):
        return column(*np.arange(len(label)) * 1.0), labels(*label)

    train = [clip(-1, 0, 0, 1, 1), clip(0, 0, 3, 3), *[clip(0, 1, 1, 3)] * 8]
    val = [clip(0, 0, 1, 1), clip(0, 0, 2, 2), clip(1, 1, 2, 2)]
    result = judge(train, val)
    assert result.missing_classes == {"train": {1: 1, 2: 10, 3: 1}, "val": {0: 1, 1: 1, 2: 1, 3: 3}}
    assert result.unseen_classes == {0.1: [2, 3], 0.5: [2], 1.0: [2]}
    # The first clip teaches 0 up to 2 and 1 from 3 on (its frame 0 has no phase): 0, 0, 0, 1 everywhere.
    assert result.classification[0.1] == (3 + 2 + 0) / 12
    for numbers in (result.classification, result.event_completion, result.retrieval):
        assert all(map(math.isfinite, numbers.values()))
    plain = result.to_dict()
    assert plain["missing_classes"]["train"] == {"1": 1, "2": 10, "3": 1}
    assert plain["unseen_classes"]["0.1"] == [2, 3]
    assert judge(TRAIN, TRAIN).missing_classes == {"train": {}, "val": {}}


@pytest.mark.parametrize("no_phase", [VAL[0][1] * 0 - 1, None])
def test_a_clip_without_any_phase_is_left_out_of_the_tasks(no_phase):
    nothing = [(VAL[0][0] * 9, no_phase)]
    one, other = judge(nothing + TRAIN, nothing + VAL), judge(TRAIN, VAL)
    assert one.missing_classes == {"train": {0: 1, 1: 1, 2: 1}, "val": {0: 1, 1: 2, 2: 1}}  # a clip of VAL lacks 1
    for name in ("classification", "event_completion", "kendalls_tau", "retrieval", "unseen_classes"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("no_phase", [TRAIN[0][1] * 0 - 1, None])
def test_without_labels_to_fit_to_the_rest_is_judged(no_phase):
    one, other = judge([(TRAIN[0][0], no_phase)], VAL, persons_val="abab"), judge(TRAIN, VAL, persons_val="abab")
    for numbers in (one.classification, one.event_completion):
        assert list(numbers) == [0.1, 0.5, 1.0]
        assert all(map(math.isnan, numbers.values()))
    for name in ("kendalls_tau", "retrieval", "retrieval_other_people"):
        assert getattr(one, name) == getattr(other, name)
    assert one.missing_classes == {"train": {}, "val": other.missing_classes["val"]}
    assert one.unseen_classes == {}
    with pytest.raises(ValueError, match="all labelled frames have the label 2: there is nothing to tell apart"):
        judge([(TRAIN[0][0], no_phase)], [(e, y * 0 + 2) for e, y in VAL])


def test_classification_takes_the_first_clips_of_each_fraction():
    # The first clip teaches the opposite of the other nine: alone it is always wrong, with the others it is
    # outvoted.
    wrong, right = (column(-1, -1, 1, 1), labels(1, 1, 0, 0)), (column(-1, -1, 1, 1), labels(0, 0, 1, 1))
    val = [right, (column(-1, 1, 1, -1), labels(0, 1, 1, 1))]
    result = judge([wrong] + [right] * 9, val, fractions=(0.05, 0.19, 0.5, 1.0))
    assert result.classification == {0.05: 1 / 8, 0.19: 1 / 8, 0.5: 7 / 8, 1.0: 7 / 8}


def test_support_vectors_tell_what_a_line_cannot():
    ring = column(-2, 2, -2.1, 2.1, 0, 0.1, -0.1, 0.05)
    clips = [(ring, labels(0, 0, 0, 0, 1, 1, 1, 1))] * 2
    assert judge(clips, clips, classifier="svc").classification[1.0] == 1
    assert judge(clips, clips).classification[1.0] < 1
    assert judge(clips, clips, classifier="svc").classifier == "svc"


def test_frames_without_a_phase_change_nothing():
    rng = np.random.default_rng(5)

    def padded(clips):
        return [
            (
                np.concatenate([rng.normal(size=(3, 4)), e, rng.normal(size=(2, 4))]),
                np.concatenate([[-1, -1, -7], label, [-1, -2]]),
            )
            for e, label in clips
        ]

    assert judge(padded(TRAIN), padded(VAL)) == judge(TRAIN, VAL)


def test_order_of_validation_clips_does_not_matter():
    one, other = judge(TRAIN, VAL), judge(TRAIN, VAL[::-1])
    for name in ("classification", "event_completion", "retrieval"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12)
    assert one.kendalls_tau == pytest.approx(other.kendalls_tau, abs=1e-12)


def test_a_far_rotated_copy_has_the_same_neighbours():
    # Distances do not change; at an offset of 1e6 the plain formula |q|^2 - 2 q.k + |k|^2 would lose 12
    # digits.
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    moved = [[(e @ rotation + 1e6, label) for e, label in clips] for clips in (TRAIN, VAL)]
    one, other = judge(TRAIN, VAL), judge(*moved)
    assert one.retrieval == pytest.approx(other.retrieval, abs=1e-12)
    assert one.kendalls_tau == pytest.approx(other.kendalls_tau, abs=1e-12)


def test_result_is_plain():
    result = judge(TRAIN, VAL).to_dict()
    assert set(result) == {
        "classification", "event_completion", "kendalls_tau", "kendalls_tau_nan", "kendalls_tau_pairs", "retrieval",
        "classifier", "stride", "retrieval_other_people", "missing_classes", "unseen_classes",
    }  # fmt: skip
    assert list(result["classification"]) == ["0.1", "0.5", "1.0"]
    assert list(result["retrieval"]) == ["5", "10", "15"]
    assert all(type(value) is float for value in result["retrieval"].values())


@pytest.mark.parametrize(
    ("train", "val", "options", "message"),
    [
        (TRAIN, VAL[:1], {}, "at least 2"),
        (TRAIN, [], {}, "val: 0 clips"),
        (TRAIN, [VAL[0], (VAL[1][0], None)], {}, "at least 2 with phases are needed, got 1"),
        (TRAIN, [(e, None) for e, _ in VAL], {}, "the val split has no labels; retrieval and Kendall"),
        (TRAIN, [VAL[0], (VAL[1][0], VAL[1][1][:-1])], {}, "val clip 1: embeddings must be"),
        (TRAIN, [VAL[0], (VAL[1][0] * np.nan, VAL[1][1])], {}, "val clip 1: the embedding is not finite"),
        (TRAIN, [VAL[0], (VAL[1][0][:, :2], VAL[1][1])], {}, "val clip 1 has 2 features"),
        (TRAIN, [(e, y * 0 - 1) for e, y in VAL], {}, "the val split has no frame with a label >= 0"),
        (TRAIN, [VAL[0], (VAL[1][0], VAL[1][1] * 0 - 1)], {}, "at least 2 with phases are needed, got 1"),
        ([(e, y * 0) for e, y in TRAIN], [(e, y * 0) for e, y in VAL], {}, "have the label 0"),
        (TRAIN, VAL, {"stride": 0}, "stride must be a whole number, at least 1, got 0"),
        (TRAIN, VAL, {"stride": 1.5}, "stride must be a whole number, at least 1, got 1.5"),
        (TRAIN, VAL, {"ks": (5, 2.5)}, "ks must be whole numbers"),
        (TRAIN, VAL, {"fractions": (0.5, 1.5)}, "fractions"),
        (TRAIN, VAL, {"ks": (0,)}, "ks"),
        (TRAIN, VAL, {"persons_val": ["anna"]}, "persons_val must name the person of each of 4 clips, got 1 names"),
        (TRAIN, VAL, {"classifier": "knn"}, "unknown classifier 'knn': choose one of logistic, svc"),
    ],
)
def test_bad_input_is_named(train, val, options, message):
    with pytest.raises(ValueError, match=message):
        judge(train, val, **options)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (
            (torch.zeros(3, 2), labels(0, 1, 2)),
            "val clip 0: embeddings must be a NumPy array of .*, got Tensor",
        ),
        (([[1.0], [2.0]], labels(0, 1)), "val clip 0: embeddings must be a NumPy array of real numbers, got list"),
        ((column(1, 2).astype(object), labels(0, 1)), "of real numbers, got an array of object"),
        ((column(1, 2), [0, 1]), "val clip 0: labels must be a NumPy array of whole numbers, got list"),
        ((column(1, 2), labels(0.0, 1.0)), "of whole numbers, got an array of float64"),
    ],
)
def test_arrays_of_another_kind_are_named(clip, message):
    with pytest.raises(TypeError, match=message):
        judge(TRAIN, [clip, clip])


def test_batches_of_no_clip_are_refused():
    for size in (0, -1, 2.0):
        with pytest.raises(ValueError, match=f"batch_size must be a whole number of clips, at least 1, got {size}"):
            embed_clips(torch.nn.Identity(), [], batch_size=size)


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)

    def clip(name):
        label = np.sort(rng.integers(3, size=rng.integers(6, 12)))
        label[[0, -1]] = 0, 2
        return Clip(name, rng.normal(size=(len(label), 2, 3)), 3 + np.arange(len(label)) / 10, label)

    return Dataset("d", [clip(f"t{k}") for k in range(4)], [clip(f"v{k}") for k in range(3)], ["a", "b", "c"])


def test_embedding_does_not_depend_on_the_batch(dataset):
    torch.manual_seed(0)
    encoder = FrameEncoder(6, width=8, embed_dim=4, heads=2, layers=1).train()
    together = embed_clips(encoder, dataset.train, batch_size=3)
    alone = [embed_clips(encoder, [clip])[0] for clip in dataset.train]
    assert [z.shape for z in together] == [(len(clip), 4) for clip in dataset.train]
    for one, other in zip(together, alone, strict=True):
        # Sums of a few dozen float32 terms of order one in another order.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert encoder.training


def test_controls(dataset):
    config = {"input_dim": 6, "width": 8, "embed_dim": 4, "heads": 2, "layers": 1}
    state = torch.get_rng_state()
    rows = controls(dataset, config, seed=1, stride=2)
    assert torch.equal(state, torch.get_rng_state())
    assert list(rows) == ["time index", "raw features", "random encoder"]
    assert {row.stride for row in rows.values()} == {2}
    assert rows == controls(dataset, config, seed=1, stride=2)
    assert rows["random encoder"] != controls(dataset, config, seed=2, stride=2)["random encoder"]
    raw = evaluate_dataset(dataset, lambda clips: [clip.frames.reshape(-1, 6) for clip in clips], stride=2)
    assert rows["raw features"] == raw
    time = [np.arange(len(clip))[:, None] / len(clip) for clip in dataset.val]
    for given, expected in zip(time_index(dataset.val), time, strict=True):
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found[:-1], "embed must return an embedding for each of"),
        (
            lambda found: [found[0][:-1], *found[1:]],
            r"clip '\w+': its embedding must be \(frames, features\) of \d+ frames",
        ),
        (lambda found: [found[0][..., None], *found[1:]], r"clip '\w+': its embedding must be \(frames, features\)"),
        (lambda found: [found[0] * np.nan, *found[1:]], r"clip '\w+': the embedding is not finite; the encoder has"),
    ],
)
def test_a_bad_embedding_names_its_clip(dataset, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_dataset(dataset, lambda clips: change(raw_features(clips)))


def test_persons_of_a_data_set_are_told_apart(dataset):
    known = [dataclasses.replace(clip, person=person) for clip, person in zip(dataset.val, "aba", strict=True)]
    result = evaluate_dataset(dataclasses.replace(dataset, val=known), raw_features)
    assert set(result.retrieval_other_people) == {5, 10, 15}
    assert result.retrieval_other_people != result.retrieval
    unknown = evaluate_dataset(dataset, raw_features)
    assert unknown.retrieval_other_people == {}
    others = {f"AP/val other people {k}_align_precision": x for k, x in result.retrieval_other_people.items()}
    assert tags(result, "d") == tags(unknown, "d") | others


def test_time_index_counts_frames_without_a_phase():
    clip = Clip("c", np.zeros((4, 1)), np.arange(4), labels(-1, 0, 1, -1))
    np.testing.assert_array_equal(time_index([clip])[0], column(0, 0.25, 0.5, 0.75))


def test_import_is_light():
    check = (
        "import lac.runs.evaluate, lac.data, sys; print([m for m in ('sklearn', 'scipy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
