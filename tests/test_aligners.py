"""The aligners compared, their consensus and its paths, against plain loops and laws."""

import itertools

import numpy as np
import pytest
import torch

from lac import Consensus, LACLoss
from lac.paths import LEAST_MATCH, expected_paths
from lac.runs import all_pairs
from lac.runs.aligners import ActionClips, aligners
from lac.runs.all_pairs import match_all, match_together, with_consensus

SOFT = ("soft-DTW, raw", "soft-DTW, learned", "row softmax", "LACLoss")
HARD = ("linear stretching", "DTW, raw", "subsequence DTW, raw", "DTW, learned", "subsequence DTW, learned")
LENGTHS = (12, 9, 14, 5)


def random_clips(lengths=LENGTHS, seed=0, beyond=0):
    """Clips whose frames follow one another; `beyond` frames of padding more than the longest needs."""
    g = torch.Generator().manual_seed(seed)
    t = max(lengths) + beyond
    counts = torch.tensor(lengths)
    inside = torch.arange(t) < counts[:, None]
    raw, z = (
        torch.nn.utils.rnn.pad_sequence(
            [torch.randn(n, size, generator=g).cumsum(0) for n in lengths] + [torch.zeros(t, size)], batch_first=True
        )[:-1]
        for size in (3, 4)
    )
    return ActionClips(raw, z, torch.where(inside, torch.arange(t) / 10, 0).double(), counts)


def plain_consensus(posteriors, groups, lengths):
    """The transformation as it is written; padding is 0 and stays it."""
    c = len(groups)
    consistent = torch.zeros_like(posteriors)
    for i, j in itertools.permutations(range(c), 2):
        if groups[i] != groups[j]:
            continue
        total = 2 * posteriors[i, j]
        for k in range(c):
            if k not in (i, j) and groups[k] == groups[i]:
                total = total + posteriors[i, k] @ posteriors[k, j]
        consistent[i, j] = total / int((groups == groups[i]).sum())
    return consistent


# Aligners


def test_rows_of_the_table():
    table = aligners(LACLoss())
    assert set(table) == {*SOFT, *HARD}
    for aligner in table.values():
        matched = match_all(aligner, random_clips())
        assert matched.posteriors.shape == (4, 4, 14, 14)
        assert set(matched.paths) == set(itertools.permutations(range(4), 2))


@pytest.mark.parametrize("name", [*SOFT, *HARD])
def test_posteriors_are_of_rows_and_know_no_padding(name):
    clips = random_clips(beyond=3)
    posteriors = match_all(aligners(LACLoss())[name], clips).posteriors
    assert (posteriors >= 0).all()
    for i, j in itertools.permutations(range(4), 2):
        n, m = LENGTHS[i], LENGTHS[j]
        sums = posteriors[i, j].sum(1)
        if name == "LACLoss":
            assert (sums <= 1 + 1e-5).all()
        else:
            torch.testing.assert_close(sums[:n], torch.ones(n), rtol=0, atol=1e-5)
        assert not posteriors[i, j, n:].any()
        assert not posteriors[i, j, :, m:].any()
    assert not posteriors[range(4), range(4)].any()


@pytest.mark.parametrize("name", [*SOFT, *HARD])
def test_padding_changes_nothing(name):
    aligner = aligners(LACLoss())[name]
    tight, loose = (match_all(aligner, random_clips(beyond=beyond)) for beyond in (0, 6))
    for pair, path in tight.paths.items():
        np.testing.assert_array_equal(path, loose.paths[pair])
    t = tight.posteriors.shape[2]
    torch.testing.assert_close(tight.posteriors, loose.posteriors[:, :, :t, :t], rtol=0, atol=1e-5)
    consistent = [with_consensus(matched.posteriors, torch.tensor(LENGTHS)) for matched in (tight, loose)]
    torch.testing.assert_close(consistent[0].posteriors, consistent[1].posteriors[:, :, :t, :t], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*SOFT, *HARD])
def test_pairs_in_chunks_are_the_same_pairs(name, monkeypatch):
    aligner, clips = aligners(LACLoss())[name], random_clips()
    whole = match_all(aligner, clips)
    monkeypatch.setattr(all_pairs, "_PAIRS", 2)
    chunked = match_all(aligner, clips)
    for pair, path in whole.paths.items():
        np.testing.assert_array_equal(path, chunked.paths[pair])
    torch.testing.assert_close(whole.posteriors, chunked.posteriors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*SOFT, *HARD])
def test_a_clip_and_its_copy_match_frame_by_frame(name):
    clips = random_clips((14, 14))
    twins = ActionClips(*(x[:1].expand(2, *x.shape[1:]).contiguous() for x in clips[:4]))
    # Frames of a length in all directions, so that each is like itself alone.
    far = torch.nn.functional.normalize(torch.randn(14, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    matched = match_all(aligners(LACLoss())[name], twins._replace(raw=far.expand(2, -1, -1), z=far.expand(2, -1, -1)))
    np.testing.assert_array_equal(matched.paths[0, 1], np.arange(14)[:, None].repeat(2, axis=1))
    assert (matched.posteriors[0, 1].argmax(1) == torch.arange(14)).all()


def test_row_softmax_by_hand():
    clips, loss = random_clips(), LACLoss(frame_temperature=0.3)
    posteriors = match_all(aligners(loss)["row softmax"], clips).posteriors
    for i, j in itertools.permutations(range(4), 2):
        first, second = clips.z[i, : LENGTHS[i]], clips.z[j, : LENGTHS[j]]
        cosine = torch.nn.functional.cosine_similarity(first[:, None], second, dim=2)
        torch.testing.assert_close(posteriors[i, j, : LENGTHS[i], : LENGTHS[j]], (cosine / 0.3).softmax(1))


def test_the_loss_aligns_as_it_does_alone():
    clips, loss = random_clips(), LACLoss(gaps="interval")
    matched = match_all(aligners(loss)["LACLoss"], clips)
    for i, j in itertools.combinations(range(4), 2):
        n, m = LENGTHS[i], LENGTHS[j]
        alone = loss.align(
            clips.z[i : i + 1, :n], clips.z[j : j + 1, :m],
            times1=clips.times[i : i + 1, :n], times2=clips.times[j : j + 1, :m],
        )  # fmt: skip
        torch.testing.assert_close(matched.posteriors[i, j, :n, :m], alone.posterior[0].detach(), rtol=0, atol=1e-5)
        np.testing.assert_array_equal(matched.paths[i, j], alone.path[0].numpy())
        np.testing.assert_array_equal(matched.paths[j, i], alone.path[0].numpy()[:, ::-1])


def test_stretching_goes_through_both_clips_at_equal_shares():
    paths = match_all(aligners(LACLoss())["linear stretching"], random_clips((4, 8))).paths
    np.testing.assert_array_equal(paths[0, 1], [[0, 1], [1, 3], [2, 5], [3, 7]])
    np.testing.assert_array_equal(paths[1, 0], [[k, k // 2] for k in range(8)])


def test_frames_of_a_path_share_the_frames_that_they_match():
    posteriors = match_all(aligners(LACLoss())["linear stretching"], random_clips((2, 4))).posteriors
    torch.testing.assert_close(posteriors[0, 1, :2], torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 1]]))
    matched = match_all(aligners(LACLoss())["DTW, raw"], random_clips())
    for (i, j), path in matched.paths.items():
        expected = torch.zeros(14, 14)
        for a, b in path:
            expected[a, b] = 1 / (path[:, 0] == a).sum()
        torch.testing.assert_close(matched.posteriors[i, j], expected)


def test_scale_and_place_of_raw_frames_do_not_matter():
    clips = random_clips()
    moved = clips._replace(raw=torch.where(clips.raw != 0, 40 * clips.raw + 7, 0))
    one, other = (match_all(aligners(LACLoss())["soft-DTW, raw"], x).posteriors for x in (clips, moved))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3)


def test_frames_that_are_all_the_same_have_a_matching():
    still = random_clips()._replace(raw=torch.zeros(4, 14, 3), z=torch.zeros(4, 14, 4))
    for name, aligner in aligners(LACLoss()).items():
        matched = match_all(aligner, still)
        assert matched.posteriors.isfinite().all(), name


# Consensus and its paths


def test_consensus_is_what_it_says():
    posteriors = match_all(aligners(LACLoss())["row softmax"], random_clips()).posteriors
    symmetric = torch.minimum(posteriors, posteriors.permute(1, 0, 3, 2))
    consistent = with_consensus(posteriors, torch.tensor(LENGTHS))
    expected = plain_consensus(symmetric, torch.zeros(4), LENGTHS)
    torch.testing.assert_close(consistent.posteriors, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        with_consensus(posteriors, torch.tensor(LENGTHS), plain_consensus).posteriors, expected, rtol=0, atol=0
    )
    assert set(consistent.paths) == set(itertools.permutations(range(4), 2))


def increasing(n, m):
    """All paths whose both frames increase."""
    for count in range(min(n, m) + 1):
        for rows in itertools.combinations(range(n), count):
            for columns in itertools.combinations(range(m), count):
                yield list(zip(rows, columns, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_expected_paths_gather_the_most(seed):
    posterior = torch.rand(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 4 / 3
    padded = torch.ones(2, 6, 6, dtype=torch.float64)
    padded[:, :4, :5] = posterior
    lengths = (torch.tensor([4, 4]), torch.tensor([5, 5]))
    best = max(increasing(4, 5), key=lambda path: sum(posterior[cell].item() - LEAST_MATCH for cell in path))
    for path in (*expected_paths(padded, lengths), *expected_paths(posterior[None])):
        assert [tuple(cell) for cell in path.tolist()] == best


def test_nothing_worth_a_match_has_an_empty_path():
    (path,) = expected_paths(torch.full((1, 3, 3), LEAST_MATCH / 2))
    assert path.shape == (0, 2)


# The consensus of all clips


def test_clips_aligned_together_are_what_the_consensus_says():
    clips = random_clips()._replace(guide=random_clips(seed=1).raw)
    for weight in (0.0, 0.4, 1.0):
        matched = match_together(Consensus(), clips, weight)
        settings = Consensus(guide_weight=weight, spread=0.0)
        expected = settings(clips.z, torch.zeros(4).long(), clips.lengths, times=clips.times, guide=clips.guide)
        torch.testing.assert_close(matched.posteriors, expected.posterior, rtol=0, atol=1e-6)
        assert set(matched.paths) == set(itertools.permutations(range(4), 2))
        for i, j in itertools.combinations(range(4), 2):
            (best,) = expected_paths(matched.posteriors[i, j, : LENGTHS[i], : LENGTHS[j]][None])
            np.testing.assert_array_equal(matched.paths[i, j], best)
            np.testing.assert_array_equal(matched.paths[j, i], best.flip(1))


def test_all_clips_are_thirds_so_that_chance_has_no_part():
    clips = random_clips((6,) * 20)
    runs = []
    for seed in range(2):
        torch.manual_seed(seed)
        runs.append(match_together(Consensus(n_thirds=2), clips, 0.0).posteriors)
    torch.testing.assert_close(*runs, rtol=0, atol=0)
