"""UI-PRMD: motion capture of physiotherapy exercises.

Vakanski, Jun, Paul and Baker, "A Data Set of Human Body Movements for Physical Rehabilitation Exercises",
Data 3(1):2, 2018, doi 10.3390/data3010002 (Open Data Commons Public Domain Dedication and License). Ten
movements, ten people, about ten repetitions each, one file a repetition. Two forms are read: the publisher's
folder and a packed `.npz` of the same recordings.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lac.bounds import read_text
from lac.data.base import Clip, Dataset
from lac.data.cameras import seen, with_hidden_joints
from lac.data.phases import half_way_phases
from lac.data.reading import naming, place_of, read_npz
from lac.data.untrimmed import untrim
from lac.errors import ConfigError, DataError

RATE = 25.0
MOVEMENTS = (
    "deep_squat",
    "hurdle_step",
    "inline_lunge",
    "side_lunge",
    "sit_to_stand",
    "active_straight_leg_raise",
    "shoulder_abduction",
    "shoulder_extension",
    "shoulder_int_ext_rotation",
    "shoulder_scaption",
)
PHASES = ["going down", "down past half", "coming up", "up past half"]
# These two go down and come up again, so the rule of half_way_phases has a meaning for them.
WITH_PHASES = ("deep_squat", "sit_to_stand")
TRAIN_SUBJECTS = frozenset(range(1, 7))

_JOINT_MARKERS = {
    "head": ["LFHD", "RFHD", "LBHD", "RBHD"],
    "neck": ["C7", "CLAV"],
    "ls": ["LSHO"],
    "rs": ["RSHO"],
    "le": ["LELB"],
    "re": ["RELB"],
    "lw": ["LWRA", "LWRB"],
    "rw": ["RWRA", "RWRB"],
    "pel": ["LASI", "RASI", "LPSI", "RPSI"],
    "lh": ["LASI", "LPSI"],
    "rh": ["RASI", "RPSI"],
    "lk": ["LKNE"],
    "rk": ["RKNE"],
    "la": ["LANK"],
    "ra": ["RANK"],
    "lt": ["LTOE"],
    "rt": ["RTOE"],
}
JOINTS = tuple(_JOINT_MARKERS)
# Which of them are joined by a limb, to draw a person.
BONES = tuple(
    (JOINTS.index(start), JOINTS.index(end))
    for start, end in (
        bone.split()
        for bone in (
            "head neck", "neck ls", "neck rs", "ls le", "le lw", "rs re", "re rw", "neck pel",
            "pel lh", "pel rh", "lh lk", "lk la", "la lt", "rh rk", "rk ra", "ra rt",
        )
    )
)  # fmt: skip
_PELVIS, _LEFT_HIP, _RIGHT_HIP = (JOINTS.index(joint) for joint in ("pel", "lh", "rh"))
_LEGS = [[JOINTS.index(joint) for joint in leg.split()] for leg in ("lh lk la", "rh rk ra")]

# Order of the columns in the publisher's files: the 39 markers of Vicon's Plug-in Gait model.
_MARKERS = [
    "LFHD", "RFHD", "LBHD", "RBHD", "C7", "T10", "CLAV", "STRN", "RBAK", "LSHO", "LUPA", "LELB", "LFRM",
    "LWRA", "LWRB", "LFIN", "RSHO", "RUPA", "RELB", "RFRM", "RWRA", "RWRB", "RFIN", "LASI", "RASI",
    "LPSI", "RPSI", "LTHI", "LKNE", "LTIB", "LANK", "LHEE", "LTOE", "RTHI", "RKNE", "RTIB", "RANK",
    "RHEE", "RTOE",
]  # fmt: skip
_OFFICIAL = Path("Segmented Movements", "Vicon", "Positions")
_OFFICIAL_RATE = 100.0
_FILE_NAME = re.compile(r"m(\d\d)_s(\d\d)_e(\d\d)_positions\.txt")


@dataclass(frozen=True)
class _Recording:
    movement: int
    subject: int
    repetition: int
    joints: Callable[[], np.ndarray]  # (T, 17, 3) float64, mm, 25 Hz
    labels: np.ndarray | None  # given with the recording, or None


def load(
    root: str | Path | None = None,
    *,
    movement: str | int | list[str | int] = "deep_squat",
    untrimmed: bool = True,
    max_distractors: int = 75,
    speed: tuple[float, float] = (0.6, 1.6),
    share: float | None = None,
    camera: str | None = None,
    hidden: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """UI-PRMD: subjects 1 to 6 to train on, 7 to 10 to validate.

    A frame is 17 joints x 3 coordinates, (17, 3) float32 at 25 Hz, made the same for all people and places:
    minus the pelvis, turned about the vertical until the hips point along the second axis, divided by the
    person's leg length (hip to knee to ankle, mean of both legs, median over the recording). The third axis
    is up.

    Labels are the four phases of `lac.data.phases.half_way_phases` of minus the pelvis' height, for the
    deep squat and for sit to stand; they are made by a rule, not by people. The packed file brings the same
    labels with it. Other movements have none (`labels=None`).

    Args:
        root: the packed `.npz`, or the publisher's folder (the one that holds `Segmented Movements`),
            whose 100 Hz are taken down to 25 by every fourth frame. `None`: the environment variable
            `LAC_UIPRMD`.
        movement: name or number 1 to 10 of `MOVEMENTS`, a list of these, or "all". Of several movements each has
            labels of its own, distractors are of none of them as long as others are left, and training clips are in the
            order of repetition, person and movement, so that their first tenth holds all movements.
        untrimmed: put frames of other movements of the same person (label -1) before and after, see
            `lac.data.untrimmed.untrim`. Trimmed clips are too easy to tell embeddings apart.
        max_distractors: greatest number of frames of such a piece.
        speed: smallest and greatest speed of an untrimmed clip.
        share: instead of `max_distractors`: part of each untrimmed clip that belongs to other movements, in [0, 1).
        camera: "clip" or "person": what a camera sees that stands somewhere else for each clip, or for each person,
            as in videos of different people: (17, 2) a frame, see `lac.data.cameras.seen`. `None`: the frame of the
            person, (17, 3).
        hidden: share of the joints that are hidden, 0, in each frame; in [0, 1).
        seed: of the pieces, speeds, cameras and hidden joints; the same seed gives the same data set.

    Raises:
        FileNotFoundError: no root, or nothing there.
        ValueError: unknown movement, a file that is not what it should be, or a split without a clip.
    """
    numbers = _movement_numbers(movement)
    if max_distractors < 0 or len(speed) != 2 or not 0 < speed[0] <= speed[1] < math.inf:
        raise ConfigError(f"max_distractors must be >= 0 and speed 0 < low <= high, got {max_distractors} and {speed}")
    if share is not None and not 0 <= share < 1:
        raise ConfigError(f"share of other movements must lie in [0, 1), got {share}")
    if camera not in (None, "clip", "person"):
        raise ConfigError(f"camera must be 'clip', 'person' or None, got {camera!r}")
    if not 0 <= hidden < 1:
        raise ConfigError(f"hidden must lie in [0, 1), got {hidden}")
    path = place_of(root, "LAC_UIPRMD", "UI-PRMD", _MISSING)
    recordings = _packed(path) if path.is_file() else _official(path)
    phases = [number for number in numbers if MOVEMENTS[number - 1] in WITH_PHASES]
    splits: dict[bool, list[tuple[_Recording, Clip]]] = {True: [], False: []}
    for recording in recordings:
        if recording.movement not in numbers:
            continue
        clip = _clip(recording, phases)
        if untrimmed:
            others = _others(recording, recordings, numbers)
            rng = np.random.default_rng([seed, recording.movement, recording.subject, recording.repetition])
            tempo = float(speed[0]), float(speed[1])
            clip = untrim(clip, others, rng, max_distractors=max_distractors, speed=tempo, share=share)
        clip = dataclasses.replace(clip, frames=_recorded(clip.frames, recording, camera, hidden, seed))
        splits[recording.subject in TRAIN_SUBJECTS].append((recording, clip))
    if len(numbers) > 1:  # all of them among the first tenth
        splits[True].sort(key=lambda row: (row[0].repetition, row[0].subject, row[0].movement))
    train, val = ([clip for _, clip in splits[part]] for part in (True, False))
    labels = [
        phase if len(numbers) == 1 else f"{MOVEMENTS[number - 1]}: {phase}" for number in phases for phase in PHASES
    ]
    with naming(path):
        return Dataset(_title(numbers, untrimmed, camera, hidden), train, val, labels, bones=BONES, upwards=True)


def _title(numbers: Sequence[int], untrimmed: bool, camera: str | None, hidden: float) -> str:
    shown = "all" if len(numbers) == len(MOVEMENTS) else "+".join(MOVEMENTS[number - 1] for number in numbers)
    title = f"uiprmd {shown} {'untrimmed' if untrimmed else 'trimmed'}"
    title += f", a camera per {camera}" if camera else ""
    return title + (f", {100 * hidden:g}% of the joints hidden" if hidden else "")


def _clip(recording: _Recording, phases: Sequence[int]) -> Clip:
    """The recording as it is; its labels are those of the movements `phases` one after another."""
    joints, labels = recording.joints(), None
    if recording.movement in phases:
        labels = half_way_phases(-joints[:, _PELVIS, 2]) if recording.labels is None else recording.labels
        labels = np.where(labels < 0, labels, labels + len(PHASES) * phases.index(recording.movement))
    name = f"m{recording.movement:02d}_s{recording.subject:02d}_e{recording.repetition:02d}"
    action, person = MOVEMENTS[recording.movement - 1], f"s{recording.subject:02d}"
    return Clip(name, _features(joints), np.arange(len(joints)) / RATE, labels, action, person)


def _others(
    recording: _Recording, recordings: Sequence[_Recording], numbers: Sequence[int]
) -> list[Callable[[], np.ndarray]]:
    """Frames of other movements of the same person; of none of the data set's own where there are others."""
    same = [x for x in recordings if x.subject == recording.subject and x.movement != recording.movement]
    outside = [x for x in same if x.movement not in numbers]
    return [functools.partial(_features_of, x) for x in outside or same]


_CAMERA, _HIDDEN = 1, 2  # what is drawn, beside the pieces of an untrimmed clip


def _recorded(frames: np.ndarray, recording: _Recording, camera: str | None, hidden: float, seed: int) -> np.ndarray:
    """The poses as they are recorded: by a camera, with joints hidden."""
    clip = [recording.movement, recording.subject, recording.repetition]
    if camera is not None:
        place = [recording.subject] if camera == "person" else clip
        frames = seen(frames, np.random.default_rng([seed, _CAMERA, *place, 0]))
    if hidden:
        frames = with_hidden_joints(frames, hidden, np.random.default_rng([seed, _HIDDEN, *clip, 0]))
    return frames


def _movement_numbers(movement: str | int | Sequence[str | int]) -> list[int]:
    """In the order of MOVEMENTS, each once."""
    if movement == "all":
        return list(range(1, len(MOVEMENTS) + 1))
    given = [movement] if isinstance(movement, str | int) else list(movement)
    if not given:
        raise ConfigError("movement must name one movement at least, got an empty list")
    return sorted({_movement_number(x) for x in given})


def _movement_number(movement: str | int) -> int:
    text = str(movement)
    if text in MOVEMENTS:
        return MOVEMENTS.index(text) + 1
    if text.isdecimal() and 1 <= int(text) <= len(MOVEMENTS):
        return int(text)
    raise ConfigError(
        f"unknown movement {movement!r}: give a number from 1 to {len(MOVEMENTS)} or one of " + ", ".join(MOVEMENTS)
    )


_MISSING = (
    "UI-PRMD needs a place: give root= (--root) or set LAC_UIPRMD to the publisher's folder (the one "
    "that holds 'Segmented Movements') or to the packed .npz file"
)


def _packed(path: Path) -> list[_Recording]:
    joints, labels, meta = read_npz(path, ("joints", "labels", "meta")).values()
    if meta.ndim != 2 or meta.shape[1] != 4 or meta.dtype.kind not in "iu" or not len(meta) or meta.min() < 1:
        raise DataError(f"{path}: meta must be (recordings, 4) whole numbers from 1, got {meta.shape} {meta.dtype}")
    ends = np.cumsum(meta[:, 3], dtype=np.int64)
    if joints.shape != (ends[-1], len(JOINTS), 3) or labels.shape != joints.shape[:1]:
        raise DataError(f"{path}: meta has {ends[-1]} frames, but joints are {joints.shape} and labels {labels.shape}")
    if joints.dtype.kind not in "iuf" or not np.isfinite(joints).all() or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: joints must be finite and labels whole numbers, got {joints.dtype}, {labels.dtype}")

    def part(start: int, end: int) -> np.ndarray:
        return np.asarray(joints[start:end], dtype=np.float64)

    return [
        _Recording(
            int(movement),
            int(subject),
            int(repetition),
            functools.partial(part, int(end - length), int(end)),
            labels[end - length : end].astype(np.int64),
        )
        for (movement, subject, repetition, length), end in zip(meta, ends, strict=True)
    ]


def _official(root: Path) -> list[_Recording]:
    folder = root / _OFFICIAL if (root / _OFFICIAL).is_dir() else root
    found = [(path, _FILE_NAME.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    recordings = [
        _Recording(int(match[1]), int(match[2]), int(match[3]), functools.partial(_read_official, path), None)
        for path, match in found
        if match
    ]
    if not recordings:
        raise FileNotFoundError(
            f"UI-PRMD: no file such as m01_s01_e01_positions.txt in {root / _OFFICIAL}; unpack the "
            "publisher's 'Segmented Movements' there"
        )
    return recordings


def _read_official(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty file, which has no columns below
        try:
            values = np.loadtxt(read_text(path).splitlines(), delimiter=",", ndmin=2)
        except ValueError as error:
            raise DataError(f"{path}: expected comma-separated numbers: {error}") from error
    if values.shape[1] != 3 * len(_MARKERS):
        raise DataError(
            f"{path}: expected {len(_MARKERS)} markers x 3 = {3 * len(_MARKERS)} columns, got {values.shape[1]}"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{path}: expected finite numbers, got {values[~np.isfinite(values)][0]}")
    markers = values[:: round(_OFFICIAL_RATE / RATE)].reshape(-1, len(_MARKERS), 3)
    joints = [markers[:, [_MARKERS.index(marker) for marker in _JOINT_MARKERS[joint]]].mean(axis=1) for joint in JOINTS]
    return np.stack(joints, axis=1)


def _features_of(recording: _Recording) -> np.ndarray:
    return _features(recording.joints())


def _features(joints: np.ndarray) -> np.ndarray:
    """(T, 17, 3) positions in mm -> (T, 17, 3) float32 without place, direction and size of the person."""
    centred = joints - joints[:, _PELVIS : _PELVIS + 1]
    across = joints[:, _LEFT_HIP, :2] - joints[:, _RIGHT_HIP, :2]
    across = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    # The left hip goes to +y, so that the person looks along +x.
    x = centred[..., 0] * across[:, None, 1] - centred[..., 1] * across[:, None, 0]
    y = centred[..., 0] * across[:, None, 0] + centred[..., 1] * across[:, None, 1]
    legs = [
        np.linalg.norm(np.diff(joints[:, leg], axis=1), axis=2).sum(axis=1)  # hip-knee + knee-ankle
        for leg in _LEGS
    ]
    size = max(float(np.median(np.mean(legs, axis=0))), 1e-9)
    return (np.stack([x, y, centred[..., 2]], axis=-1) / size).astype(np.float32)
