"""`lac-align` with more clips than two, and the functions below it."""

import json

import numpy as np
import pytest
import torch
from tiny_run import write_run
from torch.nn.utils.rnn import pad_sequence

from lac import Consensus, plots
from lac.cli.align import main
from lac.data import Clip
from lac.embed import embed_clips
from lac.guides import with_guides
from lac.pairs import align_clips, draw_aligned
from lac.paths import expected_paths
from lac.runs import checkpoint
from lac.runs.run import load_run

OTHERS = ("clip3", "clip2", "clip7")
FEATURES, REACH = 12, 0.2  # the clips are a second long


def recordings(count):
    """Clips of 20, 21, ... frames of one walk in 12 dimensions, with noise."""
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(20 + count, FEATURES)).cumsum(0)
    frames = [walk[: 20 + k] + 0.05 * rng.normal(size=(20 + k, FEATURES)) for k in range(count)]
    return [Clip(f"clip{k}", x, np.arange(len(x)) / 20, np.arange(len(x)) // 9) for k, x in enumerate(frames)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for clip in recordings(8):
        for kind, array in (("features", clip.frames), ("labels", clip.labels)):
            (folder / kind).mkdir(exist_ok=True)
            np.save(folder / kind / f"{clip.name}.npy", array)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, clips):
    settings = {"data.options": {"rate": 20.0}, "train.reach": REACH, "model.width": 32, "model.embed_dim": 32}
    return write_run(tmp_path_factory.mktemp("run"), clips, FEATURES, **settings)


@pytest.fixture(scope="module")
def of_run(run):
    """The encoder, the loss and the clips by name."""
    encoder, _, data = load_run(run)
    return encoder, checkpoint.read_loss(run), {clip.name: clip for clip in data.train + data.val}


def align(*argv):
    return main([str(part) for part in (*argv, "--device", "cpu")])


def report(folder):
    return json.loads((folder / "alignment.json").read_text())


# Functions


@pytest.mark.parametrize("reach", [0.8, 0.2, 0])
def test_the_pair_is_taken_from_the_consensus_of_all(of_run, reach):
    encoder, loss, _ = of_run
    chosen = recordings(5)[::-1]
    aligned = align_clips(encoder, loss, *chosen[:2], chosen[2:], reach=reach)
    guided = with_guides(chosen, reach)
    padded = {
        "z": [torch.from_numpy(z) for z in embed_clips(encoder, chosen)],
        "times": [torch.from_numpy(clip.times) for clip in chosen],
        "guide": [torch.from_numpy(clip.guide) for clip in guided] if reach else None,
    }
    padded = {name: part and pad_sequence(part, batch_first=True) for name, part in padded.items()}
    lengths = torch.tensor([len(clip) for clip in chosen])
    expected = Consensus(spread=0.0)(padded.pop("z"), torch.zeros(5).long(), lengths, **padded)
    torch.testing.assert_close(aligned.together.posterior, expected.posterior[0, 1, :24, :23], rtol=0, atol=1e-5)
    assert aligned.together.trust.item() == pytest.approx(expected.trust[0, 1].item(), abs=1e-4)
    (path,) = expected_paths(aligned.together.posterior[None])
    assert torch.equal(aligned.together.path, path)
    assert len(path) > 15


def test_the_pair_alone_is_as_it_was(of_run):
    encoder, loss, known = of_run
    first, second = known["clip6"], known["clip1"]
    alone, helped = (align_clips(encoder, loss, first, second, others) for others in ((), [known["clip3"]]))
    assert alone.together is None
    for before, after in zip(alone[:5], helped[:5], strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-5)


def test_the_order_of_the_others_does_not_matter(of_run):
    encoder, loss, _ = of_run
    first, second, *others = recordings(5)
    there, back = (align_clips(encoder, loss, first, second, part).together for part in (others, others[::-1]))
    turned = align_clips(encoder, loss, second, first, others).together
    torch.testing.assert_close(there.posterior, back.posterior, rtol=0, atol=1e-4)
    torch.testing.assert_close(there.posterior, turned.posterior.T, rtol=0, atol=1e-4)
    assert there.trust.item() == pytest.approx(back.trust.item(), abs=1e-3)


def test_the_number_of_thirds_is_not_left_to_chance(of_run):
    encoder, loss, _ = of_run
    first, second, *others = recordings(20)
    results = []
    for seed in range(2):
        torch.manual_seed(seed)
        results.append(align_clips(encoder, loss, first, second, others).together.posterior)
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_before_and_after_are_drawn(of_run):
    encoder, loss, known = of_run
    first, second = known["clip6"], known["clip1"]
    aligned = align_clips(encoder, loss, first, second, [known["clip3"]])
    figure = draw_aligned(aligned, first, second, title="both")
    figure.canvas.draw()
    before, after = figure.axes[:2]
    assert (before.get_title(), after.get_title()) == ("the two alone", "with the others")
    for axes, path in ((before, aligned.path), (after, aligned.together.path)):
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_ydata(), first.times[path[:, 0]])
        np.testing.assert_allclose(line.get_xdata(), second.times[path[:, 1]])
        assert axes.yaxis_inverted()
        assert len(axes.patches) > 0


# The command


def test_with_others(run, of_run, tmp_path, capsys):
    assert align(run, "clip6", "clip1", *OTHERS, "--out", tmp_path) == 0
    encoder, loss, known = of_run
    aligned = align_clips(encoder, loss, known["clip6"], known["clip1"], [known[name] for name in OTHERS], reach=REACH)
    written = report(tmp_path)
    assert written["path"] == aligned.together.path.tolist()
    assert written["matched_frames"] == len(written["path"]) > 0
    assert written["trust"] == pytest.approx(aligned.together.trust.item(), abs=1e-5)
    assert written["score"] == pytest.approx(aligned.best_score.item(), rel=1e-6)
    assert [clip["name"] for clip in written["clips"]] == ["clip6", "clip1"]
    assert written["others"] == [{"given": name, "name": name, "frames": 20 + int(name[4:])} for name in OTHERS]
    assert (tmp_path / "alignment.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    for words in (f"trust           {written['trust']:.2f}   from 0 to 1, by 3 other clips", "of the two alone"):
        assert words in shown


def test_two_clips_have_no_trust(run, tmp_path, capsys):
    assert align(run, "clip6", "clip1", "--out", tmp_path) == 0
    assert {"trust", "others"}.isdisjoint(report(tmp_path))
    assert "trust  " not in capsys.readouterr().out


def test_each_number_of_others_has_a_folder(run, clips, capsys):
    assert align(run, "clip6", "clip1", clips / "features" / "clip3.npy") == 0
    written = report(run / "align" / "clip6-clip1+1")
    assert (written["others"][0]["name"], written["others"][0]["frames"]) == ("clip3", 23)
    assert "by 1 other clip\n" in capsys.readouterr().out


def test_trust_tells_recordings_of_one_thing_from_noise(run, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)
    drawn, trust = [], []
    # Of the two pictures the one of the alignment.
    keep = lambda figure, path: path.name == "alignment.png" and drawn.append(figure)  # noqa: E731
    monkeypatch.setattr(plots, "save_figure", keep)
    for frames in ([rng.normal(size=(20, FEATURES)) for _ in range(5)], [clip.frames for clip in recordings(5)]):
        names = [tmp_path / f"{len(drawn)}{k}.npy" for k in range(5)]
        for name, array in zip(names, frames, strict=True):
            np.save(name, array)
        assert align(run, *names, "--out", tmp_path) == 0
        trust.append(report(tmp_path)["trust"])
        assert f"trust {trust[-1]:.2f}" in drawn[-1].get_suptitle()
    assert trust[0] < 0.2
    assert trust[1] > 0.5
    capsys.readouterr()


def test_what_cannot_be(run, tmp_path, capsys):
    for names in (("clip6", "clip1", "clip6"), ("clip6", "clip1", "clip2", "clip2")):
        assert align(run, *names) == 2
        assert f"{names[-1]!r} is given twice: it cannot confirm its own alignment" in capsys.readouterr().err
    np.save(tmp_path / "wide.npy", np.zeros((5, 4)))
    assert align(run, "clip6", "clip1", tmp_path / "wide.npy") == 1
    assert "wide.npy: the encoder of the run takes 12 features a frame" in capsys.readouterr().err
    np.save(tmp_path / "huge.npy", np.random.default_rng(0).normal(size=(9, FEATURES)) * 1e38)
    assert align(run, "clip6", "clip1", tmp_path / "huge.npy", "--out", tmp_path) == 1
    assert "clip 'huge': its frames are too large for their distances, up to" in capsys.readouterr().err
    assert not (tmp_path / "alignment.json").exists()
