"""`lac-doctor`: whether what is installed works here, and what to paste into a bug report. The core alone will do."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterable, Iterator

import torch

from lac.cli.common import EXIT_FAILURE, Command, add_general, new_parser
from lac.errors import how_to_install, printable
from lac.selftest import Check, check_device, check_parts, devices
from lac.system import EXTRAS, PACKAGES, describe, device_name, package_version

_WIDTH = max(len(package.name) for package in PACKAGES) + 2
_NAME = 14  # of a check
_EXAMPLES = """example:
  lac-doctor > doctor.txt
"""


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "lac-doctor",
        "Say what is installed and try whether it works: every backend on every device against float64, the loss, the "
        "encoder, the cache folder, videos, pictures. Plain text; exit code 1 if something that should work does not.",
        examples=_EXAMPLES,
    )
    add_general(parser)
    return parser


def _doctor(_: argparse.Namespace) -> int:
    for line in _about():
        print(printable(line))
    checks = list(_shown("the parts", check_parts()))
    for device in devices():
        checks += _shown(f"{device} ({device_name(device)})", check_device(device))
    wrong = [check.name for check in checks if check.works is False]
    tried = sum(check.works is not None for check in checks)
    print(
        f"\n{len(wrong)} of {tried} do not work: {', '.join(wrong)}" if wrong else f"\nall {tried} that were tried work"
    )
    return EXIT_FAILURE if wrong else 0


def _about() -> Iterator[str]:
    """Versions, packages, devices, variables."""
    for name, value in describe(torch.device("cpu")).items():
        yield _line(name, value)
    for package in PACKAGES:
        missing = f"not installed; for {EXTRAS[package.extra]}: {how_to_install(package.extra)}"
        yield _line(package.name, package_version(package.name) or missing)
    if not torch.cuda.is_available():
        reason = "torch was built without it" if torch.version.cuda is None else "no usable GPU or driver"
        yield _line("cuda", f"not available: {reason}")
    for name in sorted(os.environ):
        if name.startswith(("LAC_", "TRITON_", "OMP_", "MKL_", "CXX", "CUDA_")):
            yield _line("environment", f"{name}={os.environ[name]}")


def _line(name: str, value: object) -> str:
    return f"{name:{_WIDTH}}{value}"


def _shown(heading: str, checks: Iterable[Check]) -> Iterator[Check]:
    """The checks, each printed as soon as it is done."""
    print(f"\n{heading}")
    for check in checks:
        word = {True: "ok", False: "WRONG", None: "-"}[check.works]
        seconds = f"{check.seconds:.2f} s" if check.works is not None else ""
        print(printable(f"  {check.name:{_NAME}}{word:7}{seconds:>8}  {check.said}"), flush=True)
        if check.remedy:
            indent = " " * (_NAME + 19)
            print(printable(textwrap.fill(check.remedy, 100, initial_indent=indent, subsequent_indent=indent)))
        yield check


COMMAND = Command("lac-doctor", _parser, _doctor)
main, entry = COMMAND.main, COMMAND.entry

if __name__ == "__main__":
    entry()
