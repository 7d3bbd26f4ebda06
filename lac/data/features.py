"""Features of the frames of videos by a network that stays as it is: computed once, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lac.bounds import open_file
from lac.data.crop import moving_box
from lac.data.reading import read_npz
from lac.data.telling import within
from lac.data.video import IMAGES, Frames, each_frame, natural
from lac.errors import ConfigError
from lac.files import atomic_path, cache_folder, make_folder
from lac.model.backbone import PRETRAINED, Backbone, is_trained
from lac.system import pick_device

CHUNK = 32  # frames that are held at once
_log = logging.getLogger("lac")
_FORMAT = 2  # to be raised when the same options give other features


class FeatureProgress(NamedTuple):
    """A video that is about to be read: whether its features must be computed, and which of how many it is."""

    backbone: str
    folder: Path
    computing: bool
    done: int
    total: int


_watcher: ContextVar[Callable[[FeatureProgress], None] | None] = ContextVar("watcher", default=None)


def watched(watcher: Callable[[FeatureProgress], None]) -> AbstractContextManager[None]:
    """Within it `watcher` is told of every video whose features a data set reads."""
    return within(_watcher, watcher)


class FrameFeatures:
    """Features of videos by a backbone, from the cache where they have been computed before.

    They lie in `folder` under a hash of the content of the video (of a folder of images the names and contents), the
    options and the backbone's weights: a video that is moved or renamed keeps its features, one that is changed gets
    new ones. For this every video is read once at every start (not decoded). A file there that is damaged is written
    anew; any of them may be deleted, and none is deleted otherwise.

    Args:
        backbone: a name that `lac.model.backbone` knows, of a network that has been trained.
        fps, size, rate: as in `lac.data.video.read_frames`.
        crop: "moving": of the part of each video that moves, see `lac.data.crop`; `None`: of whole frames.
        device: where it computes; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ValueError: no backbone has that name, or it has not been trained.
        ImportError, OSError: its package or weights are not there.
    """

    def __init__(
        self,
        backbone: str,
        *,
        fps: float,
        size: int | tuple[int, int],
        rate: float,
        crop: str | None = None,
        device: str | torch.device = "auto",
    ) -> None:
        if not isinstance(backbone, str):
            raise ConfigError(f"the option backbone must be a name such as {PRETRAINED!r}, or None, got {backbone!r}")
        if not is_trained(backbone):
            raise ConfigError(
                f"backbone {backbone!r} has no trained weights, so its features mean nothing: give {PRETRAINED!r}, or "
                "train it with model.backbone and data.options.backbone=null"
            )
        self.folder = cache_folder() / "features"
        self.backbone = Backbone(backbone).to(pick_device(device)).eval()
        self.options: dict[str, Any] = {"fps": fps, "size": size, "rate": rate}
        self._report: Callable[[bool], None] = lambda computing: None
        self.crop = crop
        about = self.options | ({"crop": crop} if crop else {})
        self._salt = json.dumps([_FORMAT, self.backbone.fingerprint(), about]).encode()

    def path(self, video: Path) -> Path:
        """The file in the cache that holds the features of a video, if it is there."""
        digest = hashlib.sha256(self._salt)
        files = [video]
        if video.is_dir():
            files = sorted((file for file in video.iterdir() if file.suffix.lower() in IMAGES), key=natural)
            digest.update(json.dumps([file.name for file in files]).encode())
        for file in files:
            with open_file(file) as content:
                part = hashlib.sha256()
                while block := content.read(1 << 20):
                    part.update(block)
            digest.update(part.digest())
        return self.folder / f"{digest.hexdigest()}.npz"

    def read(self, video: Path) -> Frames:
        """The features (T, D) float32 of the frames of a video, computed and kept if they are not there yet.

        A cache that cannot be written is said in the log of "lac", and nothing is kept.

        Raises:
            ValueError, OSError, ImportError: the video cannot be read (see `lac.data.video.read_frames`).
        """
        path = self.path(video)
        found = self._kept(path)
        self._report(found is None)
        if found is None:
            found = self._compute(video)
            try:
                make_folder(self.folder.parent)
                with atomic_path(path) as temporary, temporary.open("wb") as file:
                    np.savez(file, **found._asdict())
            except OSError as error:
                _log.warning("features are not kept (%s); set LAC_CACHE to a folder that can be written", error)
        return found

    @contextmanager
    def counting(self, videos: int) -> Iterator[None]:
        """Within it each video that is read is told to who watches, of so many in all."""
        done = 0

        def told(computing: bool) -> None:
            nonlocal done
            done += 1
            if (watcher := _watcher.get()) is not None:
                watcher(FeatureProgress(self.backbone.name, self.folder, computing, done, videos))

        self._report = told
        try:
            yield
        finally:
            self._report = lambda computing: None

    def _kept(self, path: Path) -> Frames | None:
        try:
            frames, times, numbers, total = read_npz(path, Frames._fields).values()
            found = Frames(frames, times, numbers, int(total))
        except (OSError, ValueError, TypeError):  # the last two also of a total that is no number
            return None
        shapes = (found.frames.shape, found.times.shape, found.numbers.shape)
        return found if shapes == ((n := len(found.times), self.backbone.features), (n,), (n,)) else None

    def _compute(self, video: Path) -> Frames:
        device = self.backbone.shift.device
        features: list[np.ndarray] = []
        times: list[float] = []
        numbers: list[int] = []
        total = 0
        box = moving_box(video, rate=self.options["rate"]) if self.crop else None

        def kept() -> Any:
            nonlocal total
            for number, (time, picture) in enumerate(each_frame(video, **self.options, box=box)):
                total = number + 1
                if picture is not None:
                    times.append(time)
                    numbers.append(number)
                    yield picture

        frames = kept()
        while chunk := list(islice(frames, CHUNK)):
            images = torch.from_numpy(to_images(np.stack(chunk))).to(device)
            with torch.no_grad():
                features.append(self.backbone(images).cpu().numpy())
        return Frames(np.concatenate(features), np.array(times), np.array(numbers, dtype=np.int64), total)


def to_images(pictures: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 as backbones take them: (T, 3, H, W) float32 from -1 to 1."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32) / 127.5 - 1
