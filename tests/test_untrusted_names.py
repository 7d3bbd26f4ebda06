"""Names, links and what a terminal or a spreadsheet makes of text, from anybody: nothing leads out of its folder."""

import json
import os
import socket
import sys
import types
from pathlib import Path

import numpy as np
import PIL.EpsImagePlugin
import PIL.Image
import pytest
import yaml
from tiny_run import write_clips, write_run
from tiny_video import grey, write_video

import lac.data
from lac.cli import evaluate, find, train
from lac.cli.table import remarks
from lac.data import Clip, convert
from lac.data.folder import read_clip
from lac.data.labels import read_phases
from lac.data.pickles import read_pickle
from lac.data.reading import file_name, read_json
from lac.data.sound import read_wav
from lac.data.video import read_frames
from lac.data.write import write_folder
from lac.errors import DataError
from lac.files import locked
from lac.runs import checkpoint
from lac.runs.config import TrainConfig
from lac.runs.report import write_page

ESCAPE = "\x1b]0;title\x07\x1b[2J"
OBEYED = [ESCAPE, "\x9b2J", "\x7f", "a\rb", "a\nb", "a\tb", "a\u202eb", "a\u2066b", "a\u2028b", "\udc9b", "\0"]
ELSEWHERE = [
    "..", ".", "", ".hidden", "../x", "..\\x", "a/b", "a\\b", "/etc/passwd", "\\\\server\\share\\x", "C:x", "C:\\x",
    "c:", "a/../../x", "x/", "CON", "nul", "aux.npy", "COM1", "lpt9.txt", "con .txt", None, 3, b"x", ["x"],
]  # fmt: skip


@pytest.mark.promise("files")
def test_a_name_is_a_name(tmp_path, record_property):
    """A name in a file leads to no other folder, drive or device, and holds no escape sequence."""
    for name in [*ELSEWHERE, *OBEYED]:
        with pytest.raises(ValueError, match="cannot be a name"):
            file_name(name)
    for name in ("clip 1", "größer", "漢字", "a.b-c_d (2)", "[red]", "=1+2", "@x", "-rf", "$HOME", "console", "nulls"):
        assert file_name(name) == name
        assert Clip(name, np.ones((2, 1)), np.arange(2)).name == name
    record_property("cases", len(ELSEWHERE) + len(OBEYED))


def folder_of(root: Path, names=("a", "b")) -> Path:
    (root / "features").mkdir(parents=True)
    for name in names:
        np.save(root / "features" / f"{name}.npy", np.arange(6.0).reshape(3, 2))
    return root


@pytest.mark.promise("files")
@pytest.mark.parametrize("place", ["split.json", "clips.csv", "labels.csv", "frames of LAV", "train.pkl", "video_file"])
def test_names_within_files_do_not_lead_out(place, tmp_path, record_property):
    """A clip that a list names outside of its folder is refused, and nothing is written there."""
    names = [name for name in (*ELSEWHERE, *OBEYED) if isinstance(name, str) and name not in ("", ".", "..")]
    (tmp_path / "x.npy").write_bytes(b"outside")
    for number, name in enumerate(names):
        root, out = tmp_path / f"in{number}" / "root", tmp_path / f"in{number}" / "out"
        root.mkdir(parents=True)
        before = set(tmp_path.rglob("*"))
        if place in ("split.json", "clips.csv"):
            folder_of(root)
            if place == "split.json":
                (root / place).write_text(json.dumps({"train": ["a"], "val": [name]}))
            else:
                with (root / place).open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
                    file.write(f"name,action\r\na,x\r\nb,x\r\n{quoted(name)},x\r\n")
            with pytest.raises(ValueError, match=place):
                lac.data.load("folder", root)
            continue
        kind = {"labels.csv": "videos", "frames of LAV": "lav"}.get(place, "carl-pouring")
        make_source(root, place, name)
        with pytest.raises(ValueError, match=r"no clip could be converted|not a CSV|expected"):
            convert.convert(kind, root, out, read=convert.FORMATS[kind][0])
        made = set(tmp_path.rglob("*")) - before
        assert all(path.is_relative_to(tmp_path / f"in{number}") for path in made)
        assert not list(out.glob("videos/*"))
    assert (tmp_path / "x.npy").read_bytes() == b"outside"
    record_property("cases", len(names))


def quoted(name: str) -> str:
    """A cell of a table; the writer of Python 3.10 takes no NUL."""
    return '"' + name.replace('"', '""') + '"'


def make_source(root: Path, place: str, name: str) -> None:
    """A data set to convert whose only clip has that name, or lies there."""
    import pickle

    if place == "labels.csv":
        with (root / place).open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
            file.write(f"video,time,label\r\n{quoted(name)},0,go\r\n")
    elif place == "frames of LAV":  # the system has no such names, but for what a terminal obeys
        for split in ("train", "val"):
            (root / split).mkdir()
        if not set(name) & {"/", "\0"}:
            (root / "train" / name).mkdir()
    else:
        entry = {"name": "x", "video_file": "videos/x.mp4", "frame_label": np.arange(3)}
        entry["name" if place == "train.pkl" else place] = name
        (root / "train.pkl").write_bytes(pickle.dumps([entry]))
        (root / "val.pkl").write_bytes(pickle.dumps([]))


@pytest.mark.promise("files")
@pytest.mark.parametrize("text", OBEYED)
def test_nothing_that_a_terminal_obeys_is_read_as_a_label(text, tmp_path):
    """Actions, persons and names of labels that hold escape sequences are refused."""
    for given in ({"action": text}, {"person": text}):
        with pytest.raises(ValueError, match="control characters"):
            Clip("a", np.ones((2, 1)), np.arange(2), **given)
    root = folder_of(tmp_path / "data")
    (root / "label_names.json").write_text(json.dumps([text]))
    with pytest.raises(ValueError, match="control characters"):
        lac.data.load("folder", root)


@pytest.mark.promise("files")
@pytest.mark.skipif(sys.platform == "win32", reason="has no such names")
def test_commands_print_nothing_that_a_terminal_obeys(tmp_path, capsys):
    """Names and contents of files reach the terminal with escape sequences written out, not obeyed."""
    root = folder_of(tmp_path / "data", names=("a", "b", "c", f"d{ESCAPE}", os.fsdecode(b"e\x9b2J")))
    (root / "labels").mkdir()
    (root / "labels" / "a.csv").write_text(f"time,label\n{ESCAPE},{ESCAPE}\n")
    dataset = lac.data.load("folder", root)
    assert (len(dataset.left_out), len(dataset.unlabelled)) == (2, 3)
    print(*remarks({}, {"train": 2, "val": 1}, dataset.left_out), *dataset.unlabelled.values())
    (tmp_path / f"no{ESCAPE}.npy").write_bytes(b"no array")
    where = ["--data", "folder", "--root", str(root), "--out", str(tmp_path / "run")]
    assert find.main([str(tmp_path / f"no{ESCAPE}.npy"), str(root / "features" / "a.npy")]) == 1
    assert train.main([*where, "--set", f"data.options.{ESCAPE}=1"]) == 2
    assert evaluate.main([str(tmp_path / f"none{ESCAPE}")]) == 1
    printed = "".join(capsys.readouterr())
    assert "left out" in printed
    assert "\\x1b]0;title\\x07" in printed
    assert not set(printed) & {"\x1b", "\x07", "\x9b", "\udc9b"}


READERS = {
    "a.npy": read_clip,
    "a.mp4": read_clip,
    "a.json": read_json,
    "a.csv": read_phases,
    "a.pkl": read_pickle,
    "a.wav": read_wav,
    "a.yaml": TrainConfig.read,
    "trainer.pt": checkpoint.read_state,
    "loss.safetensors": checkpoint.read_weights,
    "frames/a.png": lambda path: read_frames(path.parent),
}


@pytest.mark.promise("files")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_or_a_device_is_not_waited_for(name, tmp_path, record_property):
    """A pipe, a socket or a device in the place of a file is refused: it might never end."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    made = [lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")]
    for make in made:
        make()
        with pytest.raises(ValueError, match=path.name):
            READERS[name](path)
        path.unlink()
    record_property("cases", len(made))


@pytest.mark.promise("files")
def test_a_video_opens_no_other_file_and_no_address(tmp_path, record_property):
    """A playlist in the place of a video opens no other file, nor an address on the net."""
    video = write_video(tmp_path / "other.ts", grey(range(5), 64, 64), np.arange(5) / 25)
    assert len(read_frames(video)[0]) == 5
    head, end = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.2,\n", "\n#EXT-X-ENDLIST\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        texts = [
            *(head + target + end for target in ("other.ts", f"file:{video}", address)),
            *(f"ffconcat version 1.0\nfile {target}\n" for target in ("other.ts", f"file:{video}", address)),
            f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
            f'mimeType="video/mp4"><Representation id="1"><BaseURL>{address}</BaseURL></Representation></AdaptationSet>'
            "</Period></MPD>",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        ]
        names = ("a.m3u8", "a.mp4", "a.ffconcat", "a.mpd", "a.sdp")
        for name in names:
            for text in texts:
                (tmp_path / name).write_text(text)
                with pytest.raises(ValueError, match=name):
                    read_frames(tmp_path / name)
        with pytest.raises(TimeoutError):
            server.accept()
    record_property("cases", len(names) * len(texts))


@pytest.mark.promise("files")
def test_a_picture_is_given_to_no_other_program(tmp_path, monkeypatch):
    """A picture that is PostScript inside is given neither to Ghostscript nor to another program."""

    def called(*_, **__):
        raise AssertionError("another program was asked to draw it")

    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", called)
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) run\n")
    with PIL.Image.open(path) as image, pytest.raises(AssertionError, match="another program"):
        image.load()  # what Pillow does of itself
    with pytest.raises(ValueError, match=r"a\.png is not an image.*it is none of JPEG, PNG"):
        read_frames(tmp_path)


@pytest.mark.promise("files")
@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_a_run_folder_is_not_written_through(tmp_path):
    """A link in a run folder is not written through, and no file behind one gets into the page."""
    secret = tmp_path / "secret.png"
    secret.write_text("not to be shown, not to be changed")
    run = tmp_path / "run"
    (run / "plots").mkdir(parents=True)
    for name in (".lock", "report.html", "plots/alignment.png"):
        (run / name).symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"), locked(run):
        pass
    (run / "config.yaml").write_text("")
    (run / "metrics.json").write_text(json.dumps({"data": "x", "pictures": {"alignment.png": "two clips"}}))
    page = write_page(run)
    assert not page.is_symlink()
    assert "is a link to elsewhere" in page.read_text()
    assert "base64" not in page.read_text()
    assert secret.read_text() == "not to be shown, not to be changed"


@pytest.mark.promise("files")
@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_conversion_takes_no_file_that_is_no_picture(tmp_path):
    """What a link in a data set leads to is converted only if it is a picture or a video."""
    (tmp_path / "secret").write_text("a key")
    for split in ("train", "val"):
        (tmp_path / "lav" / split / "one").mkdir(parents=True)
        (tmp_path / "lav" / split / "one" / "1.jpg").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"video cannot be read: 2, such as .*1\.jpg is no image"):
        convert.convert("lav", tmp_path / "lav", tmp_path / "out", read=convert.FORMATS["lav"][0])
    assert not list((tmp_path / "out").glob("videos/*"))


@pytest.mark.promise("files")
def test_the_settings_of_a_run_run_nothing(tmp_path, record_property):
    """The settings of a run folder, or of a file, run nothing: no tag of Python in YAML is followed."""
    run = write_run(tmp_path / "run", write_clips(tmp_path / "clips"), 3)
    text = (run / "config.yaml").read_text()
    made = tmp_path / "made"
    tags = [
        f"!!python/object/apply:os.system ['touch {made}']",
        f"!!python/object/new:os.system ['touch {made}']",
        f'!!python/object/apply:builtins.eval ["open({str(made)!r}, chr(119))"]',
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object:lac.LACLoss {}",
    ]
    for tag in tags:
        (run / "config.yaml").write_text(text.replace("root:", f"root: {tag}\n  x:", 1))
        with pytest.raises(ValueError, match=r"config\.yaml"):
            TrainConfig.of_run(run)
    assert not made.exists()
    yaml.unsafe_load(tags[0])
    assert made.exists(), "the attack that is refused is none"
    record_property("cases", len(tags))


@pytest.mark.promise("files")
def test_names_are_written_as_they_are(tmp_path):
    """A table has names as they are, `=1+2` too, and reads back: tell a spreadsheet that it is text."""
    names = ["=1+2", "+1", "-1", "@SUM(1)", 'say "a", b; c']
    clips = [Clip(f"c{k}", np.ones((2, 1)), np.arange(2), action=name, person="p") for k, name in enumerate(names)]
    write_folder(tmp_path / "out", clips)
    found = lac.data.load("folder", tmp_path / "out", val_share=0.2)
    assert sorted(clip.action for clip in found.train + found.val) == sorted(names)


@pytest.mark.promise("files")
def test_an_error_is_not_longer_than_a_page():
    """What a message repeats of a file is cut, and holds no escape sequence."""
    text = str(DataError("x" * 10**6 + ESCAPE))
    assert len(text) < 2500
    assert "\x1b" not in text


@pytest.mark.promise("files")
def test_a_network_that_a_checkpoint_names_is_fetched_from_nowhere(monkeypatch, record_property):
    """A checkpoint that names a network of some place on the net makes nothing be fetched from there."""

    def fetched(name, **_):
        raise AssertionError(f"{name} was asked for")

    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=fetched))
    names = ["hf-hub:a/b", "hf_hub:a/b", "local-dir:/tmp/a", "https://a/b", "a/b", "../a"]
    for name in names:
        with pytest.raises(ValueError, match="no name of a model that timm has"):
            lac.FrameEncoder(None, backbone=f"timm:{name}")
    with pytest.raises(AssertionError, match="resnet18 was asked for"):
        lac.FrameEncoder(None, backbone="timm:resnet18")
    record_property("cases", len(names))
