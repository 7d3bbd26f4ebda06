"""Data sets in the layouts in which their authors publish them, drawn and written here, and what becomes of them."""

import io
import json
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import scipy.io
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorboard.summary.writer.record_writer import RecordWriter
from tiny_video import grey, write_video

import lac.data
from lac.data.convert import FORMATS, convert
from lac.data.convert.penn_events import ACTIONS, phases
from lac.data.pickles import read_pickle


def run(name, source, out, **options):
    report = convert(name, source, out, read=FORMATS[name][0], **options)
    assert json.loads((out / "conversion.json").read_text()) == report
    return report


def reasons(report):
    return {one["clip"]: one["reason"] for one in report["left_out"]}


def labels(out, name):
    array = np.load(out / "labels" / f"{name}.npy", allow_pickle=False)
    assert array.dtype == np.int64
    return array.tolist()


def split(out):
    return json.loads((out / "split.json").read_text())


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        pickle.dump(content, file)


def film(path, length):
    return write_video(path, grey(np.arange(length) * 10), np.arange(length) / 25)


def write_images(folder, length, first=1):
    folder.mkdir(parents=True)
    for k in range(length):
        PIL.Image.fromarray(grey([k * 10])[0]).save(folder / f"{first + k:06d}.jpg")


def level(path):
    return np.asarray(PIL.Image.open(path)).mean()


# Pickles of CARL and LAC


def entry(root, name, values, length=None, *, folder="videos", dtype=torch.int64, **more):
    film(root / folder / f"{name}.mp4", length or len(values))
    label = torch.tensor(values, dtype=dtype)
    video = f"{folder}/{name}.mp4"
    return {"id": 0, "video_file": video, "frame_label": label, "seq_len": len(label), "name": name} | more


@pytest.fixture
def pouring(tmp_path):
    root = tmp_path / "pouring"
    write_pickle(root / "train.pkl", [entry(root, "b", [0, 0, 1, 2, 3, 4]), entry(root, "a", [0, 1, 2, 3, 3, 4, 4])])
    write_pickle(root / "val.pkl", [entry(root, "c", [0, 1, 1, 2, 3])])
    return root


def test_pouring(pouring, tmp_path):
    told = []
    out = tmp_path / "out"
    report = run("carl-pouring", pouring, out, tell=lambda *what: told.append(what))
    assert told == [(0, 3, "b"), (1, 3, "a"), (2, 3, "c")]
    assert split(out) == {
        "train": ["b", "a"],
        "val": ["c"],
    }  # in their order: the first ones are labelled in evaluations
    assert labels(out, "a") == [0, 1, 2, 3, 3, 4, 4]
    assert os.path.samefile(out / "videos" / "a.mp4", pouring / "videos" / "a.mp4")
    assert json.loads((out / "label_names.json").read_text()) == [
        "start to hand touches bottle",
        "hand touches bottle to liquid starts exiting",
        "liquid starts exiting to pouring complete",
        "pouring complete to bottle back on table",
        "bottle back on table to end",
    ]
    assert report["complete"] is True
    assert report["left_out"] == report["notes"] == []
    counts = {"0": 4, "1": 4, "2": 3, "3": 4, "4": 3}
    assert report["tasks"] == {".": {"clips": 3, "train": 2, "val": 1, "frames": 18, "labels": counts}}
    assert not list(out.rglob(".*"))
    data = lac.data.load("folder", out, fps=25, backbone=None)
    assert [len(clip) for clip in data.train + data.val] == [6, 7, 5]
    assert data.train[1].labels.tolist() == [0, 1, 2, 3, 3, 4, 4]
    assert len(data.label_names) == 5


def test_what_is_left_out(tmp_path):
    root, out = tmp_path / "pouring", tmp_path / "out"
    good = entry(root, "good", [0, 1])
    bad = [
        entry(root, "short", [0, 1, 1], 4),
        entry(root, "shorter", [0, 1], 5),
        entry(root, "gone", [0, 1]),
        entry(root, "empty", [0, 1]),
        entry(root, "broken", [0, 1]),
        entry(root, "float", [0, 0.5], dtype=torch.float32),
        entry(root, "nan", [0, float("nan")], dtype=torch.float32),
        entry(root, "up", [0, 1]) | {"name": "../up"},
        entry(root, "number", [0, 1]) | {"name": torch.tensor(3)},
        entry(root, "beside", [0, 1]) | {"video_file": "../beside.mp4"},
        entry(root, "text", [0, 1]) | {"frame_label": "01"},
        good | {"frame_label": np.array([1, 1])},
    ]
    (root / "videos" / "gone.mp4").unlink()
    (root / "videos" / "empty.mp4").write_bytes(b"")
    (root / "videos" / "broken.mp4").write_bytes(b"something else")
    film(tmp_path / "beside.mp4", 2)
    write_pickle(root / "train.pkl", [good, *bad])
    write_pickle(root / "val.pkl", [entry(root, "other", [-1, 4])])
    report = run("carl-pouring", root, out)
    assert reasons(report) == {
        "short": "labels off by one",
        "shorter": "labels do not fit",
        "gone": "video is missing",
        "empty": "video is empty",
        "broken": "video cannot be read",
        "float": "labels are not whole numbers",
        "nan": "labels are not whole numbers",
        "../up": "name is not a file name",
        "tensor(3)": "name is not a file name",
        "beside": "video outside the data set",
        "text": "labels are not whole numbers",
        "good": "name is taken",
    }
    assert next(one for one in report["left_out"] if one["clip"] == "short")["detail"] == "3 labels, 4 frames"
    assert report["left_out_by_reason"]["labels are not whole numbers"] == 3
    assert split(out) == {"train": ["good"], "val": ["other"]}
    assert sorted(path.name for path in (out / "videos").iterdir()) == ["good.mp4", "other.mp4"]
    assert labels(out, "good") == [0, 1]
    assert labels(out, "other") == [-1, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside.mp4", "out", "pouring"]


LEADING_ELSEWHERE = ["", "..", "../up", "/up", "a/../../up", "..\\up", "C:up", "\\\\host\\up", "u\0p", "u\np", ".up"]


def test_names_that_lead_elsewhere(tmp_path):
    """In the pickles of CARL and the labels.csv of videos; those of TFRecords have a test below."""
    root, good = tmp_path / "a" / "pouring", []
    good.append(entry(root, "good", [0, 1]))
    named = [good[0] | {"name": name} for name in LEADING_ELSEWHERE]
    filmed = [good[0] | {"name": f"film{k}", "video_file": name} for k, name in enumerate(LEADING_ELSEWHERE)]
    film(tmp_path / "a" / "up.mp4", 2).rename(tmp_path / "a" / "up")
    write_pickle(root / "train.pkl", good + named + filmed)
    write_pickle(root / "val.pkl", [entry(root, "other", [0, 1])])
    report = run("carl-pouring", root, tmp_path / "a" / "out")
    assert [clip["clip"] for clip in report["clips"]] == ["good", "other"]
    assert report["left_out_by_reason"] == {
        "name is not a file name": len(named),
        "video outside the data set": len(filmed),
    }
    mine = tmp_path / "a" / "mine"
    film(mine / "a.mp4", 2)
    names = [name for name in LEADING_ELSEWHERE if name.isprintable()]  # the csv module of Python 3.10 takes no NUL
    (mine / "labels.csv").write_text("video,time,label\na,0,1\n" + "".join(f'"{name}",0,1\n' for name in names))
    report = run("videos", mine, tmp_path / "a" / "out2")
    assert [clip["clip"] for clip in report["clips"]] == ["a"]
    assert report["left_out_by_reason"] == {"name is not a file name": len(names)}
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"pouring", "mine", "out", "out2", "up"}


def test_penn_of_carl(tmp_path):
    root, out = tmp_path / "penn_action", tmp_path / "out"
    squat, pushup = ACTIONS.index("squat"), ACTIONS.index("pushup")
    train = [
        entry(root, "0001_squat", [0, 1, 2, 3], action_label=squat),
        entry(root, "0002_pushup", [0, 1, 1], action_label=pushup),
    ]
    val = [
        entry(root, "0003_squat", [0, 2, 3], action_label=squat),
        entry(root, "0004_pushup", [0, 2], action_label=pushup),  # a phase more than the paper's
    ]
    write_pickle(root / "train.pkl", (train, [[0] if k == squat else [1] if k == pushup else [] for k in range(13)]))
    write_pickle(root / "val.pkl", (val, [[] for _ in range(13)]))
    report = run("carl-penn", root, out)
    assert split(out / "squat") == {"train": ["0001_squat"], "val": ["0003_squat"]}
    assert split(out / "pushup") == {"train": ["0002_pushup"], "val": ["0004_pushup"]}
    assert labels(out / "squat", "0003_squat") == [0, 2, 3]
    assert report["tasks"]["pushup"]["frames"] == 5
    assert json.loads((out / "squat" / "label_names.json").read_text()) == phases("squat")
    assert not (out / "pushup" / "label_names.json").exists()
    assert len(report["notes"]) == 1
    assert "labels up to 2, but 2 known names" in report["notes"][0]
    with pytest.raises(ValueError, match=r"train.pkl should hold a list .* got tuple; a pair is the format carl-penn"):
        run("carl-pouring", root, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_finegym(tmp_path):
    root, out = tmp_path / "finegym", tmp_path / "out"

    def event(name, values):
        made = entry(root, name, values, folder="processed_videos", dtype=torch.float32, event_label=2)
        return {key: made[key] for key in ("id", "name", "video_file", "seq_len", "frame_label", "event_label")}

    first, second = event("0LtLS9wROrk_E_002407_002435", [-1, 7, 7, -1]), event("A0xAXXysHUo_E_002184_002237", [98, -1])
    write_pickle(root / "gym99_train_v1.0.pkl", [first])
    write_pickle(root / "gym99_val.pkl", [second, first])
    write_pickle(root / "gym288_train_v1.0.pkl", [second])
    write_pickle(root / "gym288_val.pkl", [first | {"frame_label": torch.tensor([-1.0, 200, 200, -1])}])
    write_pickle(root / "additional_v1.0.pkl", [])
    report = run("carl-finegym", root, out)
    assert labels(out / "gym99", "0LtLS9wROrk_E_002407_002435") == [-1, 7, 7, -1]
    assert labels(out / "gym288", "0LtLS9wROrk_E_002407_002435") == [-1, 200, 200, -1]
    assert split(out / "gym99")["val"] == ["A0xAXXysHUo_E_002184_002237"]
    assert reasons(report) == {"0LtLS9wROrk_E_002407_002435": "name is taken"}
    assert report["notes"] == ["additional_v1.0.pkl is not converted: its clips belong to no split"]
    assert report["tasks"]["gym99"]["labels"] == {"-1": 3, "7": 2, "98": 1}


# Pickles run no code


class Attack:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


def inside_a_tensor(attack):
    """What a tensor looks like in a pickle, with a pickle of something else in place of its numbers."""
    return Attack(torch.storage._load_from_bytes, pickle.dumps(attack))


def test_a_pickle_cannot_run_code(pouring, tmp_path):
    made = tmp_path / "made"
    command = f"touch {made}"
    for attack in (
        Attack(os.system, command),
        Attack(eval, f"open({str(made)!r}, 'w')"),
        Attack(torch.load, str(pouring)),
        inside_a_tensor(Attack(os.system, command)),
    ):
        write_pickle(pouring / "val.pkl", [{"name": "x", "video_file": "videos/a.mp4", "frame_label": attack}])
        with pytest.raises(ValueError, match=r"val.pkl is not a pickle of plain arrays and tensors") as caught:
            run("carl-pouring", pouring, tmp_path / "out")
        if attack.reduced[0] is os.system:
            assert "it asks for posix.system" in str(caught.value)
        assert not made.exists()
        assert not (tmp_path / "out").exists()
    os.system(command)  # the same command does make the file where it is run
    assert made.exists()


def test_what_pickles_may_hold(tmp_path):
    content = {
        "long": torch.arange(5),
        "float": torch.tensor([-1.0, 2.0]),
        "view": torch.arange(12).reshape(3, 4).T[1],
        "array": np.arange(3),
        "plain": [1, "a", (2.0, None, True)],
    }
    write_pickle(tmp_path / "x.pkl", content)
    found = read_pickle(tmp_path / "x.pkl")
    assert {key: value.tolist() for key, value in found.items() if key != "plain"} == {
        "long": [0, 1, 2, 3, 4],
        "float": [-1, 2],
        "view": [1, 5, 9],
        "array": [0, 1, 2],
    }
    assert found["plain"] == content["plain"]


def test_a_tensor_cannot_leave_its_storage(tmp_path):
    storage = torch.arange(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.int64, _internal=True)
    far = Attack(torch._utils._rebuild_tensor_v2, typed, 0, (1000,), (1,), False, {})
    write_pickle(tmp_path / "x.pkl", far)
    with pytest.raises(ValueError, match=r"a tensor of the shape \(1000,\) with 4 numbers"):
        read_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2, 3])[:-4]])
def test_damaged_pickles(tmp_path, content):
    (tmp_path / "x.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.pkl is not a pickle"):
        read_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"a": 1}, "train.pkl should hold a list with a dict for each clip, got dict"),
        ([1], "train.pkl should hold a list with a dict"),
        (
            [{"name": "a", "video_file": "videos/a.mp4"}],
            "train.pkl: clip 0 has no 'frame_label', only name, video_file",
        ),
    ],
)
def test_pickles_of_something_else(pouring, tmp_path, train, message):
    write_pickle(pouring / "train.pkl", train)
    with pytest.raises(ValueError, match=message):
        run("carl-pouring", pouring, tmp_path / "out")


def test_action_labels_that_cannot_be(tmp_path):
    for split_ in ("train", "val"):
        write_pickle(tmp_path / "penn" / f"{split_}.pkl", ([entry(tmp_path, "a", [0], action_label=13)], []))
    with pytest.raises(ValueError, match="action_label of clip 'a' must be 0 to 12, got 13"):
        run("carl-penn", tmp_path / "penn", tmp_path / "out")


# Penn Action


def penn_clip(root, number, action, length, train=1):
    write_images(root / "frames" / f"{number:04d}", length)
    (root / "labels").mkdir(exist_ok=True)
    content = {"action": action, "train": train, "nframes": length, "pose": "back", "x": np.zeros((length, 13))}
    scipy.io.savemat(root / "labels" / f"{number:04d}.mat", content)


def penn_label(folder, number, action, values, split_="train"):
    path = folder / split_ / action / f"{number:04d}_labels.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(values))


@pytest.fixture
def penn(tmp_path):
    root = tmp_path / "Penn_Action"
    penn_clip(root, 1, "squat", 4)
    penn_clip(root, 2, "squat", 5, train=-1)
    penn_clip(root, 3, "jump_rope", 3)
    penn_clip(root, 4, "strum_guitar", 3)
    penn_clip(root, 5, "pullup", 7)
    penn_clip(root, 6, "pullup", 3)
    penn_clip(root, 7, "pullup", 3)
    return root


@pytest.mark.parametrize("place", [".", ".."])
def test_penn_action(penn, tmp_path, place):
    folder = penn / place / "penn_action_labels"
    penn_label(folder, 1, "squat", [0, 1, 2, 3])
    penn_label(folder, 2, "squat", [0, 1, 2, 3, 3], "val")
    penn_label(folder, 5, "pullup", [0, 0, 1, 1, 1])  # 7 frames
    penn_label(folder, 6, "pullup", [0, 1, 1, 1, 1, 0, 0, 0], "val")  # 3 frames
    (penn / "labels" / "0007.mat").unlink()
    penn_clip(penn, 8, "bowl", 3)
    out = tmp_path / "out"
    report = run("penn-action", penn, out)
    assert split(out / "squat") == {"train": ["0001_squat"], "val": ["0002_squat"]}
    assert labels(out / "squat", "0002_squat") == [0, 1, 2, 3, 3]
    images = sorted((out / "squat" / "videos" / "0001_squat").iterdir())
    assert [path.name for path in images] == [f"{k:06d}.jpg" for k in range(4)]
    assert os.path.samefile(images[0], penn / "frames" / "0001" / "000001.jpg")
    # floor(j 7 / 5) = 0, 1, 2, 4, 5 of the frames; floor(j 8 / 3) = 0, 2, 5 of the labels.
    kept = sorted((out / "pullup" / "videos" / "0005_pullup").iterdir())
    np.testing.assert_allclose([level(path) for path in kept], [0, 10, 20, 40, 50], rtol=0, atol=2)
    assert labels(out / "pullup", "0005_pullup") == [0, 0, 1, 1, 1]
    assert labels(out / "pullup", "0006_pullup") == [0, 1, 0]
    assert {clip["clip"]: clip.get("note") for clip in report["clips"]} == {
        "0001_squat": None,
        "0002_squat": None,
        "0005_pullup": "7 frames and 5 labels, resampled",
        "0006_pullup": "3 frames and 8 labels, resampled",
    }
    assert reasons(report) == {
        "0003_jump_rope": "action jump_rope has no phases",
        "0004_strum_guitar": "action strum_guitar has no phases",
        "0007": "no .mat file",
        "0008_bowl": "no phase labels",
    }
    data = lac.data.load("folder", out / "squat", fps=25, backbone=None)
    assert data.val[0].labels.tolist() == [0, 1, 2, 3, 3]
    assert data.label_names == phases("squat")


def test_penn_action_without_phases(penn, tmp_path):
    out = tmp_path / "out"
    (penn / "labels" / "0007.mat").write_bytes(b"something else")
    report = run("penn-action", penn, out)
    assert split(out / "squat") == {"train": ["0001_squat"], "val": ["0002_squat"]}  # of the .mat files
    assert not (out / "squat" / "labels").exists()
    assert report["tasks"]["squat"]["labels"] is None
    assert reasons(report)["0007"] == ".mat file cannot be read"
    assert len([note for note in report["notes"] if "no clip of the split 'val' is left" in note]) == 1
    (penn / "penn_action_labels").mkdir()
    with pytest.raises(FileNotFoundError, match=r"penn_action_labels has no file such as train/squat/1234.npy"):
        run("penn-action", penn, out)


def test_the_key_events_of_the_paper():
    numbers = {action: len(phases(action)) for action in (*ACTIONS, "pouring")}
    assert numbers == {
        "baseball_pitch": 4, "baseball_swing": 3, "bench_press": 2, "bowl": 3, "clean_and_jerk": 6, "golf_swing": 3,
        "jumping_jacks": 4, "pushup": 2, "pullup": 2, "situp": 2, "squat": 4, "tennis_forehand": 3, "tennis_serve": 4,
        "pouring": 5,
    }  # fmt: skip
    assert phases("bench_press") == ["start to bar fully down", "bar fully down to end"]
    assert phases("juggling") == []


# TFRecords of TCC


@pytest.fixture(scope="module")
def proto():
    """TensorFlow's example.proto and feature.proto, as protobuf's own library encodes them."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields, entries=()):
        made = file.message_type.add(name=name)
        for number, (called, kind, repeated) in enumerate(fields, start=1):
            one = made.field.add(name=called, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                one.type, one.type_name = field.TYPE_MESSAGE, f".tf.{kind}"
            else:
                one.type = kind
        for entry_, value in entries:
            nested = made.nested_type.add(name=entry_)
            nested.options.map_entry = True
            nested.field.add(name="key", number=1, label=1, type=field.TYPE_STRING)
            nested.field.add(name="value", number=2, label=1, type=field.TYPE_MESSAGE, type_name=f".tf.{value}")

    message("BytesList", ("value", field.TYPE_BYTES, True))
    message("FloatList", ("value", field.TYPE_FLOAT, True))
    message("Int64List", ("value", field.TYPE_INT64, True))
    kinds = (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List"))
    message("Feature", *((name, kind, False) for name, kind in kinds))
    message("Features", ("feature", "Features.FeatureEntry", True), entries=[("FeatureEntry", "Feature")])
    message("FeatureList", ("feature", "Feature", True))
    lists = ("feature_list", "FeatureLists.FeatureListEntry", True)
    message("FeatureLists", lists, entries=[("FeatureListEntry", "FeatureList")])
    message("SequenceExample", ("context", "Features", False), ("feature_lists", "FeatureLists", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return SimpleNamespace(
        **{
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tf.{name}"))
            for name in ("Feature", "FeatureList", "SequenceExample")
        }
    )


def jpegs(length):
    pictures = []
    for picture in grey(np.arange(length) * 10):
        buffer = io.BytesIO()
        PIL.Image.fromarray(picture).save(buffer, "jpeg", quality=95)
        pictures.append(buffer.getvalue())
    return pictures


def example(proto, name, images, values):
    made = proto.SequenceExample()
    made.context.feature["name"].bytes_list.value.append(name.encode())
    made.context.feature["len"].int64_list.value.append(len(images))
    made.context.feature["label"].int64_list.value.append(-1)
    made.context.feature["weight"].float_list.value.append(0.5)
    for image in images:
        made.feature_lists.feature_list["video"].feature.add().bytes_list.value.append(image)
    for value in values:
        made.feature_lists.feature_list["frame_labels"].feature.add().int64_list.value.append(value)
    return made.SerializeToString()


def write_records(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)
    return path


@pytest.fixture
def records(tmp_path, proto):
    root = tmp_path / "pouring_tfrecords"
    write_records(root / "pouring_train-0-of-2.tfrecord", [example(proto, "b", jpegs(4), [0, 1, -1, 4])])
    more = [example(proto, "a", jpegs(3), [0, 0, 300 % 5]), example(proto, "odd", jpegs(3), [0, 1])]
    write_records(root / "pouring_train-1-of-2.tfrecord", more)
    write_records(root / "pouring_val-0-of-1.tfrecord", [example(proto, "c", jpegs(2), [2, 3])])
    return root


def test_tcc(records, tmp_path):
    out = tmp_path / "out"
    report = run("tcc", records, out)
    assert split(out) == {"train": ["b", "a"], "val": ["c"]}
    assert labels(out, "b") == [0, 1, -1, 4]
    images = sorted((out / "videos" / "b").iterdir())
    assert [path.name for path in images] == [f"{k:06d}.jpg" for k in range(4)]
    assert [path.read_bytes() for path in images] == jpegs(4)
    assert reasons(report) == {"odd": "labels off by one"}
    assert json.loads((out / "label_names.json").read_text()) == phases("pouring")
    assert lac.data.load("folder", out, fps=25, backbone=None).train[0].labels.tolist() == [0, 1, -1, 4]
    # A folder of several data sets has a task for each.
    several = tmp_path / "several"
    shutil.copytree(records, several / "pouring_tfrecords")
    shutil.copytree(records, several / "bowl_tfrecords")
    for path in (several / "bowl_tfrecords").iterdir():
        path.rename(path.with_name(path.name.replace("pouring", "bowl")))
    report = run("tcc", several, tmp_path / "both")
    assert set(report["tasks"]) == {"pouring", "bowl"}
    assert split(tmp_path / "both" / "bowl") == split(out)


def test_penn_action_in_one_set_of_records(tmp_path, proto):
    root = tmp_path / "penn_action_tfrecords"
    clips = ("0001_squat", "0002_jump_rope", "0003_bowl")
    write_records(root / "penn_action_train-0.tfrecord", [example(proto, name, jpegs(2), [0, 1]) for name in clips])
    write_records(root / "penn_action_val-0.tfrecord", [example(proto, "0004_squat", [b"GIF89a"], [0])])
    report = run("tcc", root, tmp_path / "out")
    assert set(report["tasks"]) == {"squat", "bowl"}
    assert labels(tmp_path / "out" / "squat", "0001_squat") == [0, 1]
    assert reasons(report) == {"0002_jump_rope": "action jump_rope has no phases", "0004_squat": "video cannot be read"}


def test_numbers_packed_or_one_by_one(tmp_path):
    # frame_labels = [1, 300, -2] in one feature, packed (2: length 13) and one by one, and no context but the name.
    minus_two = bytes([0xFE] + [0xFF] * 8 + [0x01])
    packed = bytes([0x0A, 13, 0x01, 0xAC, 0x02]) + minus_two
    single = bytes([0x08, 0x01, 0x08, 0xAC, 0x02, 0x08]) + minus_two

    def block(number, content):
        return bytes([number << 3 | 2, len(content)]) + content

    for numbers in (packed, single):
        images = b"".join(block(1, block(1, block(1, b"\xff\xd8" + bytes(k)))) for k in range(3))
        lists = {b"video": images, b"frame_labels": block(1, block(3, numbers))}
        maps = b"".join(block(1, block(1, name) + block(2, content)) for name, content in lists.items())
        context = block(1, block(1, b"name") + block(2, block(1, block(1, b"a"))))
        root = tmp_path / f"{len(numbers)}"
        write_records(root / "x_train-0-of-1.tfrecord", [block(1, context) + block(2, maps)])
        run("tcc", root, tmp_path / f"out{len(numbers)}")
        assert labels(tmp_path / f"out{len(numbers)}", "a") == [1, 300, -2]


def test_damaged_records(records, tmp_path, proto):
    path = records / "pouring_train-1-of-2.tfrecord"
    whole, out = path.read_bytes(), tmp_path / "out"
    second = 16 + int.from_bytes(whole[:8], "little")
    for cut in (second + 5, second + 12, second + 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"train-1-of-2.tfrecord, record 1: the file is cut short"):
            run("tcc", records, out)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(ValueError, match=r"train-1-of-2.tfrecord, record 0: wrong checksum"):
        run("tcc", records, out)
    assert not out.exists()
    for content in (b"\x0a\xff", b"\x0f", b"\x80", b"\x0a\x02\x0a\x05", b"\x08\x01"):
        write_records(path, [content])
        with pytest.raises(
            ValueError, match=r"train-1-of-2.tfrecord, record 0: it (is no SequenceExample|has no name)"
        ):
            run("tcc", records, out)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="is one of 2 files, but number 1 is missing"):
        run("tcc", records, out)


def test_names_in_records_lead_nowhere_else(tmp_path, proto):
    root = tmp_path / "a" / "tfrecords"
    above = [example(proto, name, jpegs(2), [0, 1]) for name in ("../up", "0001_../squat", "0002_..", "0003_squat")]
    write_records(root / "penn_action_train-0.tfrecord", above)
    write_records(root / ".._train-0-of-1.tfrecord", above)  # no data set is called ..
    report = run("tcc", root, tmp_path / "a" / "out")
    assert [clip["clip"] for clip in report["clips"]] == ["0003_squat"]
    assert set(reasons(report).values()) == {"name is not a file name"}
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"tfrecords", "out"}


# Folders


def test_lav(tmp_path):
    root, out = tmp_path / "Data", tmp_path / "out"
    write_images(root / "train" / "vid1", 3)
    write_images(root / "train" / "vid10", 2)
    write_images(root / "train" / "vid2", 2)
    write_images(root / "val" / "vid3", 2)
    (root / "val" / "vid4").mkdir()
    write_images(root / "val" / "vid5", 2)
    (root / "val" / "vid5" / "000002.jpg").write_bytes(b"")
    report = run("lav", root, out)
    assert split(out) == {"train": ["vid1", "vid2", "vid10"], "val": ["vid3"]}
    assert reasons(report) == {"vid4": "video is empty", "vid5": "video cannot be read"}
    assert not (out / "labels").exists()
    assert [len(clip) for clip in lac.data.load("folder", out, fps=25, backbone=None).train] == [3, 2, 2]
    write_images(root / "val" / "vid1", 2)
    report = run("lav", root, tmp_path / "shared")
    assert split(tmp_path / "shared") == {
        "train": ["train-vid1", "train-vid2", "train-vid10"],
        "val": ["val-vid1", "val-vid3"],
    }
    shutil.rmtree(root / "val")
    with pytest.raises(FileNotFoundError, match="has no folder 'test'"):
        run("lav", root, tmp_path / "none")


def test_videos_with_times_and_names(tmp_path):
    root, out = tmp_path / "mine", tmp_path / "out"
    root.mkdir()
    # A camera that slows down: frame 2 is the first at or after 0.3 s.
    write_video(root / "a.mp4", grey([10, 20, 30, 40]), [0, 0.04, 0.3, 1.0])
    film(root / "b.MP4", 3)
    film(root / "c.mp4", 2)
    write_images(root / "d", 3)
    (root / "notes.txt").write_text("to be ignored")
    (root / "e.mp4").write_text("no video")
    (root / "f.mp4").write_bytes((root / "c.mp4").read_bytes())
    rows = [
        "video,time,label",
        "a,0,reach",
        "a.mp4,0.3,pour",
        "b.MP4,0.04,pour",
        "d,0,",
        "d,0.08,reach",
        "gone,0,reach",
    ]
    rows += ["e,0,reach", "f,1,reach", "f,0.5,pour"]
    (root / "labels.csv").write_text("\n".join(rows))
    report = run("videos", root, out)
    assert labels(out, "a") == [0, 0, 1, 1]
    assert labels(out, "b") == [-1, 1, 1]
    assert labels(out, "c") == [-1, -1]  # no line
    assert labels(out, "d") == [-1, -1, 0]
    assert json.loads((out / "label_names.json").read_text()) == ["reach", "pour"]
    assert reasons(report) == {"gone": "video is missing", "e": "video cannot be read"}
    assert labels(out, "f") == [-1, -1]
    (reason,) = [clip["unlabelled"] for clip in report["clips"] if "unlabelled" in clip]
    assert reason == f"{root}/labels.csv, line 10: times must increase, got 0.5 after 1"
    assert not (out / "split.json").exists()
    data = lac.data.load("folder", out, fps=25, backbone=None)
    assert {clip.name: clip.labels.tolist() for clip in data.train + data.val}["a"] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "a,0,reach\na.mp4,0.08,pour\nb,0.04,reach\n",
        "\ufeffa; 0; reach\r\na; 0,08; pour\r\nb; 0,04; reach;\r\n",
        "label\ttime\tvideo\nreach\t0\ta\npour\t0.08\ta\nreach\t0.04\tb\n",
    ],
)
def test_labels_of_videos_in_every_clear_form(tmp_path, text):
    root, out = tmp_path / "mine", tmp_path / "out"
    film(root / "a.mp4", 4)
    film(root / "b.mp4", 3)
    (root / "labels.csv").write_bytes(text.encode())
    run("videos", root, out)
    assert (labels(out, "a"), labels(out, "b")) == ([0, 0, 1, 1], [-1, 0, 0])
    assert json.loads((out / "label_names.json").read_text()) == ["reach", "pour"]


def test_a_video_with_names_beside_videos_with_numbers(tmp_path):
    root, out = tmp_path / "mine", tmp_path / "out"
    film(root / "a.mp4", 3)
    film(root / "b.mp4", 3)
    (root / "labels.csv").write_text("a,0,1\na,0.04,0\nb,0,reach\n")
    report = run("videos", root, out)
    assert (labels(out, "a"), labels(out, "b")) == ([1, 0, 0], [-1, -1, -1])
    assert [
        clip["clip"] for clip in report["clips"] if "line 3: the label 'reach' is no" in clip.get("unlabelled", "")
    ] == ["b"]
    assert not (out / "label_names.json").exists()


def test_videos_with_frames_and_numbers(tmp_path):
    root = tmp_path / "mine"
    film(root / "a.mp4", 4)
    write_images(root / "b", 3)
    (root / "labels.csv").write_text("video, frame, label\na, 0, 2\na, 3, -1\nb, 1, 0\n\n")
    run("videos", root, tmp_path / "out")
    assert labels(tmp_path / "out", "a") == [2, 2, 2, -1]
    assert labels(tmp_path / "out", "b") == [-1, 0, 0]
    (root / "labels.csv").unlink()
    report = run("videos", root, tmp_path / "plain")
    assert report["tasks"]["."] == {"clips": 2, "train": 0, "val": 0, "frames": 7, "labels": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must start with the line video,time,label or video,frame,label, got ''"),
        ("a,x,1", "got 'a,x,1'.* or with cells in the order video,time,label"),
        ("video,label\na,0", "got 'video,label'"),
        ("video,time,label\na,0", "labels.csv, line 2: expected 3 cells, 'video,time,label', got 'a,0'"),
        ("video,time,label\na,0,1\na,nan,1", "labels.csv, line 3"),
        ("video,frame,label\na,x,1", "line 2: expected video, frame, label, like a,12,3 with a number for the frame"),
    ],
)
def test_bad_label_files(tmp_path, text, message):
    root = tmp_path / "mine"
    film(root / "a.mp4", 2)
    (root / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        run("videos", root, tmp_path / "out")


# What all of them share


def state(out):
    return {
        str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in out.rglob("*")
        if (path.is_file() and path.parent.name == "videos") or path.suffix == ".jpg"
    }


def test_again_where_it_was_cut_off(records, tmp_path, monkeypatch):
    out, names = tmp_path / "out", []

    def interrupt(done, total, name):
        if name == "a":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("tcc", records, out, tell=interrupt)
    assert json.loads((out / "conversion.json").read_text())["complete"] is False
    assert not (out / "split.json").exists()
    before = state(out)
    assert len(before) == 4
    (out / "videos" / ".a.partial").mkdir()  # a kill in the middle of a clip
    (out / "videos" / ".a.partial" / "000000.jpg").write_bytes(b"half")
    (out / "labels" / ".a.x1y2.npy").write_bytes(b"half")
    report = run("tcc", records, out, tell=lambda done, total, name: names.append(name))
    assert names == ["b", "a", "odd", "c"]
    assert before.items() <= state(out).items()
    assert not list(out.rglob(".*"))
    assert len(list((out / "videos" / "a").iterdir())) == 3
    after = state(out)
    assert run("tcc", records, out) == report
    assert state(out) == after


def test_a_video_that_comes_later(pouring, tmp_path):
    out, late = tmp_path / "out", tmp_path / "late.mp4"
    (pouring / "videos" / "a.mp4").rename(late)
    assert reasons(run("carl-pouring", pouring, out)) == {"a": "video is missing"}
    before = state(out)
    late.rename(pouring / "videos" / "a.mp4")
    assert run("carl-pouring", pouring, out)["left_out"] == []
    assert split(out)["train"] == ["b", "a"]
    assert before.items() <= state(out).items()


def test_a_full_disk_leaves_nothing_half_written(records, pouring, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        run("tcc", records, tmp_path / "records")
    monkeypatch.undo()
    monkeypatch.setattr("os.link", full)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match=r"No space left on device.*b\.mp4"):
        run("carl-pouring", pouring, tmp_path / "pickles")
    for out in (tmp_path / "records", tmp_path / "pickles"):
        assert [path.name for path in out.rglob("*") if path.is_file()] == ["conversion.json"]
        assert list((out / "videos").iterdir()) == []


def test_copies_where_links_are_not_possible(pouring, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    run("carl-pouring", pouring, tmp_path / "out")
    copy, original = tmp_path / "out" / "videos" / "a.mp4", pouring / "videos" / "a.mp4"
    assert copy.read_bytes() == original.read_bytes()
    assert not os.path.samefile(copy, original)


def test_links_are_followed(pouring, tmp_path):
    (pouring / "videos").rename(tmp_path / "disk")
    (pouring / "videos").symlink_to("../disk")
    (tmp_path / "disk" / "a.mp4").rename(tmp_path / "disk" / "other.mp4")
    (tmp_path / "disk" / "a.mp4").symlink_to("other.mp4")
    assert run("carl-pouring", pouring, tmp_path / "out")["left_out"] == []
    assert not (tmp_path / "out" / "videos" / "a.mp4").is_symlink()


def test_folders_that_are_something_else(pouring, records, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        run("carl-pouring", tmp_path / "nowhere", out)
    with pytest.raises(ValueError, match="lies in the data set"):
        run("carl-pouring", pouring, pouring / "plain")
    run("carl-pouring", pouring, out)
    with pytest.raises(ValueError, match=r"holds the conversion of another data set, .*pouring as carl-pouring"):
        run("tcc", records, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="mine is there already and not an earlier conversion"):
        run("carl-pouring", pouring, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is there already"):
        run("carl-pouring", pouring, tmp_path / "file")


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_to_convert(tmp_path, name):
    (tmp_path / "data").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match="data"):
        run(name, tmp_path / "data", tmp_path / "out")


def test_no_clip_is_left(pouring, tmp_path):
    shutil.rmtree(pouring / "videos")
    with pytest.raises(ValueError, match="converted as carl-pouring: video is missing: 3, such as b: "):
        run("carl-pouring", pouring, tmp_path / "out")
