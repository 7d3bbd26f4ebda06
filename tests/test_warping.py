"""Dynamic time warping against all paths of small tables."""

import itertools
import math

import pytest
import torch

from lac.runs.warping import dtw_cells, soft_dtw_cells, subsequence_dtw_cells

STEPS = ((1, 0), (0, 1), (1, 1))


def paths(n, m, start=(0, 0)):
    """All warping paths from `start` to the last cell of an n x m table."""
    if start == (n - 1, m - 1):
        yield [start]
        return
    for step in STEPS:
        cell = start[0] + step[0], start[1] + step[1]
        if cell[0] < n and cell[1] < m:
            for rest in paths(n, m, cell):
                yield [start, *rest]


def cost_of(cost, path):
    return sum(cost[i, j].item() for i, j in path)


def costs(*sizes):
    """Random costs of a pair of each size, padded by what no path wants to leave out: nothing."""
    g = torch.Generator().manual_seed(0)
    batch = torch.zeros(len(sizes), max(n for n, _ in sizes) + 1, max(m for _, m in sizes) + 2, dtype=torch.float64)
    for pair, (n, m) in zip(batch, sizes, strict=True):
        pair[:n, :m] = torch.rand(n, m, generator=g, dtype=torch.float64)
    return batch, *(torch.tensor(lengths) for lengths in zip(*sizes, strict=True))


SIZES = ((3, 4), (4, 2), (1, 3), (4, 4))


def test_dtw_is_the_cheapest_of_all_paths():
    cost, lengths1, lengths2 = costs(*SIZES)
    for pair, cells, (n, m) in zip(cost, dtw_cells(cost, lengths1, lengths2), SIZES, strict=True):
        best = min(paths(n, m), key=lambda path: cost_of(pair, path))
        assert cells.nonzero().tolist() == [list(cell) for cell in best]
        assert cells.sum() == len(best)


def test_subsequence_dtw_is_the_cheapest_over_all_subsequences():
    cost, lengths1, lengths2 = costs(*SIZES)
    for pair, cells, (n, m) in zip(cost, subsequence_dtw_cells(cost, lengths1, lengths2), SIZES, strict=True):
        best, cheapest = [], math.inf
        for start, stop in itertools.combinations(range(m + 1), 2):
            for path in paths(n, stop - start):
                shifted = [(i, j + start) for i, j in path]
                if cost_of(pair, shifted) < cheapest:
                    best, cheapest = shifted, cost_of(pair, shifted)
        assert cells.nonzero().tolist() == [list(cell) for cell in best]


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_soft_dtw_counts_each_path_by_its_cost(gamma):
    cost, lengths1, lengths2 = costs(*SIZES)
    for pair, cells, (n, m) in zip(cost, soft_dtw_cells(cost, lengths1, lengths2, gamma), SIZES, strict=True):
        expected = torch.zeros_like(pair)
        every = list(paths(n, m))
        weights = torch.tensor([-cost_of(pair, path) / gamma for path in every], dtype=torch.float64).softmax(0)
        for path, weight in zip(every, weights, strict=True):
            for cell in path:
                expected[cell] += weight
        torch.testing.assert_close(cells, expected, rtol=0, atol=1e-12)
        assert (cells[:n].sum(1) >= 1 - 1e-12).all()


def test_cells_need_no_gradient_to_be_on():
    cost, lengths1, lengths2 = costs((3, 4))
    with torch.no_grad():
        assert dtw_cells(cost, lengths1, lengths2).sum() >= 4
    assert not cost.requires_grad
