"""The nearest frame of each clip."""

import numpy as np

from lac.retrieval import nearest_frames


def test_nearest_frames_by_hand():
    clips = [np.array([[0.0], [5], [9]]), np.array([[4.0], [6]]), np.array([[20.0]])]
    first, second = nearest_frames(np.array([[5.5], [9]]), clips, k=2)
    assert first == [(0, 1, 0.5), (1, 1, 0.5)]  # equal: the earlier clip
    assert second == [(0, 2, 0.0), (1, 1, 3.0)]
    assert [answer.clip for answer in nearest_frames(np.array([[19.0]]), clips, k=9)[0]] == [2, 0, 1]


def test_nearest_frames_of_half_precision_are_those_of_their_values():
    rng = np.random.default_rng(0)
    queries, clips = rng.normal(size=(4, 6)), [rng.normal(size=(n, 6)) for n in (3, 8, 5)]
    half, single = (
        nearest_frames(queries.astype(kind), [clip.astype(kind) for clip in clips], k=3)
        for kind in (np.float16, np.float32)
    )
    for row, exact in zip(half, single, strict=True):
        assert [answer[:2] for answer in row] == [answer[:2] for answer in exact]
        np.testing.assert_allclose([a.distance for a in row], [a.distance for a in exact], rtol=2e-3)
