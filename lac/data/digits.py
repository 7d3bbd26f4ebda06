"""Spoken digits: ten words by six people, to be found in streams of speech.

Zohar Jackson et al., "Free Spoken Digit Dataset", github.com/Jakobovski/free-spoken-digit-dataset (CC BY-SA 4.0): six
speakers, each of whom says every digit fifty times in English; 3000 recordings of 0.14 to 2.3 seconds, one file each,
trimmed. Two forms are read: the publisher's folder and a packed `.npz` of the log-mel bands of the same recordings.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lac.data.base import Clip, Dataset
from lac.data.reading import naming, place_of, read_npz
from lac.data.sound import BANDS, FRAME_RATE, log_mel, read_wav
from lac.data.untrimmed import untrim
from lac.errors import ConfigError, DataError

DIGITS = tuple(str(digit) for digit in range(10))
VAL_SPEAKERS = 2  # how many speakers are kept to validate, where none are named

_FOLDER = "recordings"
_FILE_NAME = re.compile(r"([0-9])_(.+)_(0|[1-9][0-9]*)\.wav")
_LEAST_DEVIATION = 1e-6  # of a band that never changes


@dataclass(frozen=True)
class _Recording:
    digit: int
    speaker: str
    number: int
    frames: np.ndarray  # (T, 40) float32


@dataclass(frozen=True)
class Occurrence:
    """A digit in a stream.

    Args:
        digit: 0 to 9.
        start: its first frame.
        end: the frame after its last one.
    """

    digit: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Stream:
    """Digits that one person says one after another.

    Args:
        speaker: who says them.
        frames: (T, 40) float32, standardised as those of `load`.
        times: (T,) float64 seconds.
        occurrences: the digits in their order; each begins where the one before ends, and together they fill the
            stream.
    """

    speaker: str
    frames: np.ndarray
    times: np.ndarray
    occurrences: list[Occurrence]


def load(
    root: str | Path | None = None,
    *,
    digits: str | Sequence[int] = "all",
    repetitions: int = 5,
    train_speakers: Sequence[str] | None = None,
    val_speakers: Sequence[str] | None = None,
    untrimmed: bool = True,
    max_distractors: int = 40,
    speed: tuple[float, float] = (0.8, 1.25),
    seed: int = 0,
) -> Dataset:
    """Spoken digits: trained on some speakers, judged on others; one recording a clip.

    A frame is (40,) float32 at 100 Hz: the log-mel bands of `lac.data.sound.log_mel`, from which the mean of the
    speaker is taken, band by band, and which are divided by the speaker's standard deviation. Both are taken over
    all recordings of the speaker, used or not; no label goes into them. What is left of voice and microphone is the
    embedding's to forget.

    A clip's `action` is its digit, "0" to "9", its `person` the speaker, and the label of a frame is the digit that is
    being said: accuracy asks which. Training clips are in the order of repetition, speaker and digit, so that their
    first tenth holds all digits; validation clips in that of digit, repetition and speaker.

    Args:
        root: the packed `.npz` (arrays `frames` (all frames, 40), `meta` (recordings, 4) = digit, place in speakers,
            number, length in frames; `speakers`, the names), or the publisher's folder (the one that holds
            `recordings`, with files such as `7_jackson_32.wav`). `None`: the environment variable `LAC_DIGITS`.
        digits: which, for instance `[3, 7]`, or "all".
        repetitions: recordings of a digit and a speaker, taken evenly from their numbers.
        train_speakers: names; `None` is all but those to validate.
        val_speakers: names; `None` is the last two of the alphabet, in the published data theo and yweweler. To choose
            settings without a look at these, name two others here and the rest in `train_speakers`.
        untrimmed: put a piece of another digit of the same speaker (label -1) before and after, see
            `lac.data.untrimmed.untrim`.
        max_distractors: greatest number of frames of such a piece; a digit has about 40.
        speed: smallest and greatest speed of an untrimmed clip.
        seed: of the pieces and speeds; the same seed gives the same data set.

    Raises:
        FileNotFoundError: no root, or nothing there.
        ValueError: an option out of range, an unknown speaker, a file that is not what it should be, or a split
            without a clip.
    """
    chosen = _digits(digits)
    if repetitions < 1 or max_distractors < 0:
        raise ConfigError(f"repetitions must be >= 1 and max_distractors >= 0, got {repetitions} and {max_distractors}")
    if len(speed) != 2 or not 0 < speed[0] <= speed[1] < math.inf:
        raise ConfigError(f"speed must be 0 < low <= high, got {speed}")
    path = place_of(root, "LAC_DIGITS", "digits", _MISSING)
    recordings = _recordings(path)
    train, val = _split({recording.speaker for recording in recordings}, train_speakers, val_speakers)
    clips = []
    with naming(path):
        for recording in _taken(recordings, chosen, repetitions):
            if recording.speaker not in train | val:
                continue
            clip = _clip(recording)
            if untrimmed:
                others = _others(recording, recordings)
                rng = np.random.default_rng([seed, recording.digit, recording.number, *recording.speaker.encode()])
                tempo = float(speed[0]), float(speed[1])
                clip = untrim(clip, others, rng, max_distractors=max_distractors, speed=tempo)
            clips.append(clip)
        return Dataset(
            _name(chosen, untrimmed),
            [clip for clip in clips if clip.person in train],
            sorted((clip for clip in clips if clip.person in val), key=lambda clip: clip.action),
            list(DIGITS),
        )


def streams(
    root: str | Path | None = None,
    *,
    speakers: Sequence[str] | None = None,
    n_digits: int = 30,
    seed: int = 0,
) -> list[Stream]:
    """For each speaker a stream of digits with known occurrences, to find all of a spoken query in it.

    Each digit is drawn evenly from those that the speaker has, then a recording of it; recordings follow one another
    without a pause, as they are. Queries of other speakers are the clips of `load` with `untrimmed=False`.

    Args:
        root: as for `load`.
        speakers: names; `None` is all, in the order of the alphabet.
        n_digits: digits in a stream.
        seed: of what is drawn; the same seed gives the same stream of a speaker, whoever the others are.

    Raises:
        FileNotFoundError: no root, or nothing there.
        ValueError: fewer than one digit, an unknown speaker, or a file that is not what it should be.
    """
    if n_digits < 1:
        raise ConfigError(f"n_digits must be >= 1, got {n_digits}")
    recordings = _recordings(place_of(root, "LAC_DIGITS", "digits", _MISSING))
    known = {recording.speaker for recording in recordings}
    chosen = sorted(known) if speakers is None else list(speakers)
    _check_speakers(chosen, known)
    return [_stream([r for r in recordings if r.speaker == speaker], n_digits, seed) for speaker in chosen]


def _stream(recordings: list[_Recording], n_digits: int, seed: int) -> Stream:
    """A stream of one speaker, from the speaker's recordings."""
    speaker = recordings[0].speaker
    rng = np.random.default_rng([seed, *speaker.encode()])
    of_digit: dict[int, list[_Recording]] = {}
    for recording in recordings:
        of_digit.setdefault(recording.digit, []).append(recording)
    said = []
    for place in rng.integers(len(of_digit), size=n_digits):
        repetitions = of_digit[sorted(of_digit)[place]]
        said.append(repetitions[int(rng.integers(len(repetitions)))])
    ends = np.cumsum([len(recording.frames) for recording in said]).tolist()
    return Stream(
        speaker,
        np.concatenate([recording.frames for recording in said]),
        np.arange(ends[-1]) / FRAME_RATE,
        [Occurrence(r.digit, start, end) for r, start, end in zip(said, [0, *ends[:-1]], ends, strict=True)],
    )


def _digits(digits: str | Sequence[int]) -> set[int]:
    if digits == "all":
        return set(range(len(DIGITS)))
    if isinstance(digits, str) or not digits or not set(digits) <= set(range(len(DIGITS))):
        raise ConfigError(f"digits must be 'all' or a list of digits from 0 to 9, got {digits!r}")
    return set(digits)


def _name(digits: set[int], untrimmed: bool) -> str:
    which = "" if len(digits) == len(DIGITS) else f" {' '.join(map(str, sorted(digits)))}"
    return f"digits{which} {'untrimmed' if untrimmed else 'trimmed'}"


def _split(
    known: set[str], train_speakers: Sequence[str] | None, val_speakers: Sequence[str] | None
) -> tuple[set[str], set[str]]:
    """Speakers to train on and to validate, after a check of the names."""
    if val_speakers is not None:
        val = set(val_speakers)
    else:
        val = set(sorted(known - set(train_speakers or ()))[-VAL_SPEAKERS:])
    train = known - val if train_speakers is None else set(train_speakers)
    _check_speakers([*train, *val], known)
    if train & val:
        raise ConfigError(f"speaker {min(train & val)!r} is both in train_speakers and in val_speakers")
    return train, val


def _check_speakers(names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown speaker {name!r}: the speakers are {', '.join(sorted(known))}")


def _taken(recordings: list[_Recording], digits: set[int], repetitions: int) -> list[_Recording]:
    """`repetitions` recordings of each speaker and digit; by repetition, then speaker, then digit."""
    groups: dict[tuple[str, int], list[_Recording]] = {}
    for recording in recordings:
        if recording.digit in digits:
            groups.setdefault((recording.speaker, recording.digit), []).append(recording)
    taken = []
    for (speaker, digit), group in groups.items():
        places = np.unique(np.linspace(0, len(group) - 1, min(repetitions, len(group))).round().astype(int))
        taken += [(repetition, speaker, digit, group[place]) for repetition, place in enumerate(places)]
    return [row[-1] for row in sorted(taken, key=lambda row: row[:3])]


def _clip(recording: _Recording) -> Clip:
    digit = DIGITS[recording.digit]
    return Clip(
        f"{digit}_{recording.speaker}_{recording.number}",
        recording.frames,
        np.arange(len(recording.frames)) / FRAME_RATE,
        np.full(len(recording.frames), recording.digit),
        digit,
        recording.speaker,
    )


def _others(recording: _Recording, recordings: list[_Recording]) -> list[Callable[[], np.ndarray]]:
    """Other digits of the same speaker, as `untrim` takes them."""
    return [
        functools.partial(_frames_of, other)
        for other in recordings
        if other.speaker == recording.speaker and other.digit != recording.digit
    ]


def _frames_of(recording: _Recording) -> np.ndarray:
    return recording.frames


_MISSING = (
    "the digits need a place: give root= (--root) or set LAC_DIGITS to the folder of the Free Spoken Digit "
    "Dataset (the one that holds 'recordings') or to the packed .npz file"
)


def _recordings(path: Path) -> list[_Recording]:
    """All recordings, by speaker, digit and number, each speaker's standardised."""
    raw = _packed(path) if path.is_file() else _official(path)
    raw.sort(key=lambda recording: (recording.speaker, recording.digit, recording.number))
    standardised = []
    for speaker in sorted({recording.speaker for recording in raw}):
        own = [recording for recording in raw if recording.speaker == speaker]
        frames = np.concatenate([recording.frames for recording in own])
        mean = frames.mean(axis=0, dtype=np.float64)
        deviation = np.maximum(frames.std(axis=0, dtype=np.float64), _LEAST_DEVIATION)
        for recording in own:
            scaled = ((recording.frames - mean) / deviation).astype(np.float32)
            standardised.append(dataclasses.replace(recording, frames=scaled))
    return standardised


def _packed(path: Path) -> list[_Recording]:
    frames, meta, speakers = read_npz(path, ("frames", "meta", "speakers")).values()
    if meta.ndim != 2 or meta.shape[1] != 4 or meta.dtype.kind not in "iu" or not len(meta):
        raise DataError(f"{path}: meta must be (recordings, 4) whole numbers, got {meta.shape} {meta.dtype}")
    if speakers.ndim != 1 or speakers.dtype.kind != "U":
        raise DataError(f"{path}: speakers must be (speakers,) names, got {speakers.shape} {speakers.dtype}")
    low, high = meta.min(axis=0), meta.max(axis=0)
    if low.min() < 0 or low[3] < 1 or high[0] >= len(DIGITS) or high[1] >= len(speakers):
        raise DataError(
            f"{path}: meta must hold digits 0 to 9, places of {len(speakers)} speakers, numbers from 0 and lengths "
            f"from 1, got {low.tolist()} to {high.tolist()}"
        )
    ends = np.cumsum(meta[:, 3], dtype=np.int64)
    if frames.shape != (ends[-1], BANDS):
        raise DataError(f"{path}: meta has {ends[-1]} frames of {BANDS} bands, but frames are {frames.shape}")
    if frames.dtype.kind not in "iuf" or not (np.abs(frames) < np.finfo(np.float32).max).all():
        raise DataError(f"{path}: frames must be finite numbers within float32, got {frames.dtype}")
    return [
        _Recording(int(digit), str(speakers[place]), int(number), frames[end - length : end].astype(np.float32))
        for (digit, place, number, length), end in zip(meta, ends, strict=True)
    ]


def _official(root: Path) -> list[_Recording]:
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    recordings = []
    for path in sorted(folder.glob("[!.]*.wav")):  # a Mac leaves files behind whose names begin with a dot
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise DataError(f"{path}: expected a name such as 7_jackson_32.wav, digit, speaker and number")
        with naming(path):
            frames = log_mel(read_wav(path))
        recordings.append(_Recording(int(match[1]), match[2], int(match[3]), frames))
    if not recordings:
        raise FileNotFoundError(
            f"digits: no file such as 7_jackson_32.wav in {root / _FOLDER}; unpack the Free Spoken Digit Dataset there"
        )
    return recordings
