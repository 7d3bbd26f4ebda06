"""What share of a training step is the loss? A step of the default encoder and LACLoss with each backend.

    python -m bench.training                 # adds to bench/results/training-cpu-MACHINE.csv
    python -m bench.training --device cuda

A step is: encode both views, the loss forward and backward to the embeddings, the encoder backward, the optimiser. The
frames are random; 51 features each, as 17 joints have. The same step with the contrastive part alone tells what the
alignment adds.
"""

import argparse
import statistics
import time
from pathlib import Path

ALONE = "contrastive part alone"
FIELDS = [
    "date", "device", "threads", "side", "batch", "frames", "ms_step", "ms_loss", "ms_loss_forward", "ms_loss_backward",
    "ms_encoder", "steps", "skipped", "torch", "triton", "lac", "python", "platform", "commit", "command",
]  # fmt: skip


def step_times(backend: str | None, batch: int, frames: int, device, seconds: float) -> list[tuple[float, ...]]:
    """Seconds of (loss forward, loss backward, the rest) of each step."""
    import torch

    from lac import FrameEncoder, LACLoss

    torch.manual_seed(0)
    encoder = FrameEncoder(51).to(device).train()
    settings = {"sequence_weight": 0.0} if backend is None else {"backend": backend}
    loss = LACLoss(**settings).to(device)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *loss.parameters()])

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    times = torch.arange(frames, device=device).expand(batch, frames)

    def step() -> tuple[float, ...]:
        views = [torch.randn(batch, frames, 51, device=device).cumsum(1) for _ in range(2)]
        began = now()
        z = [encoder(view) for view in views]
        leaves = [x.detach().requires_grad_() for x in z]
        encoded = now()
        value = loss(*leaves, times1=times, times2=times)
        forward = now()
        value.backward()
        backward = now()
        torch.autograd.backward(z, [x.grad for x in leaves])
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return forward - encoded, backward - forward, encoded - began + now() - backward

    step()
    measured: list[tuple[float, ...]] = []
    while sum(sum(parts) for parts in measured) < seconds or len(measured) < 3:
        measured.append(step())
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--frames", type=int, nargs="+", default=[40, 128])
    parser.add_argument("--backends", nargs="+", default=["eager", "cpu", "triton"])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="CSV to add to")
    options = parser.parse_args()

    import torch

    from bench.rows import append_rows, command_line, destination
    from lac.measure.rows import context
    from lac_kernels import engines

    device = torch.device(options.device)
    place = destination(options.device)
    out = options.out or place.with_name(f"training-{place.name}")
    about = context(device, command_line("training"))
    for frames in options.frames:
        for backend in (None, *options.backends):
            row = about | {"side": backend or ALONE, "batch": options.batch, "frames": frames}
            reason = None if backend is None else engines.unavailable(backend, device)
            if reason is None:
                times = step_times(backend, options.batch, frames, device, options.seconds)
                forward, backward, rest = (1e3 * statistics.median(x) for x in zip(*times, strict=True))
                whole = 1e3 * statistics.median(map(sum, times))
                row |= {
                    "ms_step": f"{whole:.4g}", "ms_loss": f"{forward + backward:.4g}",
                    "ms_loss_forward": f"{forward:.4g}", "ms_loss_backward": f"{backward:.4g}",
                    "ms_encoder": f"{rest:.4g}", "steps": len(times),
                }  # fmt: skip
                print(f"{frames} frames, {row['side']}: {whole:.1f} ms, the loss {forward + backward:.1f}", flush=True)
            else:
                row["skipped"] = reason
                print(f"{frames} frames, {backend}: {reason}", flush=True)
            append_rows(out, [row], FIELDS)


if __name__ == "__main__":
    main()
