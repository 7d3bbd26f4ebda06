"""`lac-find`: what is found, in words and files, and what is wrong with what it is given."""

import csv
import json
import sys

import numpy as np
import pytest
from planted import RATE, clip, planted, same, smooth
from tiny_video import grey, write_video

from lac.cli import find
from lac.data.video import read_frames
from lac.errors import DataError

SEED = 2  # of a recording with three occurrences


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of a query and of recordings, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    query, recording, _ = planted(SEED)
    np.save("query.npy", query.frames)
    np.save("recording.npy", recording.frames)
    np.save("nothing.npy", smooth(np.random.default_rng(5), 1500).astype(np.float32))
    return tmp_path


def run(capsys, *arguments: str) -> tuple[int, str]:
    code = find.main(list(arguments))
    out = capsys.readouterr()
    return code, out.out + out.err


def test_what_is_found_is_told_and_written(folder, capsys):
    _, _, spans = planted(SEED)
    code, text = run(capsys, "raw", "query.npy", "nothing.npy", "recording.npy")
    assert code == 0
    assert f"{len(spans)} occurrences in 1 of 2 recordings; a share of 0.05 at most may be chance" in text
    assert max(map(len, text.splitlines())) <= 80
    report = json.loads((folder / "find-query" / "hits.json").read_text())
    with open(folder / "find-query" / "hits.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report["hits"]) == len(spans)
    assert [row["rank"] for row in rows] == [str(k + 1) for k in range(len(spans))]
    for row, hit in zip(rows, report["hits"], strict=True):
        assert row["recording"] == "recording"
        assert any(same((float(row["start"]), float(row["end"])), span) for span in spans)
        assert float(row["chance"]) <= 0.05
        assert float(row["start"]) <= float(row["matched_start"]) <= float(row["matched_end"]) <= float(row["end"]) + 1
        assert len(hit["path"]) == int(row["matched_frames"])
    assert (folder / "find-query" / "timeline.png").stat().st_size > 5000


def test_nothing_in_common_claims_no_path(folder, capsys):
    code, text = run(capsys, "raw", "query.npy", "nothing.npy")
    assert code == 0
    assert "nothing in common beyond chance in 1 recording; the best, nothing at " in text
    report = json.loads((folder / "find-query" / "hits.json").read_text())
    assert report["hits"] == []
    assert report["verdict"].startswith("nothing in common")


def test_repeats_within_one_recording(folder, capsys):
    _, _, spans = planted(SEED)
    start, end = spans[0]
    code, text = run(
        capsys,
        "raw",
        "recording.npy",
        "recording.npy",
        "--from",
        f"{start:.2f}",
        "--to",
        f"{end:.2f}",
        "--chance",
        "0.5",
    )
    assert code == 0
    assert "the query itself, in its own recording" in text
    (out,) = folder.glob("find-recording-from-*-to-*")  # another part of it does not overwrite this one
    report = json.loads((out / "hits.json").read_text())
    assert len(report["hits"]) >= len(spans) - 1
    for hit, _ in zip(report["hits"], spans[1:], strict=False):
        assert any(same((hit["start"], hit["end"]), span) for span in spans[1:])


def test_a_recording_that_is_the_query_throughout_is_told(folder, capsys):
    query = planted(SEED)[0].frames
    periodic = np.tile(query, (12, 1)) + 0.1 * np.random.default_rng(0).normal(size=(12 * len(query), 16))
    np.save("periodic.npy", periodic.astype(np.float32))
    _, text = run(capsys, "raw", "query.npy", "periodic.npy")
    if "nothing in common" in text:
        assert "the query fits all over periodic" in text
    _, text = run(capsys, "raw", "query.npy", "periodic.npy", "--chance", "1")
    assert "12 occurrences in 1 recording" in text


def test_odd_queries_and_recordings(folder, capsys):
    np.save("still.npy", np.ones((300, 16), np.float32))
    np.save("one.npy", planted(SEED)[0].frames[:1])
    for arguments, words in (
        (("query.npy", "still.npy"), "doubt           still does not change from frame to frame"),
        (("query.npy", "one.npy"), "nothing in common"),
        (("one.npy", "recording.npy"), "nothing in common"),
        (("recording.npy", "query.npy", "--chance", "1"), "in 1 recording"),  # longer than where it is looked for
        (("still.npy", "recording.npy"), "nothing in common"),
    ):
        code, text = run(capsys, "raw", *arguments)
        assert (code, words in text) == (0, True), (arguments, text)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("query.npy", "wide.npy"), 1, "wide.npy: a frame has shape (5,), one of query.npy (16,)"),
        (("query.npy", "nan.npy"), 1, "nan.npy"),
        (("query.npy", "recording.npy", "recording.npy"), 2, "'recording.npy' is given twice"),
        (("query.npy", "recording.npy", "./recording.npy"), 2, "'./recording.npy' is given twice, before as"),
        (("query.npy", "recording.npy", "nan.npy"), 1, "nan.npy"),
        (("query.npy",), 2, "which recordings are to be searched?"),
        (("query.npy", "nowhere.npy"), 2, "there is no file 'nowhere.npy'"),
        (("query.npy", "recording.npy", "--from", "2", "--to", "1"), 2, "--from 2 --to 1: no frame; 'query' lasts"),
        (("query.npy", "recording.npy", "--from", "99"), 2, "no frame; 'query' lasts from 0.00"),
        (("query.npy", "recording.npy", "--most", "0"), 2, "--most must be at least 1, got 0"),
        (("query.npy", "recording.npy", "--chance", "2"), 2, "--chance must lie above 0 and be at most 1, got 2"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys, arguments, code, words):
    np.save("wide.npy", np.ones((30, 5), np.float32))
    bad = np.ones((30, 16), np.float32)
    bad[3, 3] = np.nan
    np.save("nan.npy", bad)
    found, text = run(capsys, "raw", *arguments)
    assert found == code
    assert words in text
    assert text.count("\n") == 1
    assert not (folder / "find-query").exists()


def test_the_query_is_known_however_it_is_spelled(folder, capsys):
    """By a file, by a clip of a data set, by another path: it is no hit in its own recording."""
    (folder / "data" / "features").mkdir(parents=True)
    for name in ("recording", "nothing"):
        np.save(folder / "data" / "features" / f"{name}.npy", np.load(f"{name}.npy"))
    part = ("--from", "10", "--to", "12", "--chance", "1")
    for number, arguments in (
        (1, ("recording.npy", "./recording.npy", "nothing.npy", *part)),
        (1, ("data/features/recording.npy", "recording", "--root", "data", *part)),
        (0, ("data/features/recording.npy", "--root", "data", *part)),  # by default all others
        (0, ("recording", "--root", "data", *part)),
    ):
        code, text = run(capsys, "raw", *arguments, "--out", "out")
        assert code == 0, text
        report = json.loads((folder / "out" / "hits.json").read_text())
        own = {one["name"]: one["left_out_as_the_query"] for one in report["recordings"]}
        assert own.get("recording", 0) == number, arguments
        assert not any(h["recording"] == "recording" and h["start"] < 11 < h["end"] for h in report["hits"])


def test_recordings_of_one_name_are_told_apart(folder, capsys):
    (folder / "monday").mkdir()
    np.save("monday/recording.npy", np.load("nothing.npy"))
    code, text = run(capsys, "raw", "query.npy", "recording.npy", "monday/recording.npy")
    assert code == 0, text
    report = json.loads((folder / "find-query" / "hits.json").read_text())
    assert [one["name"] for one in report["recordings"]] == ["recording.npy", "monday/recording.npy"]
    assert {hit["recording"] for hit in report["hits"]} == {"recording.npy"}


def test_all_recordings_are_looked_at_before_one_is_searched(folder, capsys, monkeypatch):
    np.save("wide.npy", np.ones((30, 5), np.float32))
    monkeypatch.setattr("lac.search.candidates", lambda *_: pytest.fail("searched"))
    code, text = run(capsys, "raw", "query.npy", "recording.npy", "wide.npy")
    assert (code, "wide.npy: a frame has shape (5,)" in text) == (1, True)


def test_what_was_asked_and_what_may_be_missing_is_said(folder, capsys):
    code, text = run(capsys, "raw", "query.npy", "recording.npy", "--most", "2", "--chance", "1")
    report = json.loads((folder / "find-query" / "hits.json").read_text())
    assert (code, report["most"], len(report["hits"])) == (0, 2, 2)
    assert "recording: 2 found, as many as --most: there may be more" in text
    assert {"lac", "torch", "device"} <= set(report["environment"])


def test_a_large_recording_is_read_again_to_be_searched(folder, capsys, monkeypatch):
    _, first = run(capsys, "raw", "query.npy", "nothing.npy", "recording.npy")
    monkeypatch.setattr("lac.cli.recordings._KEPT", 0)
    assert run(capsys, "raw", "query.npy", "nothing.npy", "recording.npy")[1] == first


@pytest.fixture
def films(tmp_path, monkeypatch):
    """A video of a query, and one of grey noise with the query in it twice."""
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAC_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (400, 4, 4, 3)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    query = pictures[:20]
    film = np.concatenate([pictures[20:120], query, pictures[120:260], query, pictures[260:]])
    write_video(tmp_path / "query.mp4", query, np.arange(len(query)) / 10)
    write_video(tmp_path / "film.mp4", film, np.arange(len(film)) / 10)
    return tmp_path


FILMS = ("raw", "query.mp4", "film.mp4", "--set", "data.options.backbone=null", "--out", "out")


def test_what_is_found_is_cut_out_of_videos(films, capsys):
    code, text = run(capsys, *FILMS, "--cut")
    assert code == 0, text
    report = json.loads((films / "out" / "hits.json").read_text())
    starts = sorted(hit["start"] for hit in report["hits"])
    np.testing.assert_allclose(starts, [10, 26], atol=0.2)
    assert f"cuts            2 in {'out/cuts'}" in text
    for hit in report["hits"]:
        frames, _ = read_frames(films / "out" / "cuts" / hit["cut"])
        assert len(frames) == pytest.approx(30, abs=3)  # two seconds, and half a second at either end


def test_cuts_of_an_earlier_search_go_and_nothing_else(films, capsys):
    run(capsys, *FILMS, "--cut")
    before = set((films / "out" / "cuts").iterdir())
    assert len(before) == 2
    mine = films / "out" / "cuts" / "001-mine-at-2.00.mp4"
    mine.write_bytes(b"mine")
    code, text = run(capsys, *FILMS)
    assert (code, "cuts " in text) == (0, False)
    assert set((films / "out" / "cuts").iterdir()) == {mine}
    assert run(capsys, *FILMS, "--cut")[0] == 0
    assert set((films / "out" / "cuts").iterdir()) == {*before, mine}


def test_cuts_of_what_is_no_video(folder, capsys):
    _, text = run(capsys, "raw", "query.npy", "recording.npy", "--cut")
    assert "cuts            none: of what was found there is no video" in text


def test_cuts_without_pyav_are_refused_before_anything_is_done(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    code, text = run(capsys, "raw", "query.npy", "recording.npy", "--cut")
    assert (code, text.count("\n")) == (1, 1)
    assert 'pip install ".[video]"' in text
    assert not (folder / "find-query").exists()


def test_an_embedding_that_is_not_finite_has_its_own_message(folder, capsys, monkeypatch):
    def diverged(*_):
        raise DataError("the embedding of recording is not finite")

    monkeypatch.setattr("lac.ways.Raw.compared", diverged)
    code, text = run(capsys, "raw", "query.npy", "recording.npy")
    assert (code, text) == (1, "error: the embedding of recording is not finite (--traceback shows where)\n")


def test_cuts_of_a_video(tmp_path, monkeypatch, capsys):
    """Frames can be told apart by their grey; the features lie beside the videos' names in a folder data set."""
    from lac.hits import cut_out

    film = write_video(tmp_path / "film.mp4", grey(6 * np.arange(40)), np.arange(40) / 20)
    cut_out(tmp_path / "cut.mp4", film, 0.9, 1.1, rate=20)
    frames, _ = read_frames(tmp_path / "cut.mp4")
    assert len(frames) == 25  # from .4 to 1.6 s
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), 6 * np.arange(8, 33), rtol=0, atol=4)
    with pytest.raises(ValueError, match="no frame between 9 and 10 s"):
        cut_out(tmp_path / "none.mp4", film, 9, 10, rate=20)
    assert not (tmp_path / "none.mp4").exists()


def test_names_are_drawn_as_they_are(tmp_path):
    from lac.hits import Hit, draw_timeline
    from lac.plots import save_figure
    from lac.search import Occurrence

    path = np.array([[0, 3], [1, 4]])
    hits = [Hit(1, 0, Occurrence(2.0, 1e-9, path, 60.0, 65.0)), Hit(2, 1, Occurrence(1.0, 0.9, path, 3000.0, 3004.0))]
    spans = [("a$^$b", 0.0, 4000.0), ("n" * 60, 10.0, 3600.0)]
    save_figure(draw_timeline(spans, hits, ("$x", 5.0), "two"), tmp_path / "timeline.png")
    assert clip(smooth(np.random.default_rng(0), 5), "x").times[1] == 1 / RATE
