"""UI-PRMD and the watch data as their publishers write them, with made-up people in them."""

import pickle

import numpy as np

from lac.data import uiprmd
from lac.data.phases import half_way_phases


def movement(subject, repetition, number, frames):
    """A made-up person who goes down and up again: 17 joints in whole mm, which float16 keeps, (T, 17, 3)."""
    rng = np.random.default_rng([subject, repetition, number])
    pose = rng.integers(200, 900, size=(17, 3))
    pose[uiprmd._LEFT_HIP], pose[uiprmd._RIGHT_HIP] = (500, 600, 900), (500, 400, 900)
    pose[uiprmd._PELVIS] = (500, 500, 900)
    joints = np.repeat(pose[None], frames, axis=0)
    joints[:, :11, 2] -= np.rint(300 * np.sin(np.linspace(0, np.pi, frames)) ** 4).astype(int)[:, None]
    return joints + rng.integers(-3, 4, size=(frames, 1, 3))


RECORDINGS = [
    (number, subject, repetition, 30 + 3 * subject + number)
    for number in (1, 2, 5)
    for subject in (1, 6, 7, 10)
    for repetition in (1, 2)
]


def write_official(root):
    """The publisher's folder."""
    folder = root / "Segmented Movements" / "Vicon" / "Positions"
    folder.mkdir(parents=True)
    for number, subject, repetition, frames in RECORDINGS:
        markers = np.zeros((4 * frames - 1, 39, 3))  # 100 Hz; the frames in between are never looked at
        joints = movement(subject, repetition, number, frames)
        for place, names in enumerate(uiprmd._JOINT_MARKERS.values()):
            for name in names:
                if name not in ("LASI", "RASI", "LPSI", "RPSI"):
                    markers[::4, uiprmd._MARKERS.index(name)] = joints[:, place]
        for hip, sides in ((uiprmd._LEFT_HIP, "LASI LPSI"), (uiprmd._RIGHT_HIP, "RASI RPSI")):
            for name in sides.split():
                markers[::4, uiprmd._MARKERS.index(name)] = joints[:, hip]
        name = f"m{number:02d}_s{subject:02d}_e{repetition:02d}_positions.txt"
        np.savetxt(folder / name, markers.reshape(len(markers), -1), delimiter=",", fmt="%.1f")
    (folder / "readme.txt").write_text("not a recording")
    return root


def write_packed(path):
    """The packed file of the same recordings."""
    joints = [movement(s, r, n, f) for n, s, r, f in RECORDINGS]
    labels = [
        half_way_phases(-j[:, uiprmd._PELVIS, 2]) if n in (1, 5) else np.full(f, -1)
        for j, (n, _, _, f) in zip(joints, RECORDINGS, strict=True)
    ]
    np.savez(
        path,
        joints=np.concatenate(joints).astype(np.float16),
        labels=np.concatenate(labels).astype(np.int8),
        meta=np.array(RECORDINGS, dtype=np.int32),
    )
    return path


def watch_file(path, content):
    """The file of the package seglearn."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(content, file, protocol=2)
    return path


def made_up_watch(seconds=20):
    """A swing of 1.5 s and .1 s more for each number of the person, all seven exercises the same."""
    rng = np.random.default_rng(0)
    t = np.arange(50 * seconds) / 50
    content = {"X": [], "y": [], "subject": [], "side": []}
    for subject in (1, 2, 7, 8):
        for side in (0, 1):
            for exercise in range(7):
                period = 1.5 + 0.1 * subject
                swing = np.cos(2 * np.pi * t / period)
                signal = np.stack([swing, 0 * t, -swing, 0 * t, 0 * t, 0 * t], axis=1)
                signal[:, 0] *= -1 if side else 1
                content["X"].append(signal + 0.02 * rng.normal(size=signal.shape))
                for key, value in (("y", exercise), ("subject", subject), ("side", float(side))):
                    content[key].append(value)
    content |= {key: np.array(content[key]) for key in ("y", "subject", "side")}
    boxed = np.empty((), dtype=object)
    boxed[()] = content
    return boxed
