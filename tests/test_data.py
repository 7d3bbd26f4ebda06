import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_data import made_up_watch, movement, watch_file, write_official, write_packed

import lac.data
from lac.data import Clip, Dataset, uiprmd
from lac.data.doubts import doubts
from lac.data.phases import half_way_phases
from lac.data.reading import file_name
from lac.data.untrimmed import resample, untrim


def clip(name="c", length=4, **changes):
    given = {"frames": np.zeros((length, 2)), "times": np.arange(length), "labels": None} | changes
    return Clip(name, given["frames"], given["times"], given["labels"])


# Clips and data sets


def test_clip_converts_numbers():
    one = clip(frames=np.ones((3, 2), dtype=np.uint8), times=[0, 1, 2], labels=np.array([0.0, 1.0, -1.0]))
    assert (one.frames.dtype, one.times.dtype, one.labels.dtype) == (np.float32, np.float64, np.int64)
    assert len(one) == 3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labels": np.zeros(5)}, ValueError, "clip 'c': labels are longer than the features"),
        ({"labels": np.zeros(3)}, ValueError, "labels are shorter than the features"),
        ({"labels": np.zeros((4, 1))}, ValueError, "labels are of another shape"),
        ({"labels": np.array([0, 0.5, 1, 1])}, TypeError, "labels must be whole numbers, got 0.5"),
        ({"frames": np.zeros(4)}, ValueError, r"frames must be \(frames, ...\)"),
        ({"frames": np.zeros((0, 2)), "times": []}, ValueError, "at least one frame"),
        ({"frames": np.array([["a"]])}, TypeError, "frames must be real numbers"),
        ({"frames": np.array([[0, 1], [np.nan, 0]])}, ValueError, r"finite, got nan at index \(1, 0\)"),
        ({"times": np.arange(3)}, ValueError, "times must have one entry a frame"),
        ({"times": np.array([0, 1, 1, 2])}, ValueError, "times must increase, got 1 s and then 1 s"),
        ({"times": np.array([0, 1, np.inf, 2])}, ValueError, "times must be finite"),
    ],
)
def test_bad_clips_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        clip(**changes)


def test_what_there_is_to_doubt():
    moving = [clip(name, frames=np.arange(8.0).reshape(4, 2) + k) for k, name in enumerate("abcdefgh")]
    assert doubts(Dataset("x", moving[:4], moving[4:], [])) == []
    one = [clip("p"), clip("q", frames=np.ones((1, 2)), length=1)]
    assert doubts(Dataset("x", [*moving[:4], one[0]], [*moving[4:], one[1]], [])) == [
        "no change from frame to frame in 2 of 10 clips, from which nothing can be learned: p; q"
    ]
    assert doubts(Dataset("x", one, moving, []))[0].startswith("no train clip changes from frame to frame")
    copies = [clip(name, frames=moving[0].frames) for name in "pqrs"]
    assert doubts(Dataset("x", moving[:4], copies, [])) == [
        "the same frames in a and p; a and q; a and r; and 1 more; a val clip that is a train clip says nothing about "
        "new ones"
    ]
    assert doubts(Dataset("x", copies, moving[1:], [])) == ["the same frames in p and q; p and r; p and s"]
    labels = [clip(name, frames=moving[k].frames, labels=np.full(4, k % 2 - 1)) for k, name in enumerate("abcd")]
    assert doubts(Dataset("x", labels[:2], labels[2:3], ["go"])) == [
        "all labels of the train clips are 0: the columns made from them say nothing"
    ]
    assert doubts(Dataset("x", moving[:4], moving[4:], [], {}, {"a": "why", "b": "how"})) == [
        "without labels 2 of 8 clips, trained on but not judged: why; how"
    ]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (None, "--set augment.frames=9"),
        ({"fps": 10.0}, "--set data.options.fps=23"),
        ({"fps": 25.0}, "--set augment.frames=9"),
    ],
)
def test_clips_of_few_frames(options, remedy):
    def moving(name, length):
        return clip(name, frames=np.random.default_rng(ord(name)).normal(size=(length, 2)), length=length)

    train, val = [moving("a", 10), moving("b", 18), moving("c", 40)], [moving("d", 7), moving("e", 8)]
    assert doubts(Dataset("x", train, val, [])) == []
    assert doubts(Dataset("x", train, val, []), view=40, options=options) == [
        "fewer than 8 frames in 1 of 5 clips, too few for an alignment to say much: d",
        f"the median train clip has 18 frames and a view takes up to 40, so most views are of the whole clip: {remedy}",
    ]
    assert doubts(Dataset("x", train, val[1:], []), view=18, options=options) == []


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ([], [clip()], "the train split has no clip"),
        ([clip()], [], "the val split has no clip"),
        ([clip()], [clip()], "two clips are called 'c'"),
        ([clip()], [clip("d", frames=np.zeros((4, 3)))], "clip 'd' has shape"),
        ([clip()], [clip("d", labels=np.array([0, 1, 2, 2]))], "clip 'd' has label 2, but only 2 labels"),
    ],
)
def test_bad_data_sets_are_named(train, val, message):
    with pytest.raises(ValueError, match=message):
        Dataset("x", train, val, ["a", "b"])


def test_unknown_names_and_options():
    with pytest.raises(ValueError, match=r"digits, folder, uiprmd, watch; did you mean 'watch'\?"):
        lac.data.load("wach")
    with pytest.raises(
        ValueError, match=r"data set 'folder' has no option 'hz': its options are rate, fps, size, crop, backbone, val"
    ):
        lac.data.load("folder", "x", hz=3)


OWN_DATA = """
import numpy as np
import lac.data
from lac.data import Clip, Dataset

a, b = (Clip(name, np.zeros((2, 1)), np.arange(2)) for name in "ab")
made = Dataset("mine", [a], [b], [])

def load_mine(root=None, *, rate=1.0):
    assert (root, rate) == ("here", 2.0)
    return made

lac.data.register("mine", load_mine)
assert lac.data.load("mine", "here", rate=2.0) is made
print(*lac.data.names())
try:
    lac.data.register("watch", load_mine)
except ValueError as error:
    print(error)
"""


def test_own_data():
    """In a process of its own, for a data set stays known to the end of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", OWN_DATA]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, refused = done.stdout.splitlines()
    assert names == "digits folder mine uiprmd watch"
    assert "'watch' exists already" in refused


# Phases and untrimmed clips


def test_phases_by_hand():
    # Rest (5th percentile) 0, turn 8, half 4: out at the first frame above 4, back at the first at or below
    # 4.
    excursion = np.array([0, 0, 0, 4, 5, 8, 8, 6, 4, 1, 5, 0, 0, 0.0])
    expected = [0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    np.testing.assert_array_equal(half_way_phases(excursion), expected)
    np.testing.assert_array_equal(half_way_phases(7 * excursion - 3), expected)


def test_phases_take_the_last_way_out():
    # The movement goes beyond half twice before it turns; only the last time counts.
    excursion = np.array([0, 0, 6, 1, 6, 8, 0, 0.0])
    np.testing.assert_array_equal(half_way_phases(excursion), [0, 0, 0, 0, 1, 2, 3, 3])


@pytest.mark.parametrize("excursion", [[3.0], [5.0, 1, 0, 0, 0], [0, 0, 0, 1, 5.0], [2.0, 2, 2]])
def test_phases_of_odd_movements_never_go_back(excursion):
    labels = half_way_phases(np.array(excursion))
    assert len(labels) == len(excursion)
    assert (np.diff(labels) >= 0).all()


def test_resample_is_exact_on_lines():
    values = 3 * np.arange(10.0)[:, None] + 1
    positions = np.array([0, 0.25, 4.5, 8.999, 9])
    np.testing.assert_allclose(resample(values, positions)[:, 0], 3 * positions + 1, rtol=0, atol=1e-12)


def test_untrim_places_the_action_exactly():
    action = Clip("a", np.arange(20.0)[:, None], 2 + np.arange(20) / 25, np.arange(20) // 5, "go")
    others = [lambda: np.concatenate([np.full((30, 1), 100.0), np.full((30, 1), 200.0)])]
    for seed in range(20):
        one = untrim(action, others, np.random.default_rng(seed), max_distractors=8, speed=(0.6, 1.6))
        inside = one.labels >= 0
        assert (one.name, one.action) == ("a", "go")
        assert one.times[0] == 0
        np.testing.assert_allclose(np.diff(one.times), 0.04, rtol=0, atol=1e-12)
        assert (np.diff(one.labels[inside]) >= 0).all()
        assert (np.diff(np.flatnonzero(inside)) == 1).all()
        # The end of the other recording comes before, its beginning after; a frame at the border may be a
        # mixture.
        first, last = np.flatnonzero(inside)[[0, -1]]
        assert (one.frames[: max(first - 1, 0)] == 200).all()
        assert (one.frames[last + 2 :] == 100).all()
        within = one.frames[first + 1 : last, 0]
        factor = np.diff(within)
        np.testing.assert_allclose(factor, factor[0], rtol=0, atol=2e-5)
        assert 0.6 - 1e-5 <= factor[0] <= 1.6 + 1e-5
        clear = np.abs(within % 1 - 0.5) > 1e-3  # halfway between two frames either label is right
        np.testing.assert_array_equal(one.labels[first + 1 : last][clear], np.rint(within[clear]) // 5)


def test_untrim_without_anything_keeps_the_clip():
    action = Clip("a", np.arange(20.0)[:, None], np.arange(20) / 25, np.arange(20) // 5)
    one = untrim(action, [], np.random.default_rng(0), max_distractors=9, speed=(1, 1))
    np.testing.assert_array_equal(one.frames, action.frames)
    np.testing.assert_array_equal(one.labels, action.labels)
    np.testing.assert_allclose(one.times, action.times, rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6])
def test_untrim_by_share_takes_as_many_recordings_as_it_needs(share):
    action = Clip("a", np.arange(20.0)[:, None], np.arange(20) / 25, np.arange(20) // 5)
    others = [lambda: np.full((7, 1), 100.0), lambda: np.full((5, 1), 200.0)]
    before = set()
    for seed in range(20):
        one = untrim(action, others, np.random.default_rng(seed), max_distractors=0, speed=(1, 1), share=share)
        inside = one.labels >= 0
        assert len(one) == round(20 / (1 - share))
        np.testing.assert_array_equal(one.frames[inside], action.frames)
        assert (one.frames[~inside] >= 100).all()
        before.add(int(np.argmax(inside)))
    assert len(before) == 1 if share == 0 else len(before) > 4


# Plain folders


def write(root, kind, **arrays):
    (root / kind).mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(root / kind / f"{name}.npy", array, allow_pickle=True)


@pytest.fixture
def plain(tmp_path):
    write(tmp_path, "features", **{f"c{k}": np.full((4 + k, 3), k) for k in range(10)})
    write(tmp_path, "labels", **{f"c{k}": np.arange(4 + k) // 2 - 1 for k in range(10)})
    return tmp_path


def test_folder(plain):
    data = lac.data.load("folder", plain, rate=10)
    assert (len(data.train), len(data.val), data.label_names) == (7, 3, ["0", "1", "2", "3", "4", "5"])
    assert data.name == plain.name
    for one in data.train + data.val:
        number = int(one.name[1:])
        np.testing.assert_array_equal(one.frames, np.full((4 + number, 3), number))
        np.testing.assert_allclose(one.times, np.arange(4 + number) / 10, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(one.labels, np.arange(4 + number) // 2 - 1)
    again = lac.data.load("folder", plain)
    assert [one.name for one in again.val] == [one.name for one in data.val]
    assert [one.name for one in lac.data.load("folder", plain, seed=5).val] != [one.name for one in data.val]


def test_folder_with_split_times_and_names(plain):
    (plain / "split.json").write_text(json.dumps({"train": ["c3", "c1"], "val": ["c2"]}))
    (plain / "label_names.json").write_text(json.dumps([f"phase {k}" for k in range(6)]))
    write(plain, "times", **{f"c{k}": 1 + 0.5 * np.arange(4 + k) for k in range(10)})
    data = lac.data.load("folder", plain)
    assert [[one.name for one in split] for split in (data.train, data.val)] == [["c3", "c1"], ["c2"]]
    assert data.label_names[1] == "phase 1"
    assert data.val[0].times[:2].tolist() == [1.0, 1.5]


def test_folder_without_labels(tmp_path):
    write(tmp_path, "features", a=np.zeros((2, 1)), b=np.zeros((3, 1)))
    data = lac.data.load("folder", tmp_path)
    assert data.label_names == []
    assert data.train[0].labels is None


def break_times_missing(root):
    write(root, "times", **{f"c{k}": np.arange(4 + k) for k in range(10) if k != 4})


def break_features_missing(root):
    (root / "features" / "c4.npy").unlink()


def break_split_name(root):
    (root / "split.json").write_text('{"train": ["c1"], "val": ["nobody"]}')


def break_split_keys(root):
    (root / "split.json").write_text('{"train": ["c1"], "test": ["c2"]}')


def break_split_json(root):
    (root / "split.json").write_text("{")


def break_names(root):
    (root / "label_names.json").write_text('["only one"]')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_times_missing, "clip 'c4' has no .*times/c4.npy; give times for every clip or for none"),
        (break_features_missing, "clip 'c4' has labels but no features"),
        (break_split_name, "names 'nobody', but there is no features/nobody.npy"),
        (break_split_keys, "must be {"),
        (break_split_json, "split.json is not JSON"),
        (break_names, "only 1 labels have a name"),
    ],
)
def test_broken_folders_are_named(plain, damage, message):
    damage(plain)
    with pytest.raises(ValueError, match=message):
        lac.data.load("folder", plain)


def array(kind, values):
    return lambda root: write(root, kind, c4=values)


def content(kind, change):
    def damage(root):
        path = root / kind / "c4.npy"
        path.write_bytes(change(path.read_bytes()))

    return damage


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (array("times", np.arange(9)), "times/c4.npy: clip 'c4': times must have one entry a frame, shape (8,)"),
        (array("times", np.zeros(8)), "times/c4.npy: clip 'c4': times must increase"),
        (array("features", np.array([{}, {}])), "features/c4.npy is not a plain NumPy array: it holds Python objects"),
        (array("features", np.full((8, 3), "a")), "features/c4.npy: clip 'c4': frames must be real numbers"),
        (array("features", np.zeros(8)), "features/c4.npy: clip 'c4': frames must be (frames, ...)"),
        (array("features", np.zeros((0, 3))), "features/c4.npy: clip 'c4': frames must be (frames, ...)"),
        (array("features", np.zeros((3, 0))), "features/c4.npy: clip 'c4': frames must be (frames, ...)"),
        (array("features", np.float32(3)), "features/c4.npy: clip 'c4': frames must be (frames, ...)"),
        (array("features", np.full((8, 3), np.nan)), "features/c4.npy: clip 'c4': frames must be finite, got nan at"),
        (array("features", np.full((8, 3), 1e300)), "features/c4.npy: clip 'c4': frames must fit into float32, got"),
        (
            array("features", np.zeros(8, "f4,f4")),
            "features/c4.npy is not a plain NumPy array: it has named columns, f0",
        ),
        (
            content("features", lambda data: data[:-8]),
            "features/c4.npy is not a plain NumPy array: its header promises",
        ),
        (
            content("features", lambda data: data + b" "),
            "features/c4.npy is not a plain NumPy array: its header promises",
        ),
        (content("features", lambda data: b""), "features/c4.npy is not a plain NumPy array"),
        (content("features", lambda data: b"PK" + data), "features/c4.npy is not a plain NumPy array"),
    ],
)
def test_a_bad_clip_is_left_out(plain, damage, reason):
    write(plain, "times", **{f"c{k}": np.arange(4 + k) for k in range(10)})
    whole = lac.data.load("folder", plain)
    assert whole.left_out == {}
    damage(plain)
    data = lac.data.load("folder", plain)
    assert list(data.left_out) == ["c4"]
    assert f"{plain}/{reason}" in data.left_out["c4"]
    # The split of the others is as it was.
    for split in ("train", "val"):
        names = [one.name for one in getattr(whole, split) if one.name != "c4"]
        assert [one.name for one in getattr(data, split)] == names


def remove(kind):
    return lambda root: (root / kind / "c4.npy").unlink()


def link(root):
    (root / "labels" / "c4.npy").unlink()
    (root / "labels" / "c4.npy").symlink_to(root / "nowhere")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (array("labels", np.zeros(99, int)), "c4.npy holds 99 labels, but the clip has 8 frames; give one"),
        (array("labels", np.zeros(9, int)), "c4.npy holds 9 labels, but the clip has 8 frames (off by one)"),
        (array("labels", np.zeros(7, int)), "c4.npy holds 7 labels, but the clip has 8 frames (off by one)"),
        (array("labels", np.zeros((8, 1))), "c4.npy holds labels of shape (8, 1), but the clip has 8 frames"),
        (array("labels", np.full(8, 0.5)), "c4.npy: clip 'c4': labels must be whole numbers, got 0.5"),
        (array("labels", np.full(8, "a")), "c4.npy: clip 'c4': labels must be real numbers"),
        (array("labels", np.full(8, np.nan)), "c4.npy: clip 'c4': labels must be finite"),
        (array("labels", np.full(8, -1e300)), "c4.npy: clip 'c4': labels must fit into int64"),
        (
            array("labels", np.full(8, 1 << 63, np.uint64)),
            "c4.npy: a label must be at most 10000, got 92233720368547758",
        ),
        (array("labels", np.full(8, 10**12)), "c4.npy: a label must be at most 10000, got 1000000000000"),
        # A header that opens a bracket and never closes it, and one that promises more than there is memory.
        (content("labels", lambda data: data.replace(b"(8,)", b"(8, ")), "c4.npy is not a plain NumPy array"),
        (
            content("labels", lambda data: data.replace(b"(8,), }" + b" " * 15, b"(8" + b"0" * 15 + b",), }")),
            "c4.npy is not a plain NumPy array: its header promises 64000000000000000 bytes, but 64 follow",
        ),
        (remove("labels"), "c4.npy or .csv"),
        (link, "c4.npy"),
    ],
)
def test_a_clip_with_bad_labels_is_trained_on_without_them(plain, damage, reason):
    (plain / "split.json").write_text(json.dumps({"train": ["c3", "c4", "c1"], "val": ["c2", "c5"]}))
    whole = lac.data.load("folder", plain)
    assert whole.unlabelled == {}
    damage(plain)
    data = lac.data.load("folder", plain)
    assert data.left_out == {}
    assert list(data.unlabelled) == ["c4"]
    assert f"{plain}/labels/{reason}" in data.unlabelled["c4"]
    assert [one.name for one in data.train] == ["c3", "c4", "c1"]
    assert [one.labels is None for one in data.train + data.val] == [False, True, False, False, False]
    np.testing.assert_array_equal(data.train[1].frames, whole.train[1].frames)


@pytest.mark.parametrize("kind", ["features", "labels", "times"])
def test_a_header_is_not_believed(plain, kind):
    """Twelve bytes that promise eight terabytes: refused before anything is read."""
    write(plain, "times", **{f"c{k}": np.arange(4.0 + k) for k in range(10)})
    with (plain / kind / "c4.npy").open("wb") as file:
        shape = (10**12, 3) if kind == "features" else (10**12,)
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
        file.write(bytes(12))
    data = lac.data.load("folder", plain)
    reason = (data.unlabelled if kind == "labels" else data.left_out)["c4"]
    assert f"{kind}/c4.npy is not a plain NumPy array: its header promises" in reason
    assert "but 12 follow: it is cut short or damaged" in reason
    assert "allocate" not in reason


@pytest.mark.parametrize("change", [np.asfortranarray, lambda x: x.astype(">f8"), lambda x: x.astype(">i2")])
def test_arrays_of_any_order(plain, change):
    frames = np.arange(24.0).reshape(8, 3)
    write(plain, "features", c4=change(frames))
    write(plain, "labels", c4=change(np.arange(8.0)))
    data = lac.data.load("folder", plain)
    (one,) = [one for one in data.train + data.val if one.name == "c4"]
    np.testing.assert_array_equal(one.frames, frames)
    np.testing.assert_array_equal(one.labels, np.arange(8))


def test_a_million_rows_of_nothing_are_nothing(plain):
    with (plain / "features" / "c4.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**15, 0)})
    assert "frames must be (frames, ...)" in lac.data.load("folder", plain).left_out["c4"]


NAMES = [
    "", ".", "..", "../../etc/passwd", "/etc/passwd", "a/b", "a/../c1", "c1/",
    "a\\b", "..\\c1", "C:c1", "C:\\c1", "\\\\host\\c1",
    "c\0", "c1\n", ".c1",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_elsewhere_are_refused_as_names(plain, name):
    with pytest.raises(ValueError, match="cannot be a name"):
        file_name(name)
    with pytest.raises(ValueError, match="cannot be a name"):
        clip(name)
    (plain / "split.json").write_text(json.dumps({"train": ["c1", name], "val": ["c2"]}))
    with pytest.raises(ValueError, match=r"split\.json: .* cannot be a name"):
        lac.data.load("folder", plain)


@pytest.mark.parametrize("name", ["c1", "a b", "ü.ñ", "日本", "x-1_(2)", "a..b", "c1.", "0001"])
def test_names_of_files(name):
    assert file_name(name) == name


def test_a_split_of_which_all_clips_are_left_out(plain):
    (plain / "split.json").write_text(json.dumps({"train": ["c3", "c1"], "val": ["c2", "c5"]}))
    write(plain, "features", c2=np.full((6, 3), np.inf), c5=np.zeros(9), c1=np.zeros(3))
    with pytest.raises(ValueError, match=r"split 'val' can be read, 2 left out; the first: .*c2.npy: clip 'c2'"):
        lac.data.load("folder", plain)


def test_empty_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no features: expected files"):
        lac.data.load("folder", tmp_path)
    with pytest.raises(FileNotFoundError, match="needs root="):
        lac.data.load("folder")
    write(tmp_path, "features", a=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="one clip only"):
        lac.data.load("folder", tmp_path)


# UI-PRMD


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return write_official(tmp_path_factory.mktemp("uiprmd"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("packed") / "uiprmd.npz")


def same(one, other):
    for left, right in zip(one.train + one.val, other.train + other.val, strict=True):
        assert left.name == right.name
        np.testing.assert_array_equal(left.labels, right.labels)
        np.testing.assert_array_equal(left.times, right.times)
        np.testing.assert_allclose(left.frames, right.frames, rtol=0, atol=1e-6)


@pytest.mark.parametrize("untrimmed", [True, False])
@pytest.mark.parametrize("name", ["deep_squat", "sit_to_stand"])
def test_official_folder_and_packed_file_agree(official, packed, name, untrimmed):
    one = lac.data.load("uiprmd", official, movement=name, untrimmed=untrimmed)
    same(one, lac.data.load("uiprmd", packed, movement=uiprmd.MOVEMENTS.index(name) + 1, untrimmed=untrimmed))
    prefix = f"m{uiprmd.MOVEMENTS.index(name) + 1:02d}"
    assert [c.name for c in one.train] == [f"{prefix}_s0{s}_e0{r}" for s in (1, 6) for r in (1, 2)]
    assert [c.name for c in one.val] == [f"{prefix}_s{s}_e0{r}" for s in ("07", "10") for r in (1, 2)]
    assert one.feature_shape == (17, 3)
    assert len(one.label_names) == 4


def test_trimmed_clips_are_whole_recordings(official):
    data = lac.data.load("uiprmd", official, untrimmed=False)
    assert [len(c) for c in data.train] == [34, 34, 49, 49]
    for one in data.train + data.val:
        assert set(one.labels) == {0, 1, 2, 3}
        np.testing.assert_allclose(one.times, np.arange(len(one)) / 25, rtol=0, atol=1e-12)


def test_untrimmed_clips_are_drawn_by_the_seed(packed):
    one, again, other = (lac.data.load("uiprmd", packed, seed=seed) for seed in (0, 0, 1))
    same(one, again)
    assert [len(c) for c in one.train] != [len(c) for c in other.train]
    assert any(c.labels[0] == -1 for c in one.train)


def test_features_forget_place_direction_and_size():
    joints = movement(1, 1, 1, 20).astype(np.float64)
    angle = 2.1
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = 1.3 * joints @ turn.T + [4000, -700, 30]
    np.testing.assert_allclose(uiprmd._features(joints), uiprmd._features(moved), rtol=0, atol=1e-5)
    features = uiprmd._features(joints)
    np.testing.assert_allclose(features[:, uiprmd._PELVIS], 0, rtol=0, atol=1e-6)
    # The left hip lies to the left (+y) and no farther ahead than the right one.
    left, right = features[:, uiprmd._LEFT_HIP], features[:, uiprmd._RIGHT_HIP]
    assert (left[:, 1] > right[:, 1]).all()
    np.testing.assert_allclose(left[:, 0], right[:, 0], rtol=0, atol=1e-6)


def test_movements_without_phases(packed):
    data = lac.data.load("uiprmd", packed, movement="hurdle_step")
    assert data.label_names == []
    assert all(c.labels is None for c in data.train)


def test_uiprmd_errors(official, packed, tmp_path, monkeypatch):
    monkeypatch.delenv("LAC_UIPRMD", raising=False)
    with pytest.raises(FileNotFoundError, match="set LAC_UIPRMD"):
        lac.data.load("uiprmd")
    monkeypatch.setenv("LAC_UIPRMD", str(packed))
    assert len(lac.data.load("uiprmd").train) == 4
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        lac.data.load("uiprmd", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no file such as m01_s01_e01_positions"):
        lac.data.load("uiprmd", tmp_path)
    with pytest.raises(ValueError, match="unknown movement 'squat'"):
        lac.data.load("uiprmd", packed, movement="squat")
    with pytest.raises(ValueError, match="unknown movement 11"):
        lac.data.load("uiprmd", packed, movement=11)
    with pytest.raises(ValueError, match="train split has no clip"):
        lac.data.load("uiprmd", packed, movement=3)
    with pytest.raises(ValueError, match="max_distractors must be >= 0"):
        lac.data.load("uiprmd", packed, max_distractors=-1)
    with pytest.raises(ValueError, match="speed 0 < low <= high, got 75 and"):
        lac.data.load("uiprmd", packed, speed=(1.0, float("inf")))
    broken = tmp_path / "broken.npz"
    broken.write_bytes(packed.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"broken\.npz is not an archive of the arrays joints, labels, meta"):
        lac.data.load("uiprmd", broken)
    narrow = tmp_path / "m01_s01_e01_positions.txt"
    narrow.write_text("1,2,3\n4,5,6\n")
    with pytest.raises(ValueError, match=r"expected 39 markers x 3 = 117 columns, got 3"):
        lac.data.load("uiprmd", tmp_path)
    narrow.write_text("1,2,x\n")
    with pytest.raises(ValueError, match="expected comma-separated numbers"):
        lac.data.load("uiprmd", tmp_path)


REAL = os.environ.get("LAC_UIPRMD")


@pytest.mark.skipif(not (REAL and Path(REAL).is_file()), reason="LAC_UIPRMD is not the path of the packed UI-PRMD")
@pytest.mark.parametrize(("number", "frames"), [(1, 1), (5, 3)])
def test_the_rule_makes_the_packed_labels(number, frames):
    # The packed joints are rounded to half a millimetre; on the seat several frames then share the lowest
    # place, and the turn (the middle boundary) falls on the first of them.
    boundaries = []
    for one in uiprmd._packed(Path(REAL)):
        if one.movement == number:
            made = half_way_phases(-one.joints()[:, uiprmd._PELVIS, 2])
            boundaries.append([[(labels < k).sum() for k in (1, 2, 3)] for labels in (made, one.labels)])
    made, packed_ = np.array(boundaries).swapaxes(0, 1)
    assert len(made) == 100
    np.testing.assert_array_equal(made[:, [0, 2]], packed_[:, [0, 2]])
    assert np.abs(made[:, 1] - packed_[:, 1]).max() <= frames


@pytest.mark.skipif(not REAL, reason="LAC_UIPRMD is not set")
def test_real_uiprmd():
    data = lac.data.load("uiprmd")
    assert (len(data.train), len(data.val)) == (60, 40)
    assert {label for c in data.train for label in c.labels} == {-1, 0, 1, 2, 3}
    # Legs are one unit long, so a standing person's ankles lie about one unit below the pelvis.
    ankles = np.concatenate([c.frames[:, -4:-2, 2].ravel() for c in data.train])
    assert -1.1 < np.percentile(ankles, 5) < -0.8


# The watch


def test_watch_made_up(tmp_path):
    path = watch_file(tmp_path / "w.npy", made_up_watch())
    data = lac.data.load("watch", path, action="FEL", repetitions=3)
    assert (len(data.train), len(data.val)) == (12, 12)
    assert data.feature_shape == (6,)
    for one in data.train + data.val:
        subject = int(one.name.split("_")[1][1:])
        inside = one.labels >= 0
        # One repetition, of the period that the person has, in four phases of a quarter of it.
        assert abs(inside.sum() / 25 - (1.5 + 0.1 * subject)) <= 3 / 25
        counts = np.bincount(one.labels[inside], minlength=4)
        assert (np.abs(counts - inside.sum() / 4) <= 3).all()
        # Excursion is minus x of a left arm: at the turn x is lowest, for left and right arms alike.
        turn = np.flatnonzero(one.labels == 2)[0]
        assert one.frames[turn, 0] < -0.8
    trimmed = lac.data.load("watch", path, action="FEL", repetitions=3, untrimmed=False, rate=12.5)
    assert all((c.labels >= 0).all() for c in trimmed.train)
    assert trimmed.train[0].times[1] == pytest.approx(0.08)
    everything = lac.data.load("watch", path, action="all", repetitions=1)
    assert len(everything.train) == 28
    assert everything.label_names[4 * 2 + 1] == "FEL out past half"
    assert {int(c.labels.max()) // 4 for c in everything.train} == set(range(7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action": "fly"}, "unknown action 'fly': choose one of PEN, ABD"),
        ({"rate": 60}, "rate must lie above 0"),
        ({"repetitions": 0}, "repetitions must be >= 1"),
    ],
)
def test_watch_options(options, message):
    with pytest.raises(ValueError, match=message):
        lac.data.load("watch", "unread.npy", **options)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_watch_runs_no_code_from_the_file(tmp_path):
    path = watch_file(tmp_path / "w.npy", Attack(tmp_path / "made"))
    with pytest.raises(ValueError, match=r"not the watch data of seglearn: it asks for posix.mkdir"):
        lac.data.load("watch", path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04 something else"])
def test_watch_of_another_kind(tmp_path, content):
    path = tmp_path / "w.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not the watch data"):
        lac.data.load("watch", path)


def test_watch_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install ".\[demo\]"'):
        lac.data.load("watch")
    with pytest.raises(FileNotFoundError):
        lac.data.load("watch", tmp_path / "nothing.npy")


@pytest.mark.skipif(not importlib.util.find_spec("seglearn"), reason="seglearn (extra demo) is not installed")
def test_real_watch():
    data = lac.data.load("watch")
    again = lac.data.load("watch")
    assert (len(data.train), len(data.val)) == (60, 40)
    for one, other in zip(data.train + data.val, again.train + again.val, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        assert set(one.labels) >= {0, 1, 2, 3}
        # People need one to three seconds for a repetition.
        assert 0.8 < (one.labels >= 0).sum() / 25 < 3
    assert {c.name.split("_")[1] for c in data.train} == {f"s{k:02d}" for k in range(1, 7)}
