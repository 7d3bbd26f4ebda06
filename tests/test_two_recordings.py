"""Two different recordings of an action: the loss as it stands finds what they share, by what they show."""

import itertools

import numpy as np
import pytest
import torch
from clips_of_an_action import FEATURES, clips, path_error

from lac import FrameEncoder, LACLoss


def trained(offset: float, steps: int) -> tuple[FrameEncoder, LACLoss]:
    """16 pairs of different clips a step; nothing is known of them but that both show the action."""
    torch.manual_seed(0)
    encoder = FrameEncoder(FEATURES, width=64, embed_dim=64, layers=1, shortest_wavelength=4, longest_wavelength=400)
    loss = LACLoss()
    groups = [{"params": encoder.parameters()}, {"params": loss.parameters(), "lr": 1e-2}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    frames, _ = clips(64, 1, offset=offset)
    for _ in range(steps):
        chosen = torch.randperm(64)[:32]
        z = encoder(frames[chosen])
        optimizer.zero_grad()
        loss(z[:16], z[16:]).backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
    return encoder.eval(), loss


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_what_two_recordings_share_is_found(offset):
    """66 pairs of clips that were not trained on, with and without an offset of each clip's own (a camera, a person).

    Measured, both ways: an error of .02 of the action along the path, .98 of the action on it.
    """
    encoder, loss = trained(offset, steps=45)
    frames, phases = clips(12, 2, offset=offset)
    first, second = (list(side) for side in zip(*itertools.combinations(range(12), 2), strict=True))
    with torch.no_grad():
        z = encoder(frames)
        aligned = loss.align(z[first], z[second])
    pairs = zip(aligned.path, first, second, strict=True)
    errors, covered = np.mean([path_error(p.numpy(), phases[i], phases[j]) for p, i, j in pairs], axis=0)
    assert errors <= 0.06
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
