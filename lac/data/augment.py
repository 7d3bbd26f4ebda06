"""Temporal views of a clip for contrastive training, with the exact time of every frame.

The sampling follows CARL (Chen et al., "Frame-wise Action Representations for Long Videos via Sequence
Contrastive Learning", 2022): a block of the clip up to `region` times as long as the view, thinned to the
view by a sorted random choice, which plays it faster and unevenly; the two views of a clip start near each
other so that they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from lac.data.base import Clip


@dataclass(frozen=True, eq=False)
class View:
    """Frames drawn from one clip, perhaps with frames of another before and after.

    Args:
        frames: (T, ...) float32.
        times: (T,) float64, increasing: seconds since the first frame of the source clip. Frames of other
            clips (distractors) have times outside the source clip: below zero before it, beyond its last
            frame after it.
        labels: (T,) int64, -1 at distractors; `None` where the clip has none.
        source: (T,) bool, true where the frame belongs to the source clip.
        guide: (T, K) float32, see `lac.data.Clip`; `None` where the clip has none.
    """

    frames: np.ndarray
    times: np.ndarray
    labels: np.ndarray | None
    source: np.ndarray
    guide: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.frames)


class Batch(NamedTuple):
    """Views padded to one length: frames and labels with 0 and -1, times with each view's last time.

    Fields:
        frames: (B, T, ...) float32.
        times: (B, T) float32, seconds since the first frame of the source clip.
        lengths: (B,) int64, number of valid frames.
        labels: (B, T) int64, or `None` when a view has none.
        source: (B, T) bool, false at distractors and padding.
        guide: (B, T, K) float32, or `None` when a view has none.
        groups: (B,) int64, equal for clips of one action, or `None`.
    """

    frames: torch.Tensor
    times: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor | None
    source: torch.Tensor
    guide: torch.Tensor | None = None
    groups: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


def whole(clip: Clip) -> View:
    """The clip as it is, as a view; its times count from its first frame."""
    return View(clip.frames, clip.times - clip.times[0], clip.labels, np.ones(len(clip), dtype=bool), clip.guide)


def collate(views: Sequence[View]) -> Batch:
    """Pad views to the longest and stack them.

    Raises:
        ValueError: no view, or views whose frames or guides differ in shape.
    """
    if not views:
        raise ValueError("collate needs at least one view, got none")
    shape = views[0].frames.shape[1:]
    for view in views:
        if view.frames.shape[1:] != shape:
            raise ValueError(f"views of one batch need frames of one shape, got {shape} and {view.frames.shape[1:]}")
    lengths = np.array([len(view) for view in views])
    size = (len(views), int(lengths.max()))
    frames = np.zeros(size + shape, dtype=np.float32)
    times = np.zeros(size, dtype=np.float32)
    labels = np.full(size, -1, dtype=np.int64)
    source = np.zeros(size, dtype=bool)
    for row, view in enumerate(views):
        valid = len(view)
        frames[row, :valid] = view.frames
        times[row, :valid] = view.times
        times[row, valid:] = view.times[-1]
        source[row, :valid] = view.source
        if view.labels is not None:
            labels[row, :valid] = view.labels
    labelled = all(view.labels is not None for view in views)
    guides = [view.guide for view in views if view.guide is not None]
    guide = None
    if len(guides) == len(views):
        widths = {rows.shape[1] for rows in guides}
        if len(widths) > 1:
            raise ValueError(f"views of one batch need guides of one width, got {sorted(widths)}")
        guide = np.zeros((*size, guides[0].shape[1]), dtype=np.float32)
        for row, rows in enumerate(guides):
            guide[row, : len(rows)] = rows
    return Batch(
        torch.from_numpy(frames),
        torch.from_numpy(times),
        torch.from_numpy(lengths),
        torch.from_numpy(labels) if labelled else None,
        torch.from_numpy(source),
        None if guide is None else torch.from_numpy(guide),
    )


def view(
    clip: Clip,
    rng: np.random.Generator,
    *,
    frames: int = 40,
    region: float = 3.0,
    distractors: Sequence[Clip] = (),
    max_distractors: int = 0,
    distractor_gap: float = 1.0,
    noise: float = 0.0,
) -> View:
    """One view of a clip: a crop, played faster, perhaps with frames of other clips before and after.

    The view draws a speed u between 1 and `region`, a block of ceil(u `frames`) neighbouring frames (the
    whole clip if it is shorter) that starts anywhere, and ceil(block / u) frames of the block, at most
    `frames`, chosen at random and sorted.

    Distractors, 0 to `max_distractors` frames on each side, come from `distractors` and are not part of the clip:
    their times lie at least `distractor_gap` seconds outside of it, spaced as in their own clip.

    Args:
        clip: the source.
        rng: every draw comes from it.
        frames: greatest number of source frames, >= 1.
        region: greatest speed, >= 1.
        distractors: clips to take distractors from; the source clip itself is left out.
        max_distractors: greatest number of distractor frames on each side; 0 for none.
        distractor_gap: seconds between the clip and a distractor, > 0.
        noise: standard deviation of Gaussian noise added to the frames; 0 adds none.

    Raises:
        ValueError: an option out of its range, or distractors asked for and none given.
    """
    options = _Options(frames, region, tuple(distractors), max_distractors, distractor_gap, noise)
    pick, _ = _pick(clip, rng, options, near=None, reach=0)
    return _dress(clip, pick, rng, options, distractor_gap)


def two_views(
    clip: Clip,
    rng: np.random.Generator,
    *,
    frames: int = 40,
    region: float = 3.0,
    offset: float = 0.2,
    distractors: Sequence[Clip] = (),
    max_distractors: int = 0,
    distractor_gap: float = 1.0,
    noise: float = 0.0,
) -> tuple[View, View]:
    """Two views of one clip that overlap in time.

    As `view`, but the second view's block starts within `offset` times `frames` frames of the first
    one's (0 <= `offset` < 1), and its distractors lie `distractor_gap` seconds beyond those of the first, so that no
    distractor shares an instant with a frame of the other view.

    Raises:
        ValueError: see `view`.
    """
    options = _Options(frames, region, tuple(distractors), max_distractors, distractor_gap, noise)
    if not 0 <= offset < 1:
        raise ValueError(f"offset must lie within [0, 1), got {offset}")
    picked, start = _pick(clip, rng, options, near=None, reach=0)
    first = _dress(clip, picked, rng, options, distractor_gap)
    picked, _ = _pick(clip, rng, options, near=start, reach=int(offset * frames))
    taken = max(-first.times[0], first.times[-1] - (clip.times[-1] - clip.times[0]), 0.0)
    return first, _dress(clip, picked, rng, options, float(taken) + distractor_gap)


def view_batches(
    clips: Sequence[Clip],
    chosen: Sequence[int],
    *,
    seed: int,
    step: int,
    places: Sequence[int] | None = None,
    **options: object,
) -> tuple[Batch, Batch]:
    """Two views each of `clips[k]` for k in `chosen`, as two batches.

    The draws depend on `seed`, `step` and the place in the batch only, so a run that is resumed at
    `step` draws what the run without a break would have drawn. `places` are those of `chosen`, where they are a part
    of the batch; default 0, 1, 2... Options: see `two_views`.
    """
    pairs = [
        two_views(clips[k], np.random.default_rng([seed, step, place]), **options)  # type: ignore[arg-type]
        for place, k in zip(range(len(chosen)) if places is None else places, chosen, strict=True)
    ]
    return collate([first for first, _ in pairs]), collate([second for _, second in pairs])


@dataclass(frozen=True)
class _Options:
    frames: int
    region: float
    distractors: tuple[Clip, ...]
    max_distractors: int
    distractor_gap: float
    noise: float

    def __post_init__(self) -> None:
        for name, least in (("frames", 1), ("region", 1), ("max_distractors", 0), ("noise", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least {least}, and finite, got {getattr(self, name)}")
        for name in ("frames", "max_distractors"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number of frames, got {getattr(self, name)!r}")
        if not 0 < self.distractor_gap < math.inf:
            raise ValueError(f"distractor_gap must be above 0 seconds, and finite, got {self.distractor_gap}")


def _pick(
    clip: Clip, rng: np.random.Generator, options: _Options, *, near: int | None, reach: int
) -> tuple[np.ndarray, int]:
    """Frames of a view, and where its block starts: anywhere, or within `reach` frames of `near`."""
    speed = rng.uniform(1, options.region)
    block = min(len(clip), math.ceil(speed * options.frames))
    count = min(options.frames, math.ceil(block / speed))
    low, high = 0, len(clip) - block
    if near is not None:
        # Near the clip's end the second block may be too long to start as late as the first.
        low, high = min(max(0, near - reach), high), min(high, near + reach)
    start = int(rng.integers(low, high + 1))
    return start + np.sort(rng.choice(block, size=count, replace=False)), start


def _dress(clip: Clip, pick: np.ndarray, rng: np.random.Generator, options: _Options, gap: float) -> View:
    """The chosen frames with distractors around them and noise on them."""
    drawn = _select(clip, pick)
    if options.max_distractors:
        others = [other for other in options.distractors if other is not clip]
        if not others:
            raise ValueError(f"max_distractors={options.max_distractors}, but there is no other clip to take them from")
        prefix, suffix = (_piece(others, rng, options.max_distractors) for _ in range(2))
        end = clip.times[-1] - clip.times[0] + gap
        drawn = View(
            np.concatenate([prefix.frames, drawn.frames, suffix.frames]),
            # A piece of no frame has no first or last time to count from.
            np.concatenate(
                [
                    prefix.times - prefix.times[-1:].sum() - gap,
                    drawn.times,
                    suffix.times - suffix.times[:1].sum() + end,
                ]
            ),
            None
            if drawn.labels is None
            else np.concatenate([np.full(len(prefix), -1), drawn.labels, np.full(len(suffix), -1)]),
            np.concatenate([np.zeros(len(prefix), bool), drawn.source, np.zeros(len(suffix), bool)]),
            _joined_guides((prefix, drawn, suffix)),
        )
    if options.noise:
        jitter = rng.normal(0.0, options.noise, size=drawn.frames.shape).astype(np.float32)
        drawn = replace(drawn, frames=drawn.frames + jitter)
    return drawn


def _joined_guides(parts: Sequence[View]) -> np.ndarray | None:
    guides = [part.guide for part in parts if part.guide is not None]
    return np.concatenate(guides) if len(guides) == len(parts) else None


def _piece(others: Sequence[Clip], rng: np.random.Generator, max_distractors: int) -> View:
    other = others[int(rng.integers(len(others)))]
    count = min(int(rng.integers(max_distractors + 1)), len(other))
    start = int(rng.integers(len(other) - count + 1))
    return _select(other, np.arange(start, start + count))


def _select(clip: Clip, pick: np.ndarray) -> View:
    labels = None if clip.labels is None else clip.labels[pick]
    guide = None if clip.guide is None else clip.guide[pick]
    return View(clip.frames[pick], clip.times[pick] - clip.times[0], labels, np.ones(len(pick), dtype=bool), guide)
