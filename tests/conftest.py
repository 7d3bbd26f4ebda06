"""Settings of all tests."""

import pytest
import torch
from emulated import DEVICE, engine_on
from hypothesis import settings

from lac_kernels.engines import BACKENDS

# The problems are small: more threads would only wait for each other. Tests of threading set their own number.
torch.set_num_threads(1)

# The same few examples in every run; `--hypothesis-profile=slow` draws many new ones.
settings.register_profile("default", max_examples=25, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("slow", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("default")

TRITON = (
    ["triton gpu"]
    if DEVICE.type == "cuda"
    else ["triton cuda:90", pytest.param("triton cuda:80", marks=pytest.mark.slow)]
)


@pytest.fixture(params=[*(name for name in BACKENDS[2:] if name != "triton"), *TRITON])
def engine(request):
    """Every engine: Triton on a GPU, or without one as compiled code in the emulator; skipped where it cannot run."""
    with engine_on(*request.param.split()) as engine:
        yield engine


@pytest.fixture(params=TRITON)
def triton_engine(request):
    """The Triton engine alone, for what others do not have."""
    with engine_on(*request.param.split()) as engine:
        yield engine
