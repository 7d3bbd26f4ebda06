"""Files and names from anybody. Whatever a file holds, it is read, or one line names it."""

import hashlib
import io
import json
import pickle
import time
import wave
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io
import torch
from tensorboard.summary.writer.record_writer import RecordWriter
from tiny_run import SETTINGS, write_run
from tiny_video import write_video

import lac.data
from lac.data import convert as formats
from lac.data import reading
from lac.data.convert.mat import read_mat
from lac.data.convert.plain import LeftOut
from lac.data.folder import read_clip
from lac.data.pickles import read_pickle
from lac.data.reading import number, read_json, read_npz, read_table
from lac.model.backbone import _read as read_backbone
from lac.runs import checkpoint
from lac.runs.config import TrainConfig
from lac.runs.report import write_page
from lac.runs.state import start


def damaged(content: bytes, seed: int) -> bytes:
    """The content cut, or with some bytes drawn anew, or zero, or with something before or after it."""
    rng = np.random.default_rng(seed)
    kind = seed % 6
    if kind == 0:
        return content[: int(rng.integers(len(content)))]
    if kind == 5:
        return [content + b"\0", b"\0" + content, bytes(len(content)), rng.bytes(len(content))][seed // 6 % 4]
    changed = bytearray(content)
    # Headers stand at the beginning and lists of members at the end.
    low, high = {1: (0, 200), 2: (len(content) - 300, len(content)), 3: (0, len(content)), 4: (0, 2000)}[kind]
    low, high = max(low, 0), min(high, len(content))
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(low, high))
        some = changed[start : min(start + int(rng.integers(1, 9)), high)]
        changed[start : start + len(some)] = bytes(len(some)) if rng.integers(2) else rng.bytes(len(some))
    return bytes(changed)


def signed(content: bytes) -> bytes:
    """A checkpoint with the digest of its content as it is now: what somebody would make who means to do harm."""
    mark = checkpoint._MARK
    if (at := content.find(mark) + len(mark)) < len(mark) or len(content) < at + 64:
        return content
    blank = content[:at] + checkpoint._BLANK + content[at + 64 :]
    return content[:at] + hashlib.sha256(blank).hexdigest().encode() + content[at + 64 :]


def a_features_array(path):
    np.save(path, np.arange(60.0).reshape(20, 3))
    return lambda: read_clip(path)


def a_video(path):
    noise = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), dtype=np.uint8)
    write_video(path, noise, np.arange(8) / 25)
    return lambda: read_clip(path, size=8, backbone=None)


def an_image(path):
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(path)
    return lambda: read_clip(path.parent, size=8, backbone=None)


def a_packed_uiprmd(path, save=np.savez):
    meta = np.array([(1, subject, 1, 30) for subject in (1, 2, 7, 8)], np.int32)
    joints = np.random.default_rng(0).normal(size=(120, 17, 3)).astype(np.float16)
    save(path, joints=joints, labels=np.zeros(120, np.int8), meta=meta)
    return lambda: lac.data.load("uiprmd", path)


def a_compressed_uiprmd(path):
    return a_packed_uiprmd(path, np.savez_compressed)


def a_text_of_uiprmd(path):
    rows = np.random.default_rng(0).normal(size=(9, 117)).round(1)
    for subject in (1, 7):
        np.savetxt(path.with_name(f"m01_s{subject:02d}_e01_positions.txt"), rows, delimiter=",", fmt="%.1f")
    return lambda: lac.data.load("uiprmd", path.parent, untrimmed=False)


def packed_digits(path):
    meta = np.array([(digit, speaker, 0, 20) for speaker in range(3) for digit in range(2)], np.int32)
    frames = np.random.default_rng(0).normal(-6, 4, (120, 40)).astype(np.float16)
    np.savez(path, frames=frames, meta=meta, speakers=np.array(["ann", "bob", "cid"]))
    return lambda: lac.data.load("digits", path)


def a_spoken_digit(path):
    for name in (path.name, "0_bob_0.wav", "0_cid_0.wav"):
        with wave.open(str(path.with_name(name)), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.random.default_rng(0).integers(-9999, 9999, 900, dtype=np.int16).tobytes())
    return lambda: lac.data.load("digits", path.parent, untrimmed=False)


def a_watch(path):
    """Two people who swing an arm, in the form of seglearn: a pickle of a dictionary behind the header of an array."""
    swing = np.cos(2 * np.pi * np.arange(300) / 90)[:, None] * [1, 0, -1, 0, 0, 0]
    content = {"X": [swing, -swing], "y": np.array([6, 6]), "subject": np.array([1, 7]), "side": np.zeros(2)}
    boxed = np.empty((), dtype=object)
    boxed[()] = content
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(boxed, file, protocol=2)
    return lambda: lac.data.load("watch", path, untrimmed=False, repetitions=1)


def record(*parts):
    """A message of protobuf: numbers of fields and their bytes."""
    made = b""
    for field, part in parts:
        sizes = [len(part) >> shift & 127 for shift in range(0, 35, 7) if not shift or len(part) >> shift]
        made += bytes([field << 3 | 2, *(size | 128 for size in sizes[:-1]), sizes[-1]]) + part
    return made


def records_of_tcc(path):
    picture = io.BytesIO()
    PIL.Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture, "jpeg")
    entry = lambda name, value: (1, record((1, name), (2, value)))  # noqa: E731
    lists = [
        entry(b"video", record(*[(1, record((1, record((1, picture.getvalue())))))] * 2)),
        entry(b"frame_labels", record(*[(1, record((3, b"\x08\x01")))] * 2)),
    ]
    context = record(entry(b"name", record((1, record((1, b"one"))))))
    with open(path, "wb") as file:
        RecordWriter(file).write(record((1, context), (2, record(*lists))))
    return lambda: [item.load() for item in formats.FORMATS["tcc"][0](path.parent).items]


def a_pickle(path):
    entries = [{"name": "a", "video_file": "videos/a.mp4", "frame_label": np.arange(5)}]
    path.write_bytes(pickle.dumps(entries))
    (path.parent / "val.pkl").write_bytes(pickle.dumps([]))
    return lambda: formats.FORMATS["carl-pouring"][0](path.parent)


def a_split(path):
    (path.parent / "features").mkdir()
    for name in "ab":
        np.save(path.parent / "features" / f"{name}.npy", np.ones((3, 2)))
    path.write_text(json.dumps({"train": ["a"], "val": ["b"]}))
    return lambda: lac.data.load("folder", path.parent)


def names_of_labels(path):
    read = a_split(path.with_name("split.json"))
    path.write_text(json.dumps(["go", "come"]))
    return read


def a_table(path):
    path.write_text("time,label\n0.5,1\n0.8,0\n1.2,3\n")
    return lambda: read_table(path, ("time", "label"))


def a_manifest(path):
    path.write_text("video,time,label\na,0,go\na,0.5,come\nb,0,go\n")
    return lambda: formats.FORMATS["videos"][0](path.parent)


def a_mat(path):
    frames = path.parent.parent / "frames" / path.stem
    frames.mkdir(parents=True)
    (frames / "1.jpg").write_bytes(b"\xff\xd8 and no more is looked at")
    scipy.io.savemat(path, {"action": "squat", "train": 1})
    return lambda: [item.load() for item in formats.FORMATS["penn-action"][0](path.parent.parent).items]


def labels_of_penn(path):
    root = path.parents[3]
    (root / "labels").mkdir(parents=True)
    a_mat(root / "labels" / "0001.mat")
    np.save(path, np.arange(1))
    return lambda: [item.load() for item in formats.FORMATS["penn-action"][0](root).items]


def actions(path):
    read = a_split(path.with_name("split.json"))
    path.write_text("name,action,person\na,squat,ann\nb,squat,bob\n")
    return read


def settings(path):
    write_run(path.parent, path.parent, 3)
    return lambda: TrainConfig.of_run(path.parent)


def an_encoder(path):
    write_run(path.parent, path.parent, 3)
    return lambda: checkpoint.read_encoder(path.parent)


def a_loss(path):
    write_run(path.parent, path.parent, 3)
    return lambda: checkpoint.read_loss(path.parent)


def a_state(path):
    clips = [lac.data.Clip(name, np.ones((9, 3)) * k, np.arange(9)) for k, name in enumerate("abcd")]
    dataset = lac.data.Dataset("made up", clips[:3], clips[3:], [])
    config, cpu = TrainConfig.read(None, SETTINGS), torch.device("cpu")
    checkpoint.save(start(config, dataset, cpu), path.parent)
    fresh = start(config, dataset, cpu)
    return lambda: checkpoint.restore(fresh, path.parent)


def a_page(path):
    write_run(path.parent, path.parent, 3)
    metrics = {
        "data": "made up", "steps": 3, "clips": {"train": 3, "val": 1}, "verdict": ["good"], "left_out": {"x": "why"},
        "results": {"encoder": {"classification": {"1": 0.5}, "retrieval": {"5": 0.4}, "kendalls_tau": 0.3}},
        "environment": {"lac": "0"}, "seconds": {"training": 2.0}, "not_drawn": {"alignment.png": "no"},
    }  # fmt: skip
    path.write_text(json.dumps(metrics))
    return lambda: write_page(path.parent)


def weights_of_a_backbone(path):
    torch.save({"a": torch.arange(6.0), "b": torch.zeros(2, 3)}, path)
    return lambda: read_backbone(path)


KINDS = [
    ("a.npy", a_features_array),
    ("a.mp4", a_video),
    ("a.avi", a_video),
    ("a.mkv", a_video),
    ("frames/a.png", an_image),
    ("frames/a.jpg", an_image),
    ("frames/a.tif", an_image),
    ("a.npz", a_packed_uiprmd),
    ("a.npz", a_compressed_uiprmd),
    ("m01_s01_e01_positions.txt", a_text_of_uiprmd),
    ("a.npz", packed_digits),
    ("0_ann_0.wav", a_spoken_digit),
    ("a.npy", a_watch),
    ("train.pkl", a_pickle),
    ("pouring_train-0-of-1.tfrecord", records_of_tcc),
    ("split.json", a_split),
    ("label_names.json", names_of_labels),
    ("a.csv", a_table),
    ("labels.csv", a_manifest),
    ("of_somebody/clips.csv", actions),
    ("of_somebody/config.yaml", settings),
    ("of_somebody/model.safetensors", an_encoder),
    ("of_somebody/loss.safetensors", a_loss),
    ("of_somebody/trainer.pt", a_state),
    ("of_somebody/metrics.json", a_page),
    ("weights.pt", weights_of_a_backbone),
    ("labels/0001.mat", a_mat),
    ("penn_action_labels/train/squat/0001.npy", labels_of_penn),
]


def attempts(path: Path, make, seeds):
    """Read the file whole, then damaged by each of the seeds; what comes must be a value, or an error that names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    read = make(path)
    read()
    content = path.read_bytes()
    refused: list[str] = []
    for seed in seeds:
        path.write_bytes(signed(damaged(content, seed)))
        began = time.monotonic()
        try:
            read()
        except LeftOut as error:  # which the report of a conversion lists beside its clip
            refused.append(f"{path.name}: {error}")
        except (ValueError, OSError) as error:
            refused.append(f"seed {seed}: {error}")
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        assert time.monotonic() - began < 30, f"seed {seed}"
    assert refused  # or nothing was damaged
    assert [line for line in refused if path.name not in line and path.parent.name not in line] == []


@pytest.mark.promise("files")
@pytest.mark.parametrize(("name", "make"), KINDS)
def test_damaged_files_are_named(tmp_path, name, make, record_property):
    """A file that is cut or changed at random is read, or one line names it; nothing crashes or hangs."""
    attempts(tmp_path / name, make, range(18))
    record_property("cases", 18)


@pytest.mark.promise("files")
@pytest.mark.slow
@pytest.mark.parametrize(("name", "make"), KINDS)
def test_many_damaged_files_are_named(tmp_path, name, make, record_property):
    """A thousand files of each kind, cut or changed at random: each is read, or one line names it."""
    attempts(tmp_path / name, make, range(1000, 2000))
    record_property("cases", 1000)


def test_an_archive_unpacks_to_what_it_says(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, one=np.zeros((500, 1000)), two=np.arange(3))
    assert {name: array.shape for name, array in read_npz(path, ("two", "one")).items()} == {
        "two": (3,),
        "one": (500, 1000),
    }
    with pytest.raises(ValueError, match=r"a\.npz is not an archive of the arrays one, three: There is no item named"):
        read_npz(path, ("one", "three"))
    # A bomb: zeros shrink a thousand times.
    monkeypatch.setattr(reading, "MOST_UNPACKED", 1_000_000)
    with pytest.raises(ValueError, match=r"its arrays unpack to 4000\d+ bytes; at most 1000000 are taken"):
        read_npz(path, ("one", "two"))
    np.savez(path, one=np.zeros((500, 1000)))  # as large as it is on the disk
    assert read_npz(path, ("one",))["one"].size == 500_000


def test_a_header_within_an_archive_is_not_believed(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("one.npy", header.getvalue() + bytes(80))
    with pytest.raises(ValueError, match=r"its header promises 8000000000000 bytes, but 80 follow"):
        read_npz(tmp_path / "a.npz", ("one",))


@pytest.mark.parametrize(
    ("place", "read"),
    [
        ("lac.data.reading._array", lambda path: reading.read_npy(path)),
        ("lac.data.reading._array", lambda path: read_npz(path, ["a"])),
        ("lac.data.watch._unpickle", lambda path: lac.data.load("watch", path)),
        ("lac.data.pickles.unpickled", read_pickle),
    ],
)
def test_an_error_without_words_is_named_by_its_type(tmp_path, monkeypatch, place, read):
    def silent(*_):
        raise MemoryError

    monkeypatch.setattr(place, silent)
    path = tmp_path / "some.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(ValueError, match=r"some\.npz.*: MemoryError$"):
        read(path)


def test_json_and_tables_with_marks(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\ufeff["ü"]', encoding="utf-8")
    assert read_json(path) == ["ü"]
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a\.json is not JSON: .*recursion"):
        read_json(path)
    path.write_text("Frame;VIDEO;label;\n3;a;go;\n;;;\n4;b;;\n", encoding="utf-8-sig")
    header, lines = read_table(path, ("video", "time", "label"), ("video", "frame", "label"))
    assert header == ("video", "frame", "label")
    assert lines == [
        (2, {"video": "a", "frame": "3", "label": "go"}),
        (4, {"video": "b", "frame": "4", "label": ""}),
    ]


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("1,5", 1.5), ("-2", -2), ("1e3", 1000)])
def test_numbers(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1,234.5", "1,2,3", "1.2.3", "x"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match=r"is not finite|could not convert"):
        number(text)


def test_variables_of_matlab(tmp_path):
    variables = {
        "action": "squat",
        "x": np.arange(6.0).reshape(2, 3),
        "train": -1,
        "s": {"a": 1},
        "v": np.ones(2, bool),
    }
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=compressed)
        found = read_mat(tmp_path / "a.mat")
        assert found.pop("action") == "squat"
        assert {name: array.tolist() for name, array in found.items()} == {
            "x": [0, 3, 1, 4, 2, 5], "train": [-1], "v": [1, 1]
        }  # fmt: skip
    scipy.io.savemat(tmp_path / "a.mat", {"train": 1}, format="4")
    with pytest.raises(ValueError, match=r"a\.mat is not a \.mat file of version 5"):
        read_mat(tmp_path / "a.mat")
