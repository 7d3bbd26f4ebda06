import json

import numpy as np
import pytest
import torch
from planted import smooth
from tiny_run import flags, write_clips, write_run
from tiny_video import grey, write_video, write_videos

from lac import plots
from lac.cli import evaluate, train
from lac.cli.align import main
from lac.data.video import read_frames
from lac.model.encoder import FrameEncoder
from lac.pairs import align_clips, find_gaps
from lac.paths import expected_paths
from lac.runs import checkpoint
from lac.runs.config import CONFIG, TrainConfig
from lac.runs.run import load_run


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, clips):
    return write_run(tmp_path_factory.mktemp("run"), clips, 3, **{"data.options": {"rate": 20.0}})


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("data") / "videos")


@pytest.fixture(scope="module")
def video_run(tmp_path_factory, videos):
    """A run that lac-train has trained on videos through the backbone."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = {"size": 16, "backbone": None}
    settings = flags(model_backbone="small", data_options=options, train_steps=15, train_warmup=2, augment_region=1.5)
    assert train.main(["--data", "folder", "--root", str(videos), "--out", str(folder), *settings]) == 0
    return folder


def align(*argv):
    return main([str(part) for part in (*argv, "--device", "cpu")])


def report(folder):
    return json.loads((folder / "alignment.json").read_text())


def test_gaps_by_hand():
    path = np.array([[2, 0], [3, 1], [6, 2], [7, 5], [9, 7]])
    times1, times2 = np.arange(12) / 10, np.array([0, 1, 2, 2.5, 4, 5, 6, 7.0])
    gaps = find_gaps(path, times1, times2)
    assert [(gap["clip"], gap["frames"]) for gap in gaps] == [(0, 2), (1, 2), (0, 1), (1, 1)]
    np.testing.assert_allclose([gap["after"] for gap in gaps], [0.3, 2, 0.7, 5])
    np.testing.assert_allclose([gap["seconds"] for gap in gaps], [0.2, 2, 0.1, 1])
    assert find_gaps(path[:1], times1, times2) == find_gaps(path[:0], times1, times2) == []


def test_two_clips_of_the_data_set(run, tmp_path, capsys):
    assert align(run, "clip1", "clip6", "--out", tmp_path) == 0
    written = report(tmp_path)
    encoder, _, data = load_run(run)
    first, second = ({clip.name: clip for clip in data.train + data.val}[name] for name in ("clip1", "clip6"))
    aligned = align_clips(encoder, checkpoint.read_loss(run), first, second)
    path = aligned.path.numpy()
    assert written["path"] == path.tolist()
    assert written["score"] == pytest.approx(aligned.best_score.item(), rel=1e-6)
    # The smooth maximum is above the greatest term, by T log(number of paths) at most.
    assert written["soft_score"] == pytest.approx(aligned.score.item(), rel=1e-6)
    assert written["score"] < written["soft_score"] < written["score"] + 30
    assert written["matched_frames"] == len(path) > 0
    assert written["gaps"] == find_gaps(path, first.times, second.times)
    np.testing.assert_allclose(written["path_seconds"], path / 20, atol=1e-9)
    for k, clip in enumerate(written["clips"]):
        assert clip["matched_segment"] == pytest.approx([path[0, k] / 20, path[-1, k] / 20])
        assert clip["frames"] == (21, 26)[k]
        assert clip["seconds"] == pytest.approx([0, (clip["frames"] - 1) / 20])
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    for text in (f"{written['score']:.3f}", f"{len(path)} frames", "clip1", "clip6", str(tmp_path / "alignment.json")):
        assert text in shown


def test_a_clip_matches_itself_frame_by_frame(run, clips, tmp_path):
    # Every frame is nearest to itself, so the diagonal without a gap is best: N scale (1 - margin).
    assert align(run, "clip2", clips / "features" / "clip2.npy", "--out", tmp_path) == 0
    written = report(tmp_path)
    assert written["path"] == [[k, k] for k in range(22)]
    assert written["gaps"] == []
    assert written["score"] == pytest.approx(22 * 0.5, rel=1e-5)


def test_files_are_read_at_the_rate_of_the_run(run, clips, capsys):
    files = [clips / "features" / f"{name}.npy" for name in ("clip1", "clip6")]
    assert align(run, *files) == 0
    out = run / "align" / "clip1-clip6"
    by_file = report(out)
    assert align(run, "clip1", "clip6") == 0
    assert {**report(out), "clips": None} == {**by_file, "clips": None}
    assert align(run, *files, "--set", "data.options.rate=10") == 0
    assert report(out)["clips"][0]["seconds"] == [0, 2.0]
    assert "score" in capsys.readouterr().out


def test_nothing_in_common(tmp_path, clips, capsys, monkeypatch):
    # No cosine exceeds this margin: the best alignment is one cell of a negative score, which is no match.
    folder = write_run(tmp_path / "strict", clips, 3, **{"loss.margin": 2.0})
    drawn = []
    # Of the two pictures the one of the alignment.
    keep = lambda figure, path: path.name == "alignment.png" and drawn.append(figure)  # noqa: E731
    monkeypatch.setattr(plots, "save_figure", keep)
    files = [clips / "features" / f"clip{k}.npy" for k in range(2)]
    assert align(folder, *files, "--out", tmp_path) == 0
    written = report(tmp_path)
    assert written["score"] <= -1 + 1e-4
    assert written["matched_frames"] == 0
    assert written["path"] == written["path_seconds"] == written["gaps"] == []
    assert [clip["matched_segment"] for clip in written["clips"]] == [None, None]
    shown = capsys.readouterr().out
    for words in (
        "nothing in common: no match is worth anything",
        "matched         0 frames",
        "A               nothing, of 0.00 to 0.76 s",
    ):
        assert words in shown
    (figure,) = drawn
    assert [line for axes in figure.axes for line in axes.lines] == []
    assert "no match" in figure.axes[1].get_title()
    assert "nothing in common" in figure.get_suptitle()


def test_a_clip_that_stands_still_is_told(run, clips, tmp_path, capsys):
    np.save(tmp_path / "still.npy", np.ones((9, 3)))
    np.save(tmp_path / "one.npy", np.ones((1, 3)))
    assert align(run, "clip1", tmp_path / "still.npy", "--out", tmp_path) == 0
    line = "still does not change from frame to frame: any path through it is as good as another"
    assert report(tmp_path)["doubts"] == [line]
    assert f"doubt           {line}" in capsys.readouterr().out
    assert align(run, tmp_path / "one.npy", "clip1", "--out", tmp_path) == 0
    assert report(tmp_path)["doubts"][0].startswith("one does not change")
    assert align(run, "clip1", "clip2", "--out", tmp_path) == 0
    assert report(tmp_path)["doubts"] == []
    assert "doubt" not in capsys.readouterr().out.split("alignment.json")[-2]


def test_scores_that_are_not_finite_are_no_verdict(run, tmp_path, capsys):
    np.save(tmp_path / "huge.npy", np.random.default_rng(0).normal(size=(9, 3)) * 1e38)
    refused([run, "clip1", tmp_path / "huge.npy", "--out", tmp_path], 1, "huge.npy are not finite", capsys=capsys)
    assert not (tmp_path / "alignment.json").exists()


def test_a_video_without_a_match_is_not_written(tmp_path, videos, capsys):
    settings = {"model.backbone": "small", "loss.margin": 2.0, "data.options": {"size": 16, "backbone": None}}
    folder = write_run(tmp_path / "strict", videos, None, **settings)
    film = tmp_path / "both.mp4"
    assert align(folder, "clip0", "clip1", "--out", tmp_path, "--video", film) == 0
    assert f"video           none: there is no match to follow; {film} is not written" in capsys.readouterr().out
    assert not film.exists()


# Videos


def test_a_match_that_may_be_chance_is_no_match(tmp_path, capsys):
    """Of unrelated curves nothing is claimed; of one recording and a part of it, played elsewhere, all is."""
    rng = np.random.default_rng(0)
    one, other = smooth(rng, 120).astype(np.float32), smooth(rng, 120).astype(np.float32)
    for name, frames in {"a": one, "b": other, "c": np.concatenate([other[:40], one[20:100], other[40:]])}.items():
        np.save(tmp_path / f"{name}.npy", frames)
    a, b, c = (tmp_path / f"{name}.npy" for name in "abc")
    assert align("raw", a, b, "--out", tmp_path / "b") == 0
    assert (
        "nothing in common beyond chance: B, shuffled, matches A as well; --chance 1 shows" in capsys.readouterr().out
    )
    assert (report(tmp_path / "b")["path"], report(tmp_path / "b")["chance"] > 0.05) == ([], True)
    assert align("raw", a, b, "--out", tmp_path / "all", "--chance", "1") == 0
    assert report(tmp_path / "all")["path"]
    assert align("raw", a, c, "--out", tmp_path / "c") == 0
    assert "that frames of B, shuffled, match A as well" in capsys.readouterr().out
    matched = np.array(report(tmp_path / "c")["path"])
    assert report(tmp_path / "c")["chance"] < 0.05
    assert (matched[:, 1] - matched[:, 0] == 20).mean() > 0.8


def test_videos_end_to_end(video_run, videos, tmp_path, capsys):
    rows = json.loads((video_run / "metrics.json").read_text())["results"]
    assert list(rows) == ["trained encoder", "time index", "raw features", "random encoder"]
    assert evaluate.main([str(video_run), "--device", "cpu"]) == 0
    before = torch.nn.utils.parameters_to_vector(_backbone(video_run).parameters())
    config = TrainConfig.read(video_run / CONFIG)
    with torch.random.fork_rng():
        torch.manual_seed(config.train.seed)
        start = FrameEncoder(None, **config.model).backbone
    assert not torch.allclose(before, torch.nn.utils.parameters_to_vector(start.parameters()), atol=1e-3)

    film = tmp_path / "both.mp4"
    assert (
        align(video_run, "clip0", videos / "videos" / "clip7.mp4", "--chance", "1", "--out", tmp_path, "--video", film)
        == 0
    )
    written = report(tmp_path)
    assert [clip["frames"] for clip in written["clips"]] == [30, 44]  # all, as was chosen when the run began
    assert str(film) in capsys.readouterr().out
    frames, times = read_frames(film)
    assert frames.shape == (30, 144 + 18, 2 * 144, 3)  # blown up, below a line of text
    np.testing.assert_allclose(times, np.arange(30) / 25, rtol=0, atol=1 / 90_000)


def test_the_second_video_follows_the_ridge_of_the_posterior(run, clips, tmp_path, capsys):
    """The best path is shorter than what is likelier matched than not; the video goes by the latter."""
    names, rate = ("clip1", "clip6"), 25
    films = [
        write_video(clips / "videos" / f"{name}.mp4", grey(np.arange(50) * 5, 64, 64), np.arange(50) / rate)
        for name in names
    ]
    film = tmp_path / "both.mp4"
    assert align(run, *names, "--out", tmp_path, "--video", film) == 0
    encoder, _, data = load_run(run)
    first, second = ({clip.name: clip for clip in data.train + data.val}[name] for name in names)
    aligned = align_clips(encoder, checkpoint.read_loss(run), first, second)
    (path,) = expected_paths(aligned.posterior[None])
    times1, times2 = first.times[path[:, 0]], second.times[path[:, 1]]
    frames, times = read_frames(film)
    left, right = (part.mean(axis=(1, 2, 3)) for part in (frames[:, 26:, :140], frames[:, 26:, 148:]))
    np.testing.assert_allclose(left, 5 * np.arange(50), rtol=0, atol=4)
    matched = (times1[0] - 1e-3 <= times) & (times <= times1[-1] + 1e-3)
    assert matched.sum() > 5
    number = np.floor(np.interp(times, times1, times2) * rate + 1e-3)  # of the frame of B that is shown then
    np.testing.assert_allclose(right, 5 * number * np.where(matched, 1, 0.6), rtol=0, atol=4)
    for unwanted in films:
        unwanted.unlink()
    assert str(film) in capsys.readouterr().out


def test_the_videos_of_all_others_follow_too(video_run, videos, tmp_path, capsys):
    np.save(tmp_path / "features.npy", np.zeros((8, 3, 16, 16), np.float32) + np.arange(8)[:, None, None, None] / 8)
    film = tmp_path / "grid.mp4"
    names = ["clip0", "clip3", "clip5", tmp_path / "features.npy", videos / "videos" / "clip7.mp4"]
    assert align(video_run, *names, "--out", tmp_path, "--video", film) == 0
    frames, times = read_frames(film)
    assert frames.shape == (30, 2 * (144 + 18), 2 * 144, 3)  # four videos
    np.testing.assert_allclose(times, np.arange(30) / 25, rtol=0, atol=1 / 90_000)
    shown = capsys.readouterr().out
    assert f"video           {film}   without {tmp_path / 'features.npy'}, of which there is no video" in shown


def _backbone(folder):
    return checkpoint.read_encoder(folder).backbone


def test_features_beside_their_videos(run, clips, tmp_path):
    # A clip follows itself: the right half shows what the left half shows.
    write_video(clips / "videos" / "clip3.mp4", grey(6 * np.arange(40)), np.arange(40) / 25)
    film = tmp_path / "both.mp4"
    assert align(run, "clip3", "clip3", "--out", tmp_path, "--video", film) == 0
    frames, times = read_frames(film)
    matched = times <= 22 / 20  # clip3 has 23 rows of features at 20 a second
    assert matched.sum() == 28
    for half in (frames[matched, 26:, :140], frames[matched, 26:, 148:]):
        np.testing.assert_allclose(half.mean(axis=(1, 2, 3)), 6 * np.arange(28), rtol=0, atol=4)


# What goes wrong


def refused(argv, code, *words, capsys):
    assert align(*argv) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for word in words:
        assert word in error


def test_usage(run, tmp_path, capsys):
    refused(["a", "b"], 2, "required", capsys=capsys)
    refused([run, "clip1", "clip2", "--set", "data.options.rate=0"], 2, "rate must be > 0", capsys=capsys)
    np.save(tmp_path / "x.npy", np.ones((5, 3)))
    files = [run, tmp_path / "x.npy", tmp_path / "x.npy"]  # no data set is loaded
    refused([*files, "--set", "data.options.rate=0"], 2, "rate must be > 0", capsys=capsys)
    refused([*files, "--set", "data.options.rate=fast"], 2, "data.options.rate must be a number", capsys=capsys)
    refused([*files, "--set", "data.options.rat=3"], 2, "no option 'rat'", capsys=capsys)
    refused([*files, "--set", "loss.scale=3"], 2, "only the settings of data can change", capsys=capsys)
    refused([run, "clip1", "clip2", "--video", "x.png"], 2, "must end in .mp4", capsys=capsys)
    words = ["'clpi1' is neither a file nor one of the 8 clips", "a name there is 'clip1'"]
    refused([run, "clip2", "clpi1"], 2, *words, capsys=capsys)
    refused([run, "clip2", "clip5", "--video", "x.mp4"], 2, "there is none of 'clip2'", capsys=capsys)


def test_what_is_not_there(run, tmp_path, capsys):
    refused([tmp_path / "none", "a", "b"], 1, "No such file", CONFIG, capsys=capsys)
    refused([run, "clip1", "clip2", "--root", tmp_path], 1, "no features: expected files", capsys=capsys)
    (tmp_path / CONFIG).write_text((run / CONFIG).read_text())
    refused([tmp_path, "clip1", "clip2"], 1, checkpoint.ENCODER, "is not there", capsys=capsys)


def test_files_of_another_kind(run, clips, video_run, videos, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "wide.npy", np.zeros((5, 4)))
    words = ["wide.npy: the encoder of the run takes 3 features a frame", "has 4"]
    refused([run, "clip1", tmp_path / "wide.npy"], 1, *words, capsys=capsys)
    video = videos / "videos" / "clip0.mp4"
    monkeypatch.setattr("lac.data.features.cache_folder", lambda: tmp_path)
    refused([run, "clip1", video], 1, "clip0.mp4: the encoder of the run takes 3 features", capsys=capsys)
    words = ["clip0.npy: the run was trained on images (3, H, W)"]
    refused([video_run, clips / "features" / "clip0.npy", video], 1, *words, capsys=capsys)
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:300])
    refused([video_run, video, tmp_path / "cut.mp4"], 1, "cut.mp4 is not a video", capsys=capsys)


def test_frames_are_joined_by_lines_for_every_kind_of_clip(run, video_run, clips, tmp_path, capsys):
    for folder, names in ((run, ("clip1", clips / "features" / "clip6.npy")), (video_run, ("clip0", "clip1"))):
        assert align(folder, *names, "--out", tmp_path) == 0
        assert (tmp_path / "frames.png").read_bytes().startswith(b"\x89PNG")
        assert f"frames.png      {tmp_path / 'frames.png'}" in capsys.readouterr().out
        (tmp_path / "frames.png").unlink()


def test_a_video_beside_features_that_cannot_be_read_costs_its_frames_alone(run, clips, tmp_path, capsys):
    video = clips / "videos" / "clip1.mp4"
    video.parent.mkdir(exist_ok=True)
    video.write_bytes(b"no video")
    try:
        assert align(run, "clip1", "clip2", "--out", tmp_path) == 0
    finally:
        video.unlink()
    (doubt,) = report(tmp_path)["doubts"]
    assert doubt.startswith("frames.png is not drawn: ")
    assert "clip1.mp4 is not a video" in doubt
    assert doubt in capsys.readouterr().out
    assert not (tmp_path / "frames.png").exists()
    assert (tmp_path / "alignment.png").exists()
