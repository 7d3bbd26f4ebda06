"""Runs the PTX that Triton compiles, on a CPU, thread by thread, and checks every access (README.md)."""

from ptxemu.compiler import CompilerError, unavailable
from ptxemu.findings import Finding, Kind
from ptxemu.launch import Access, EmulatorError, HostBuffer, Launched, Options, run
from ptxemu.program import Unsupported, parse

__all__ = [
    "Access",
    "CompilerError",
    "EmulatorError",
    "Finding",
    "HostBuffer",
    "Kind",
    "Launched",
    "Options",
    "Unsupported",
    "parse",
    "run",
    "unavailable",
]
