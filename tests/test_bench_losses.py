"""The losses compared: each against plain loops or numbers on paper, and the laws that all of them keep."""

import math
from itertools import combinations

import pytest
import torch
from tiny_run import SETTINGS, write_clips
from torch import Tensor, nn

import lac.data
from bench.consensus import PartnerViews
from bench.losses import LOSSES
from bench.losses.sal import draw_frames
from lac import LACLoss, smith_waterman
from lac.runs import fit
from lac.runs.config import TrainConfig
from lac.runs.sampling import Sampler
from lac.runs.state import start
from lac.runs.warping import end, soft_dtw

E = 6
NAMES = list(LOSSES)


def make(name: str, e: int = E) -> nn.Module:
    torch.manual_seed(0)
    return LOSSES[name](embed_dim=e) if name == "SaL" else LOSSES[name]()


def embeddings(b: int = 3, n: int = 14, m: int = 17, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(b, t, E, generator=g, dtype=torch.float64) for t in (n, m))
    return z1.requires_grad_(), z2.requires_grad_()


def value(loss: nn.Module, *z: Tensor, **settings: Tensor) -> Tensor:
    """The totals, with the same draws every time."""
    torch.manual_seed(1)
    return loss.terms(*z, **settings).total


def cosine(a: Tensor, b: Tensor) -> float:
    return (a @ b / (a.norm() * b.norm())).item()


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    exps = [math.exp(x - top) for x in logits]
    return [x / sum(exps) for x in exps]


def gaussian(times1: list[float], times2: list[float], variance: float) -> list[list[float]]:
    return [softmax([-((s - t) ** 2) / (2 * variance) for t in times2]) for s in times1]


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b) ** 2).sum().item()


def unit(z: Tensor) -> Tensor:
    return z / z.norm(dim=-1, keepdim=True)


# Laws


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_and_has_no_gradient(name):
    loss = make(name)
    z1, z2 = embeddings(b=2)
    times1, times2 = (torch.rand(2, t, dtype=torch.float64).mul(0.2).cumsum(1) for t in (14, 17))
    lengths = ((9, 14), (17, 12))
    settings = {"lengths1": torch.tensor(lengths[0]), "lengths2": torch.tensor(lengths[1])}
    padded = []
    for x, rows in ((z1, lengths[0]), (z2, lengths[1]), (times1, lengths[0]), (times2, lengths[1])):
        copy = torch.cat([x.detach(), x.detach()[:, :3]], dim=1)
        for k, count in enumerate(rows):
            copy[k, count:] = math.nan
        padded.append(copy)
    leaves = [x.requires_grad_() for x in padded[:2]]
    result = value(loss, *leaves, times1=padded[2], times2=padded[3], **settings)
    for k, (n, m) in enumerate(zip(*lengths, strict=True)):
        if name == "SaL":  # its draws depend on the place in the batch: pad less instead
            short = value(loss, z1, z2, times1=times1, times2=times2, **settings)[k]
        else:
            cut = {"times1": times1[k : k + 1, :n], "times2": times2[k : k + 1, :m]}
            short = value(loss, z1[k : k + 1, :n], z2[k : k + 1, :m], **cut)[0]
        assert torch.isclose(result[k], short, rtol=1e-6)
    result.sum().backward()
    for leaf, rows in zip(leaves, lengths, strict=True):
        assert leaf.grad.isfinite().all()
        for k, count in enumerate(rows):
            assert not leaf.grad[k, count:].any()
            assert leaf.grad[k, :count].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["random", "equal", "constant", "zero", "large"])
def test_finite_with_finite_gradients(name, case):
    z1, z2 = (x.detach().float() for x in embeddings(n=16, m=16))
    if case == "equal":
        z2 = z1.clone()
    elif case != "random":
        z1, z2 = (
            {"constant": torch.ones_like(x), "zero": torch.zeros_like(x), "large": 100 * x}[case] for x in (z1, z2)
        )
    loss = make(name)
    total = value(loss, z1.requires_grad_(), z2.requires_grad_())
    assert total.shape == (3,)
    assert total.dtype == torch.float32
    assert total.isfinite().all()
    total.mean().backward()
    for x in (z1, z2, *loss.parameters()):
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "SaL"])  # which draws frames anew for each place
def test_order_of_the_batch_does_not_matter(name):
    loss, (z1, z2) = make(name), embeddings()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(value(loss, z1[order], z2[order]), value(loss, z1, z2)[order])


@pytest.mark.parametrize("name", NAMES)
def test_descent_lowers_it(name):
    loss = make(name)
    torch.manual_seed(0)
    frames = torch.randn(4, 24, 5).cumsum(1)
    views = [frames + 0.1 * torch.randn_like(frames) for _ in range(2)]
    encoder = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, E))
    optimiser = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], lr=1e-2)
    values = []
    for _ in range(50):
        total = loss(*(encoder(view) for view in views))
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        values.append(total.item())
    assert sum(values[-10:]) < sum(values[:10]) - 0.1 * abs(sum(values[:10]))


@pytest.mark.parametrize("name", NAMES)
def test_seconds_are_frames_at_25_a_second(name):
    loss, (z1, z2) = make(name), embeddings()
    times1, times2 = (torch.arange(t).expand(3, t) / 25 for t in (14, 17))  # float32: 7 / 25 * 25 is not 7
    torch.testing.assert_close(value(loss, z1, z2, times1=times1, times2=times2), value(loss, z1, z2))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_sequence_adds_nothing(name):
    loss, (z1, z2) = make(name), embeddings()
    total = value(loss, z1, z2, lengths1=torch.tensor([14, 0, 14]), lengths2=torch.tensor([17, 17, 0]))
    assert total[0] != 0
    assert total[1:].tolist() == [0, 0]
    total.sum().backward()
    assert z1.grad.isfinite().all()
    assert not z1.grad[1:].any()


@pytest.mark.parametrize("name", NAMES)
def test_call_is_the_mean_and_says_what_it_pairs(name):
    loss, (z1, z2) = make(name), embeddings()
    total = value(loss, z1, z2)
    torch.manual_seed(1)
    assert torch.isclose(loss(z1, z2), total.mean())
    assert loss.views in ("same", "action")
    assert all(x.dim() == 0 and not x.requires_grad for x in loss.learned().values())


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shape_is_refused(name):
    with pytest.raises(ValueError, match=r"z1 must be \(batch, frames, embedding\)"):
        make(name)(torch.zeros(3, 4), torch.zeros(3, 4))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return lac.data.load("folder", write_clips(tmp_path_factory.mktemp("clips")))


@pytest.mark.parametrize("name", NAMES)
def test_trains_in_place_of_lac(name, dataset):
    loss = LOSSES[name]
    config = TrainConfig.read(None, SETTINGS | {"train.steps": 4})
    size = {"embed_dim": config.model["embed_dim"]} if name == "SaL" else {}
    state = start(config, dataset, torch.device("cpu"), lambda: loss(**size))
    before = {k: v.clone() for k, v in state.encoder.state_dict().items()}
    sampler = {"same": Sampler, "action": PartnerViews}[loss.views]
    fit.fit(state, sampler.of(config, dataset.train), config.train)
    assert state.step == 4
    assert not torch.equal(state.encoder.state_dict()["head.weight"], before["head.weight"])


# SCL


def test_scl_on_paper():
    z = torch.eye(2, dtype=torch.float64)[None]
    p = 1 / (1 + math.exp(-1 / 20))
    log_q = (-math.log(1 + math.exp(-10)), -10 - math.log(1 + math.exp(-10)))
    expected = p * (math.log(p) - log_q[0]) + (1 - p) * (math.log(1 - p) - log_q[1])
    assert abs(make("SCL")(z, 3 * z).item() - expected) < 1e-9


def test_scl_is_the_frame_part_of_lac():
    """Where the mean interval is one frame; elsewhere LACLoss measures time in mean intervals, SCL in frames."""
    z1, z2 = embeddings()
    lengths = {"lengths1": torch.tensor([14, 10, 7]), "lengths2": torch.tensor([17, 9, 12])}
    times = {"times1": torch.arange(14.0).expand(3, -1) / 25, "times2": torch.arange(17.0).expand(3, -1) / 25}
    expected = LACLoss(sequence_weight=0, sigma=10**0.5).terms(z1, z2, **lengths, **times).total
    torch.testing.assert_close(value(make("SCL"), z1, z2, **lengths, **times), expected, rtol=1e-5, atol=1e-6)


# TCC


def test_tcc_equals_plain_loops():
    z1, z2 = embeddings(b=1, n=4, m=5)
    times = ([0.0, 1.0, 4.0, 6.0], [0.0, 2.0, 3.0, 5.0, 9.0])
    expected = 0.0
    for u, v, t in ((z1[0], z2[0], times[0]), (z2[0], z1[0], times[1])):
        phase = [x / (t[-1] + 1) for x in t]
        for i, a in enumerate(u):
            alpha = softmax([-apart(a, b) / E / 0.1 for b in v])
            near = sum(p * b for p, b in zip(alpha, v, strict=True))
            beta = softmax([-apart(near, b) / E / 0.1 for b in u])
            mean = sum(p * x for p, x in zip(beta, phase, strict=True))
            variance = sum(p * (x - mean) ** 2 for p, x in zip(beta, phase, strict=True))
            expected += (phase[i] - mean) ** 2 / variance + 0.001 * math.log(variance)
    seconds = {f"times{k + 1}": torch.tensor([t], dtype=torch.float64) / 25 for k, t in enumerate(times)}
    assert abs(make("TCC")(z1, z2, **seconds).item() - expected / 9) < 1e-6


def test_tcc_on_paper():
    """All frames equal: beta is even, and the variance of 0, 1/2 around 1/4 is 1/16."""
    z = torch.ones(1, 2, E, dtype=torch.float64)
    assert abs(make("TCC")(z, z).item() - (1 + 0.001 * math.log(1 / 16))) < 1e-9


# LAV


def path_costs(cost: list[list[float]], i: int, j: int) -> list[float]:
    """The cost of every warping path from (0, 0) to (i, j)."""
    if i < 0 or j < 0:
        return []
    if i == j == 0:
        return [cost[0][0]]
    before = path_costs(cost, i - 1, j) + path_costs(cost, i, j - 1) + path_costs(cost, i - 1, j - 1)
    return [cost[i][j] + x for x in before]


def soft_minimum(costs: list[float], gamma: float) -> float:
    low = min(costs)
    return low - gamma * math.log(sum(math.exp((low - x) / gamma) for x in costs))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 4), (4, 1), (4, 5), (5, 3)])
def test_soft_dtw_is_a_soft_minimum_over_all_paths(n, m):
    cost = torch.rand(2, n, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = soft_dtw(cost, 0.1)
    for k in range(2):
        for i in range(n):
            for j in range(m):
                expected = soft_minimum(path_costs(cost[k].tolist(), i, j), 0.1)
                assert abs(table[k, i, j].item() - expected) < 1e-9
    assert torch.equal(end(table, torch.tensor([n, 1]), torch.tensor([m, 1])), table[[0, 1], [n - 1, 0], [m - 1, 0]])


def test_gradient_of_soft_dtw():
    cost = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: soft_dtw(x, 0.1)[:, -1, -1], cost)


def test_lav_equals_plain_loops():
    z1, z2 = (unit(z.detach()) for z in embeddings(b=1, n=4, m=5))
    times = ([0.0, 4.0, 11.0, 18.0], [0.0, 10.0, 13.0, 20.0, 21.0])
    cost = [[apart(a, b) for b in z2[0]] for a in z1[0]]
    expected = soft_minimum(path_costs(cost, 3, 4), 0.1)
    for z, t in ((z1[0], times[0]), (z2[0], times[1])):
        for i, a in enumerate(z):
            for j, b in enumerate(z):
                factor = 1 + ((t[i] - t[j]) / (t[-1] + 1)) ** 2
                far = abs(t[i] - t[j]) > 10
                expected += 0.5 * (factor * max(0.0, 2 - apart(a, b)) if far else apart(a, b))
    seconds = {f"times{k + 1}": torch.tensor([t], dtype=torch.float64) / 25 for k, t in enumerate(times)}
    assert abs(make("LAV")(3 * z1, 0.5 * z2, **seconds).item() - expected / 4.5) < 1e-6


# GTA


def test_gta_equals_plain_loops():
    z1, z2 = embeddings(b=1, n=3, m=4)
    tables, costs = [], []
    for first, second in ((z1[0], z2[0]), (z2[0], z1[0])):
        logits = [[cosine(a, b) / 0.1 for b in second] for a in first]
        columns = [softmax([row[j] for row in logits]) for j in range(len(second))]
        r = [[math.inf] * len(second) for _ in first]
        for i in range(len(first)):
            for j in range(len(second)):
                steps = [r[a][b] for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0]
                weights = softmax([-x / 0.1 for x in steps]) if steps else []
                r[i][j] = -math.log(columns[j][i]) + sum(w * x for w, x in zip(weights, steps, strict=True))
        tables.append([softmax([-r[i][j] for i in range(len(first))]) for j in range(len(second))])  # by column
        costs.append(r[-1][-1])
    expected = 0.1 * sum(costs)
    for row in range(3):
        back = [sum(tables[0][j][a] * tables[1][row][j] for j in range(4)) for a in range(3)]
        q = softmax(back)
        for a in range(3):
            label = 0.9 * (a == row) + 0.1 / 3
            expected -= label * math.log(q[a]) / 3
    assert abs(make("GTA")(z1, z2).item() - expected) < 1e-6


def test_gta_on_paper():
    """Two orthogonal frames against the first of them: their costs are log(1 + e^-10) and 10 more."""
    first, second = torch.eye(2, dtype=torch.float64)[None], torch.tensor([[[2.0, 0.0]]], dtype=torch.float64)
    low = math.log(1 + math.exp(-10))
    path = low + (10 + low)  # there; back, every cost is -log 1
    p = 1 / (1 + math.exp(-(10 + low)))  # of frame 0, wherever the cycle began
    logs = [x - math.log(math.exp(p) + math.exp(1 - p)) for x in (p, 1 - p)]
    assert abs(make("GTA")(first, second).item() - (0.1 * path - 0.5 * sum(logs))) < 1e-9


# TCN


@pytest.mark.parametrize(("swapped", "expected"), [(False, 0.0), (True, 2.2)])
def test_tcn_on_paper(swapped, expected):
    """Two orthogonal frames 0.8 s apart: the positive at distance 0 and the negative at 2, or the other way round."""
    z = torch.eye(2, dtype=torch.float64)[None]
    times = torch.tensor([[0.0, 0.8]])
    assert abs(make("TCN")(z, z.flip(1) if swapped else z, times1=times, times2=times).item() - expected) < 1e-9


def test_tcn_equals_plain_loops():
    z1, z2 = embeddings(b=1, n=7, m=8)
    frames = ([0, 3, 7, 12, 13, 40, 47], [1, 5, 9, 11, 17, 24, 30, 52])
    expected = 0.0
    for first, second, s, t in ((z1[0], z2[0], *frames), (z2[0], z1[0], *frames[::-1])):
        anchors = []
        for i, a in enumerate(unit(first)):
            distances = [apart(a, b) for b in unit(second)]
            near = [d for d, x in zip(distances, t, strict=True) if abs(s[i] - x) <= 5]
            far = [d for d, x in zip(distances, t, strict=True) if abs(s[i] - x) > 10]
            if near and far:
                anchors.append(sum(max(0.0, p - n + 0.2) for p in near for n in far) / len(near) / len(far))
        assert 0 < len(anchors) < len(first)
        expected += 0.5 * sum(anchors) / len(anchors)
    seconds = {f"times{k + 1}": torch.tensor([t], dtype=torch.float64) / 25 for k, t in enumerate(frames)}
    assert abs(make("TCN")(z1, z2, **seconds).item() - expected) < 1e-6


# SaL


class Asked(nn.Module):
    """A classifier that remembers what it saw and gives triplets in order 3 : 1."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1, 1)  # for its dtype
        self.seen = []

    def __getitem__(self, _):
        return self.first

    def forward(self, x):
        self.seen.append(x)
        return torch.tensor([0.0, math.log(3)]).expand(*x.shape[:2], 2)


def test_sal_asks_for_the_order_of_three_frames():
    loss = make("SaL")
    loss.classifier = Asked()
    z = torch.arange(12.0)[None, :, None].expand(20, 12, E)
    total = value(loss, z, z, lengths1=torch.full((20,), 9))
    # 6 of 8 triplets are out of order, which this classifier gives 1/4
    assert torch.allclose(total, torch.tensor(-(6 * math.log(0.25) + 2 * math.log(0.75)) / 8))
    for seen, last in zip(loss.classifier.seen, (8, 11), strict=True):
        b, c, d = seen[..., ::E].unbind(-1)
        assert seen.max() == last
        in_order = ((b < c) & (c < d)) | ((b > c) & (c > d))
        assert torch.equal(in_order, (torch.arange(8) >= 6).expand(20, 8))
        assert {(b < d).float().mean().item() > share for share in (0.35, 0.65)} == {True, False}
        before = (torch.minimum(b, d) > c)[:, :6].float().mean()
        assert 0.35 < before < 0.65


def test_frames_are_drawn_evenly():
    torch.manual_seed(0)
    drawn = draw_frames(torch.tensor([6, 5, 4]), 6000, 5)
    for subset in combinations(range(6), 5):
        share = (drawn[0] == torch.tensor(subset)).all(1).float().mean().item()
        assert abs(share - 1 / 6) < 0.02
    assert torch.equal(drawn[1], torch.arange(5).expand(6000, 5))
    assert not drawn[2].any()


def test_sal_leaves_short_views_out():
    loss, (z1, z2) = make("SaL"), embeddings()
    settings = {"lengths1": torch.tensor([4, 14, 4]), "lengths2": torch.tensor([4, 4, 17])}
    total = value(loss, z1, z2, **settings)
    assert total[0] == 0
    loss.triplets = 8000  # what one view gives is then also what two of its like would
    both = value(loss, z1[:, :5], z1[:, :5])
    shorter = value(loss, z1[:, :5], z2, lengths2=torch.tensor([4, 4, 4]))
    torch.testing.assert_close(shorter, both, rtol=0.05, atol=0)


# LAC as released


def local_score(s: list[list[float]], temperature: float, gap: float = 1.0) -> float:
    """Soft Smith-Waterman with affine gaps, cell by cell."""

    def smooth(*x):
        top = max(x)
        return top + temperature * math.log(sum(math.exp((v - top) / temperature) for v in x))

    n, m = len(s), len(s[0])
    match, right, down = ([[-1e9] * (m + 1) for _ in range(n + 1)] for _ in range(3))
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            before = (table[i - 1][j - 1] for table in (match, right, down))
            match[i][j] = s[i - 1][j - 1] + smooth(0.0, *before)
            right[i][j] = smooth(match[i][j - 1] - gap, right[i][j - 1] - gap)
            down[i][j] = smooth(match[i - 1][j] - gap, right[i - 1][j] - gap, down[i - 1][j] - gap)
    return smooth(*(match[i][j] for i in range(1, n + 1) for j in range(1, m + 1)))


def released(z1: Tensor, z2: Tensor, temperature: float) -> float:
    """The loss by plain loops, its score at a temperature."""
    target = gaussian(list(range(len(z1))), list(range(len(z2))), 10.0)
    contrastive = 0.0
    for i, a in enumerate(z1):
        q = softmax([(a @ b).item() / 0.8 for b in z2])
        contrastive += sum(p * (math.log(p) - math.log(x + 1e-6)) for p, x in zip(target[i], q, strict=True))
    s = [[1 / apart(a, b) for b in z2] for a in z1]
    both = local_score(s, temperature) + local_score([list(column) for column in zip(*s, strict=True)], temperature)
    return contrastive / (len(z1) * len(z2)) + 0.01 * both


def test_lac_as_released_has_the_value_at_08_and_the_gradient_at_1():
    z1, z2 = embeddings(b=1, n=4, m=5)
    loss = make("LAC as released")
    total = loss(z1, z2)
    assert abs(total.item() - released(z1[0], z2[0], 0.8)) < 1e-6
    total.backward()
    for i, k in ((0, 0), (1, 3), (3, 5)):
        moved = []
        for step in (1e-5, -1e-5):
            copy = z1[0].detach().clone()
            copy[i, k] += step
            moved.append(released(copy, z2[0], 1.0))
        assert abs(z1.grad[0, i, k].item() - (moved[0] - moved[1]) / 2e-5) < 1e-5


def test_lac_as_released_drives_equal_frames_apart():
    """What its sign does: descent lowers the score of a pair that matches."""
    z1, _ = embeddings(b=1)
    z2 = (z1 + 0.1).detach()
    loss = make("LAC as released")
    loss(z1, z2).backward()
    moved = z1.detach() - 1e-5 * z1.grad
    s, t = (1 / torch.cdist(z, z2).square() for z in (z1.detach(), moved))
    assert smith_waterman(t).item() < smith_waterman(s).item()
    assert (moved - z2).norm() > (z1 - z2).norm()


def test_gaps_of_lac_as_released_take_a_thousand_times_the_step():
    z1, z2 = embeddings(b=2, n=66, m=5)
    loss = make("LAC as released")
    loss(z1, z2).backward()
    opening, extending = (torch.ones(66, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for a, b in ((z1, z2), (z2, z1)):
        n, m = a.shape[1], b.shape[1]
        s = (1 / torch.cdist(a.detach(), b.detach()).square()).clamp(max=1e4)
        if n > m:
            score = smith_waterman(s, gap_open=opening, gap_extend=extending)
            (0.01 * score.mean()).backward()
    # beyond column 5 only the other direction has cells; the last row stands for rows 63 to 65
    assert torch.allclose(loss.gaps.grad[0, 5:63, 0].double(), opening.grad[5:63, 0], rtol=1e-4, atol=1e-9)
    assert torch.allclose(loss.gaps.grad[1, 63, :5].double(), extending.grad[63:].sum(0), rtol=1e-4, atol=1e-9)
    assert (loss.gaps.grad <= 0).all()  # descent pushes them up
    torch.optim.Adam(loss.parameters(), lr=1e-4).step()
    result = loss.learned()
    assert 1 < result["gap_open"] < 1.1
    assert abs(loss._penalties()[0, 10, 0].item() - 1.1) < 1e-3
