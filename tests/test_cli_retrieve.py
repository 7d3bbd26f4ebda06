import json

import numpy as np
import pytest
from tiny_run import write_clips, write_run
from tiny_video import grey, write_video

from lac import queries
from lac.cli.retrieve import main
from lac.data.video import frames_at


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = write_clips(tmp_path_factory.mktemp("clips"))
    (root / "split.json").write_text(
        json.dumps({"train": ["clip0", "clip1", "clip2"], "val": [f"clip{k}" for k in range(3, 8)]})
    )
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, clips):
    return write_run(tmp_path_factory.mktemp("run"), clips, 3, **{"data.options": {"rate": 20.0}})


def retrieve(*argv):
    return main([str(part) for part in (*argv, "--device", "cpu")])


def report(folder):
    return json.loads((folder / "retrieval.json").read_text())


def test_a_copy_of_a_clip_finds_its_own_frames(run, clips, tmp_path, capsys):
    np.save(tmp_path / "copy.npy", np.load(clips / "features" / "clip5.npy"))
    assert retrieve(run, tmp_path / "copy.npy", "--queries", 4, "--k", 2, "--out", tmp_path) == 0
    written = report(tmp_path)
    assert written["clips_searched"] == 5
    for query in written["queries"]:
        best, other = query["nearest"]
        assert (best["clip"], best["frame"]) == ("clip5", query["frame"])
        assert best["distance"] == pytest.approx(0, abs=1e-5)
        assert other["clip"] != "clip5"
        assert best["same_phase"] is None  # a file has no labels
    assert (tmp_path / "retrieval.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "retrieval.json") in capsys.readouterr().out


def test_frames_of_a_clip_at_some_seconds(run, clips):
    assert retrieve(run, "clip4", "--at", "0.26", "0.9", "--k", 3) == 0
    written = report(run / "retrieve" / "clip4")
    labels = {k: np.load(clips / "labels" / f"clip{k}.npy") for k in range(3, 8)}
    assert [query["frame"] for query in written["queries"]] == [5, 18]
    for query in written["queries"]:
        names = [found["clip"] for found in query["nearest"]]
        assert len(set(names)) == 3
        assert set(names) <= {"clip3", "clip5", "clip6", "clip7"}
        distances = [found["distance"] for found in query["nearest"]]
        assert distances == sorted(distances)
        assert query["label"] == labels[4][query["frame"]]
        for found in query["nearest"]:
            same = labels[int(found["clip"][4:])][found["frame"]] == query["label"]
            assert found["same_phase"] is bool(same)


def test_the_first_validation_clip_is_the_default(run, tmp_path):
    assert retrieve(run, "--out", tmp_path) == 0
    written = report(tmp_path)
    assert {query["clip"] for query in written["queries"]} == {"clip3"}
    # From the middles of five equal parts of 0 to 1.1 s.
    assert [query["seconds"] for query in written["queries"]] == pytest.approx([0.1, 0.35, 0.55, 0.75, 1.0], abs=0.051)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2), (3, 8, 8), (12,)])
def test_every_kind_of_frame_is_drawn(shape, tmp_path):
    rng = np.random.default_rng(0)
    for k in range(4):
        (tmp_path / "features").mkdir(exist_ok=True)
        np.save(tmp_path / "features" / f"c{k}.npy", rng.normal(size=(9, *shape)))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["c0"], "val": ["c1", "c2", "c3"]}))
    run = write_run(tmp_path / "run", tmp_path, int(np.prod(shape)))
    assert retrieve(run, "--queries", 2) == 0
    assert report(run / "retrieve" / "c1")["queries"][0]["phase"] is None


def test_pictures_come_from_the_video(run, clips, tmp_path, monkeypatch):
    for k in range(3, 8):
        write_video(clips / "videos" / f"clip{k}.mp4", grey(8 * np.arange(30) + k), np.arange(30) / 20)
    shown = []
    monkeypatch.setattr(queries, "plot_retrieval", _spy(queries.plot_retrieval, shown))
    assert retrieve(run, "clip3", "--queries", 3, "--k", 2, "--out", tmp_path) == 0
    for query, row in zip(report(tmp_path)["queries"], shown[0], strict=True):
        for answer, picture in zip([query, *query["nearest"]], row, strict=True):
            assert picture.mean() == pytest.approx(8 * answer["frame"] + int(answer["clip"][4:]), abs=4)


def test_a_file_called_like_another_clip_is_not_its_video(run, clips, tmp_path, monkeypatch):
    for k in range(3, 8):
        write_video(clips / "videos" / f"clip{k}.mp4", grey(8 * np.arange(30) + k), np.arange(30) / 20)
    shown = []
    monkeypatch.setattr(queries, "plot_retrieval", _spy(queries.plot_retrieval, shown))
    monkeypatch.chdir(tmp_path)
    for k in range(4, 8):
        write_video(tmp_path / "white.mp4", grey([250] * 30), np.arange(30) / 20).rename(tmp_path / f"clip{k}")
    assert retrieve(run, "clip3", "--queries", 3, "--k", 2, "--out", tmp_path) == 0
    for row in shown[0]:
        assert all(picture.mean() < 245 for picture in row)


def _spy(plot, shown):
    def spied(pictures, *arguments, **options):
        shown.append(pictures)
        return plot(pictures, *arguments, **options)

    return spied


def test_frames_at_some_times(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey(20 * np.arange(10), 16, 32), np.arange(10) / 10)
    pictures = frames_at(path, [0.85, 0.2, -1, 99, 0.29], height=8)
    assert pictures.shape == (5, 8, 16, 3)
    np.testing.assert_allclose(pictures.mean(axis=(1, 2, 3)), [160, 40, 0, 180, 40], atol=4)


def test_a_clip_that_stands_still_is_told(run, tmp_path, capsys):
    np.save(tmp_path / "still.npy", np.ones((9, 3)))
    assert retrieve(run, tmp_path / "still.npy", "--out", tmp_path) == 0
    line = "still does not change from frame to frame: all of it finds the same"
    assert report(tmp_path)["doubts"] == [line]
    assert f"doubt           {line}" in capsys.readouterr().out


def test_embeddings_that_are_not_finite_find_nothing(run, tmp_path, capsys):
    np.save(tmp_path / "huge.npy", np.random.default_rng(0).normal(size=(9, 3)) * 1e38)
    assert retrieve(run, tmp_path / "huge.npy", "--out", tmp_path) == 1
    assert "the embedding of huge is not finite; the encoder has diverged, or the frames" in capsys.readouterr().err
    assert not (tmp_path / "retrieval.json").exists()


@pytest.mark.parametrize("seconds", [[], [np.nan], [0.1, np.inf]])
def test_no_frame_at_no_time(tmp_path, seconds):
    path = write_video(tmp_path / "a.mp4", grey([1, 2]), [0, 0.1])
    with pytest.raises(ValueError, match="seconds must be finite times, at least one"):
        frames_at(path, seconds)


def test_usage(run, capsys):
    for argv, word in [
        ((run, "--k", 0), "--k must be at least 1"),
        ((run, "clip3", "--at", "7"), "--at 7: the clip 'clip3' lasts from 0.00 to 1.10 s"),
        ((run, "clpi3"), "a name there is 'clip3'"),
    ]:
        assert retrieve(*argv) == 2
        assert word in capsys.readouterr().err
