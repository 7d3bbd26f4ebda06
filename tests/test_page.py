"""The page of a run: whole, self-contained, and safe whatever the names in it are."""

import json
import os
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from tiny_run import flags, write_clips
from tiny_video import grey, write_video, write_videos

from lac.cli import evaluate, train
from lac.data.side_by_side import Following, write_side_by_side
from lac.data.video import read_frames
from lac.runs import drawing, report
from lac.runs.markup import Html, tag
from lac.runs.page import Media, Page, to_html

EVIL = ["<script>alert(1)", "<img src=x onerror=alert(2)>", "\"'><svg onload=alert(3)> & $x$^$", "a" * 100]
EMPTY = {"meta", "img", "br"}


class Reader(HTMLParser):
    """The page as it is nested: its elements, and its text by the element that holds it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in EMPTY:
            self._open.append(name)

    def handle_endtag(self, name):
        assert self._open.pop() == name

    def handle_data(self, text):
        if text.strip():
            self.texts.append((self._open[-1] if self._open else "", text))

    def all(self, name):
        return [attributes for element, attributes in self.elements if element == name]

    def text(self):
        return " ".join(text for name, text in self.texts if name != "style")


def checked(text):
    """A page that is well nested and asks for nothing from elsewhere."""
    page = Reader(text)
    assert not page.all("script")
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "href", "srcset", "action", "poster"):
            assert attributes.get(key, "data:").startswith("data:")
    style = "".join(text for name, text in page.texts if name == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert "default-src 'none'" in page.all("meta")[1]["content"]
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained on clips with hostile names, in a folder with one."""
    root = write_clips(tmp_path_factory.mktemp("data") / "<b>da&ta")
    for k, name in enumerate(EVIL):
        for kind in ("features", "labels"):
            (root / kind / f"clip{k}.npy").rename(root / kind / f"{name}.npy")
    (root / "label_names.json").write_text(json.dumps(["<script>alert(4)</script>", "</td>", "$^$"]))
    (root / "split.json").write_text(json.dumps({"train": [f"clip{k}" for k in range(4, 8)], "val": EVIL}))
    folder = tmp_path_factory.mktemp("runs") / "<i>run"
    assert train.main(["--data", "folder", "--root", str(root), "--out", str(folder), *flags()]) == 0
    return folder


@pytest.fixture(scope="module")
def video_run(tmp_path_factory):
    videos = write_videos(tmp_path_factory.mktemp("data") / "videos")
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = flags(model_backbone="small", data_options={"size": 16, "backbone": None}, train_steps=4, train_warmup=2)
    assert train.main(["--data", "folder", "--root", str(videos), "--out", str(folder), *settings]) == 0
    return folder


def read(folder):
    return checked((folder / "report.html").read_text(encoding="utf-8"))


def test_text_is_escaped_and_html_is_not():
    assert tag("p", "<b>", tag("i", "&"), title='"') == '<p title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert tag("p", Html("<br>")) == "<p><br></p>"


def test_the_page_holds_the_run(run):
    page, metrics = read(run), json.loads((run / "metrics.json").read_text())
    text = page.text()
    assert metrics["not_drawn"] == {}
    assert len(page.all("img")) == 4
    assert not page.all("video")
    for words in ("<b>da&ta", "<i>run", EVIL[0], EVIL[3], "12 steps", "4 training and 4 validation clips"):
        assert words in text
    for name, row in metrics["results"].items():
        assert name in text
        assert f"{row['classification']['0.1']:.3f}" in text
    for words in ("steps: 12", metrics["environment"]["torch"], "time index", "AP@15", "progression"):
        assert words in text


def test_the_side_by_side_video_is_in_the_page(video_run):
    page = read(video_run)
    (video,) = page.all("video")
    assert video["src"].startswith("data:video/mp4;base64,AAAA")
    assert "in its timing" in video["aria-label"]
    frames, _ = read_frames(video_run / "plots" / "side_by_side.mp4")
    assert 2 * frames.shape[1] > frames.shape[2] > frames.shape[1]  # two squares, and a line of text above each


@pytest.mark.promise("files")
def test_every_name_and_sentence_is_escaped():
    """Names in a report are text: none becomes a script, a tag or an address, whatever it holds."""
    evil = "<script>alert(1)</script>"
    media = [Media(evil, evil, evil, "data:image/png;base64,AAAA"), Media(evil, evil, missing=evil)]
    row = {"classification": {"0.1": 1.0}, "classifier": evil}
    quality = {"rows": {evil: {evil: 1.0}}, "clips": [evil], "pairs": evil}
    metrics = {
        "verdict": [evil],
        "results": {evil: row},
        "alignment": quality,
        "doubts": [evil],
        "left_out": {evil: evil},
        "clips": {"train": evil, "val": evil},
        "environment": {evil: evil, "device": evil},
        "seconds": {evil: 1.0},
        "steps": evil,
    }
    page = checked(to_html(Page(evil, evil, metrics, evil, media)))
    assert page.text().count(evil) > 15


def test_the_page_of_a_run_that_says_little():
    page = checked(to_html(Page("data", "run", {"not_evaluated": "no <labels>"}, "")))
    assert "Not evaluated: no <labels>." in page.text()


def test_no_number_is_no_number():
    row = {"classification": {"0.1": float("nan")}, "kendalls_tau": None, "retrieval": {"5": 0.25}}
    cells = [text for name, text in checked(to_html(Page("d", "r", {"results": {"a": row}}, ""))).texts if name == "td"]
    assert cells == ["–", "–", "–", "0.250"]


def test_a_part_that_cannot_be_drawn_is_told_and_costs_nothing_else(tmp_path, monkeypatch, capsys):
    def missing(*_, **__):
        raise ImportError("PyAV <is> not installed")

    monkeypatch.setattr(drawing, "draw_moments", missing)
    root = write_clips(tmp_path / "clips")
    assert train.main(["--data", "folder", "--root", str(root), "--out", str(tmp_path / "run"), *flags()]) == 0
    assert "frames.png is not drawn: PyAV <is> not installed" in capsys.readouterr().out
    page, metrics = read(tmp_path / "run"), json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "Not drawn: PyAV <is> not installed" in page.text()
    assert len(page.all("img")) == 3
    assert metrics["not_drawn"] == {"frames.png": "PyAV <is> not installed"}
    assert metrics["results"]
    assert not (tmp_path / "run" / "plots" / "frames.png").exists()


def test_a_picture_of_an_earlier_time_does_not_stay(tmp_path):
    (tmp_path / "a.png").write_text("old")

    def fails(path):
        raise ValueError

    shown, not_drawn = drawing.draw_all(tmp_path, {"a.png": fails, "b.png": lambda path: "b"})
    assert (shown, not_drawn) == ({"b.png": "b"}, {"a.png": "ValueError"})
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_or_gone_is_not_in_the_page(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "plots" / "curves.png").unlink()
    size = (folder / "plots" / "alignment.png").stat().st_size
    monkeypatch.setattr(report, "_LARGEST", size - 1)
    report.write_page(folder)
    text = read(folder).text()
    assert "plots/curves.png is not there any more" in text
    assert "plots/alignment.png is too large for this page" in text


def test_the_page_of_a_run_whose_metrics_do_not_name_its_pictures(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(
        json.dumps({k: v for k, v in metrics.items() if k not in ("pictures", "not_drawn", "sha256")})
    )
    (folder / "plots" / "frames.png").unlink()
    report.write_page(folder)
    page = read(folder)
    assert [image["alt"] for image in page.all("img")] == ["Two clips aligned", "Nearest frames", "Training"]
    assert "Not drawn" not in page.text()


def test_the_page_is_written_whole_or_not_at_all(run, tmp_path, monkeypatch):
    folder = shutil.copytree(run, tmp_path / "run")
    before = {path.name for path in folder.iterdir()}, (folder / "report.html").read_bytes()

    def stops(page):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "to_html", stops)
    with pytest.raises(KeyboardInterrupt):
        report.write_page(folder)
    assert ({path.name for path in folder.iterdir()}, (folder / "report.html").read_bytes()) == before


def test_a_resumed_run_writes_the_same_page(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "copy" / run.name)
    for name in ("report.html", "metrics.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "plots")
    assert train.main(["--resume", str(folder), "--device", "cpu"]) == 0
    pages = [(path / "report.html").read_text().partition("seconds of training")[0] for path in (run, folder)]
    assert pages[0] == pages[1]


def test_lac_eval_writes_the_page_anew_for_the_runs_own_data(run, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text()) | {"verdict": ["worth something"]}
    del metrics["sha256"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = folder / "report.html"
    assert evaluate.main([str(folder), "--device", "cpu"]) == 0
    assert f"report      {page}" in capsys.readouterr().out
    text = read(folder).text()
    assert "worth something" not in text  # which was said of other numbers
    assert "The trained encoder beats the best control in " in text
    assert "Matching, LACLoss" not in text
    assert evaluate.main([str(folder), "--device", "cpu", "--stride", "2", "--alignment"]) == 0
    text = read(folder).text()
    assert "at stride 2" in text
    assert "Matching, LACLoss beside the best without learning: " in text
    assert "Consensus, both" in text

    before = page.read_bytes()
    assert evaluate.main([str(folder), "--device", "cpu", "--seed", "5"]) == 0
    assert evaluate.main([str(folder), "--device", "cpu", "--set", "data.options.rate=5"]) == 0
    assert page.read_bytes() == before
    (folder / "metrics.json").unlink()
    page.unlink()
    assert evaluate.main([str(folder), "--device", "cpu"]) == 0
    assert not page.exists()


def test_a_page_that_cannot_be_written_costs_no_evaluation(run, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    assert evaluate.main([str(folder), "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "trained encoder" in shown
    assert "report.html is not written: " in shown


def test_a_part_of_the_side_by_side_video(tmp_path):
    film = write_video(tmp_path / "a.mp4", grey(6 * np.arange(40)), np.arange(40) / 20)
    times = np.arange(40) / 20
    other = [Following(film, "b", times, times)]
    assert write_side_by_side(tmp_path / "both.mp4", film, "a", other, between=(0.5, 1.0)) == 11
    frames, shown = read_frames(tmp_path / "both.mp4")
    np.testing.assert_allclose(shown, np.arange(11) / 20, rtol=0, atol=1 / 90_000)
    below, (left, right) = frames[:, -100:], np.array([0.25, 0.75]) * frames.shape[2]
    for half in (below[:, :, int(left) - 20 : int(left) + 20], below[:, :, int(right) - 20 : int(right) + 20]):
        np.testing.assert_allclose(half.mean(axis=(1, 2, 3)), 6 * np.arange(10, 21), rtol=0, atol=4)
    with pytest.raises(ValueError, match="no frame between 5 and 6 s"):
        write_side_by_side(tmp_path / "none.mp4", film, "a", other, between=(5, 6))
    assert not (tmp_path / "none.mp4").exists()


_FRAME = """<!doctype html><iframe width={width} height=800 src="{page}"></iframe><pre></pre><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  document.querySelector("pre").textContent = JSON.stringify({{
    overflow: root.scrollWidth - root.clientWidth, images: [...page.images].map(image => image.naturalWidth),
    width: root.clientWidth, title: page.title }});
}}</script>"""


@pytest.mark.skipif("LAC_BROWSER" not in os.environ, reason="LAC_BROWSER names no chromium to look at the page with")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["run", "video_run"])
def test_a_browser_shows_the_page(kind, width, request, tmp_path):
    folder = request.getfixturevalue(kind)
    shutil.copy(folder / "report.html", tmp_path / "report.html")
    (tmp_path / "frame.html").write_text(_FRAME.format(width=width, page="report.html"))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
    ]
    more = [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    command = [os.environ["LAC_BROWSER"], *options, *more, f"file://{tmp_path / 'frame.html'}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in ended.stderr
    (said,) = [text for name, text in Reader(ended.stdout).texts if name == "pre"]
    facts = json.loads(said)
    assert facts["overflow"] == 0
    assert 0 < facts["width"] <= width
    assert len(facts["images"]) == 4
    assert all(facts["images"])
    assert facts["title"].endswith(folder.name)
