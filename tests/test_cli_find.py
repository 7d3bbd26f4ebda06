"""`lac-find`: what is found, in words and files, and what is wrong with what it is given."""

import csv
import json

import numpy as np
import pytest
from planted import RATE, clip, planted, same, smooth
from tiny_video import grey, write_video

from lac.cli import find
from lac.data.video import read_frames

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
    report = json.loads((folder / "find-recording" / "hits.json").read_text())
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
