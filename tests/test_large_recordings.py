"""Hours of recording through the commands: what is found, how much memory it takes, and what is refused in time."""

import csv
import json
import re

import numpy as np
import pytest
from peaks import measured
from planted import FEATURES, RATE, same, smooth
from tiny_run import flags

import lac.cli.align
import lac.cli.train
from lac import ways
from lac.data import Clip
from lac.errors import DataError

COMMAND = """
import importlib

command = importlib.import_module(f"lac.cli.{sys.argv[1]}")
import lac.search, lac.ways, matplotlib.figure  # what is there whatever the length

with Peak() as peak:
    code = command.main(sys.argv[2:])
print(json.dumps({"code": code, "megabytes": peak.megabytes, "seconds": peak.seconds}))
"""
SLOW = pytest.mark.slow
OF_ITS_OWN = 250  # MB that a command takes whatever the length: pictures, libraries, a piece


def run(command, *arguments):
    """A command in a process of its own: its megabytes and seconds."""
    found = measured(COMMAND, command, *arguments)
    assert found["code"] == 0
    return found


@pytest.fixture(scope="module")
def planted_hours(tmp_path_factory):
    """Makes a recording of so many hours, once: its folder, with a query of two seconds and eight occurrences of it."""
    made = {}

    def make(hours):
        if hours not in made:
            folder = tmp_path_factory.mktemp("hours")
            rng = np.random.default_rng(0)
            frames, query = smooth(rng, int(hours * 3600 * RATE)).astype(np.float32), smooth(rng, 50)
            spans = []
            for k, start in enumerate(np.linspace(0.05, 0.95, 8) * len(frames)):
                length = int(50 / (0.8 + 0.05 * k))
                places = np.linspace(0, 49, length)
                copy = np.stack([np.interp(places, np.arange(50), column) for column in query.T], axis=1)
                frames[int(start) : int(start) + length] = copy + 0.3 * rng.normal(size=copy.shape)
                spans.append((int(start) / RATE, (int(start) + length - 1) / RATE))
            np.save(folder / "query.npy", query.astype(np.float32))
            np.save(folder / "recording.npy", frames)
            made[hours] = folder, spans
        return made[hours]

    return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on noisy copies of one movement, in a second."""
    folder, rng = tmp_path_factory.mktemp("trained"), np.random.default_rng(1)
    (folder / "clips" / "features").mkdir(parents=True)
    movement = smooth(rng, 60)
    for k in range(8):
        clip = movement[: 40 + 2 * k]
        np.save(folder / "clips" / "features" / f"clip{k}.npy", clip + 0.1 * rng.normal(size=clip.shape))
    settings = flags(train_steps=60, model_embed_dim=16, model_width=16)
    arguments = ["--data", "folder", "--root", str(folder / "clips"), "--out", str(folder / "run"), *settings]
    assert lac.cli.train.main(arguments) == 0
    return folder / "run"


def found_spans(out):
    with (out / "hits.csv").open(newline="") as file:
        return [(float(row["start"]), float(row["end"])) for row in csv.DictReader(file)]


@pytest.mark.promise("large")
@pytest.mark.parametrize(
    ("by", "hours"), [("raw", 0.2), pytest.param("raw", 6, marks=SLOW), pytest.param("run", 6, marks=SLOW)]
)
def test_occurrences_are_found_in_hours(by, hours, planted_hours, request, tmp_path, record_property):
    """lac-find finds planted occurrences in 6 hours at the right seconds, in memory that the recording bounds."""
    folder, spans = planted_hours(hours)
    way = "raw" if by == "raw" else request.getfixturevalue("trained")
    there = folder / "query.npy", folder / "recording.npy"
    cost = run("find", way, *there, "--out", tmp_path, "--chance", 1, "--most", 8)
    found = found_spans(tmp_path)
    right = [any(same(one, span) for one in found) for span in spans]
    assert sum(right) >= (8 if by == "raw" else 6), (found, spans)
    size = there[1].stat().st_size / 2**20
    limit = OF_ITS_OWN + 10 * size  # beside the frames their self-similarity, which is as much again
    assert cost["megabytes"] <= limit, cost
    record_property("note", f"{by}, {hours:g} h of {FEATURES} features at 25 a second: {sum(right)} of 8 found, "
                            f"{cost['megabytes']:.0f} MB, {cost['seconds']:.0f} s")  # fmt: skip


@SLOW
@pytest.mark.promise("large")
@pytest.mark.parametrize("hours", [0.2, 6])
def test_hours_are_embedded(hours, planted_hours, trained, tmp_path, record_property):
    """lac-embed writes the embeddings of 6 hours in memory that grows with no more than the recording."""
    folder, _ = planted_hours(hours)
    cost = run("embed", trained, folder / "recording.npy", "--out", tmp_path / "embedded")
    embedded = np.load(tmp_path / "embedded" / "features" / "recording.npy")
    size = (folder / "recording.npy").stat().st_size / 2**20
    assert embedded.shape == (int(hours * 3600 * RATE), 16)
    assert np.isfinite(embedded).all()
    assert cost["megabytes"] <= OF_ITS_OWN + 6 * size, cost
    record_property("note", f"{hours:g} h at 25 frames a second: {cost['megabytes']:.0f} MB, {cost['seconds']:.0f} s")


@SLOW
@pytest.mark.promise("large")
@pytest.mark.parametrize("frames", [700, 4000])
def test_two_long_recordings_are_aligned(frames, tmp_path, record_property):
    """lac-align of two recordings of thousands of frames draws them in memory that the scores bound."""
    rng = np.random.default_rng(0)
    one = smooth(rng, frames)
    other = one + 0.3 * rng.normal(size=one.shape)
    costs = []
    for count in (50, frames):  # two short ones take what is there whatever the length, but for pictures of few cells
        for name, recording in (("a", one), ("b", other)):
            np.save(tmp_path / f"{name}.npy", recording[:count].astype(np.float32))
        costs.append(run("align", "raw", tmp_path / "a.npy", tmp_path / "b.npy", "--out", tmp_path / "out"))
    path = np.array(json.loads((tmp_path / "out" / "alignment.json").read_text())["path"])
    assert (path[:, 0] == path[:, 1]).mean() > 0.95
    assert len(path) > 0.9 * frames
    (few, _), (many, seconds) = ((cost["megabytes"], cost["seconds"]) for cost in costs)
    assert many - few <= 60 + ways._TENSORS * frames**2 * 4 / 2**20, costs
    record_property("note", f"{frames} x {frames}: {many:.0f} MB, {seconds:.0f} s")


def long_clip(name, frames):
    return Clip(name, np.zeros((frames, 1), np.float32), np.arange(frames) / RATE)


@pytest.mark.promise("large")
def test_recordings_too_long_to_be_aligned_are_refused_before_anything_is_computed(tmp_path, capsys, record_property):
    """lac-align says how much memory two recordings would take before it takes any, and what to do instead."""
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.zeros((90_000, 1), np.float32))
    assert lac.cli.align.main(["raw", str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--out", str(tmp_path)]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "a and b, of 90000 and 90000 frames, take about 227 GB" in said
    assert "lac-find" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npy", "b.npy"]
    ways.check_memory_of_two(long_clip("query", 50), long_clip("day", 2_000_000))
    with pytest.raises(DataError, match=re.escape("more than 4 GB: give shorter ones")):
        ways.check_memory_of_two(long_clip("a", 12_000), long_clip("b", 12_000))
    record_property("cases", 3)


VIDEO = """
from fractions import Fraction
from pathlib import Path

import av
from lac.data.video import each_frame, frame_times

path, minutes = Path(sys.argv[1]), float(sys.argv[2])
fps, count = 5, int(minutes * 60 * 5)
with av.open(str(path), "w") as container:
    stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
    stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
    for k in range(count):
        picture = np.full((48, 64, 3), 40, np.uint8)
        picture[10:30, k % 50 : k % 50 + 10] = 200
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode())

frames, seen = 0, []
for time_, picture in each_frame(path, fps=fps, size=(24, 32)):
    frames += 1
    if frames % (count // 10) == 0:
        seen.append(megabytes("VmRSS"))
print(json.dumps({"frames": frames, "count": count, "grown": seen[-1] - seen[4], "last": time_}))
"""


@pytest.mark.promise("large")
@pytest.mark.parametrize("minutes", [4, pytest.param(60, marks=SLOW)])
def test_a_long_video_is_read_frame_by_frame(minutes, tmp_path, record_property):
    """An hour of video is read frame by frame: in its second half the memory does not grow."""
    pytest.importorskip("av")
    found = measured(VIDEO, tmp_path / "long.mp4", minutes)
    assert found["frames"] == found["count"] == int(300 * minutes)
    assert found["last"] == pytest.approx(60 * minutes - 0.2, abs=0.01)
    assert found["grown"] < 8, found
    record_property("note", f"{minutes} min at 5 frames a second: {found['grown']:+.1f} MB in its second half")
