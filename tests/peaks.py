"""How much memory something takes at most, in a process of its own, as Linux counts it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_COUNTED = Path("/proc/self/clear_refs")
_BEFORE = """
import json, sys, time
import numpy as np
import torch

torch.set_num_threads(1)


def megabytes(name):
    with open("/proc/self/status") as lines:
        return [int(line.split()[1]) / 1024 for line in lines if line.startswith(name)][0]


class Peak:
    '''The most memory that a block takes beyond what there was before it, in MB, and its seconds.'''

    def __enter__(self):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the peak
        self.before, self.began = megabytes("VmRSS"), time.perf_counter()
        return self

    def __exit__(self, *error):
        self.megabytes = megabytes("VmHWM") - self.before
        self.seconds = time.perf_counter() - self.began


"""


def measured(code: str, *arguments: object) -> Any:
    """What `code` prints in its last line by `json.dumps`; it has `Peak`, `np`, `torch` and `sys.argv`."""
    if not _COUNTED.exists():
        pytest.skip("only Linux tells the peak of the memory")
    # What is let go is given back at once, so that the peak is of what was held, not of what malloc keeps.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    words = [sys.executable, "-c", _BEFORE + code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
