"""A query found in recordings: every occurrence once, as by alignments of the whole, and chance told as such."""

import math

import numpy as np
import pytest
import torch
from planted import RATE, clip, planted, same, smooth

from lac import FrameEncoder, LACLoss, local_alignments
from lac.search import Chance, Compared, _alignments, by_chance, candidates, find, shares_of_chance
from lac.ways import Raw, Trained


def compared(scores: torch.Tensor, gap_open: float = 0.5, gap_extend: float = 0.1) -> Compared:
    """What has these scores (N, T)."""
    gaps = torch.tensor(gap_open), torch.tensor(gap_extend)
    n, t = scores.shape
    frames = torch.zeros(n, 1), torch.zeros(t, 1)
    times = np.arange(n) / RATE, np.arange(t) / RATE
    return Compared(*times, lambda frames, _: (scores[:, frames].transpose(0, 1), *gaps), frames)


@pytest.mark.parametrize(("n", "t"), [(7, 900), (12, 145), (30, 20), (1, 60), (5, 1)])
def test_pieces_give_the_local_alignments_of_the_whole(n, t):
    scores = torch.randn(n, t, generator=torch.Generator().manual_seed(n)) - 1.2
    whole = local_alignments(scores, 500, gap_open=0.5, gap_extend=0.1)
    found = list(_alignments(compared(scores)))
    assert len(found) == int((whole.counts > 0).sum())
    for k, (score, path) in enumerate(found):
        assert score == whole.scores[k]
        assert path.tolist() == whole.paths[k, : whole.counts[k]].tolist()


def test_all_planted_occurrences_are_found_in_a_hundred_recordings():
    """The best candidates are the occurrences, each once; most of them are told from chance, and little else."""
    there = ranked = sure = wrong = 0
    for seed in range(100):
        query, recording, spans = planted(seed)
        found = find(Raw().compared(query, recording), chance=1.0)
        right = [any(same((one.start, one.end), span) for span in spans) for one in found]
        there += len(spans)
        ranked += sum(any(same((one.start, one.end), span) for one in found[: len(spans) + 1]) for span in spans)
        sure += sum(good for one, good in zip(found, right, strict=True) if one.chance <= 0.05)
        wrong += sum(not good for one, good in zip(found, right, strict=True) if one.chance <= 0.05)
    assert ranked == there
    assert sure > 0.8 * there
    assert wrong <= 0.05 * sure


def test_where_nothing_is_little_is_found():
    recordings = [planted(1000 + seed, most=0, frames=(500, 1500))[:2] for seed in range(150)]
    assert sum(bool(find(Raw().compared(*pair))) for pair in recordings) <= 0.1 * len(recordings)


def test_chance_is_the_law_of_extreme_values():
    rng = np.random.default_rng(0)
    null = Chance(3.0, 0.5, 40.0)
    tops = rng.gumbel(3.0, 0.5, size=(4000, 40)).max(axis=1)
    for share in (0.05, 0.3):
        score = float(np.quantile(tops, 1 - share))
        assert -math.expm1(-null.expected(score)) == pytest.approx(share, abs=0.02)
    assert null.expected(-1e9) == 40
    assert null.expected(1e9) < 1e-300
    assert Chance(0.0, 0.0, 5.0).expected(1.0) < 1e-300  # scores that never vary


def test_shares_of_chance():
    assert shares_of_chance([0.01, 0.5, 0.06, 9.0]) == pytest.approx([0.01, 0.5 / 3, 0.03, 1.0])
    assert shares_of_chance([0.3, 0.2]) == pytest.approx([0.15, 0.15])
    assert shares_of_chance([]) == []


def test_an_occurrence_reaches_as_far_as_the_query():
    scores = torch.full((10, 100), -1.0)
    for k in range(3, 8):
        scores[k, 40 + k] = 2.0
    (one,), _ = candidates(compared(scores), 5)
    assert one.path.tolist() == [[k, 40 + k] for k in range(3, 8)]
    assert (one.start, one.end) == pytest.approx((40 / RATE, 49 / RATE))
    scores = torch.full((10, 100), -1.0)
    for k in range(3, 8):
        scores[k, k - 2] = 2.0
    (one,), _ = candidates(compared(scores), 5)
    assert (one.start, one.end) == pytest.approx((0.0, 7 / RATE))


def test_parts_of_one_occurrence_are_one():
    scores = torch.full((20, 200), -2.0)
    for k in range(20):
        if k not in (9, 10, 11):
            scores[k, 100 + k] = 2.0
    scores[:, 109:112] = -100.0
    found, _ = candidates(compared(scores, gap_open=50.0), 5)
    assert [(one.start, one.end) for one in found] == [pytest.approx((4.0, 119 / RATE))]


def test_a_trained_way_finds_its_own_frames_again_by_every_gap_model():
    rng = np.random.default_rng(0)
    recording = clip(smooth(rng, 900), "recording")
    query = clip(recording.frames[300:345].copy(), "query")
    torch.manual_seed(0)
    encoder = FrameEncoder(16, embed_dim=16, width=16, heads=2)
    for gaps in ("learned", "constant", "interval", "contextual"):
        way = Trained(encoder, LACLoss(gaps=gaps, embed_dim=16))
        best = find(way.compared(query, recording), 1, chance=1.0)[0]
        assert (best.start, best.end) == pytest.approx((12.0, 13.76), abs=0.3)
        assert best.path[:, 1].tolist() == sorted(best.path[:, 1])


def test_bad_arguments_and_scores():
    scores = torch.zeros(3, 30)
    with pytest.raises(ValueError, match="k must be at least 1"):
        find(compared(scores), 0)
    with pytest.raises(ValueError, match=r"chance must lie in \(0, 1\], got 0"):
        find(compared(scores), chance=0)
    scores[1, 4] = torch.nan
    with pytest.raises(ValueError, match="are not finite"):
        by_chance(compared(scores))
    with pytest.raises(ValueError, match="are not finite"):
        find(compared(scores))
    assert find(compared(torch.full((3, 30), -1.0)), chance=1.0) == []
