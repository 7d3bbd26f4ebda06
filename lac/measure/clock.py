"""Clock and memory: how long a call takes, how much memory it needs at most, and how much there is."""

import ctypes
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")
Stopwatch = Callable[[Callable[[], Any]], tuple[float, Any]]

_TURN = 0.01  # seconds of timed runs that a quick call has in its turn
_QUICK = 0.1  # share of its seconds below which a call is quick
_VERY_SLOW = 20.0  # seconds; what takes longer is not run a second time


def timed(call: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds that a call takes on the device, and what it returns."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            result = call()
            end.record()
            torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3, result
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


class Timer:
    """Times one thing again and again, until its runs add up to some seconds.

    Args:
        seconds: of timed runs.
        device: on which it runs.
        stopwatch: `stopwatch(call) -> (seconds, result)`; default `timed` on the device.
    """

    def __init__(self, seconds: float, device: torch.device, stopwatch: Stopwatch | None = None) -> None:
        self.budget = seconds
        self.device = device
        self.stopwatch = stopwatch or (lambda call: timed(call, device))
        self.seconds: list[float] = []
        self.peak: int | None = None
        self.quick = False

    def warm_up(self, prepare: Callable[[], Callable[[], T]]) -> T:
        """Run for whatever is compiled or cached, then for the memory; slow runs count as timed. What it returned."""
        result: T
        for longest in (_VERY_SLOW, self.budget):
            call = prepare()
            peak = PeakMemory(self.device)
            took, result = self.stopwatch(call)
            self.peak = peak.bytes()
            if took > longest:
                self.seconds.append(took)
                break
        self.quick = took < _QUICK * self.budget
        return result

    def turn(self, call: Callable[[], object]) -> None:
        """Time it once, or, if it is quick, a few times."""
        if self.quick:  # or it pays for the caches that the one before it has emptied
            call()
        took = [self.stopwatch(call)[0]]
        while self.quick and sum(took) < _TURN:
            took.append(self.stopwatch(call)[0])
        self.seconds += took

    @property
    def done(self) -> bool:
        """Whether the timed runs fill the seconds."""
        return sum(self.seconds) >= self.budget

    def percentiles(self) -> tuple[float, float, float]:
        """Seconds: the 20th, 50th and 80th percentile."""
        low, middle, high = np.percentile(self.seconds, [20, 50, 80])
        return float(low), float(middle), float(high)


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be had on the device; `None` where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"MemAvailable:\s+(\d+) kB", meminfo)
    return int(match[1]) * 1024 if match else None


def too_large(needed: float, device: torch.device) -> str | None:
    """Why so many bytes cannot be had on the device; `None` if they can, or if nobody knows."""
    free = free_memory(device)
    if free is None or needed <= free:
        return None
    return f"not enough memory: about {needed / 1e9:.3g} GB needed, {free / 1e9:.3g} GB free"


class PeakMemory:
    """Peak memory between two points, in bytes: of the allocator on a GPU, of the process on Linux, else unknown."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before: int | None = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        try:
            ctypes.CDLL(None).malloc_trim(0)  # or memory freed earlier is used again without being seen
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.before = _own_memory("VmRSS")
        except (OSError, AttributeError, TypeError):
            pass

    def bytes(self) -> int | None:
        """The peak since this object was made, beyond what there was then; `None` where it is unknown."""
        if self.before is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return max(0, _own_memory("VmHWM") - self.before)


def _own_memory(name: str) -> int:
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if match is None:
        raise OSError(f"/proc/self/status has no {name}")
    return int(match[1]) * 1024
