"""The figures of a matching against plain loops and laws."""

import math

import numpy as np
import pytest

from lac.runs.matching import TOLERANCE, Matching, judge, mean, phase_positions

NAN = float("nan")


def clip_positions(seed, before=3, after=2, phases=3):
    """Positions of a clip whose phases last from 2 to 6 frames, with frames of no phase around it."""
    rng = np.random.default_rng(seed)
    action = np.repeat(np.arange(phases), rng.integers(2, 7, size=phases))
    return phase_positions(np.concatenate([np.full(before, -1), action, np.full(after, -1)]))


def random_posterior(n, m, seed=0):
    rows = np.random.default_rng(seed).random((n, m)) ** 8
    return rows / rows.sum(1, keepdims=True) * 0.8


def test_positions_by_hand():
    positions = phase_positions(np.array([-1, 0, 0, 1, 2, 2, 2, 2, -1, -3, 1, 1]))
    expected = [NAN, 0.25, 0.75, 1.5, 2.125, 2.375, 2.625, 2.875, NAN, NAN, 1.25, 1.75]
    np.testing.assert_allclose(positions, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(phase_positions(np.array([4])), [4.5])


@pytest.mark.parametrize("seed", range(5))
def test_posterior_by_plain_loops(seed):
    first, second = clip_positions(seed), clip_positions(seed + 10, before=0)
    posterior = random_posterior(len(first), len(second), seed)
    posterior[5] = 0
    recalls, right_mass, mass, hits = [], 0.0, 0.0, []
    for i, here in enumerate(first):
        if math.isnan(here):
            continue
        on_right = 0.0
        for j, there in enumerate(second):
            mass += posterior[i, j]
            if not math.isnan(there) and abs(here - there) <= TOLERANCE:
                on_right += posterior[i, j]
        recalls.append(on_right)
        right_mass += on_right
        best = max(range(len(second)), key=lambda j: posterior[i, j])
        hits.append(posterior[i].any() and abs(here - second[best]) <= TOLERANCE)
    figures = judge(first, second, posterior)
    expected = sum(recalls) / len(recalls), right_mass / mass, sum(hits) / len(hits)
    assert figures[:3] == pytest.approx(expected, abs=1e-12)
    assert all(map(math.isnan, figures[3:]))


@pytest.mark.parametrize("seed", range(5))
def test_path_by_plain_loops(seed):
    first, second = clip_positions(seed), clip_positions(seed + 10, before=0)
    rng = np.random.default_rng(seed)
    path = np.stack([np.sort(rng.choice(len(x), 6, replace=False)) for x in (first, second)], axis=1)
    differences = [abs(first[i] - second[j]) for i, j in path if not math.isnan(first[i] - second[j])]
    matched = {int(i) for i, _ in path}
    action = {i for i, position in enumerate(first) if not math.isnan(position)}
    others = set(range(len(first))) - action
    figures = judge(first, second, path=path)
    expected = (
        sum(differences) / len(differences), len(matched & action) / len(action), len(matched & others) / len(others)
    )  # fmt: skip
    assert figures[3:] == pytest.approx(expected, abs=1e-12)
    assert all(map(math.isnan, figures[:3]))


def test_a_perfect_matching_is_perfect():
    positions = clip_positions(0)
    action = np.flatnonzero(np.isfinite(positions))
    posterior = np.zeros((len(positions), len(positions)))
    posterior[action, action] = 1
    path = np.stack([action, action], axis=1)
    assert judge(positions, positions, posterior, path) == Matching(1, 1, 1, 0, 1, 0)
    # Half of the mass is half of the recall, and as precise.
    assert judge(positions, positions, posterior / 2, path) == Matching(0.5, 1, 1, 0, 1, 0)


def test_a_matching_one_phase_late_is_wrong_everywhere():
    positions = phase_positions(np.repeat([-1, 0, 1, 2, -1], 4))
    late = np.roll(np.eye(len(positions)), 4, axis=1)
    path = np.stack(late.nonzero(), axis=1)[4:12]
    figures = judge(positions, positions, late, path)
    assert figures[:3] == (0, 0, 0)
    assert figures.error == pytest.approx(1)
    assert figures[4:] == (2 / 3, 0)


def test_shuffled_rows_miss():
    positions = phase_positions(np.repeat(np.arange(40), 3))
    identity = np.eye(len(positions))
    shuffled = identity[np.random.default_rng(0).permutation(len(positions))]
    assert judge(positions, positions, identity)[:3] == (1, 1, 1)
    assert max(judge(positions, positions, shuffled)[:3]) < 0.05


def test_mass_on_frames_of_no_phase_is_wrong_and_their_rows_do_not_count():
    first, second = phase_positions(np.array([0, 1, -1])), phase_positions(np.array([0, -1]))
    posterior = np.array([[0.2, 0.6], [0.0, 0.4], [1.0, 0.0]])
    assert judge(first, second, posterior)[:3] == pytest.approx((0.1, 0.2 / 1.2, 0))


def test_figures_without_a_value():
    positions = phase_positions(np.array([0, 0, 1]))
    nothing = judge(positions, positions, np.zeros((3, 3)), np.empty((0, 2), np.int64))
    assert (nothing.recall, nothing.hit, nothing.covered) == (0, 0, 0)
    assert all(map(math.isnan, (nothing.precision, nothing.error, nothing.distracted)))
    average = mean([nothing, Matching(1, 0.5, 1, 0.25, 1, NAN), Matching(1, 1, 1, 0.75, 1, NAN)])
    assert average[:5] == pytest.approx((2 / 3, 0.75, 2 / 3, 0.5, 2 / 3))
    assert math.isnan(average.distracted)
