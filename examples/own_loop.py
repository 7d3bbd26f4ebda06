"""A training loop of your own: pairs of clips in, an encoder and a loss that learned out. `python examples/own_loop.py`

Put your data in the place of `pairs`: two batches of sequences, row k of one showing the same thing as row k of the
other, with the time of every frame and the number of frames that are not padding. Here both rows have one clock, as two
views of a recording have: equal times match. Give `same_clock=False` where each is a recording with a clock of its own.
"""

import argparse

import torch
from torch import Tensor

from lac import FrameEncoder, LACLoss

FEATURES, FRAMES, PAIRS = 12, 48, 16


def recording(phases: Tensor, weights: Tensor) -> Tensor:
    """Made-up features (B, T, FEATURES) of movements at these phases (B, T), with noise."""
    basis = torch.stack([torch.sin(3 * phases), torch.cos(3 * phases), torch.sin(7 * phases), phases], dim=-1)
    return basis @ weights + 0.2 * torch.randn(*phases.shape, FEATURES)


def pairs(weights: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Two views of the same movements: frames (B, T, FEATURES), times (B, T) in seconds, lengths (B,)."""
    sides = []
    for _ in range(2):
        start = torch.rand(PAIRS, 1) * 0.3  # each view begins elsewhere
        phases = start + (1 - start) * torch.linspace(0, 1, FRAMES)
        lengths = torch.randint(FRAMES // 2, FRAMES + 1, (PAIRS,))
        sides.append((recording(phases, weights), 4 * phases, lengths))
    return sides[0], sides[1]


def main(steps: int) -> list[float]:
    torch.manual_seed(0)
    weights = torch.randn(4, FEATURES)
    encoder, loss = FrameEncoder(FEATURES, embed_dim=32, width=64), LACLoss()
    parameters = [*encoder.parameters(), *loss.parameters()]  # the gap penalties learn, too
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    values = []
    for step in range(steps):
        (frames1, times1, lengths1), (frames2, times2, lengths2) = pairs(weights)
        z1 = encoder(frames1, times=times1, lengths=lengths1)
        z2 = encoder(frames2, times=times2, lengths=lengths2)
        value = loss(z1, z2, times1=times1, times2=times2, lengths1=lengths1, lengths2=lengths2)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        values.append(value.item())
        if step % 10 == 0 or step == steps - 1:
            learned = "  ".join(f"{name} {x.item():.3f}" for name, x in loss.learned().items())
            print(f"step {step:3d}  loss {value.item():.3f}  {learned}")
    return values


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=50)
    main(parser.parse_args().steps)
