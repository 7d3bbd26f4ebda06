"""What works on this machine, tried in a second or two: every engine against float64, then each part of the package.

Nothing is installed or downloaded, and nothing stays but the compiled CPU engine in the cache folder. The core alone
(torch, numpy) is enough: what needs an extra that is missing is passed over.
"""

from __future__ import annotations

import functools
import importlib
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import lac
from lac.errors import how_to_install
from lac.functional import smith_waterman
from lac.measure.errors import allowed, relative_error
from lac_kernels import cpu, engines
from lac_kernels.cache import cache_folder, make_folder, others_can_write

PAIRS, N, M = 3, 8, 11
LENGTHS = ([8, 5, 1], [11, 3, 7])  # a ragged batch
GAP_OPEN, GAP_EXTEND, TEMPERATURE = 0.8, 0.3, 0.7


class Check(NamedTuple):
    """What was tried.

    Attributes:
        name: of it.
        works: `None` where it cannot be asked of this machine: a package or a compiler is missing.
        said: errors, sizes, or why not.
        remedy: what to do where it does not work, or is missing; "" for nothing.
        seconds: that it took.
    """

    name: str
    works: bool | None
    said: str
    remedy: str = ""
    seconds: float = 0.0


def devices() -> list[torch.device]:
    """The CPU, and every GPU that torch can use."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    return [torch.device("cpu"), *(torch.device("cuda", k) for k in gpus)]


def check_device(device: torch.device) -> Iterator[Check]:
    """Every backend on a device, then a step of the loss and the encoder there."""
    for backend in engines.BACKENDS:
        obstacle = engines.unavailable(backend, device)
        if obstacle is None:
            yield timed(backend, lambda backend=backend: check_backend(backend, device), _REPORT)  # type: ignore[misc]
        else:
            yield Check(backend, None, f"cannot run: {obstacle}")
    yield timed("loss step", lambda: check_loss(device), _REPORT)
    yield timed("encoder", lambda: check_encoder(device), _REPORT)


def check_parts() -> Iterator[Check]:
    """What does not depend on a device: the cache folder, the compiled engine, videos, pictures."""
    yield timed("cache folder", check_cache, "set LAC_CACHE to a folder of yours that can be written (chmod 700)")
    yield check_compiled()
    for name, module, extra, check in (
        ("videos", "av", "video", check_videos),
        ("pictures", "matplotlib", "train", check_pictures),
    ):
        if _is_missing(module):
            yield Check(name, None, f"{module} is not installed", how_to_install(extra))
        else:
            yield timed(name, check, f"install {module} anew: {how_to_install(extra)}")


def _is_missing(module: str) -> bool:
    """Whether a package is not installed; one that is and cannot be imported does not count."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return error.name == module
    except Exception:  # told by what needs it
        return False
    return False


_REPORT = "do not trust it here; take another backend, and report it with this output"


def timed(name: str, check: Callable[[], tuple[bool, str]], remedy: str) -> Check:
    """A check that says whether something works and what it has found; whatever it raises is what does not work."""
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a slower engine, which its own line tells
            works, said = check()
    except Exception as error:  # whatever is broken, the other checks go on
        works, said = False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return Check(name, works, said, "" if works else remedy, time.perf_counter() - began)


# Engines


def gradients(backend: str, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Value, posterior and the gradients by gaps and temperature of a small ragged batch, the same for all."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(PAIRS, N, M, generator=generator)
    gap_open, gap_extend = (
        gap * (0.5 + torch.rand(PAIRS, 1, M, generator=generator)) for gap in (GAP_OPEN, GAP_EXTEND)
    )
    leaves = [x.to(device, dtype).requires_grad_() for x in (scores, gap_open, gap_extend)]
    lengths = [torch.tensor(one, device=device) for one in LENGTHS]

    def value(temperature: float | Tensor) -> Tensor:
        s, o, e = leaves
        return smith_waterman(
            s, gap_open=o, gap_extend=e, temperature=temperature, lengths=(lengths[0], lengths[1]), backend=backend
        )

    found = value(TEMPERATURE)
    names = ("posterior", "gap_open", "gap_extend")
    answers = dict(zip(names, torch.autograd.grad(found.sum(), leaves), strict=True))
    learned = torch.tensor(TEMPERATURE, device=device, dtype=dtype, requires_grad=True)
    (by_temperature,) = torch.autograd.grad(value(learned).sum(), [learned])
    return {"value": found.detach(), **answers, "temperature": by_temperature}


@functools.cache
def _exact(backend: str) -> dict[str, Tensor]:
    return gradients(backend, torch.device("cpu"), torch.float64)


def check_backend(backend: str, device: torch.device) -> tuple[bool, str]:
    """The largest error of a backend in float32 against float64, beside what is allowed."""
    exact = _exact("eager" if backend == "reference" else "reference")
    worst, limit, name = 0.0, 1.0, ""
    for what, result in gradients(backend, device, torch.float32).items():
        error, most = relative_error(result.cpu(), exact[what]), allowed_error(what, exact["value"])
        if not error / most <= worst / limit:
            worst, limit, name = error, most, what
    return worst <= limit, f"worst error {worst:.1e} ({name}) of {limit:.1e} allowed"


def allowed_error(what: str, value: Tensor) -> float:
    """As `lac.measure.errors.allowed`; a gradient by a gap or by the temperature is a sum of such probabilities along
    an alignment."""
    score, posterior = allowed(N + M, float(value.abs().max().clamp(min=1)), torch.float32, torch.float32)
    if what == "value":
        return score
    return posterior if what == "posterior" else posterior * math.sqrt(N + M)


# Parts


def check_loss(device: torch.device) -> tuple[bool, str]:
    """A step of the loss: forward and backward, finite."""
    generator = torch.Generator().manual_seed(0)
    z1, z2 = (torch.randn(4, 20 + k, 16, generator=generator).to(device).requires_grad_() for k in (0, 5))
    loss = lac.LACLoss().to(device)
    value = loss(z1, z2, lengths1=[20, 20, 9, 15], lengths2=[25, 20, 25, 8])
    value.backward()
    found = [value, *(x.grad for x in (z1, z2, *loss.parameters()) if x.requires_grad)]
    return _all_finite(found), f"forward and backward, the loss is {value.item():.4f}"


def check_encoder(device: torch.device) -> tuple[bool, str]:
    """The encoder on a ragged batch: finite, 0 at padding, with gradients."""
    generator = torch.Generator().manual_seed(0)
    encoder = lac.FrameEncoder(6, embed_dim=16, width=32).to(device)
    z = encoder(torch.randn(2, 10, 6, generator=generator).to(device), lengths=[10, 4])
    z.square().sum().backward()
    padded = not bool(z[1, 4:].any())
    return _all_finite([z, *(x.grad for x in encoder.parameters())]) and padded, f"embeddings {tuple(z.shape)}"


def _all_finite(tensors: list[Tensor | None]) -> bool:
    return all(x is not None and bool(x.isfinite().all()) for x in tensors)


def check_cache() -> tuple[bool, str]:
    """A file written to the cache folder, read, and removed again."""
    folder = cache_folder()
    make_folder(folder)
    content = bytes(range(256)) * 64
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place, "selftest")
        path.write_bytes(content)
        same = path.read_bytes() == content
    if reason := others_can_write(folder):
        return False, reason
    return same, f"{folder}: written, read and removed"


def check_compiled() -> Check:
    """The compiled CPU engine and the compiler that it needs once."""
    from lac_kernels.cpu import library

    name, began = "cpu engine", time.perf_counter()
    try:
        compiler = library.find_compiler()
    except Exception as error:  # there is none
        return Check(name, None, f"not built: {error}", "until then the slower eager engine takes its place")
    reason = cpu.unavailable(torch.device("cpu"))  # builds it
    seconds = time.perf_counter() - began
    if reason is not None:
        return Check(name, False, f"not built, or not loaded, though {compiler} is there: {reason}", "", seconds)
    return Check(name, True, f"{cpu.built()}, by {compiler.name}", "", seconds)


def check_videos() -> tuple[bool, str]:
    """A video of three grey pictures, written and read again."""
    import numpy as np

    from lac.data.mp4 import write_pictures
    from lac.data.video import read_frames

    levels = [40, 120, 200]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "selftest.mp4")
        write_pictures(
            path, ((k / 10, np.full((64, 64, 3), level, np.uint8)) for k, level in enumerate(levels)), rate=10
        )
        frames, times = read_frames(path)
    found = [int(level) for level in frames.mean(axis=(1, 2, 3)).round()]
    same = len(found) == 3 and all(abs(a - b) <= 6 for a, b in zip(found, levels, strict=True))
    return same and bool(np.allclose(times, [0, 0.1, 0.2], atol=1e-3)), f"an mp4 of grey {levels}, read as {found}"


def check_pictures() -> tuple[bool, str]:
    """The picture of an alignment, drawn and written."""
    from lac.plots import plot_alignment, save_figure

    scores = torch.randn(N, M, generator=torch.Generator().manual_seed(0))
    posterior, path = lac.soft_alignment(scores), lac.hard_alignment(scores).paths[0]
    with tempfile.TemporaryDirectory() as folder:
        figure = plot_alignment(posterior, path, torch.arange(N), torch.arange(M), scores)
        size = save_figure(figure, Path(folder, "selftest.png")).stat().st_size
    return size > 1000, f"a png of {size / 1000:.0f} kB"
