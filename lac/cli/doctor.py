"""`lac-doctor`: what to paste into a bug report. Works with the core alone."""

from __future__ import annotations

import argparse
import os

import torch

from lac.cli.common import Command, add_general, new_parser
from lac.system import PACKAGES, describe, device_name, package_version

_WIDTH = max(len(package.name) for package in PACKAGES) + 2
_EXAMPLES = """example:
  lac-doctor > doctor.txt
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-doctor",
        "Say what is installed, which devices torch sees and which backends can run. Plain text.",
        examples=_EXAMPLES,
    )
    add_general(parser)
    return parser


def _doctor(_: argparse.Namespace) -> int:
    print("\n".join(report()))
    return 0


def report() -> list[str]:
    """The lines that `lac-doctor` prints."""
    lines = [_line(name, value) for name, value in describe(torch.device("cpu")).items()]
    for package in PACKAGES:
        lines.append(_line(package.name, package_version(package.name) or "not installed"))
    lines += _cache()
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", k) for k in range(torch.cuda.device_count())]
    else:
        reason = "torch was built without it" if torch.version.cuda is None else "no usable GPU or driver"
        lines.append(_line("cuda", f"not available: {reason}"))
    variables = [name for name in sorted(os.environ) if name.startswith(("LAC_", "TRITON_", "OMP_", "MKL_"))]
    lines += [_line("environment", f"{name}={os.environ[name]}") for name in variables]
    for device in devices:
        lines += _backends(device)
    return lines


def _line(name: str, value: object) -> str:
    return f"{name:{_WIDTH}}{value}"


def _cache() -> list[str]:
    """Where the cache is, and whether the library of the CPU engine is built there, before anything builds it."""
    from lac_kernels import cpu
    from lac_kernels.cache import cache_folder

    try:
        folder = cache_folder()
    except OSError as error:
        return [_line("cache folder", f"none: {error}")]
    built = cpu.built()
    return [
        _line("cache folder", f"{folder}" if folder.is_dir() else f"{folder} (not there yet)"),
        _line("cpu library", built or "not built yet, or not whole; its first use builds it"),
    ]


def _backends(device: torch.device) -> list[str]:
    from lac_kernels import engines

    lines = ["", f"backends on {device} ({device_name(device)})"]
    for backend in engines.BACKENDS:
        obstacle = engines.unavailable(backend, device)
        lines.append(f"  {backend:12}{'can run' if obstacle is None else 'cannot run: ' + obstacle}")
    return lines


COMMAND = Command("lac-doctor", _parser, _doctor)
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
