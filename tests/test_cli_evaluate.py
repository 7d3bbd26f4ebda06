import dataclasses
import errno
import json
import os

import numpy as np
import pytest
import torch
from tiny_run import SETTINGS, flags, write_clips

from lac.cli import train
from lac.cli.clips import read_clips
from lac.cli.evaluate import main
from lac.cli.table import results_table
from lac.data import Clip, Dataset
from lac.model.encoder import FrameEncoder
from lac.runs import checkpoint
from lac.runs.config import CONFIG, TrainConfig
from lac.runs.evaluate import EvalResult

CONTROLS = ["time index", "raw features", "random encoder"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("run")
    config = TrainConfig.read(None, SETTINGS | {"data.name": "folder", "data.root": str(clips), "train.seed": 3})
    (folder / CONFIG).write_text(config.to_yaml())
    torch.manual_seed(3)
    checkpoint.write_encoder(folder, FrameEncoder(3, **config.model))
    return folder


def test_run(run_folder, clips, tmp_path, capsys):
    out = tmp_path / "evaluation.json"
    assert main([str(run_folder), "--stride", "2", "--out", str(tmp_path), "--device", "cpu"]) == 0
    written = json.loads(out.read_text())
    assert list(written["results"]) == ["trained encoder", *CONTROLS]
    assert written["data"] == clips.name
    for row in written["results"].values():
        assert row["stride"] == 2
        assert set(row["classification"]) == set(row["event_completion"]) == {"0.1", "0.5", "1.0"}
        assert set(row["retrieval"]) == {"5", "10", "15"}
        assert row["kendalls_tau_pairs"] == 2
    shown = capsys.readouterr().out
    for words in ("trained encoder", *CONTROLS, "no tau", "AP@15", "stride 2", "6 / 2 clips"):
        assert words in shown
    assert f"{written['results']['raw features']['retrieval']['5']:.3f}" in shown
    assert written["verdict"][0].startswith("The trained encoder beats the best control in ")
    assert " ".join(written["verdict"]) in " ".join(shown.split())


def test_same_seed_same_result(run_folder, tmp_path):
    results = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / name
        assert main([str(run_folder), "--seed", str(seed), "--out", str(out), "--device", "cpu"]) == 0
        results.append(json.loads((out / "evaluation.json").read_text())["results"])
    assert results[0] == results[1]
    assert results[0]["random encoder"] != results[2]["random encoder"]
    assert results[0]["trained encoder"] == results[2]["trained encoder"]


def test_random_encoder_has_the_weights_that_the_run_started_from(run_folder, tmp_path):
    # The encoder of this run folder was never trained.
    assert main([str(run_folder), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["seed"] == 3
    assert written["results"]["trained encoder"] == written["results"]["random encoder"]


def test_what_is_left_out_and_missing_is_told(tmp_path, capsys):
    root = write_clips(tmp_path)
    (root / "split.json").write_text(
        json.dumps({"train": [f"clip{k}" for k in range(5)], "val": ["clip5", "clip6", "clip7"]})
    )
    out = tmp_path / "out" / "evaluation.json"
    command = ["--features", str(root), "--device", "cpu", "--out", str(out.parent)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "left out" not in shown
    assert "missing" not in shown

    np.save(root / "features" / "clip3.npy", np.full((23, 3), np.nan))
    np.save(root / "labels" / "clip7.npy", np.zeros(26, int))
    np.save(root / "labels" / "clip0.npy", np.zeros(20, int))
    np.save(root / "labels" / "clip5.npy", np.load(root / "labels" / "clip5.npy") % 2)
    np.save(root / "labels" / "clip6.npy", np.load(root / "labels" / "clip6.npy") % 2)
    assert main(command) == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("left out 1 of 8 clips: ")]
    assert f"{root}/features/clip3.npy: clip 'clip3': frames must be finite" in line
    (line,) = [line for line in shown.splitlines() if line.startswith("without labels 1 of 7 clips, trained on")]
    assert f"{root}/labels/clip7.npy holds 26 labels, but the clip has 27 frames (off by one)" in line
    (line,) = [line for line in shown.splitlines() if line.startswith("missing phases: ")]
    assert line == (
        "missing phases: 2 in all 3 val clips; 1 in the train clips of acc .1; 2 in the train clips of acc .1; "
        "and 4 more"
    )
    written = json.loads(out.read_text())
    assert (list(written["left_out"]), list(written["unlabelled"])) == (["clip3"], ["clip7"])
    assert written["clips"] == {"train": 4, "val": 3}
    assert len(written["doubts"]) == 1
    for row in written["results"].values():
        assert row["missing_classes"] == {"train": {"1": 1, "2": 1}, "val": {"0": 1, "1": 1, "2": 3}}
        assert row["unseen_classes"] == {"0.1": [1, 2], "0.5": [], "1.0": []}


def test_what_says_less_than_it_seems_to_is_told(tmp_path, capsys):
    root = write_clips(tmp_path)
    (root / "split.json").write_text(
        json.dumps({"train": [f"clip{k}" for k in range(5)], "val": ["clip5", "clip6", "clip7"]})
    )
    for k in range(5):
        np.save(root / "features" / f"clip{k}.npy", np.full((20 + k, 3), 0.5 * (k > 0)))
    for k in range(5, 8):
        np.save(root / "labels" / f"clip{k}.npy", np.zeros(20 + k, int))
    np.save(root / "features" / "clip5.npy", np.load(root / "features" / "clip4.npy"))
    np.save(root / "labels" / "clip5.npy", np.load(root / "labels" / "clip4.npy") * 0)
    assert main(["--features", str(root), "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    lines = [
        "no train clip changes from frame to frame: nothing can be learned",
        "the same frames in clip4 and clip5; a val clip that is a train clip says nothing about new ones",
        "all labels of the val clips are 0: the columns made from them say nothing",
    ]
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["doubts"] == lines
    shown = capsys.readouterr().out.splitlines()
    assert shown[shown.index(lines[0]) :][:3] == lines


def test_a_run_trains_on_clips_with_bad_labels(tmp_path, capsys):
    root, out = write_clips(tmp_path / "data"), tmp_path / "run"
    (root / "split.json").write_text(
        json.dumps({"train": [f"clip{k}" for k in range(5)], "val": ["clip5", "clip6", "clip7"]})
    )
    (root / "labels" / "clip0.npy").unlink()
    (root / "labels" / "clip0.csv").write_text("phase at 0 s: 1\n")
    (root / "labels" / "clip6.npy").unlink()
    assert train.main(["--data", "folder", "--root", str(root), "--out", str(out), *flags()]) == 0
    written = json.loads((out / "metrics.json").read_text())
    assert written["clips"] == {"train": 5, "val": 3}
    assert written["left_out"] == {}
    assert sorted(written["unlabelled"]) == ["clip0", "clip6"]
    assert written["results"]["trained encoder"]["kendalls_tau_pairs"] == 2  # of the two that have labels
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("without labels 2 of 8 clips")]
    assert f"{root}/labels/clip0.csv must start with the line time,label or frame,label, got 'phase at 0 s: 1'" in line
    assert f"there is no {root}/labels/clip6.npy or .csv" in line


def test_labels_of_validation_clips_alone_are_enough_for_what_is_not_fitted(tmp_path, capsys):
    root = write_clips(tmp_path / "data")
    (root / "split.json").write_text(
        json.dumps({"train": [f"clip{k}" for k in range(5)], "val": ["clip5", "clip6", "clip7"]})
    )
    for k in range(5):
        (root / "labels" / f"clip{k}.npy").unlink()
    assert train.main(["--data", "folder", "--root", str(root), "--out", str(tmp_path / "run"), *flags()]) == 0
    told = "no train clip has labels: accuracy and progression, which are fitted to them, are left out (-)"
    by_run = capsys.readouterr().out
    assert main([str(tmp_path / "run"), "--device", "cpu", "--out", str(tmp_path)]) == 0
    for shown in (by_run, capsys.readouterr().out):
        assert told in shown
        assert "missing phases" not in shown
        (row,) = [line.split() for line in shown.splitlines() if line.startswith(" time index ")]
        assert row[2:6] == ["-", "-", "-", "-"]
    for name in ("run/metrics.json", "evaluation.json"):
        row = json.loads((tmp_path / name).read_text())["results"]["time index"]
        assert set(row["classification"].values()) == set(row["event_completion"].values()) == {None}
        assert row["kendalls_tau"] > 0.9
        assert 0.5 < row["retrieval"]["5"] <= 1


def test_folder_of_embeddings(clips, capsys):
    assert main(["--features", str(clips), "--classifier", "svc", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CONTROLS)
    assert "svc classifier" in shown
    assert "embeddings" not in shown


def test_embeddings_of_a_data_set(clips, tmp_path, capsys):
    (tmp_path / "features").mkdir()
    for path in (clips / "features").glob("*.npy"):
        np.save(tmp_path / "features" / path.name, np.load(path)[:, :1])
    command = ["--features", str(tmp_path), "--data", "folder", "--root", str(clips), "--device", "cpu"]
    assert main([*command, "--set", "data.options.val_share=0.5", "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "evaluation.json").read_text())["results"]
    assert list(results) == ["embeddings", *CONTROLS]
    assert results["embeddings"] != results["raw features"]
    assert "4 / 4 clips" in capsys.readouterr().out

    for shape in ((22, 1), (23,), (23, 2, 2)):
        np.save(tmp_path / "features" / "clip3.npy", np.zeros(shape))
        words = ["features/clip3.npy: embeddings must be (frames, features) of 23 frames", str(shape)]
        refused(command, 1, *words, capsys=capsys)
    (tmp_path / "features" / "clip3.npy").unlink()
    assert main(command) == 1
    assert "clip3.npy for clip 'clip3'" in capsys.readouterr().err


def refused(argv, code, *words, capsys):
    assert main([str(part) for part in argv]) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["give a run folder (lac-eval RUN), or a folder of embeddings (lac-eval --features DIR)"]),
        (["a", "--features", "b"], ["give a run folder (lac-eval RUN), or"]),
        (["a", "--stride", "0"], ["--stride must be at least 1, got 0"]),
        (["a", "--seed", "-1"], ["--seed must not be negative"]),
        (["--features", "a", "--root", "b"], ["name the data set"]),
        (["--features", "a", "--data", "folder", "--set", "rate"], ["section.setting=value", "got 'rate'"]),
        (["--features", "a", "--set", "data.options.rate=3"], ["name the data set"]),
        (["--features", "a", "--data", "folder", "--set", "train.stride=3"], ["only the settings of data can change"]),
        (["--features", "a", "--data", "folder", "--set", "data.options.rate=["], ["data.options.rate is not YAML"]),
        (["a", "--classifier", "knn"], ["invalid choice: 'knn'"]),
    ],
)
def test_usage(argv, words, capsys):
    refused(argv, 2, *words, capsys=capsys)


def test_what_is_not_there(run_folder, clips, tmp_path, capsys):
    refused([tmp_path / "none"], 1, "No such file", CONFIG, capsys=capsys)
    refused(["--features", tmp_path / "none"], 1, "no features: expected files", capsys=capsys)
    refused(["--features", clips, "--data", "wach"], 2, "did you mean 'watch'?", capsys=capsys)
    refused([run_folder, "--set", "data.options.hz=3"], 2, "no option 'hz'", capsys=capsys)
    refused([run_folder, "--device", "cuda:99"], 2, "cuda:99", capsys=capsys)


def test_encoder_of_another_data_set(run_folder, tmp_path, capsys):
    for kind, array in (("features", np.zeros((6, 5))), ("labels", np.arange(6) // 2)):
        (tmp_path / kind).mkdir()
        for name in "abcd":
            np.save(tmp_path / kind / f"{name}.npy", array)
    words = ["takes 3 features a frame", "has 5"]
    refused([run_folder, "--root", tmp_path], 1, *words, capsys=capsys)


def test_clips_without_labels(tmp_path, capsys):
    root = write_clips(tmp_path, labels=False)
    refused(["--features", root], 1, "has no labels", capsys=capsys)


def test_damaged_weights(run_folder, tmp_path, capsys):
    (tmp_path / CONFIG).write_text((run_folder / CONFIG).read_text())
    (tmp_path / checkpoint.ENCODER).write_bytes((run_folder / checkpoint.ENCODER).read_bytes()[:-40])
    refused([tmp_path], 1, str(checkpoint.ENCODER), capsys=capsys)


def test_full_disk_keeps_the_old_results(clips, tmp_path, monkeypatch, capsys):
    out = tmp_path / "evaluation.json"
    out.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(["--features", clips, "--out", tmp_path], 1, "No space left on device", str(out), capsys=capsys)
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == ["evaluation.json"]


# What the commands share


def test_a_clip_that_is_left_out_is_not_unknown():
    data = TrainConfig.read(None, SETTINGS).data
    dataset = Dataset(
        "d", [Clip("a", np.zeros((2, 1)), [0, 1])], [Clip("b", np.zeros((2, 1)), [0, 1])], [], {"c": "why"}
    )
    assert [source.clip.name for source in read_clips(["b"], data, "cpu", dataset)] == ["b"]
    with pytest.raises(ValueError, match="clip 'c' is left out: why"):
        read_clips(["b", "c"], data, "cpu", dataset)


ROW = EvalResult(
    {0.1: 0.5, 0.5: 1.0, 1.0: float("nan")}, {1.0: -123.4}, float("nan"), 1560, 1560,
    {5: 1.0, 10: 0.0, 15: 0.25}, "logistic", 5, {5: 0.125, 10: 0.0, 15: 0.25},
)  # fmt: skip


def printed(rows, width):
    from rich.console import Console

    with open(os.devnull, "w") as nowhere:
        console = Console(width=width, record=True, file=nowhere)
        console.print(results_table(rows, title="x", width=width))
        return console.export_text()


@pytest.mark.parametrize(
    ("width", "people", "headings", "missing"),
    [
        (100, True, "acc .1 acc .5 acc 1 progr tau no tau AP@5 AP@10 AP@15 people", None),
        (80, False, "acc .1 acc .5 acc 1 progr tau no tau AP@5 AP@10 AP@15", None),
        (80, True, "acc .1 acc .5 acc 1 progr tau no tau AP@5 AP@15 people", "AP@10"),
        (60, True, "acc .1 acc 1 progr tau AP@5 people", "AP@10, acc .5, no tau, AP@15"),
        (50, False, "acc .1 acc 1 progr tau AP@5", "AP@10, acc .5, no tau, AP@15"),
    ],
)
def test_table_is_whole_whatever_the_numbers_and_the_terminal_are(width, people, headings, missing):
    row = ROW if people else dataclasses.replace(ROW, retrieval_other_people={})
    low = dataclasses.replace(row, event_completion={1.0: -123456.7}, kendalls_tau=-0.123)
    shown = printed({"trained encoder": row, "random encoder": low}, width)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    assert shown.splitlines()[2].split() == headings.split()
    assert ("no room for: " in shown) == (missing is not None)
    for part in (
        "trained encoder", " - ", "-123 ", "< -999", "-0.123", "1.000", "stride 5", "tau: order", missing or "",
    ):  # fmt: skip
        assert part in " ".join(shown.split())
    assert ("0.125" in shown) == people
    if width >= 80:  # a line
        assert "acc: accuracy (share of train clips); progr: R²; tau: order; AP@K: retrieval\n" in shown
