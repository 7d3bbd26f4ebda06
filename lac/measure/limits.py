"""What the machine allows at most: the roofline under which the recursion runs."""

from collections.abc import Callable

import torch
from torch import Tensor

from lac.measure.clock import timed
from lac.measure.rows import Row

MEMORY_LIMIT, ARITHMETIC_LIMIT = "limit: memory", "limit: arithmetic"

# Numbers of the scores' type that must pass through memory for a cell: scores are read once in each sweep, and once
# more by their tangent in the second order; a gradient is written.
_NUMBERS = {"forward": 1, "backward": 2, "both": 3, "second": 5}
# Multiplications and additions of the recursion for a cell, a fused pair counted once. Forward: exp(S / T) 8, the match
# 5, the two gaps 5. Backward: the forward again, from what was kept, and its mirror image with the posterior, 22.
_OPERATIONS = {"forward": 18, "backward": 40, "both": 58}


def limits(mode: str, dtype: torch.dtype, device: torch.device) -> list[Row]:
    """What the machine allows at most in million cells a second, measured now with torch's own operations.

    Memory: a copy that does not fit any cache, against the numbers that must be read or written for a cell. Arithmetic:
    a product of two float32 matrices, against the operations of the recursion. No row where the count is not known.
    """
    gpu = device.type == "cuda"
    source = torch.ones((2**30 if gpu else 2**28) // 4, device=device)
    target = torch.empty_like(source)
    square = torch.randn((4096 if gpu else 1024,) * 2, device=device)
    product = torch.empty_like(square)

    def best(run: Callable[[], Tensor]) -> float:
        return min(timed(run, device)[0] for _ in range(4))

    bandwidth = 2 * source.nbytes / best(lambda: target.copy_(source))
    size = torch.finfo(dtype).bits // 8 * _NUMBERS[mode]
    common = {"mode": mode, "dtype": str(dtype).removeprefix("torch."), "version": torch.__version__}
    rows = [
        common | {
            "side": MEMORY_LIMIT, "mcells_per_s": f"{bandwidth / size / 1e6:.4g}",
            "computes": f"a copy: {bandwidth / 1e9:.3g} GB/s; {size} bytes a cell",
        }
    ]  # fmt: skip
    if mode in _OPERATIONS:
        pace = len(square) ** 3 / best(lambda: torch.mm(square, square, out=product))
        rows.append(
            common | {
                "side": ARITHMETIC_LIMIT, "mcells_per_s": f"{pace / _OPERATIONS[mode] / 1e6:.4g}",
                "computes": f"a float32 matrix product: {pace / 1e9:.3g} G multiply-adds/s; "
                f"{_OPERATIONS[mode]} operations a cell",
            }
        )  # fmt: skip
    return rows
