import json
import pickle

import numpy as np
import pytest
import torch
from tiny_video import write_videos

import lac.data
from lac.cli.data import main
from lac.data.convert import FORMATS


@pytest.fixture
def pouring(tmp_path):
    """Eight drawn videos as CARL's pickles name them."""
    root = write_videos(tmp_path / "pouring")
    entries = [
        {
            "id": k,
            "video_file": f"videos/clip{k}.mp4",
            "frame_label": torch.from_numpy(np.arange(30 + 2 * k) * 3 // (30 + 2 * k)),
            "seq_len": 30 + 2 * k,
            "name": f"clip{k}",
        }
        for k in range(8)
    ]
    entries[7]["frame_label"] = entries[7]["frame_label"][:-1]
    for split, part in (("train", entries[:5]), ("val", entries[5:])):
        with open(root / f"{split}.pkl", "wb") as file:
            pickle.dump(part, file)
    return root


def test_convert_and_load(pouring, tmp_path, capsys):
    out = tmp_path / "plain"
    assert main(["convert", "carl-pouring", str(pouring), str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""  # the bar is for terminals
    for text in (str(out), "7", "5", "2", "252", "left out        1 clips"):
        assert text in shown.out
    assert "labels off by one: 1, such as clip7 (43 labels, 44 frames)" in shown.out
    assert json.loads((out / "conversion.json").read_text())["complete"]
    data = lac.data.load("folder", out, fps=25, size=16, backbone=None)
    assert {clip.name: len(clip) for clip in data.val} == {"clip5": 40, "clip6": 42}
    assert np.bincount(data.val[0].labels).tolist() == [14, 13, 13]


def test_help(capsys):
    assert main(["convert", "--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, line) in FORMATS.items():
        assert f"  {name} " in shown
        assert line in " ".join(shown.split())


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "required"),
        (["convert", "carl", "a", "b"], 2, "invalid choice: 'carl'"),
        (["convert", "lav", "a"], 2, "required: OUT"),
        (["convert", "lav", "nowhere", "out"], 1, "error: nowhere is not a folder"),
    ],
)
def test_what_goes_wrong(argv, code, message, capsys):
    assert main(argv) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
