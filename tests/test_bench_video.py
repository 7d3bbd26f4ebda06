"""Drawn videos and the way from them to results, on a few tiny clips of made-up motion."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("av", reason="videos need PyAV")
pytest.importorskip("PIL", reason="drawing needs Pillow")

from tiny_run import SETTINGS

from bench import from_video, render
from lac.data import Clip, Dataset, folder
from lac.data.uiprmd import JOINTS
from lac.data.video import read_frames
from lac.runs.config import TrainConfig

TINY = {**SETTINGS, "train.steps": 2, "train.save_every": 2, "data.options.size": 16}


def squat(name, frames=12):
    """A figure of straight limbs whose pelvis sinks towards its feet and rises again."""
    pose = np.zeros((len(JOINTS), 3), dtype=np.float32)
    heights = {"head": 0.7, "neck": 0.5, "s": 0.4, "e": 0.1, "w": -0.2, "pel": 0, "h": 0, "k": -0.5, "a": -1, "t": -1}
    for k, joint in enumerate(JOINTS):
        part = joint if joint in ("head", "neck", "pel") else joint[1]
        side = 0 if part == joint else 1 if joint[0] == "l" else -1
        pose[k] = [0.1 * (part == "t"), 0.15 * side, heights[part]]
    bend = np.sin(np.linspace(0, np.pi, frames))
    poses = np.repeat(pose[None], frames, axis=0)
    for part, share in (("k", 0.2), ("a", 0.5), ("t", 0.5)):
        for side in "lr":
            poses[:, JOINTS.index(side + part), 2] += share * bend  # the pelvis stays at 0, the feet come up
    labels = np.minimum(np.arange(frames) * 3 // frames, 2)
    return Clip(name, poses, np.arange(frames) / 25, labels, "squat")


@pytest.fixture(scope="module")
def poses():
    names = [f"m01_s{person:02d}_e{k:02d}" for person in (1, 2, 7, 8) for k in (1, 2)]
    clips = [squat(name, 12 + k) for k, name in enumerate(names)]
    return Dataset("made up", clips[:4], clips[4:], ["down", "low", "up"])


@pytest.fixture(scope="module")
def drawn(poses, tmp_path_factory):
    return render.render(poses, tmp_path_factory.mktemp("drawn") / "drawn_squat", size=32)


def test_the_folder_is_read_with_a_label_for_each_frame(drawn, poses):
    data = folder.load(drawn, fps=25, size=16, backbone=None)
    assert [clip.name for clip in data.train] == [clip.name for clip in poses.train]
    assert data.label_names == ["down", "low", "up"]
    for clip, source in zip(data.val, poses.val, strict=True):
        np.testing.assert_array_equal(clip.labels, source.labels)
        np.testing.assert_allclose(clip.times, source.times, atol=1e-4)
    assert read_frames(drawn / "videos" / "m01_s01_e01.mp4")[0].shape == (12, 32, 32, 3)
    with pytest.raises(FileExistsError, match="not an empty folder"):
        render.render(poses, drawn)


def test_the_figure_stands_on_its_feet_and_sinks():
    look = render.look(1, 64)
    pictures = render.draw_frames(squat("a_s01_b", 13).frames, look, 64)
    np.testing.assert_array_equal(pictures, render.draw_frames(squat("a_s01_b", 13).frames, render.look(1, 64), 64))
    empty = look.background.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    rows = [np.flatnonzero((np.abs(picture - empty).max(axis=2) > 12).any(axis=1)) for picture in pictures]
    assert rows[6][0] > rows[0][0] + 4  # the head is lower
    assert abs(rows[6][-1] - rows[0][-1]) <= 2  # the feet are where they were


def test_people_look_different():
    one, two = render.look(1), render.look(2)
    assert one.yaw != two.yaw
    assert one.limbs != two.limbs
    assert np.abs(one.background.astype(int) - two.background).mean() > 5
    assert render.person(squat("m01_s07_e03")) == 7


def test_fewer_clips_keep_both_splits(poses, tmp_path):
    root = render.render(poses, tmp_path / "few", clips=4, size=16)
    assert {split: len(names) for split, names in json.loads((root / "split.json").read_text()).items()} == {
        "train": 2,
        "val": 2,
    }


@pytest.mark.parametrize("backbone", ["small", "efficientnet_lite0"])
def test_from_videos_to_rows_and_pictures(backbone, drawn, tmp_path, monkeypatch, capsys):
    """The drawing is done already, as when a run goes on: "small" end to end, the other one by its features."""
    monkeypatch.setattr("lac.data.features.cache_folder", lambda: tmp_path / "cache")
    if backbone != "small":
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs the default backbone, of the extra 'video'")
    (tmp_path / "drawn_deep_squat").symlink_to(drawn)
    table = tmp_path / "video.csv"
    flags = [part for key, value in TINY.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    if backbone == "small":
        flags += ["--end-to-end", "--set", "model.backbone=small", "--set", "data.options.fps=25"]
    monkeypatch.setattr("sys.argv", ["bench/from_video.py", str(tmp_path), "--csv", str(table), *flags])
    from_video.main()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["embedding"] for row in rows] == ["trained", "time index", "raw features", "random encoder"]
    how = "small end to end" if backbone == "small" else "features of efficientnet_lite0"
    assert {row["condition"] for row in rows} == {f"drawn pixels, {how}"}
    assert 0 <= float(rows[0]["accuracy_1"]) <= 1
    assert rows[0]["steps"] == "2"
    run = tmp_path / ("end_to_end_0" if backbone == "small" else "features_0")
    for name in ("plots/alignment.png", "align/alignment.png", "align/both.mp4", "retrieve/retrieval.png"):
        assert (run / name).stat().st_size > 0
    before = table.read_bytes()
    from_video.main()  # the seed is there
    assert table.read_bytes() == before
    assert "drawn pixels" in capsys.readouterr().out


def test_settings_of_both_ways_are_settings():
    for more, words in (({}, "drawn pixels, features of efficientnet_lite0"), (from_video.END_TO_END, "end to end")):
        config = TrainConfig.read(None, {**from_video.SETTINGS, **more})
        assert from_video.way(config).endswith(words)
