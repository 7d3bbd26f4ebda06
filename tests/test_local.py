"""The best several local alignments: equal to an independent aligner, apart, and the same on every engine."""

import itertools

import numpy as np
import pytest
import torch
from oracle import exact_aligner

from lac import hard_alignment, local_alignments
from lac.local import APART

GAPS = {"gap_open": 0.7, "gap_extend": 0.2}


def random_scores(seed: int, n: int, m: int) -> torch.Tensor:
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.4


def listed(found, pair=None):
    """Paths as lists of cells, and their scores, of a pair; those that were found."""
    scores, paths, counts = found if pair is None else (x[pair] for x in found)
    return [(s, path[:c].tolist()) for s, path, c in zip(scores.tolist(), paths, counts.tolist(), strict=True) if c]


def by_exact_aligner(scores: np.ndarray, k: int, apart: str) -> list[tuple[float, np.ndarray]]:
    """The k best by Biopython: each free stretch of columns is aligned alone; taken cells cost more than all gives."""
    if apart == "rows":
        return [(s, path[:, ::-1]) for s, path in by_exact_aligner(scores.T, k, "columns")]
    found: list[tuple[float, np.ndarray]] = []
    free, masked = [(0, scores.shape[1])], scores.copy()
    for _ in range(k):
        best, where = (0.0, np.empty((0, 2), int)), (0, 0)
        for start, end in free:
            part = masked[:, start:end]
            if (part > 0).any():
                score, path = exact_aligner(part, **GAPS)
                best, where = max(
                    (best, where), ((score, path + np.array([0, start])), (start, end)), key=lambda x: x[0][0]
                )
        if not len(best[1]):
            break
        found.append(best)
        if apart == "cells":
            masked[tuple(best[1].T)] = -1e6
        else:
            free.remove(where)
            free += [x for x in ((where[0], best[1][0, 1]), (best[1][-1, 1] + 1, where[1])) if x[0] < x[1]]
    return found


@pytest.mark.parametrize("apart", APART)
@pytest.mark.parametrize(("n", "m"), [(6, 40), (17, 33), (1, 12), (12, 1)])
def test_equals_repeated_masking_by_an_exact_aligner(apart, n, m):
    for seed in range(4):
        scores = random_scores(seed, n, m)
        found = listed(local_alignments(scores, 8, apart=apart, **GAPS))
        # Biopython's gaps have one order only, skipped rows after skipped columns or not: the score is the same.
        expected = by_exact_aligner(scores.numpy(), 8, apart)
        assert [s for s, _ in found] == pytest.approx([s for s, _ in expected], abs=1e-12)
        assert [path for _, path in found] == [path.tolist() for _, path in expected]


@pytest.mark.parametrize("apart", APART)
def test_every_engine_agrees_also_where_scores_tie(apart, engine):
    g = torch.Generator().manual_seed(1)
    scores = torch.randint(-3, 3, (4, 9, 21), generator=g) / 2
    arguments = {"apart": apart, "gap_open": 0.5, "gap_extend": 0.5, "lengths": ([9, 0, 5, 9], [21, 21, 13, 1])}
    expected = local_alignments(scores, 4, backend="eager", **arguments)
    found = local_alignments(scores.to(engine.device), 4, backend=engine.name, **arguments)
    for x, y in zip(found, expected, strict=True):
        assert torch.equal(x.cpu(), y)
    assert expected.counts[1].tolist() == [0, 0, 0, 0]
    for k in range(4):  # padding and the others of the batch change nothing
        rows, columns = (given[k] for given in arguments["lengths"])
        alone = local_alignments(scores[k, :rows, :columns], 4, apart=apart, gap_open=0.5, gap_extend=0.5)
        assert listed(alone) == listed(expected, k)


def test_the_first_is_the_best_alignment_and_none_touch():
    scores = random_scores(5, 12, 60)
    found = listed(local_alignments(scores, 6, **GAPS))
    best, (path,) = hard_alignment(scores, **GAPS)
    assert found[0] == (best.item(), path.tolist())
    spans = sorted((path[0][1], path[-1][1]) for _, path in found)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))
    assert [s for s, _ in found] == sorted((s for s, _ in found), reverse=True)


def test_a_gap_does_not_step_over_what_is_taken():
    """Cells may be stepped over, columns not: the second alignment would go around the first."""
    scores = torch.full((4, 7), -9.0)
    for i, j in ((0, 0), (1, 1), (2, 5), (3, 6)):
        scores[i, j] = 2.0
    scores[0, 2:5] = torch.tensor([9.0, -9.0, -9.0])
    cheap = {"gap_open": 0.1, "gap_extend": 0.1}
    columns = listed(local_alignments(scores[:, :], 3, **cheap))
    assert [path for _, path in columns] == [[[0, 2], [2, 5], [3, 6]], [[0, 0], [1, 1]]]
    cells = listed(local_alignments(scores, 3, apart="cells", **cheap))
    assert cells[1][1] == [[0, 0], [1, 1]]
    scores[0, 2:5] = -9.0
    scores[1, 3] = 50.0
    assert listed(local_alignments(scores, 2, **cheap))[0][1] == [[0, 0], [1, 3], [2, 5], [3, 6]]


def test_least_score_and_length():
    scores = torch.full((4, 20), -1.0)
    for start, worth in ((1, 1.0), (9, 2.0)):
        for k in range(4):
            scores[k, start + k] = worth
    scores[2, 16] = 30.0
    assert [len(path) for _, path in listed(local_alignments(scores, 5))] == [1, 4, 4]
    assert [s for s, _ in listed(local_alignments(scores, 1, min_length=2))] == [8.0]
    assert [s for s, _ in listed(local_alignments(scores, 5, min_length=2))] == [8.0, 4.0]
    assert [s for s, _ in listed(local_alignments(scores, 5, min_score=4.0))] == [30.0, 8.0]
    assert listed(local_alignments(scores, 5, min_length=5)) == []


def test_a_band_by_time_stays_finite_also_where_nothing_is_within():
    scores = torch.eye(12) * 3 - 1
    assert listed(local_alignments(scores, 1, max_shift=0))[0][1] == [[i, i] for i in range(12)]
    late = torch.arange(12.0) / 4 + 2.5  # of a quarter of a second's steps
    found = local_alignments(scores, 2, max_shift=1.0, times1=torch.arange(12.0) / 4, times2=late)
    assert torch.equal(found.counts, torch.zeros(2, dtype=torch.int64))
    assert torch.equal(found.scores, torch.zeros(2))
    found = local_alignments(scores[None], 1, max_shift=2.5, times1=late[None] - 2.5, times2=late[None])
    assert found.paths[0, 0, : found.counts[0, 0]].tolist() == [[i, i] for i in range(12)]
    with pytest.raises(ValueError, match="max_shift must not be negative"):
        local_alignments(scores, 1, max_shift=-1.0)
    with pytest.raises(ValueError, match="give one of these"):
        local_alignments(scores, 1, times1=late, times2=late)


def test_repeats_of_one_recording_with_itself():
    z = torch.nn.functional.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    z[25:33] = z[5:13]
    scores = z @ z.T - 0.5
    (_, repeat), *_ = listed(local_alignments(scores, 2, min_shift=1.0))
    assert repeat == [[5 + k, 25 + k] for k in range(8)]


def test_nan_is_told_and_touches_no_other_pair():
    scores = torch.eye(5).repeat(2, 1, 1)
    scores[0, 2, 2] = torch.nan
    found = local_alignments(scores, 2)
    assert found.scores[0, 0].isnan()
    assert found.counts.tolist() == [[0, 0], [5, 0]]


def test_arguments_of_another_kind_are_refused():
    scores = torch.eye(3)
    for arguments, text in (
        ({"k": 0}, "k must be at least 1"),
        ({"apart": "row"}, "apart must be one of 'columns', 'rows', 'cells'; got 'row'"),
        ({"min_score": -1.0}, "min_score"),
        ({"min_length": 0}, "min_length must be at least 1"),
        ({"min_shift": float("nan")}, "min_shift must be finite"),
        ({"backend": "reference"}, "has no hard alignment"),
    ):
        with pytest.raises(ValueError, match=text):
            local_alignments(scores, **({"k": 1} | arguments))
    with pytest.raises(TypeError, match="k must be an integer"):
        local_alignments(scores, 1.5)  # type: ignore[arg-type]
    assert local_alignments(torch.zeros(2, 0, 4), 3).scores.tolist() == [[0.0] * 3] * 2
