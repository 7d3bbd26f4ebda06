"""Settings of all tests."""

import torch

# The problems are small: more threads would only wait for each other. Tests of threading set their own number.
torch.set_num_threads(1)
