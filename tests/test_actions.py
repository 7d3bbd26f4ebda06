"""Which action a clip shows and whose it is: several of them in a data set, and what a plain folder says."""

import importlib.util
import os

import numpy as np
import pytest
from made_up_data import made_up_watch, watch_file, write_official, write_packed

from lac.data import Clip, load, uiprmd
from lac.data.untrimmed import untrim
from lac.errors import ConfigError, DataError
from lac.runs.config import TrainConfig, parse_override

REAL = os.environ.get("LAC_UIPRMD")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_packed(tmp_path_factory.mktemp("packed") / "uiprmd.npz")


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    return watch_file(tmp_path_factory.mktemp("watch") / "w.npy", made_up_watch())


def by_name(data):
    return {clip.name: clip for clip in data.train + data.val}


def equal(one, other):
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.times, other.times)


# Several movements


def test_each_movement_has_labels_of_its_own(packed):
    data = load("uiprmd", packed, movement=["sit_to_stand", "deep_squat"])
    assert data.name == "uiprmd deep_squat+sit_to_stand untrimmed"
    assert data.label_names == [f"{name}: {phase}" for name in uiprmd.WITH_PHASES for phase in uiprmd.PHASES]
    clips = by_name(data)
    assert len(clips) == 16
    for first, movement in ((0, "deep_squat"), (4, "sit_to_stand")):
        for name, alone in by_name(load("uiprmd", packed, movement=movement, untrimmed=False)).items():
            labels = clips[name].labels
            assert set(labels) <= {-1, *range(first, first + 4)}
            assert (np.diff(labels[labels >= 0]) >= 0).all()
            assert clips[name].action == alone.action == movement
            assert clips[name].person == alone.person == name.split("_")[1]


def test_a_movement_without_phases_among_others_has_no_labels(packed):
    data = load("uiprmd", packed, movement=["hurdle_step", "sit_to_stand"])
    assert data.label_names == [f"sit_to_stand: {phase}" for phase in uiprmd.PHASES]
    labelled = {clip.action for clip in data.train + data.val if clip.labels is not None}
    assert labelled == {"sit_to_stand"} < {clip.action for clip in data.train}


def test_the_publishers_folder_has_the_same_movements(packed, tmp_path):
    options = {"movement": ["deep_squat", "hurdle_step"]}
    one, other = (load("uiprmd", root, **options) for root in (packed, write_official(tmp_path)))
    assert [clip.name for clip in one.train + one.val] == [clip.name for clip in other.train + other.val]
    for left, right in zip(one.train + one.val, other.train + other.val, strict=True):
        assert (left.action, left.person) == (right.action, right.person)
        np.testing.assert_allclose(left.frames, right.frames, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("movement", "sources"),
    [
        (["deep_squat", "sit_to_stand"], {"deep_squat": {2}, "sit_to_stand": {2}}),
        ("deep_squat", {"deep_squat": {2, 5}}),
        ("all", {"deep_squat": {2, 5}, "sit_to_stand": {1, 2}}),  # no other is left
    ],
)
def test_distractors_are_of_other_movements(packed, movement, sources):
    whole = by_name(load("uiprmd", packed, movement="all", untrimmed=False))
    home = {(clip.person, row.tobytes()): int(name[1:3]) for name, clip in whole.items() for row in clip.frames}
    seen = {action: set() for action in sources}
    data = load("uiprmd", packed, movement=movement, speed=(1.0, 1.0), max_distractors=9)
    for clip in data.train + data.val:
        if clip.action in sources:
            outside = clip.frames[clip.labels < 0]
            seen[clip.action] |= {home[clip.person, row.tobytes()] for row in outside}
    assert seen == sources


@pytest.mark.parametrize("movement", [["5", "1"], [1, 5, 1], ["sit_to_stand", 1]])
def test_movements_by_number_in_any_order_and_more_than_once(packed, movement):
    one, other = (load("uiprmd", packed, movement=x) for x in (movement, ["deep_squat", "sit_to_stand"]))
    assert one.name == other.name
    assert all(equal(a, b) for a, b in zip(one.train, other.train, strict=True))


def test_all_movements(packed):
    data = load("uiprmd", packed, movement="all", untrimmed=False)
    assert data.name == "uiprmd all trimmed"
    assert len(data.label_names) == 8
    assert {clip.action for clip in data.train} == {"deep_squat", "hurdle_step", "sit_to_stand"}


def test_a_list_of_one_movement_is_that_movement(packed):
    one, other = (load("uiprmd", packed, movement=x) for x in ("deep_squat", ["deep_squat"]))
    assert (one.name, one.label_names) == (other.name, other.label_names)
    assert all(equal(a, b) for a, b in zip(one.train + one.val, other.train + other.val, strict=True))


@pytest.mark.parametrize(
    ("movement", "message"),
    [
        ([], "movement must name one movement at least, got an empty list"),
        (["deep_squat", "jumping"], "unknown movement 'jumping'"),
        (["deep_squat", 11], "unknown movement 11"),
        (["all", "deep_squat"], "unknown movement 'all'"),
    ],
)
def test_bad_movements_are_told(packed, movement, message):
    with pytest.raises(ConfigError, match=message):
        load("uiprmd", packed, movement=movement)


def test_movements_of_a_command_line(packed):
    settings = [f"data.root={packed}", "data.name=uiprmd", "data.options.movement=[deep_squat,sit_to_stand]"]
    config = TrainConfig.read(None, dict(map(parse_override, settings)))
    assert {clip.action for clip in config.data.load().train} == {"deep_squat", "sit_to_stand"}


@pytest.mark.skipif(not REAL, reason="LAC_UIPRMD is not set")
def test_real_movements():
    data = load("uiprmd", movement="all", untrimmed=False)
    assert len({clip.action for clip in data.train}) == 10
    assert len({clip.person for clip in data.train}) == 6
    tenth = data.train[: len(data.train) // 10]
    assert {clip.action for clip in tenth} == set(uiprmd.MOVEMENTS)
    assert {clip.action for clip in data.train if clip.labels is not None} == set(uiprmd.WITH_PHASES)


# The order of training clips


def test_movements_come_early_and_one_alone_keeps_its_order(packed):
    several = [clip.name for clip in load("uiprmd", packed, movement="all").train]
    assert several == [f"m{m:02d}_s{s:02d}_e{r:02d}" for r in (1, 2) for s in (1, 6) for m in (1, 2, 5)]
    alone = [clip.name for clip in load("uiprmd", packed, movement=5).train]
    assert alone == [f"m05_s{s:02d}_e{r:02d}" for s in (1, 6) for r in (1, 2)]


def test_exercises_come_early_and_one_alone_keeps_its_order(watch):
    everything = load("watch", watch, action="all", repetitions=2)
    keys = [(clip.name[-3:], clip.person, clip.name.split("_")[2]) for clip in everything.train[::7]]
    people = [(person, arm) for person in ("s01", "s02") for arm in ("left", "right")]
    assert [key[1:] for key in keys] == people + people
    assert {key[0] for key in keys[:4]} == {"r01"}
    for k in range(0, len(everything.train), 7):
        assert len({clip.action for clip in everything.train[k : k + 7]}) == 7
    alone = load("watch", watch, action="FEL", repetitions=2)
    assert [clip.name for clip in alone.train] == sorted(clip.name for clip in alone.train)
    clips = by_name(everything)
    for clip in alone.train + alone.val:
        assert equal(clip, clips[clip.name])
        assert (clip.action, clip.person) == ("FEL", clip.name.split("_")[1])


@pytest.mark.skipif(not importlib.util.find_spec("seglearn"), reason="seglearn (extra demo) is not installed")
def test_real_exercises_are_all_in_the_first_tenth():
    data = load("watch", action="all")
    tenth = data.train[: len(data.train) // 10]
    assert {clip.action for clip in tenth} == {clip.action for clip in data.train}
    assert {int(label) for clip in tenth for label in clip.labels} == {-1, *range(28)}


# Untrimmed clips


def test_an_untrimmed_clip_keeps_action_and_person_and_has_no_guide():
    clip = Clip("a", np.zeros((9, 1)), np.arange(9), None, "go", "ann", np.ones((9, 2)))
    untrimmed = untrim(clip, [], np.random.default_rng(0), max_distractors=0, speed=(1, 1))
    assert (untrimmed.action, untrimmed.person, untrimmed.guide) == ("go", "ann", None)


# Plain folders


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "features").mkdir()
    for name in "abcd":
        np.save(tmp_path / "features" / f"{name}.npy", np.full((3, 2), ord(name)))
    return tmp_path


def said(folder, text):
    (folder / "clips.csv").write_text(text)
    return {name: (clip.action, clip.person) for name, clip in by_name(load("folder", folder)).items()}


def test_a_folder_without_a_word_about_its_clips(folder):
    assert {(clip.action, clip.person) for clip in load("folder", folder).train} == {("", "")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name,action,person\nb,pour,bob\na,pour,ann\nc,cut,\nd,cut,ann\n",
            {"a": ("pour", "ann"), "b": ("pour", "bob"), "c": ("cut", ""), "d": ("cut", "ann")},
        ),
        (
            "Person; Name; room\nann; a; 1\nbob; b; 1\nbob; c; 1\nann; d; 2\n",
            {"a": ("", "ann"), "b": ("", "bob"), "c": ("", "bob"), "d": ("", "ann")},
        ),
        ("name,action\na,7\n\nb,7\nc,8\nd,8\n", {"a": ("7", ""), "b": ("7", ""), "c": ("8", ""), "d": ("8", "")}),
    ],
)
def test_a_folder_says_what_its_clips_show_and_whose_they_are(folder, text, expected):
    assert said(folder, text) == expected


def test_actions_of_clips_with_times_and_labels(folder):
    for kind, values in (("times", [1, 2, 4]), ("labels", [0, 0, 1])):
        (folder / kind).mkdir()
        for name in "abcd":
            np.save(folder / kind / f"{name}.npy", np.array(values))
    assert said(folder, "name,action,person\n" + "".join(f"{x},pour,{x}\n" for x in "abcd"))["c"] == ("pour", "c")
    clip = by_name(load("folder", folder))["c"]
    assert (clip.times.tolist(), clip.labels.tolist()) == ([1, 2, 4], [0, 0, 1])


def test_a_clip_that_is_left_out_may_have_a_line(folder):
    np.save(folder / "features" / "b.npy", np.full((3, 2), np.nan))
    assert set(said(folder, "name,action\na,x\nb,x\nc,x\nd,y\n")) == {"a", "c", "d"}
    assert set(load("folder", folder).left_out) == {"b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,action\na,x\nb,x\nc,x\n", r"clips\.csv has no line for clip 'd' \(1 such clips\)"),
        ("name,action\na,x\nb,x\nc,x\nd,x\ne,x\n", r"clips\.csv, line 6 names 'e', but there is no features/e\.npy"),
        ("name,action\na,x\na,y\nb,x\nc,x\nd,x\n", r"clips\.csv, line 3: clip 'a' has a line already"),
        ("name,action\na,x\nb,\nc,x\nd,x\n", r"clips\.csv, line 3: clip 'b' has no action; say what it shows"),
        ("name,action\na,x\nb\nc,x\nd,x\n", r"clips\.csv, line 3: expected 2 cells"),
        ("clip,action\na,x\n", r"clips\.csv must start with the line name,action,person or name,action or name,person"),
        ("name\na\n", r"clips\.csv must start with the line"),
        ("", r"clips\.csv must start with the line"),
    ],
)
def test_bad_lines_are_named(folder, text, message):
    with pytest.raises(DataError, match=message):
        said(folder, text)


def test_a_folder_trains_with_the_groups_that_it_says(folder):
    from lac.guides import groups_of

    said(folder, "name,action\na,pour\nb,cut\nc,cut\nd,pour\n")
    clips = sorted(by_name(load("folder", folder)).values(), key=lambda clip: clip.name)
    assert groups_of(clips).tolist() == [1, 0, 0, 1]
