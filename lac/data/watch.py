"""Shoulder exercises recorded by a smart watch: real data that comes with a package, no download.

Burns, Leung, Hardisty, Whyne, Henry and McLachlin, "Shoulder Physiotherapy Exercise Recognition: Machine
Learning the Inertial Signals from a Smartwatch", Physiological Measurement 39(7), 2018. The data lies in the
package `seglearn` (BSD-3-Clause): 140 recordings, 10 people x 7 exercises x 2 arms, about 20 repetitions
each, 3 axes of acceleration and 3 of turning rate at 50 Hz.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lac.bounds import open_file
from lac.data.base import Clip, Dataset
from lac.data.phases import half_way_phases
from lac.data.pickles import unpickled
from lac.data.reading import naming
from lac.data.untrimmed import resample, untrim
from lac.errors import ConfigError, DataError, how_to_install

RECORDED_RATE = 50.0
ACTIONS = ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
PHASES = ["going out", "out past half", "coming back", "back past half"]
TRAIN_SUBJECTS = frozenset(range(1, 7))

# Along which axis of acceleration (in the frame of a left arm) each exercise swings most, and its sign on the
# way out: x runs along the forearm and is +1 g where the arm hangs.
_EXCURSION = {
    "PEN": (0, -1.0),
    "ABD": (0, -1.0),
    "FEL": (0, -1.0),
    "IR": (2, 1.0),
    "ER": (2, 1.0),
    "TRAP": (2, -1.0),
    "ROW": (0, -1.0),
}
# A right arm mirrors a left one along the forearm. Acceleration is a vector, a turning rate a pseudovector.
_MIRROR = np.array([-1, 1, 1, 1, -1, -1], dtype=np.float64)
# Acceleration comes in g, turning rate in rad/s up to about 5: this brings both to the order of one.
_SCALE = np.array([1, 1, 1, 0.25, 0.25, 0.25], dtype=np.float64)


@dataclass(frozen=True)
class _Recording:
    action: str
    subject: int
    side: str
    signal: np.ndarray  # (T, 6) float32 at the rate asked for, in the frame of a left arm


def load(
    root: str | Path | None = None,
    *,
    action: str = "ROW",
    rate: float = 25.0,
    repetitions: int = 5,
    untrimmed: bool = True,
    max_distractors: int = 75,
    seed: int = 0,
) -> Dataset:
    """The watch data: subjects 1 to 6 to train on, 7 to 10 to validate, one repetition a clip.

    A frame is (6,) float32: acceleration x, y, z in g and turning rate x, y, z in 4 rad/s, in the frame of a
    left arm (right arms are mirrored). A recording is cut halfway between the tops of its smoothed excursion;
    the tops are at least 0.6 periods apart, where the period is the first maximum of the autocorrelation.

    Labels are the four phases of `lac.data.phases.half_way_phases` of that excursion; they are made by
    a rule, not by people. With `action="all"` label 4 a + p is phase p of the a-th action, and training clips are in
    the order of repetition, person, arm and action, so that their first tenth holds all actions; otherwise, and to
    validate, in that of action, person, arm and repetition.

    Args:
        root: path of `watch_dataset.npy`; `None` finds it in the installed package `seglearn`, which is
            not imported.
        action: one of `ACTIONS` (pendulum, abduction, forward elevation, internal rotation, external
            rotation, trapezius extension, upright row), or "all". The trapezius extension hardly turns the watch:
            its cuts are the least certain.
        rate: frames a second of the clips, by linear interpolation of the 50 Hz, averaged first where it is
            lower.
        repetitions: clips of a recording, taken evenly from its course, without the first and last
            repetition.
        untrimmed: put frames of the same person and arm doing another exercise (label -1) before and after,
            see `lac.data.untrimmed.untrim`; the tempo stays as recorded.
        max_distractors: greatest number of frames of such a piece.
        seed: of those pieces; the same seed gives the same data set.

    Raises:
        ImportError: no root is given and `seglearn` is not installed.
        FileNotFoundError: the file is not there.
        ValueError: unknown action, an option out of range, or a file that is not the watch data.
    """
    if action != "all" and action not in ACTIONS:
        raise ConfigError(f"unknown action {action!r}: choose one of {', '.join(ACTIONS)} or 'all'")
    if not 0 < rate <= RECORDED_RATE:
        raise ConfigError(f"rate must lie above 0 and at most at the recorded {RECORDED_RATE:g} Hz, got {rate}")
    if repetitions < 1 or max_distractors < 0:
        raise ConfigError(f"repetitions must be >= 1 and max_distractors >= 0, got {repetitions} and {max_distractors}")
    actions = ACTIONS if action == "all" else (action,)
    path = _file() if root is None else Path(root)
    recordings = _recordings(path, rate)
    made = [
        (place, recording, clip)
        for recording in recordings
        if recording.action in actions
        for place, clip in enumerate(
            _clips(recording, recordings, actions, rate, repetitions, max_distractors if untrimmed else None, seed)
        )
    ]
    train = [row for row in made if row[1].subject in TRAIN_SUBJECTS]
    if len(actions) > 1:  # all of them among the first tenth; recordings come by action, and the sort is stable
        train.sort(key=lambda row: (row[0], row[1].subject, row[1].side))
    val = [row for row in made if row[1].subject not in TRAIN_SUBJECTS]
    label_names = PHASES if action != "all" else [f"{name} {phase}" for name in ACTIONS for phase in PHASES]
    kind = "untrimmed" if untrimmed else "trimmed"
    with naming(path):
        return Dataset(
            f"watch {action} {kind}", [clip for *_, clip in train], [clip for *_, clip in val], list(label_names)
        )


def _clips(
    recording: _Recording,
    recordings: list[_Recording],
    actions: Sequence[str],
    rate: float,
    repetitions: int,
    max_distractors: int | None,
    seed: int,
) -> list[Clip]:
    """Repetitions of a recording, in their order; untrimmed where there are distractors."""
    others = [
        functools.partial(_middle, other.signal, rate)
        for other in recordings
        if other.subject == recording.subject and other.side == recording.side and other.action != recording.action
    ]
    person = f"s{recording.subject:02d}"
    excursion = _excursion(recording, rate)
    cuts = _cuts(excursion, rate)
    inner = range(1, len(cuts) - 2) if len(cuts) > 3 else range(len(cuts) - 1)
    chosen = np.unique(np.linspace(inner[0], inner[-1], min(repetitions, len(inner))).round().astype(int))
    clips = []
    for k in chosen:
        part = slice(cuts[k], cuts[k + 1])
        labels = half_way_phases(excursion[part]) + len(PHASES) * actions.index(recording.action)
        frames = recording.signal[part]
        name = f"{recording.action}_{person}_{recording.side}_r{k:02d}"
        clip = Clip(name, frames, np.arange(len(frames)) / rate, labels, recording.action, person)
        if max_distractors is not None:
            rng = np.random.default_rng(
                [seed, ACTIONS.index(recording.action), recording.subject, int(recording.side == "right"), int(k)]
            )
            clip = untrim(clip, others, rng, max_distractors=max_distractors, speed=(1.0, 1.0))
        clips.append(clip)
    return clips


def _file() -> Path:
    # find_spec locates a top-level package without running any of its code.
    spec = importlib.util.find_spec("seglearn")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"the data set 'watch' comes with the package seglearn, which is not installed: {how_to_install('demo')}"
        )
    return Path(next(iter(spec.submodule_search_locations)), "data", "watch_dataset.npy")


def _unpickle(file: IO[bytes]) -> Any:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise DataError(f"NumPy format {version}")
    np.lib.format.read_array_header_1_0(file)
    return unpickled(file.read()).item()


def _recordings(path: Path, rate: float) -> list[_Recording]:
    try:
        with open_file(path) as file:
            data = _unpickle(file)
        raw = [np.asarray(signal, dtype=np.float64) for signal in data["X"]]
        action = [ACTIONS[int(label)] for label in data["y"]]
        subject = [int(number) for number in data["subject"]]
        side = ["right" if number else "left" for number in data["side"]]
        if any(signal.ndim != 2 or signal.shape[1] != 6 or len(signal) == 0 for signal in raw):
            raise DataError("a recording does not have frames of six axes")
        if not all(np.isfinite(signal).all() for signal in raw):
            raise DataError("a recording is not finite")
        made = [
            _Recording(a, s, arm, _prepared(signal * (_MIRROR if arm == "right" else 1), rate))
            for a, s, arm, signal in zip(action, subject, side, raw, strict=True)
        ]
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise DataError(f"{path} is not the watch data of seglearn: {str(error) or type(error).__name__}") from error
    return sorted(made, key=lambda one: (one.action, one.subject, one.side))


def _prepared(signal: np.ndarray, rate: float) -> np.ndarray:
    step = RECORDED_RATE / rate
    positions = np.arange(int((len(signal) - 1) / step) + 1) * step
    return resample(_smooth(signal * _SCALE, round(step)), positions).astype(np.float32)


def _smooth(signal: np.ndarray, width: int) -> np.ndarray:
    """Moving average over `width` frames (made odd) along the first axis; the ends are held."""
    half = width // 2
    if half == 0:
        return signal
    padded = np.concatenate([signal[:1].repeat(half, 0), signal, signal[-1:].repeat(half, 0)])
    sums = np.cumsum(np.concatenate([np.zeros_like(padded[:1]), padded]), axis=0)
    return np.asarray((sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1))


def _excursion(one: _Recording, rate: float) -> np.ndarray:
    axis, sign = _EXCURSION[one.action]
    return _smooth(sign * one.signal[:, axis].astype(np.float64), round(0.4 * rate))


def _period(signal: np.ndarray, rate: float) -> float:
    """Period in frames: the highest autocorrelation among lags of 0.8 to 5 seconds that are a local
    maximum."""
    centred = signal - signal.mean()
    spectrum = np.fft.rfft(centred, 2 * len(centred))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(centred)] / np.arange(len(centred), 0, -1)
    lags = np.arange(max(1, round(0.8 * rate)), min(round(5 * rate), len(centred) // 2))
    tops = lags[(correlation[lags] >= correlation[lags - 1]) & (correlation[lags] >= correlation[lags + 1])]
    if len(tops) == 0:
        return 2 * rate
    # The first of the nearly highest, because two periods fit the signal as well as one.
    return float(tops[correlation[tops] >= 0.8 * correlation[tops].max()][0])


def _cuts(excursion: np.ndarray, rate: float) -> np.ndarray:
    """Frames at which one repetition ends and the next begins: halfway between two tops."""
    from scipy.signal import find_peaks

    spread = np.percentile(excursion, 90) - np.percentile(excursion, 10)
    tops, _ = find_peaks(excursion, distance=max(1.0, 0.6 * _period(excursion, rate)), prominence=0.25 * spread)
    if len(tops) < 3:
        return np.array([0, len(excursion)])
    return np.asarray((tops[1:] + tops[:-1]) // 2)


def _middle(signal: np.ndarray, rate: float) -> np.ndarray:
    """A recording without its first and last two seconds, in which the watch is started and stopped."""
    edge = round(2 * rate)
    return signal[edge:-edge] if len(signal) > 4 * edge else signal
