"""The precision that is computed in: that of the arguments, inside autocast too."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which operators on the device of `x` compute in the dtype that they are given."""
    if x.is_meta:  # torch knows no autocast there
        return nullcontext()
    return torch.autocast(device_type=x.device.type, enabled=False)
