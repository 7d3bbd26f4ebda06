"""The encoder and the loss as a LightningModule. `pip install lightning && python examples/with_lightning.py`

The loss is a module like any other: as an attribute its penalties are moved, saved and optimised with the encoder.
With `--devices 2` two processes have half of each batch; `gather=True` makes it the loss of the whole batch.
Under `precision="16-mixed"` or "bf16-mixed" the loss computes in float32 by itself.
"""

import argparse

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lac import FrameEncoder, LACLoss

FEATURES, FRAMES = 12, 40


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Two noisy views of each of made-up sequences."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        phases = torch.rand(size, 1, generator=generator) + torch.linspace(0, 3, FRAMES)
        clean = torch.stack([(k * phases).sin() for k in range(1, FEATURES + 1)], dim=-1)
        self.views = [clean + 0.3 * torch.randn(clean.shape, generator=generator) for _ in range(2)]

    def __len__(self) -> int:
        return len(self.views[0])

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        return self.views[0][k], self.views[1][k]


class Alignment(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = FrameEncoder(FEATURES, embed_dim=32, width=64)
        self.loss = LACLoss(sequence_form="contrast", negatives="both", n_others=8, gather=True)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        z1, z2 = map(self.encoder, batch)
        times = torch.arange(FRAMES, device=z1.device).expand(len(z1), FRAMES)  # both views have one clock
        value = self.loss(z1, z2, times1=times, times2=times)
        self.log("loss", value, prog_bar=True, sync_dist=True)  # the mean over the processes
        self.log_dict(self.loss.learned())
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)  # those of the loss are among them


def main(steps: int, devices: int = 1) -> float:
    """The loss of the last step."""
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=devices,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Alignment(), DataLoader(Pairs(128), batch_size=16 // devices, shuffle=True))
    last = float(trainer.callback_metrics["loss"])
    if trainer.is_global_zero:
        print(f"loss {last:.3f} in {devices} processes")
    return last


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    main(options.steps, options.devices)
