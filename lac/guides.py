"""What aligning knows of clips beside their frames: which show the same action, and their self-similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d
from torch.nn.utils.rnn import pad_sequence

from lac.data import Clip
from lac.errors import DataError
from lac.similarity import frame_distances, standardised

_SMALL = 16  # height and width, in pixels, of the pictures whose self-similarity is taken


def groups_of(clips: Sequence[Clip]) -> np.ndarray | None:
    """(C,) int64, equal for clips of one action; `None` where no action has two clips, so that nothing can agree."""
    _, groups, counts = np.unique([clip.action for clip in clips], return_inverse=True, return_counts=True)
    return groups.astype(np.int64) if (counts > 1).any() else None


def with_guides(clips: Sequence[Clip], reach: float) -> list[Clip]:
    """The clips, with the self-similarity of their frames for a guide; as they are where each brings one of its own.

    Of whole clips, and standardised over all of them: a view of a few frames has its rows from here. Guides are
    compared among clips, so if one clip has none, as a file beside a data set, the guides of the others are not used.

    Args:
        clips: all that are trained on.
        reach: of `lac.self_similarity`, in seconds; 0: no guide is made.

    Raises:
        DataError: frames so large that their distances overflow; the message names the clip.
    """
    if reach == 0 or all(clip.guide is not None for clip in clips):
        return list(clips)
    distances = [_distances(clip, reach) for clip in clips]
    lengths = torch.tensor([len(rows) for rows in distances])
    rows = standardised(pad_sequence(distances, batch_first=True), lengths)
    return [replace(clip, guide=guide[: len(clip)].numpy()) for clip, guide in zip(clips, rows, strict=True)]


def small_frames(clip: Clip) -> torch.Tensor:
    """The frames (T, ...) of a clip; images averaged down to 16 x 16 pixels, where they are larger."""
    frames = torch.from_numpy(clip.frames)
    return adaptive_avg_pool2d(frames, _SMALL) if frames.ndim == 4 and min(frames.shape[2:]) > _SMALL else frames


def _distances(clip: Clip, reach: float) -> torch.Tensor:
    frames = small_frames(clip)
    times = torch.from_numpy(clip.times)[None]
    distances = frame_distances(frames[None], torch.tensor([len(clip)]), times=times, reach=reach)[0]
    if not distances.isfinite().all():
        raise DataError(
            f"clip {clip.name!r}: its frames are too large for their distances, up to {frames.abs().max():.3g}; "
            "scale the frames of all clips down"
        )
    return distances
