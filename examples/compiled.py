"""The encoder and the loss as one compiled graph: half a minute, torch compiles C++. `python examples/compiled.py`

The alignment is one operator in that graph, whatever the engine, so there is no graph break. Shapes that change are
compiled once more, then for all. Where the alignment is most of a step, compiling gains little: time yours.
"""

import argparse
import time

import torch
from torch import Tensor

from lac import FrameEncoder, LACLoss

FEATURES, PAIRS = 12, 8


def step_time(step, batches: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Seconds a call after the first round, and the last value."""
    for batch in batches:
        step(*batch)
    start = time.perf_counter()
    for batch in batches:
        value = step(*batch)
    return (time.perf_counter() - start) / len(batches), value.item()


def main(backend: str) -> float:
    """The largest difference between the values of the two, after printing what each takes."""
    torch.manual_seed(0)
    encoder, loss = FrameEncoder(FEATURES, embed_dim=32, width=64), LACLoss()

    def step(frames1: Tensor, frames2: Tensor) -> Tensor:
        value = loss(encoder(frames1), encoder(frames2))
        value.backward()
        return value.detach()

    def forward(frames1: Tensor, frames2: Tensor) -> Tensor:
        return loss(encoder(frames1), encoder(frames2))

    compiled_forward = torch.compile(forward, fullgraph=True, backend=backend)

    def compiled_step(frames1: Tensor, frames2: Tensor) -> Tensor:
        value = compiled_forward(frames1, frames2)
        value.backward()
        return value.detach()

    batches = [(torch.randn(PAIRS, 40, FEATURES), torch.randn(PAIRS, 50, FEATURES)) for _ in range(20)]
    plain, compiled = step_time(step, batches), step_time(compiled_step, batches)
    print(f"plain     {1e3 * plain[0]:.1f} ms a step, loss {plain[1]:.6f}")
    print(f"compiled  {1e3 * compiled[0]:.1f} ms a step, loss {compiled[1]:.6f}")
    return abs(plain[1] - compiled[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="inductor", help="of torch.compile; aot_eager needs no compiler")
    main(parser.parse_args().backend)
