"""The pictures of a run, each drawn by itself: one that cannot be drawn costs neither the others nor the run.

`plots/` then holds:

    alignment.png      scores and alignment of two validation clips
    frames.png         frames of the same two, joined by lines where they match
    side_by_side.mp4   their videos, if they have any, the second in the timing of the first
    retrieval.png      frames of a validation clip, and the nearest ones of others
    curves.png         loss terms, learning rate, learned gaps over the steps
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lac.data.base import Clip, Dataset
from lac.data.side_by_side import Following, write_side_by_side
from lac.embed import embed_clips
from lac.errors import DataError
from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.moments import draw_moments
from lac.pairs import AlignedClips, align_clips, draw_aligned
from lac.paths import expected_paths
from lac.pictures import Source
from lac.plots import plot_curves, save_figure
from lac.queries import draw_found, even_seconds, find_nearest, frames_near
from lac.runs.evaluate import checked_embeddings
from lac.search import shown_chance

PLOTS = "plots"  # the folder's name in a run folder
_QUERIES, _ANSWERS = 3, 4
_LEAD, _LONGEST, _LATEST = 1.0, 15.0, 300.0  # seconds of the video before the first match, in all, and where it begins
_HEIGHT = 240

_log = logging.getLogger("lac")


class Drawings:
    """The pictures of a trained encoder on its data, each a method that writes a file and says what it shows.

    Args:
        dataset: whose validation clips are drawn.
        encoder: of the run.
        loss: likewise.
        history: training curves, as `lac.plots.plot_curves` takes them.
        rate: frames a second of videos that are folders of images.
    """

    def __init__(
        self,
        dataset: Dataset,
        encoder: FrameEncoder,
        loss: LACLoss,
        history: Mapping[str, Sequence[float]],
        rate: float,
    ) -> None:
        self._dataset, self._encoder, self._loss = dataset, encoder, loss
        self._history, self._rate = history, rate
        self._pair = pair_of(dataset.val)

    @cached_property
    def _aligned(self) -> AlignedClips:
        return align_clips(self._encoder, self._loss, *self._pair)

    @cached_property
    def _path(self) -> np.ndarray:
        path: np.ndarray = self._aligned.path.cpu().numpy()
        return path

    def _matched(self) -> str:
        """Which seconds of the two clips match."""
        (first, second), chance = self._pair, shown_chance(self._aligned.chance)
        if not len(self._path):
            return f"Nothing in common: {first.name} and {second.name}"
        (start1, end1), (start2, end2) = (clip.times[self._path[[0, -1], k]] for k, clip in enumerate((first, second)))
        whose = f"{first.name} from {start1:.2f} to {end1:.2f} s with {second.name} from {start2:.2f} to {end2:.2f} s"
        return f"Matched: {whose}; chance {chance}, that shuffled frames match as well"

    def alignment(self, path: Path) -> str:
        """Scores and soft alignment of two clips."""
        title = f"{self._dataset.name}, chance {shown_chance(self._aligned.chance)}"
        save_figure(draw_aligned(self._aligned, *self._pair, title=title), path)
        return self._matched()

    def frames(self, path: Path) -> str:
        """Frames of the two clips, joined by lines where they match."""
        first, second = (Source.of(clip, self._dataset) for clip in self._pair)
        save_figure(draw_moments(first, second, self._path, rate=self._rate), path)
        return self._matched()

    def side_by_side(self, path: Path) -> str:
        """Their videos side by side, from a second before the first match and for 15 seconds."""
        if not len(self._path):
            raise DataError("there is no match to follow")
        first, second = self._pair
        (ridge,) = (soft.cpu().numpy() for soft in expected_paths(self._aligned.posterior[None]))
        times1, times2 = first.times[ridge[:, 0]], second.times[ridge[:, 1]]
        start = max(float(times1[0]) - _LEAD, float(first.times[0]))
        if start > _LATEST:
            raise DataError(f"the match begins {start:.0f} s into the video; lac-align --video writes it")
        videos = self._dataset.videos
        between = (start, start + _LONGEST)
        following = Following(videos[second.name], second.name, times1, times2)
        write_side_by_side(
            path, videos[first.name], first.name, [following], height=_HEIGHT, rate=self._rate, between=between
        )
        return f"Left {first.name}, right {second.name} in its timing"

    def retrieval(self, path: Path) -> str:
        """Frames of the first validation clip, and the nearest ones of other clips."""
        clip, *others = self._dataset.val
        if not others:
            raise DataError("there is only one validation clip")
        device = next(self._encoder.parameters()).device
        embeddings = checked_embeddings(lambda clips: embed_clips(self._encoder, clips, device), [clip, *others])
        frames = frames_near(clip, even_seconds(clip, _QUERIES))
        queries = find_nearest(clip, frames, others, embeddings, self._dataset.label_names, k=_ANSWERS)
        source, *searched = (Source.of(one, self._dataset) for one in (clip, *others))
        save_figure(draw_found(queries, source, searched, rate=self._rate), path)
        number = min(_ANSWERS, len(others))
        whose = "another clip" if number == 1 else f"each of {number} other clips"
        return f"Frames of {clip.name}, and for each the nearest frame of {whose}"

    def curves(self, path: Path) -> str:
        """Training curves."""
        save_figure(plot_curves(self._history), path)
        return f"Up to step {self._history['step'][-1]:.0f}"

    def writers(self) -> dict[str, Callable[[Path], str]]:
        """What writes each file, by its name; the video only where both clips have one."""
        writers: dict[str, Callable[[Path], str]] = {"alignment.png": self.alignment, "frames.png": self.frames}
        if all(clip.name in self._dataset.videos for clip in self._pair):
            writers["side_by_side.mp4"] = self.side_by_side
        return writers | {"retrieval.png": self.retrieval, "curves.png": self.curves}


def draw_all(folder: Path, writers: Mapping[str, Callable[[Path], str]]) -> tuple[dict[str, str], dict[str, str]]:
    """Write every file, whole or not at all; what an earlier run left of one that cannot be written is removed.

    Returns:
        What each file shows, and of those that could not be written the reason: both by the file's name.
    """
    shown, missing = {}, {}
    for name, write in writers.items():
        try:
            shown[name] = write(folder / name)
        except Exception as error:  # a package, a video, the disk: the trained encoder is worth more than a picture
            missing[name] = str(error) or type(error).__name__
            (folder / name).unlink(missing_ok=True)
            _log.debug("%s is not drawn", name, exc_info=True)
    return shown, missing


def pair_of(clips: Sequence[Clip]) -> tuple[Clip, Clip]:
    """The first clip and the last one of its action: in most data sets two people."""
    return clips[0], [clip for clip in clips if clip.action == clips[0].action][-1]
