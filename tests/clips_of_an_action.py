"""Synthetic recordings of one action in random surroundings, and how well an aligner finds it: the truth is known."""

import numpy as np
import torch
from torch import Tensor

FEATURES = 24


def smooth(rng: np.random.Generator, frames: int, width: float = 4.0) -> np.ndarray:
    """(frames, FEATURES) of a Gaussian process of unit variance and of `width` frames."""
    x = np.arange(-4 * width, 4 * width + 1)
    kernel = np.exp(-(x**2) / (2 * width**2))
    kernel /= np.sqrt((kernel**2).sum())
    noise = rng.normal(size=(frames + len(x) - 1, FEATURES))
    return np.stack([np.convolve(noise[:, k], kernel, "valid") for k in range(FEATURES)], axis=1)


def clips(count: int, seed: int, *, offset: float = 0.0, frames: int = 64) -> tuple[Tensor, np.ndarray]:
    """Frames (count, frames, FEATURES) and the phase of each frame in the action, NaN outside it.

    The action is the same for all seeds; each clip plays it at a speed of its own, between other movements of its own,
    with noise, and with an offset of its own (a camera, a person) where it is asked for.
    """
    action = smooth(np.random.default_rng(1234), 120, 9.0)
    rng = np.random.default_rng(seed)
    result, phases = np.empty((count, frames, FEATURES)), np.full((count, frames), np.nan)
    for k in range(count):
        length = int(rng.integers(24, 40))
        start = int(rng.integers(0, frames - length + 1))
        warp = np.sort(rng.uniform(0, 1, 4))
        phase = np.interp(np.linspace(0, 1, length), [0, 0.3, 0.7, 1], [0, *(0.3 * warp[1:3] + [0.15, 0.5]), 1])
        result[k] = smooth(rng, frames)
        at = phase * 119
        low = at.astype(int).clip(max=118)
        result[k, start : start + length] = action[low] + (at - low)[:, None] * (action[low + 1] - action[low])
        phases[k, start : start + length] = phase
        result[k] += 0.1 * rng.normal(size=result[k].shape) + offset * rng.normal(size=FEATURES)
    return torch.from_numpy(result).float(), phases


def path_error(path: np.ndarray, phases1: np.ndarray, phases2: np.ndarray) -> tuple[float, float]:
    """Mean difference in phase along a path within the action (by chance 1/3), and the share of the action covered."""
    first, second = phases1[path[:, 0]], phases2[path[:, 1]]
    both = ~np.isnan(first) & ~np.isnan(second)
    error = np.abs(first - second)[both].mean() if both.any() else 1 / 3
    return float(error), both.sum() / min((~np.isnan(phases1)).sum(), (~np.isnan(phases2)).sum())
