"""`lac-align --all`, and the functions below it."""

import csv
import json

import numpy as np
import pytest
import torch
from clips_of_an_action import clips as made
from tiny_run import write_run
from tiny_video import write_videos

from lac import Consensus
from lac.cli.align import main
from lac.data import Clip
from lac.data.video import read_frames
from lac.embed import embed_clips
from lac.paths import expected_paths
from lac.runs import checkpoint
from lac.runs.run import load_run
from lac.timeline_picture import plot_group
from lac.together import AlignedGroup, Pair, align_group, common_timeline
from lac.ways import Raw, Trained

FILES = ("all.json", "all.png", "matches.csv", "pairs.csv")


@pytest.fixture(scope="module")
def recordings():
    """Eight clips of one action at 25 frames a second, their own clocks, and the phase of each frame."""
    frames, phases = made(8, seed=3, offset=3.0)
    times = [k + np.arange(len(x)) / 25 for k, x in enumerate(frames)]
    return [Clip(f"clip{k}", x.numpy(), times[k]) for k, x in enumerate(frames)], phases


@pytest.fixture(scope="module")
def folder(recordings, tmp_path_factory):
    """A data set of ten clips: six of one action to validate on, two of another, two to train on."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    others = [Clip(f"other{k}", rng.normal(size=(20, 24)), np.arange(20) / 25) for k in range(2)]
    for clip in [*recordings[0], *others]:
        for kind, array in (("features", clip.frames), ("times", clip.times)):
            (root / kind).mkdir(exist_ok=True)
            np.save(root / kind / f"{clip.name}.npy", array)
    lines = [f"clip{k},reach" for k in range(8)] + [f"other{k},wave" for k in range(2)]
    (root / "clips.csv").write_text("\n".join(["name,action", *lines]))
    val = ["other0", *(f"clip{k}" for k in range(2, 8)), "other1"]
    (root / "split.json").write_text(json.dumps({"train": ["clip0", "clip1"], "val": val}))
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), folder, 24, **{"train.reach": 0.4, "model.embed_dim": 32})


def align(*argv):
    return main([str(part) for part in (*argv, "--device", "cpu")])


def report(folder):
    return json.loads((folder / "all.json").read_text())


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


# Functions


def test_all_pairs_are_those_of_the_consensus(recordings):
    clips = [Clip(clip.name, clip.frames[k:], clip.times[k:]) for k, clip in enumerate(recordings[0][:4])]
    group = align_group(Raw(reach=0), clips)
    z = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip.frames) for clip in clips], batch_first=True)
    times = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip.times) for clip in clips], batch_first=True)
    expected = Consensus(spread=0.0, n_thirds=4)(z, torch.zeros(4).long(), [64, 63, 62, 61], times=times)
    assert group.trust == pytest.approx(expected.trust[0, 1].item(), abs=1e-4)
    np.testing.assert_allclose(group.matches, expected.posterior.sum((1, 2, 3)), rtol=1e-3)
    for (i, j), pair in group.pairs.items():
        posterior = expected.posterior[i, j, : 64 - i, : 64 - j]
        if i < j:
            np.testing.assert_array_equal(pair.path, expected_paths(posterior[None])[0])
        np.testing.assert_array_equal(pair.path, group.pairs[j, i].path[:, ::-1])
        np.testing.assert_allclose(pair.probability, posterior[tuple(pair.path.T)], rtol=0, atol=1e-4)
        assert pair.share == pytest.approx(posterior.sum().item() / (64 - max(i, j)), abs=1e-3)


def test_a_timeline_by_hand():
    def pair(path):
        return Pair(np.array(path, dtype=int).reshape(-1, 2), np.ones(len(path)), 0.5)

    clips = [Clip(f"c{k}", np.ones((6, 1)), 10 * k + np.arange(6)) for k in range(4)]
    pairs = {(1, 0): pair([[1, 0], [3, 4]]), (1, 2): pair([[2, 5]]), (1, 3): pair([])}
    pairs |= {(j, i): pair([cell[::-1] for cell in found.path.tolist()]) for (i, j), found in pairs.items()}
    none = np.nan
    timeline = common_timeline(AlignedGroup(pairs, 0.4, np.array([2.0, 3.0, 1.0, 0.0])), clips)
    assert timeline.reference == 1
    expected = [[none, 0, 2, 4, none, none], list(range(10, 16)), [none, none, 25, none, none, none], [none] * 6]
    np.testing.assert_allclose(timeline.seconds.T, expected)
    assert common_timeline(AlignedGroup(pairs, 0.0, np.array([2.0, 3.0, 1.0, 0.0])), clips) is None


def test_clips_stand_at_the_same_phase_of_the_action(recordings):
    clips, phases = recordings
    timeline = common_timeline(align_group(Raw(reach=0.4), clips), clips)
    own = phases[timeline.reference]
    for k, clip in enumerate(clips):
        if k == timeline.reference:
            continue
        seconds = timeline.seconds[:, k]
        both = ~np.isnan(seconds) & ~np.isnan(own)
        there = np.interp(seconds[both], clip.times, phases[k])  # NaN outside the action
        error = np.abs(there - own[both])
        assert np.nanmean(error) < 0.06
        assert (np.diff(seconds[~np.isnan(seconds)]) > 0).all()
        assert (~np.isnan(error)).sum() > 15


def test_what_is_drawn(recordings):
    clips = recordings[0][:5]
    group = align_group(Raw(reach=0.4), clips)
    timeline = common_timeline(group, clips)
    figure = plot_group(group, timeline, clips, "five")
    figure.canvas.draw()
    matrix, line = figure.axes[:2]
    shown = [label.get_text() for label in line.get_yticklabels()]
    assert shown[0] == clips[timeline.reference].name
    assert sorted(shown) == [f"clip{k}" for k in range(5)]
    assert shown == [label.get_text() for label in matrix.get_yticklabels()]
    image = np.ma.filled(matrix.images[0].get_array(), np.nan)
    order = [int(name[4:]) for name in shown]
    assert image[0, 1] == pytest.approx(group.pairs[order[0], order[1]].share)
    assert np.isnan(np.diag(image)).all()
    assert "five" in figure.get_suptitle()
    nothing = plot_group(group._replace(trust=0.0), None, clips)
    assert "nothing is confirmed: no common timeline" in nothing.get_suptitle()
    assert len(nothing.axes) == 2  # the matrix and its bar


# The command


def test_the_validation_clips_of_the_most_frequent_action(run, capsys):
    assert align(run, "--all") == 0
    out = run / "align" / "all"
    written = report(out)
    names = [f"clip{k}" for k in range(2, 8)]
    assert [clip["name"] for clip in written["clips"]] == names
    encoder, config, data = load_run(run)
    clips = [clip for clip in data.val if clip.action == "reach"]
    group = align_group(Trained(encoder, checkpoint.read_loss(run), config.train.reach), clips)
    assert written["trust"] == pytest.approx(group.trust, abs=1e-3)
    assert written["trust"] > 0
    pairs = rows(out / "pairs.csv")
    assert pairs[0] == [
        *("clip_a", "clip_b", "trust", "matched_frames", "seconds_a", "seconds_b", "mean_probability", "share")
    ]
    assert [row[:2] for row in pairs[1:]] == [[a, b] for k, a in enumerate(names) for b in names[k + 1 :]]
    matches = rows(out / "matches.csv")
    assert len(matches) - 1 == sum(int(row[3]) for row in pairs[1:])
    path = group.pairs[0, 1].path
    first = [[float(cell) for cell in row[2:4]] for row in matches[1:] if row[:2] == names[:2]]
    np.testing.assert_allclose(first, np.stack([clips[0].times[path[:, 0]], clips[1].times[path[:, 1]]], 1), atol=1e-6)
    timeline, expected = rows(out / "timeline.csv"), common_timeline(group, clips)
    assert timeline[0][0] == written["timeline"]["reference"] == clips[expected.reference].name
    assert sorted(timeline[0]) == names
    for k, clip in enumerate(clips):
        column = timeline[0].index(clip.name)
        seconds = [float(row[column]) if row[column] else np.nan for row in timeline[1:]]
        np.testing.assert_allclose(seconds, expected.seconds[:, k], rtol=0, atol=1e-5)
    assert (out / "all.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "of action 'reach', 6 of 8; it has the most of 2 actions" in shown
    assert f"timeline        that of {timeline[0][0]}" in shown
    assert embed_clips(encoder, clips)[0].shape[1] == 32


def test_files_and_names_by_raw_features(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [folder / "features" / f"clip{k}.npy" for k in range(5)]
    assert align("raw", *files[:2], "--all", *files[2:]) == 0
    written = report(tmp_path / "align-all")
    assert written["given"] == [str(file) for file in files]
    assert (written["run"], written["aligned_by"], written["chosen"]) == (None, "raw features", "as given")
    assert len(written["pairs"]) == 10
    assert written["trust"] > 0.5
    assert align("raw", "--all", "--root", folder, "--out", "set") == 0
    assert len(report(tmp_path / "set")["clips"]) == 6
    assert "raw features and their self-similarity" in capsys.readouterr().out


def test_all_videos_in_the_timing_of_the_reference(tmp_path, capsys):
    root = write_videos(tmp_path / "films") / "videos"
    films = [root / f"clip{k}.mp4" for k in range(2, 7)]
    images = ["--set", "data.options.backbone=null", "--set", "data.options.size=16"]
    film = tmp_path / "grid.mp4"
    assert align("raw", "--all", *films, *images, "--out", tmp_path, "--video", film) == 0
    written = report(tmp_path)
    order = list(written["timeline"]["seconds"])
    reference = read_frames(root / f"{order[0]}.mp4")
    frames, times = read_frames(film)
    tall, wide = 144 + 18, 144
    assert frames.shape == (len(reference[0]), 2 * tall, 3 * wide, 3)
    np.testing.assert_allclose(times, reference[1], rtol=0, atol=1e-4)
    # The disc turns from blue to red: at each moment all that are matched have the colour of the reference.
    cells = [frames[:, tall * r + 18 : tall * (r + 1), wide * c : wide * (c + 1)] for r in range(2) for c in range(3)]
    red, *others = (cell[:, 68:76, 68:76, 0].mean(axis=(1, 2)) for cell in cells[:5])
    thinned = written["timeline"]["seconds"]
    for name, other in zip(order[1:], others, strict=True):
        there = [k for k, second in enumerate(thinned[name]) if second is not None]
        first, last = (thinned[order[0]][k] for k in (there[0], there[-1]))
        matched = (times > first + 1e-3) & (times < last - 1e-3)
        assert matched.sum() > 8
        assert abs(other - red)[matched].mean() < 25  # of 255
    assert f"video           {film}\n" in capsys.readouterr().out


def test_noise_has_no_timeline(tmp_path, capsys):
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{k}.npy" for k in range(4)]
    for file in files:
        np.save(file, rng.normal(size=(40, 6)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "timeline.csv").write_text("of an earlier call")
    assert align("raw", "--all", *files, "--out", tmp_path / "out") == 0
    written = report(tmp_path / "out")
    assert (written["trust"], written["timeline"]) == (0, None)
    shown = capsys.readouterr().out
    assert (
        "trust           0.00   from 0 to 1, of all clips together   nothing is confirmed: no common timeline" in shown
    )
    assert "timeline.csv" not in shown
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == list(FILES)


def test_what_cannot_be(run, folder, tmp_path, capsys, monkeypatch):
    files = [folder / "features" / f"clip{k}.npy" for k in range(3)]
    np.save(tmp_path / "clip0.npy", np.ones((5, 24)))
    np.save(tmp_path / "wide.npy", np.ones((5, 3)))
    for argv, code, words in (
        (
            ["raw", "--all"],
            2,
            "raw --all needs clips (lac-align raw --all CLIP ...), or a data set by --data or --root",
        ),
        (["raw", "--all", *files[:2]], 2, "--all needs three clips at least, got 2"),
        (["raw", "--all", *files[:2], files[0]], 2, "clip0.npy' is given twice"),
        (["raw", "--all", *files[:2], tmp_path / "clip0.npy"], 1, "two clips are both called 'clip0'"),
        (["raw", "--all", *files, tmp_path / "wide.npy"], 1, "wide.npy: a frame has shape (3,)"),
        ([run, "--all", *files, tmp_path / "wide.npy"], 1, "the encoder of the run takes 24 features"),
        ([run, "--all", "--video", tmp_path / "x.mp4"], 2, "--video needs videos, but there is none of 'clip2'"),
        ([run, "--all", "--video", tmp_path / "x.avi"], 2, "--video must end in .mp4"),
        ([run, files[0]], 2, "two clips at least are required"),
        ([run], 2, "two clips at least are required"),
    ):
        assert align(*argv, "--out", tmp_path / "out") == code
        assert words in capsys.readouterr().err
    monkeypatch.setattr("lac.ways.MOST_BYTES", 1e5)
    assert align("raw", "--all", *files, "--out", tmp_path / "out") == 1
    assert "give fewer clips (of this length at most 0), or fewer frames a second" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
