"""Poses as an unknown camera sees them, and joints that it does not see."""

from __future__ import annotations

import math

import numpy as np

TILT = 0.35  # rad, the greatest tilt of a camera up or down
NEAR, FAR = 3.0, 6.0  # leg lengths between the camera and the person


def seen(poses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poses (T, J, 3) in a frame whose third axis is up, as a camera somewhere around sees them: (T, J, 2) float32.

    Turned about the vertical by a uniform angle, tilted by a uniform angle of at most `TILT`, and seen in perspective
    from a distance f, uniform in `NEAR` to `FAR`:  (y, z) f / (f - x), x being the axis towards the camera. The whole
    clip is seen by one camera; units stay those of the poses, leg lengths.
    """
    turn, tilt, far = rng.uniform(0, 2 * math.pi), rng.uniform(-TILT, TILT), rng.uniform(NEAR, FAR)
    x, y, z = np.moveaxis(poses.astype(np.float64), -1, 0)
    x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    x, z = x * math.cos(tilt) - z * math.sin(tilt), x * math.sin(tilt) + z * math.cos(tilt)
    nearness = far / (far - x)
    return np.stack([y * nearness, z * nearness], axis=-1).astype(np.float32)


def with_hidden_joints(poses: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Poses (T, J, D) of which each joint of each frame is hidden, and so 0, with probability `share`."""
    hidden = rng.random(poses.shape[:2]) < share
    return np.where(hidden[:, :, None], 0, poses).astype(np.float32)
