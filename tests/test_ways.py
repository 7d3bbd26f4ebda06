"""What clips are aligned by: a run, or raw features; the functions, and `lac-align raw`."""

import json

import numpy as np
import pytest
import torch
from clips_of_an_action import clips as made
from clips_of_an_action import path_error
from tiny_run import write_clips, write_run
from tiny_video import write_videos
from torch.nn.utils.rnn import pad_sequence

from lac import Consensus, soft_alignment, ways
from lac.cli.align import main
from lac.data import Clip
from lac.guides import with_guides
from lac.pairs import align_by
from lac.paths import expected_paths
from lac.ways import Raw

REACH = 0.4


@pytest.fixture(scope="module")
def recordings():
    """Six clips of one action at 25 frames a second, and the phase of each frame, NaN outside the action."""
    frames, phases = made(6, seed=3, offset=3.0)
    return [Clip(f"clip{k}", x.numpy(), 5 + np.arange(len(x)) / 25) for k, x in enumerate(frames)], phases


@pytest.fixture
def files(recordings, tmp_path):
    for clip in recordings[0]:
        np.save(tmp_path / f"{clip.name}.npy", clip.frames)
    return [tmp_path / f"{clip.name}.npy" for clip in recordings[0]]


def align(*argv):
    return main([str(part) for part in (*argv, "--device", "cpu")])


def report(folder):
    return json.loads((folder / "alignment.json").read_text())


def test_a_pair_is_aligned_by_the_first_steps_of_the_consensus(recordings):
    first, second = Clip("a", recordings[0][0].frames[:50], np.arange(50) / 25), recordings[0][1]
    aligned = align_by(Raw(reach=REACH), first, second)
    settings, guided = Consensus(), with_guides([first, second], REACH)
    # By hand: unit vectors, less (1 - 1 / T) of their mean, unit again; the guide; over the root mean square of all.
    parts = []
    for clip in guided:
        u = clip.frames / np.linalg.norm(clip.frames, axis=1, keepdims=True)
        u = u - u.mean(0) * (1 - 1 / len(u))
        parts.append(np.concatenate([u / np.linalg.norm(u, axis=1, keepdims=True), clip.guide], 1) * 0.5**0.5)
    every = np.concatenate(parts)
    scores = parts[0] @ parts[1].T / np.sqrt(((every @ every.T) ** 2).mean()) - settings.margin
    np.testing.assert_allclose(aligned.scores, scores, rtol=0, atol=1e-4)
    gaps = {"gap_open": settings.gap_open, "gap_extend": settings.gap_extend}
    posterior = soft_alignment(aligned.scores, **gaps, temperature=settings.temperature)
    torch.testing.assert_close(aligned.posterior, posterior, rtol=0, atol=1e-5)
    assert torch.equal(aligned.path, expected_paths(posterior[None])[0])
    assert 0 < aligned.best_score < aligned.score


def test_nothing_is_trained_and_the_action_is_found(recordings):
    clips, phases = recordings
    errors, shares = zip(
        *(
            path_error(align_by(Raw(reach=REACH), clips[0], clips[k]).path.numpy(), phases[0], phases[k])
            for k in range(1, 6)
        ),
        strict=True,
    )
    assert np.mean(errors) < 0.05  # by chance 1/3
    assert np.mean(shares) > 0.5
    together = align_by(Raw(reach=REACH), clips[0], clips[1], clips[2:]).together
    assert path_error(together.path.numpy(), phases[0], phases[1])[0] < 0.05
    assert together.trust > 0.5


def test_images_are_compared_as_small_pictures():
    pictures = np.random.default_rng(0).random((4, 3, 48, 32))
    (small,) = Raw().vectors([Clip("a", pictures, np.arange(4))])
    assert small.shape == (4, 3 * 16 * 16)
    np.testing.assert_allclose(
        small[2].reshape(3, 16, 16), pictures[2].reshape(3, 16, 3, 16, 2).mean((2, 4)), atol=1e-6
    )


def test_what_does_not_fit_into_memory_is_told_before_it_is_taken(monkeypatch):
    clips = [Clip(f"c{k}", np.ones((n, 2)), np.arange(n)) for k, n in enumerate((5000, 8, 9))]
    message = (
        r"3 clips of up to 5000 frames take about 6 GB .*: give fewer clips \(of this length at most 2\), or fewer"
    )
    with pytest.raises(ValueError, match=message):
        align_by(Raw(), *clips[:2], clips[2:])
    monkeypatch.setattr(ways, "MOST_BYTES", 28 * (3 * 20) ** 2)
    for longest, fits in ((20, True), (21, False)):
        part = [Clip(clip.name, clip.frames[:longest], clip.times[:longest]) for clip in clips]
        if fits:
            align_by(Raw(), *part[:2], part[2:])
        else:
            with pytest.raises(ValueError, match="3 clips of up to 21 frames"):
                align_by(Raw(), *part[:2], part[2:])


def test_the_consensus_is_the_same_for_more_features_than_frames(recordings):
    z = pad_sequence([torch.from_numpy(clip.frames) for clip in recordings[0]], batch_first=True)[:, :30]
    wide = torch.cat([z, torch.zeros(6, 30, 400)], dim=2)
    groups = torch.zeros(6).long()
    narrow, padded = (Consensus()(x, groups) for x in (z, wide))
    torch.testing.assert_close(padded.posterior, narrow.posterior, rtol=0, atol=1e-4)


# The command


def test_files_alone(recordings, files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert align("raw", files[0], files[1], "--chance", "1") == 0
    written = report(tmp_path / "align-clip0-clip1")
    clips = [Clip(clip.name, clip.frames, np.arange(len(clip)) / 25) for clip in recordings[0]]
    aligned = align_by(Raw(), clips[0], clips[1])
    assert (written["run"], written["aligned_by"]) == (None, "raw features")
    assert written["path"] == aligned.path.tolist()
    assert written["score"] == pytest.approx(aligned.best_score.item(), rel=1e-5)
    assert written["chance"] == pytest.approx(aligned.chance, rel=1e-3)
    assert "aligned by      raw features and their self-similarity; nothing is trained\n" in capsys.readouterr().out
    assert align("raw", *files) == 0
    assert report(tmp_path / "align-clip0-clip1+4")["trust"] > 0.5
    assert "by 4 other clips" in capsys.readouterr().out
    assert align("raw", files[0], files[1], "--set", "data.options.rate=50", "--out", "twice") == 0
    assert report(tmp_path / "twice")["clips"][0]["seconds"] == [0, pytest.approx((len(clips[0]) - 1) / 50)]


def test_clips_of_a_data_set_and_videos(tmp_path):
    root = write_clips(tmp_path / "clips")
    assert align("raw", "clip1", root / "features" / "clip2.npy", "--root", root, "--out", tmp_path / "a") == 0
    assert [clip["frames"] for clip in report(tmp_path / "a")["clips"]] == [21, 22]
    assert align("raw", "clip1", "clip2", "--data", "folder", "--root", root, "--out", tmp_path / "b") == 0
    assert report(tmp_path / "a")["path"] == report(tmp_path / "b")["path"]
    videos = write_videos(tmp_path / "films") / "videos"
    films = [videos / "clip0.mp4", videos / "clip7.mp4"]
    images = ["--set", "data.options.backbone=null", "--set", "data.options.size=16"]
    assert align("raw", *films, *images, "--out", tmp_path / "c", "--chance", "1") == 0
    written = report(tmp_path / "c")
    assert written["matched_frames"] > 5
    assert [clip["frames"] for clip in written["clips"]] == [12, 18]


def test_a_folder_that_is_called_raw(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "raw", write_clips(tmp_path / "clips"), 3)
    assert align("./raw", "clip1", "clip2") == 0
    assert report(tmp_path / "raw" / "align" / "clip1-clip2")["aligned_by"] == "embeddings"
    capsys.readouterr()
    assert align("raw", "clip1", "clip2") == 2
    assert "there is no file 'clip1'; for clips of a data set give --data NAME or --root DIR" in capsys.readouterr().err


def test_what_cannot_be(files, tmp_path, capsys):
    np.save(tmp_path / "wide.npy", np.ones((5, 3)))
    np.save(tmp_path / "huge.npy", np.random.default_rng(0).normal(size=(9, 24)) * 1e38)
    for argv, code, words in (
        ([files[0], tmp_path / "wide.npy"], 1, "wide.npy: a frame has shape (3,), one of"),
        ([files[0], tmp_path / "huge.npy"], 1, "clip 'huge': its frames are too large for their distances"),
        ([files[0], tmp_path / "none.npy"], 2, "there is no file"),
        ([files[0], files[1], "--set", "data.options.rat=3"], 2, "no option 'rat'"),
        ([files[0], files[1], "--set", "train.reach=3"], 2, "only the settings of data can change"),
        (["a", "b", "--data", "nothing"], 2, "unknown data set 'nothing'"),
    ):
        assert align("raw", *argv, "--out", tmp_path / "out") == code
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
