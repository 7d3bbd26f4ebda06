"""Made-up recordings in which a query occurs at known places."""

import numpy as np

from lac.data import Clip

RATE = 25.0
FEATURES = 16


def smooth(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames, 16) noise of variance 1 that changes over half a second."""
    kernel = np.hanning(15) / np.linalg.norm(np.hanning(15))
    noise = rng.normal(size=(frames + len(kernel) - 1, FEATURES))
    return np.stack([np.convolve(column, kernel, "valid") for column in noise.T], axis=1)


def clip(frames: np.ndarray, name: str) -> Clip:
    return Clip(name, frames.astype(np.float32), np.arange(len(frames)) / RATE)


def planted(
    seed: int, most: int = 3, frames: tuple[int, int] = (1500, 4000)
) -> tuple[Clip, Clip, list[tuple[float, float]]]:
    """A query, a recording, and from when to when the query occurs in it, at .8 to 1.25 times its speed, with noise."""
    rng = np.random.default_rng(seed)
    t, n = int(rng.integers(*frames)), int(rng.integers(30, 60))
    query, recording, spans = smooth(rng, n), smooth(rng, t), []
    for k in range(int(rng.integers(1, most + 1)) if most else 0):
        length = int(n / rng.uniform(0.8, 1.25))
        start = int(rng.integers(k * t // most, (k + 1) * t // most - length))
        places = np.linspace(0, n - 1, length)
        copy = np.stack([np.interp(places, np.arange(n), column) for column in query.T], axis=1)
        recording[start : start + length] = copy + 0.3 * rng.normal(size=copy.shape)
        spans.append((start / RATE, (start + length - 1) / RATE))
    return clip(query, "query"), clip(recording, f"recording{seed}"), spans


def same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two spans have half in common of what they cover."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return common >= 0.5 * (max(one[1], other[1]) - min(one[0], other[0]))
