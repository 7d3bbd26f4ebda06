"""Triton launches on CPU tensors, run by the emulator: a driver for Triton that has a target and no device."""

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.compiler.compiler import CompiledKernel

from ptxemu.findings import Finding
from ptxemu.launch import EmulatorError, HostBuffer, Launched, Options, run


class Session:
    """What the launches of a session brought to light."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.launches: list[Launched] = []

    @property
    def findings(self) -> list[Finding]:
        """Of all launches."""
        return [f for launch in self.launches for f in launch.findings]


_open: list[Session] = []  # the last one runs the launches


@contextlib.contextmanager
def session(target: str = "cuda:90", **options: Any) -> Iterator[Session]:
    """Triton's kernels run in the emulator, on CPU tensors, as compiled for `target`.

    Args:
        target: "cuda:" and the compute capability.
        **options: of `Options`.
    """
    opened = Session(Options(**options))
    _open.append(opened)
    try:
        with driven_by(EmulatorDriver(target_of(target))), _kernels_of_a_session():
            yield opened
    finally:
        _open.pop()


@contextlib.contextmanager
def driven_by(driver: DriverBase) -> Iterator[None]:
    """Within, Triton has this driver; afterwards the one before, or none yet."""
    before = triton.runtime.driver.__dict__.get("_active")
    triton.runtime.driver.set_active(driver)
    try:
        yield
    finally:
        triton.runtime.driver._active = before


def target_of(name: str) -> GPUTarget:
    """Of "cuda:90" or "hip:gfx942".

    Raises:
        ValueError: it is neither.
    """
    backend, _, architecture = name.partition(":")
    if backend == "cuda" and architecture.isdigit():
        return GPUTarget("cuda", int(architecture), 32)
    if backend == "hip" and architecture:
        return GPUTarget("hip", architecture, 64 if architecture.startswith("gfx9") else 32)
    raise ValueError(f"target is {name!r}: it must be like cuda:90 or hip:gfx942")


class CompileOnly(DriverBase):
    """A driver that has a target and no device."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0

    def get_benchmarker(self) -> Any:
        raise NotImplementedError


# Bytes of shared memory that a program may have; what is not here may have what sm_75 has.
_SHARED = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}


class EmulatorDriver(CompileOnly):
    """A driver that runs what was compiled."""

    def __init__(self, target: GPUTarget) -> None:
        super().__init__(target)
        self.utils = _Utils(target)
        self.launcher_cls = _Launcher

    def set_current_device(self, device: int) -> None:
        pass


class _Utils:
    def __init__(self, target: GPUTarget) -> None:
        self.shared = _SHARED.get(target.arch, 65_536)

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": self.shared, "multiprocessor_count": 132, "max_num_regs": 65_536, "warpSize": 32}

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        return (1, 1, 32, 0, 1024)  # module, function, registers, spills, most threads

    def unload_module(self, module: int) -> None:
        pass


_loaded: dict[int, CompiledKernel] = {}  # by id of its metadata, which is all that a launcher gets of a kernel


@contextlib.contextmanager
def _kernels_of_a_session() -> Iterator[None]:
    """Remembers the kernels that are loaded, and lets go of them at the end: they belong to its driver and target."""
    original = CompiledKernel._init_handles

    def init_handles(self: CompiledKernel) -> None:
        if self.module is None:
            _loaded[id(self.metadata)] = self
        original(self)

    CompiledKernel._init_handles = init_handles
    try:
        yield
    finally:
        CompiledKernel._init_handles = original
        for kernel in _loaded.values():
            kernel.module = None
            kernel.src.fn.device_caches.clear()
        _loaded.clear()


class _Launcher:
    def __init__(self, source: Any, metadata: Any) -> None:
        self.types, self.metadata = list(source.signature.values()), metadata

    def __call__(self, x: int, y: int, z: int, stream: int, function: int, *more: Any) -> None:
        _, _, _, _, *arguments = more  # metadata of kernel and launch, hooks before and after
        if not x * y * z:
            return
        opened = _open[-1]
        packed = [p for type, a in zip(self.types, arguments, strict=True) for p in pack(type, a, opened.options)]
        scratch = []  # kept until the launch is over
        for size in (self.metadata.global_scratch_size, self.metadata.profile_scratch_size):
            scratch.append(torch.zeros(size * x * y * z, dtype=torch.uint8))
            packed.append(HostBuffer(scratch[-1].data_ptr(), scratch[-1].numel()) if size else bytes(8))
        launched = run(
            _loaded[id(self.metadata)].asm["ptx"],
            (x, y, z),
            self.metadata.num_warps * 32,
            packed,
            shared_bytes=self.metadata.shared,
            options=opened.options,
        )
        opened.launches.append(launched)


_INTEGERS = {f"{sign}{bits}": bits // 8 for sign in "iu" for bits in (8, 16, 32, 64)} | {"i1": 1, "u1": 1}
_FLOATS = {"fp16": "<e", "fp32": "<f", "f32": "<f", "fp64": "<d"}


def pack(type: Any, value: Any, options: Options) -> list[HostBuffer | bytes]:
    """An argument of a Triton kernel, as the parameters that it becomes.

    Raises:
        EmulatorError: its type is not known.
    """
    if isinstance(type, (tuple, list)):
        return [p for t, v in zip(type, value, strict=True) for p in pack(t, v, options)]
    if type == "constexpr":
        return []
    if type.startswith("*"):
        return [bytes(8) if value is None else _pointer(value, options)]
    if type in _INTEGERS:
        return [int(value).to_bytes(_INTEGERS[type], "little", signed=int(value) < 0)]
    if type in _FLOATS:
        return [struct.pack(_FLOATS[type], float(value))]
    raise EmulatorError(f"an argument of type {type} is not known to the emulator")


def _pointer(value: Any, options: Options) -> HostBuffer:
    tensor = value if isinstance(value, torch.Tensor) else getattr(value, "base", None)  # Triton may wrap one
    if not isinstance(tensor, torch.Tensor):
        raise EmulatorError(f"a pointer must come as a tensor, not as {type(value).__name__}")
    storage = tensor.untyped_storage()
    where = storage.data_ptr()
    uninitialised = any(where == x.untyped_storage().data_ptr() for x in options.uninitialised)
    return HostBuffer(where, storage.nbytes(), tensor.data_ptr() - where, initialised=not uninitialised)
