import json

import numpy as np
import pytest
from tiny_run import write_clips, write_run
from tiny_video import write_videos

from lac.cli import evaluate
from lac.cli.embed import main
from lac.data import load
from lac.data.base import Clip
from lac.data.video import frame_times
from lac.data.write import write_folder
from lac.embed import embed_clips
from lac.runs.run import load_run


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = write_clips(tmp_path_factory.mktemp("clips"))
    (root / "split.json").write_text(json.dumps({"train": ["clip6", "clip1", "clip2"], "val": ["clip3", "clip0"]}))
    (root / "label_names.json").write_text('["up", "over", "down"]')
    shown = [f"clip{k},{'pour' if k % 2 else 'cut'},{'ann' if k < 4 else ''}" for k in range(8)]
    (root / "clips.csv").write_text("\n".join(["name,action,person", *shown]))
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, clips):
    return write_run(tmp_path_factory.mktemp("run"), clips, 3, **{"data.options": {"rate": 20.0}})


def embed(*argv):
    return main([str(part) for part in (*argv, "--device", "cpu")])


def test_the_data_set_of_a_run_is_a_data_set_again(run, clips, capsys):
    assert embed(run) == 0
    out = run / "embed"
    encoder, _, data = load_run(run)
    again = load("folder", out)
    assert again.label_names == data.label_names
    for part, part_again in ((data.train, again.train), (data.val, again.val)):
        for clip, other, z in zip(part, part_again, embed_clips(encoder, part), strict=True):
            assert (clip.name, clip.action, clip.person) == (other.name, other.action, other.person)
            np.testing.assert_allclose(other.frames, z, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(other.times, clip.times)
            np.testing.assert_array_equal(other.labels, clip.labels)
    written = np.load(out / "features" / "clip1.npy")
    assert (written.shape, written.dtype) == ((21, 4), np.float32)
    assert evaluate.main(["--features", str(out), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "5 clips, 4 numbers a frame, 112 frames",
        "3 train, 2 val",
        "clip6           26 frames, 0.00 to 1.25 s",
    ):
        assert words in shown


def test_some_clips_and_files(run, clips, tmp_path, capsys):
    np.save(tmp_path / "new.npy", np.ones((5, 3, 1)))  # three numbers a frame in another shape
    assert embed(run, "--out", tmp_path / "a", "clip0", "clip2") == 0
    assert (tmp_path / "a" / "clips.csv").read_text() == "name,action,person\nclip0,cut,ann\nclip2,cut,ann\n"
    assert json.loads((tmp_path / "a" / "split.json").read_text()) == {"train": ["clip2"], "val": ["clip0"]}
    assert embed(run, "clip0", "--out", tmp_path / "b") == 0  # it has no other half to be split from
    assert not (tmp_path / "b" / "split.json").exists()
    capsys.readouterr()
    files = [clips / "features" / "clip4.npy", tmp_path / "new.npy"]
    assert embed(run, *files, "--out", tmp_path / "c", "--set", "data.options.rate=10") == 0
    assert "split           none: by chance when read" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "c").rglob("*")) == [
        *("clip4.npy", "clip4.npy", "features", "new.npy", "new.npy", "times")
    ]
    np.testing.assert_allclose(np.load(tmp_path / "c" / "times" / "new.npy"), np.arange(5) / 10)
    read = load("folder", tmp_path / "c")
    assert {clip.name for clip in read.train + read.val} == {"clip4", "new"}


def test_videos_keep_their_own_times(tmp_path):
    videos = write_videos(tmp_path / "videos")
    settings = {"model.backbone": "small", "data.options": {"size": 16, "backbone": None, "fps": 25.0}}
    folder = write_run(tmp_path / "run", videos, None, **settings)
    film = videos / "videos" / "clip3.mp4"
    assert embed(folder, film, "--out", tmp_path / "out") == 0
    times = np.load(tmp_path / "out" / "times" / "clip3.npy")
    np.testing.assert_allclose(times, frame_times(film), rtol=0, atol=1e-6)
    assert np.load(tmp_path / "out" / "features" / "clip3.npy").shape == (len(times), 4)


def test_what_cannot_be(run, clips, tmp_path, capsys):
    def refused(argv, code, *words, out=tmp_path / "out"):
        assert embed(run, *argv, "--out", out) == code
        error = capsys.readouterr().err
        for word in words:
            assert word in error
        assert not (tmp_path / "out").exists()

    file = clips / "features" / "clip0.npy"
    before = file.read_bytes()
    refused([], 1, "is not an empty folder, it holds", out=clips)
    refused([], 1, "clip0.npy is not an empty folder", out=file)
    assert file.read_bytes() == before
    np.save(tmp_path / "Clip0.npy", np.ones((5, 3)))
    np.save(tmp_path / "huge.npy", np.random.default_rng(0).normal(size=(9, 3)) * 1e38)
    np.save(tmp_path / "wide.npy", np.ones((5, 4)))
    refused(["clip0", file], 1, "two clips are both called 'clip0' and would be one file")
    refused(["clip0", tmp_path / "Clip0.npy"], 1, "two clips differ in capitals only: 'clip0', 'Clip0'")
    refused([tmp_path / "huge.npy"], 1, "the embedding of huge is not finite")
    refused([tmp_path / "wide.npy"], 1, "wide.npy: the encoder of the run takes 3 features a frame", "has 4")
    refused(["clpi1"], 2, "'clpi1' is neither a file nor one of the 5 clips", "a name there is 'clip1'")
    refused(["clip1", tmp_path / "wide.npy", "--set", "loss.scale=3"], 2, "only the settings of data can change")


def test_an_action_that_is_not_known_is_not_made_one_of_the_others(tmp_path):
    frames, times = np.ones((3, 2)), np.arange(3)
    clips = [Clip("a", frames, times, action="pour"), Clip("b", frames, times)]
    with pytest.raises(ValueError, match="clip 'b' has no action and others have"):
        write_folder(tmp_path / "out", clips)
    assert not (tmp_path / "out").exists()
