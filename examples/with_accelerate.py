"""A loop under Hugging Face Accelerate. `pip install accelerate && accelerate launch examples/with_accelerate.py`

Two processes on a laptop: `torchrun --nproc-per-node 2 examples/with_accelerate.py --cpu`. Encoder and loss are one
module, so that `prepare` wraps both and the gap penalties learn alike in all processes; `gather=True` contrasts each
pair with those of all processes.
"""

import argparse
import gc

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lac import FrameEncoder, LACLoss

FEATURES, FRAMES, PAIRS = 12, 40, 128


def recordings() -> TensorDataset:
    """Made-up movements, each recorded twice, at another speed."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(PAIRS, 1, generator=generator)
    sides = []
    for _ in range(2):
        speed = 2 + torch.rand(PAIRS, 1, generator=generator)
        phases = start + speed * torch.linspace(0, 1, FRAMES)
        clean = torch.stack([(k * phases).sin() for k in range(1, FEATURES + 1)], dim=-1)
        sides.append(clean + 0.3 * torch.randn(clean.shape, generator=generator))
    return TensorDataset(*sides)


class Alignment(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = FrameEncoder(FEATURES, embed_dim=32, width=64)
        self.loss = LACLoss(negatives="both", n_others=8, gather=True)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        value: Tensor = self.loss(self.encoder(first), self.encoder(second))
        return value


def main(steps: int, *, cpu: bool = False) -> float:
    """The loss of the last step, of all processes."""
    set_seed(0)
    accelerator = Accelerator(cpu=cpu)
    module = Alignment()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)  # those of the loss are among them
    pairs = DataLoader(recordings(), batch_size=8, shuffle=True)
    module, optimizer, pairs = accelerator.prepare(module, optimizer, pairs)
    step = 0
    while True:
        for first, second in pairs:
            value = module(first, second)
            optimizer.zero_grad()
            accelerator.backward(value)
            optimizer.step()
            step += 1
            if step == steps:
                last = accelerator.reduce(value.detach(), reduction="mean").item()
                accelerator.print(f"loss {last:.3f} in {accelerator.num_processes} processes")
                accelerator.end_training()
                return float(last)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    options = parser.parse_args()
    main(options.steps, cpu=options.cpu)
    gc.collect()  # ends gloo's threads: where they outlive Python's end, the process aborts
