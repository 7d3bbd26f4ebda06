"""Two different recordings of an action: the loss as it stands finds what they share, by what they show."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from clips_of_an_action import FEATURES, clips, path_error

from lac import FrameEncoder, LACLoss

STEPS = 45


def trained(step: Callable[[FrameEncoder, LACLoss], torch.Tensor]) -> tuple[FrameEncoder, LACLoss]:
    """An encoder and a loss after STEPS of what `step` gives."""
    torch.manual_seed(0)
    encoder = FrameEncoder(FEATURES, width=64, embed_dim=64, layers=1, shortest_wavelength=4, longest_wavelength=400)
    loss = LACLoss()
    groups = [{"params": encoder.parameters()}, {"params": loss.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        step(encoder, loss).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
    return encoder.eval(), loss


def matching_of_others(encoder: FrameEncoder, loss: LACLoss, offset: float) -> np.ndarray:
    """Of 66 pairs of clips that were not trained on: error along the path, and share of the action on it."""
    frames, phases = clips(12, 2, offset=offset)
    first, second = (list(side) for side in zip(*itertools.combinations(range(12), 2), strict=True))
    with torch.no_grad():
        z = encoder(frames)
        aligned = loss.align(z[first], z[second])
    pairs = zip(aligned.path, first, second, strict=True)
    return np.mean([path_error(p.numpy(), phases[i], phases[j]) for p, i, j in pairs], axis=0)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_what_two_recordings_share_is_found(offset):
    """16 pairs of different clips a step; nothing is known of them but that both show the action.

    With and without an offset of each clip's own (a camera, a person). Measured, both ways: an error of .02 of the
    action along the path, .98 of the action on it.
    """
    frames, _ = clips(64, 1, offset=offset)

    def step(encoder, loss):
        chosen = torch.randperm(64)[:32]
        z = encoder(frames[chosen])
        return loss(z[:16], z[16:])

    error, covered = matching_of_others(*trained(step), offset)
    assert error <= 0.06
    assert covered >= 0.9


def test_views_of_recordings_do_not_keep_them_from_matching():
    """Two views a step of 16 clips of a group. A margin that is learned from views leaves half of the action out.

    Measured: an error of .05 along the path, .96 of the action on it.
    """
    frames, _ = clips(64, 1, offset=0.3)

    def step(encoder, loss):
        chosen = torch.randperm(64)[:16]
        drawn = [torch.stack([torch.randperm(64)[:32].sort().values for _ in chosen]) for _ in range(2)]
        z1, z2 = (encoder(frames[chosen[:, None], which], times=which) for which in drawn)
        return loss(z1, z2, times1=drawn[0], times2=drawn[1], groups=torch.zeros(16, dtype=torch.long))

    error, covered = matching_of_others(*trained(step), offset=0.3)
    assert error <= 0.07
    assert covered >= 0.9


def test_frames_of_equal_number_are_not_taken_for_matches():
    """A recording against itself, rolled by half: without times the alignment decides, and finds the shift."""
    z = torch.randn(1, 40, 16, generator=torch.Generator().manual_seed(0)).cumsum(1)
    rolled = z.roll(20, 1)
    loss = LACLoss()
    times = torch.arange(40).expand(1, 40)
    assert loss.terms(z, rolled, times1=times, times2=times).frame > 1
    terms = loss.terms(z, rolled)
    assert terms.frame == 0
    assert terms.sequence < 0.1  # it is told from the recording played backwards as it is
    path = loss.align(z, rolled).path[0]
    assert len(path) >= 18
    assert ((path[:, 1] - path[:, 0]).abs() == 20).all()
