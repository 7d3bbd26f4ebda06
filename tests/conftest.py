"""Settings of all tests."""

import torch
from hypothesis import settings

# The problems are small: more threads would only wait for each other. Tests of threading set their own number.
torch.set_num_threads(1)

# The same few examples in every run; `--hypothesis-profile=slow` draws many new ones.
settings.register_profile("default", max_examples=25, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("slow", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("default")
