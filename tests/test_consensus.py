"""consistent_alignments and Consensus against plain loops, and their laws."""

import math

import numpy as np
import pytest
import torch
from clips_of_an_action import clips, smooth
from torch import Tensor

import lac.consensus
from lac import Consensus, consistent_alignments, self_similarity, soft_alignment
from lac_kernels.problem import valid_frames

GROUPS = torch.tensor([3, 3, 3, 7, 3, 7, 5])
LENGTHS = torch.tensor([6, 5, 6, 4, 6, 6, 6])


def posteriors(b: int = 7, n: int = 6, seed: int = 0) -> Tensor:
    """Symmetric, their rows and columns adding up to at most 1, and 0 at padding."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(b, b, n, n, generator=g, dtype=torch.float64) / n
    x = 0.5 * (x + x.permute(1, 0, 3, 2))
    valid = valid_frames(LENGTHS[:b], n)
    return torch.where(valid[:, None, :, None] & valid[None, :, None, :], x, 0)


def consistent_by_loops(p: Tensor, groups: Tensor) -> Tensor:
    result = p.clone()
    for i, own in enumerate(groups.tolist()):
        members = [k for k, other in enumerate(groups.tolist()) if other == own]
        for j in members:
            if j != i:
                thirds = sum((p[i, k] @ p[k, j] for k in members if k not in (i, j)), torch.zeros_like(p[i, j]))
                result[i, j] = (2 * p[i, j] + thirds) / len(members)
    return result


def test_consistency_equals_plain_loops():
    p = posteriors()
    result = consistent_alignments(p, GROUPS, LENGTHS)
    torch.testing.assert_close(result, consistent_by_loops(p, GROUPS))
    torch.testing.assert_close(result, result.permute(1, 0, 3, 2))
    assert (result.sum(3) <= 1 + 1e-9).all()


def test_who_is_alone_and_other_groups_stay_as_they_are():
    p = posteriors()
    result = consistent_alignments(p, GROUPS, LENGTHS)
    same = GROUPS[:, None] == GROUPS[None, :]
    same.fill_diagonal_(False)
    assert torch.equal(result[~same], p[~same])
    assert torch.equal(result[3, 5], p[3, 5])  # two of a group have no third
    assert not torch.isclose(result[0, 1], p[0, 1]).all()
    assert torch.equal(consistent_alignments(p, torch.arange(7), LENGTHS), p)


def test_many_recordings_are_multiplied_block_by_block(monkeypatch):
    p, groups = posteriors(), torch.zeros(7, dtype=torch.int64)
    expected = consistent_by_loops(p, groups)
    for rows in (1, 5, 1000):
        monkeypatch.setattr(lac.consensus, "_ROWS", rows)
        torch.testing.assert_close(consistent_alignments(p, groups), expected)


def test_padding_may_hold_anything_and_the_order_does_not_matter():
    p = posteriors()
    expected = consistent_alignments(p, GROUPS, LENGTHS)
    valid = valid_frames(LENGTHS, 6)
    rubbish = torch.where(valid[:, None, :, None] & valid[None, :, None, :], p, float("nan"))
    torch.testing.assert_close(consistent_alignments(rubbish, GROUPS, LENGTHS), expected)
    order = torch.tensor([4, 6, 0, 2, 1, 5, 3])
    moved = consistent_alignments(p[order][:, order], GROUPS[order], LENGTHS[order])
    torch.testing.assert_close(moved, expected[order][:, order])


def test_a_few_thirds_stand_for_all():
    p, groups = posteriors(), torch.zeros(7, dtype=torch.int64)
    expected = consistent_alignments(p, groups)
    assert torch.equal(consistent_alignments(p, groups, n_thirds=7), expected)
    torch.manual_seed(0)
    drawn = torch.stack([consistent_alignments(p, groups, n_thirds=4) for _ in range(400)])
    assert (drawn[0] - expected).abs().max() > 1e-3
    torch.testing.assert_close(drawn.mean(0), expected, atol=2e-3, rtol=0)


def test_consistency_is_differentiable():
    p = posteriors(4, 3).requires_grad_()
    groups = torch.tensor([0, 0, 1, 0])
    assert torch.autograd.gradcheck(lambda x: consistent_alignments(x, groups), p)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(2, 3, 4, 4), torch.zeros(2).long()), ValueError, r"posteriors must be \(B, B, N, N\)"),
        ((torch.zeros(2, 2, 4, 4).long(), torch.zeros(2).long()), TypeError, "floating-point"),
        ((torch.zeros(2, 2, 4, 4), torch.zeros(2)), TypeError, "groups must hold integers"),
        ((torch.zeros(2, 2, 4, 4), torch.zeros(3).long()), ValueError, r"groups must have shape \(2,\)"),
        ((torch.zeros(2, 2, 4, 4), torch.zeros(2).long(), [4, 5]), ValueError, "lengths must lie"),
    ],
)
def test_bad_posteriors_are_told(arguments, error, message):
    with pytest.raises(error, match=message):
        consistent_alignments(*arguments)


def batch(b: int = 7, n: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    z, d = (torch.randn(b, n, e, generator=g, dtype=torch.float64) for e in (5, 4))
    return z, d


def together_by_loops(setting: Consensus, z: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior and trust, by the steps of the docstring of Consensus."""
    b, n, _ = z.shape
    frames = []
    for k, length in enumerate(LENGTHS.tolist()):
        u = z[k, :length] / z[k, :length].norm(dim=1, keepdim=True)
        u = u - (1 - 1 / length) * u.mean(0)
        u, guide = (x / x.norm(dim=1, keepdim=True) for x in (u, d[k, :length]))
        frames.append(torch.cat(((1 - setting.guide_weight) ** 0.5 * u, setting.guide_weight**0.5 * guide), 1))
    everything = torch.cat(frames)
    size = (everything @ everything.T).square().mean().sqrt()
    gaps = {"gap_open": setting.gap_open, "gap_extend": setting.gap_extend, "temperature": setting.temperature}
    p = z.new_zeros(b, b, n, n)
    for i in range(b):
        for j in range(b):
            if i != j and GROUPS[i] == GROUPS[j]:
                s = frames[i] @ frames[j].T / size - setting.margin
                p[i, j, : len(s), : s.shape[1]] = soft_alignment(s, **gaps)
    c = consistent_by_loops(p, GROUPS)
    posterior, information, trust = torch.zeros_like(p), z.new_zeros(b, b), z.new_zeros(b, b)
    for i in range(b):
        members = [k for k in range(b) if GROUPS[k] == GROUPS[i]]
        for j in members:
            if i == j:
                continue
            rows, columns = int(LENGTHS[i]), int(LENGTHS[j])
            q = soft_alignment(6 * (c[i, j, :rows, :columns] - 0.05), gap_open=0.3, gap_extend=0.05, temperature=0.1)
            thirds = [k for k in members if k not in (i, j)]
            if thirds:
                support = sum(p[i, k] @ p[k, j] for k in thirds)[:rows, :columns] / len(thirds)
                support = gaussian(rows, 1.0) @ support @ gaussian(columns, 1.0).T
                left = (1 - support.sum(1))[:, None] * (1 - support.sum(0))[None, :]
                nats = (support * (rows * columns) ** 0.5 + left).clamp(min=1e-6).log()
                most = min(rows, columns) * math.log((rows * columns) ** 0.5)
                information[i, j] = (q * nats).sum() / most if most else 0
            posterior[i, j, :rows, :columns] = gaussian(rows, setting.spread) @ q @ gaussian(columns, setting.spread).T
    for i in range(b):
        for j in range(b):
            if i != j and GROUPS[i] == GROUPS[j]:
                pairs = [(k, l) for k in range(b) for l in range(b) if k != l and GROUPS[k] == GROUPS[l] == GROUPS[i]]
                trust[i, j] = (15 * sum(information[pair] for pair in pairs) / len(pairs) - 0.5).clamp(0, 1)
    return posterior, trust


def gaussian(n: int, width: float) -> Tensor:
    apart = torch.arange(n, dtype=torch.float64)[:, None] - torch.arange(n)
    weight = torch.exp(-(apart**2) / (2 * width**2))
    return weight / weight.sum(0)


@pytest.mark.parametrize("setting", [Consensus(), Consensus(margin=0.2, temperature=0.3, spread=0.7, guide_weight=0.6)])
def test_recordings_aligned_together_equal_plain_loops(setting):
    z, d = batch()
    result = setting(z, GROUPS, LENGTHS, guide=d)
    posterior, trust = together_by_loops(setting, z, d)
    torch.testing.assert_close(result.posterior, posterior, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(result.trust, trust, atol=1e-4, rtol=1e-3)
    assert posterior.abs().sum() > 1


def test_aligned_together_in_any_order_in_chunks_and_with_rubbish_at_padding(monkeypatch):
    z, d = batch()
    expected = Consensus()(z, GROUPS, LENGTHS, guide=d)
    valid = valid_frames(LENGTHS, 6)[:, :, None]
    bad = [torch.where(valid, x, float("nan")) for x in (z, d)]
    monkeypatch.setattr(lac.consensus, "_CELLS", 70)  # pairs one by one
    result = Consensus()(bad[0], GROUPS, LENGTHS, guide=bad[1])
    torch.testing.assert_close(result.posterior, expected.posterior)
    torch.testing.assert_close(result.trust, expected.trust)


def test_who_has_no_third_is_not_trusted_and_who_is_alone_has_no_target():
    z, _ = batch()
    result = Consensus()(z, GROUPS, LENGTHS)
    assert (result.posterior[6] == 0).all()
    assert result.posterior[3, 5].sum() > 0
    assert (result.trust[[3, 5, 6]] == 0).all()
    alone = Consensus()(z, torch.arange(7), LENGTHS)
    assert (alone.posterior == 0).all()
    assert (alone.trust == 0).all()
    empty = Consensus()(z, GROUPS, 0)
    assert (empty.posterior == 0).all()
    same = Consensus()(torch.ones(4, 6, 5), torch.zeros(4).long(), guide=torch.zeros(4, 6, 3))
    assert same.posterior.isfinite().all()
    assert same.trust.isfinite().all()


def test_recordings_that_share_an_action_are_trusted_and_others_are_not():
    """Raw frames, nothing learned: a trust of 1 where an action is shared, of .03 where nothing is."""
    frames, phases = clips(8, 3)
    groups = torch.zeros(8, dtype=torch.int64)
    others = np.stack([smooth(np.random.default_rng(k + 50), 64) for k in range(8)])
    unrelated = torch.from_numpy(others).float()
    setting = Consensus(spread=0)
    shared, nothing = (setting(x, groups, guide=self_similarity(x)) for x in (frames, unrelated))
    apart = ~torch.eye(8, dtype=torch.bool)
    assert shared.trust[apart].mean() > 0.9
    assert nothing.trust[apart].mean() < 0.1
    position = torch.from_numpy(phases)
    right = (position[:, None, :, None] - position[None, :, None, :]).abs() < 0.1
    rows = shared.posterior * (~position.isnan())[:, None, :, None]
    assert (rows * right).sum() > 0.95 * rows.sum()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"guide_weight": 1.5}, ValueError, "guide_weight must lie"),
        ({"margin": float("nan")}, ValueError, "margin must be finite"),
        ({"gap_open": -1.0}, ValueError, "gap_open"),
        ({"temperature": 0.0}, ValueError, "temperature must be positive"),
        ({"spread": -1.0}, ValueError, "spread must not be negative"),
        ({"n_thirds": 0}, ValueError, "n_thirds must be at least 1"),
    ],
)
def test_bad_settings_are_told(options, error, message):
    with pytest.raises(error, match=message):
        Consensus(**options)
