"""What arguments must be: each check once, for every function, loss and module that takes the argument.

A message says which argument, what it must be, what came, and what to do. Values of tensors are read on the CPU only,
and not while `torch.compile` traces: on a GPU every read would wait for all work before it.
"""

import math
import numbers
from collections.abc import Sequence

import torch
from torch import Tensor

from lac_kernels import dispatch, engines
from lac_kernels.problem import valid_frames

Length = Tensor | Sequence[int] | int | None


def readable(*tensors: Tensor) -> bool:
    """Whether the values may be read without waiting for a device."""
    return all(x.device.type == "cpu" and dispatch.readable(x) for x in tensors)


def is_number(x: object) -> bool:
    """A real number of Python or NumPy; truth values are none."""
    return isinstance(x, (int, float, numbers.Real)) and not isinstance(x, bool)


def number(name: str, x: object, kind: str = "a number") -> float:
    """A real number as a float; `kind` says what it must be."""
    if not is_number(x):
        raise TypeError(f"{name} must be {kind}, got {type(x).__name__}")
    return float(x)  # type: ignore[arg-type]


def finite(name: str, x: object) -> float:
    """A finite number."""
    value = number(name, x)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {x}")
    return value


def positive(name: str, x: object, why: str = "") -> float:
    """A finite number > 0; `why` is added to the message."""
    value = number(name, x)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite{why}, got {x}")
    return value


def weight(name: str, x: object) -> float:
    """A finite number >= 0."""
    value = number(name, x)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must not be negative, and finite, got {x}")
    return value


def count(name: str, x: object, least: int = 1) -> int:
    """An integer >= `least`."""
    if not isinstance(x, (int, numbers.Integral)) or isinstance(x, bool):
        raise TypeError(f"{name} must be an integer, got {type(x).__name__}")
    if x < least:
        raise ValueError(f"{name} must be at least {least}, got {x}")
    return int(x)


def flag(name: str, x: object) -> bool:
    """True or False, and nothing that only counts as one."""
    if not isinstance(x, bool):
        raise TypeError(f"{name} must be True or False, got {x!r}")
    return x


def choice(name: str, x: str, choices: Sequence[str]) -> str:
    """One of the choices."""
    if x not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {x!r}")
    return x


def backend(x: str) -> str:
    """The name of a backend, whether it can run here or not."""
    if x not in engines.BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(engines.BACKENDS)}; got {x!r}")
    return x


def cost(name: str, x: object, kind: str = "a number") -> float:
    """A gap penalty; infinity forbids the gap."""
    value = number(name, x, kind)
    if not value >= 0:
        raise ValueError(f"{name} is a cost and must not be negative, got {x}")
    return value


def temperature(x: object, kind: str = "a number") -> float:
    """A finite temperature > 0."""
    value = number("temperature", x, kind)
    if not 0 < value < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {x}; for the limit T -> 0 use hard_alignment")
    return value


def scores(x: Tensor) -> None:
    """Scores (B, N, M) or (N, M), floating point."""
    if not isinstance(x, Tensor):
        raise TypeError(f"scores must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"scores must be floating point, got {x.dtype}; convert with scores.float()")
    if x.dim() not in (2, 3):
        raise ValueError(
            f"scores must be (batch, n, m), or (n, m) for a single pair, got {tuple(x.shape)}; "
            "flatten other leading dimensions into the batch"
        )


def gap_tensor(name: str, gap: float | Tensor, scores: Tensor, single: bool, dtype: torch.dtype) -> Tensor:
    """A penalty as a three-dimensional tensor that broadcasts to scores (B, N, M); `single`: they came as (N, M)."""
    if not isinstance(gap, Tensor):
        return torch.full((1, 1, 1), cost(name, gap, "a float or a tensor"), dtype=dtype, device=scores.device)
    if not gap.is_floating_point():
        raise TypeError(f"{name} must be a float or a floating-point tensor, got a tensor of {gap.dtype}")
    shape = tuple(scores.shape[1:] if single else scores.shape)
    aligned = (1,) * (len(shape) - gap.dim()) + tuple(gap.shape)
    if len(aligned) != len(shape) or any(g not in (1, s) for g, s in zip(aligned, shape, strict=True)):
        raise ValueError(
            f"{name} must broadcast to the scores' shape {shape}, got {tuple(gap.shape)}; "
            "for one penalty per pair pass a tensor of shape (batch, 1, 1)"
        )
    if gap.device != scores.device and gap.dim() > 0:
        raise ValueError(f"{name} is on {gap.device} but scores are on {scores.device}; move one of them")
    return gap.to(device=scores.device, dtype=dtype).reshape((1,) * (3 - len(aligned)) + aligned)


def temperature_tensor(x: float | Tensor, scores: Tensor, dtype: torch.dtype) -> Tensor:
    """A temperature as a 0-d tensor on the device of the scores. Tensors are not checked for their sign."""
    if not isinstance(x, Tensor):
        return torch.full((), temperature(x, "a float or a 0-d tensor"), dtype=dtype, device=scores.device)
    if not x.is_floating_point():
        raise TypeError(f"temperature must be a float or a floating-point tensor, got a tensor of {x.dtype}")
    if x.dim() != 0:
        raise ValueError(f"temperature must be a float or a 0-d tensor, got shape {tuple(x.shape)}")
    return x.to(device=scores.device, dtype=dtype)


def lengths(
    name: str, given: Length, b: int, n: int, device: torch.device, what: str = "the number of frames"
) -> Tensor:
    """The valid lengths (B,), contiguous int32 on `device`; `what` tells what n is. On a GPU they are clamped to it."""
    if given is None:
        return torch.full((b,), n, dtype=torch.int32, device=device)
    integers = _integers(name, given)
    if integers.dim() == 0:
        integers = integers.expand(b)
    if integers.shape != (b,):
        raise ValueError(f"{name} must have shape ({b},), one length per pair, got {tuple(integers.shape)}")
    if readable(integers):
        outside = [k for k in integers.tolist() if not 0 <= k <= n]
        if outside:
            raise ValueError(f"{name} must lie between 0 and {n}, {what}; got {outside[0]}")
    else:
        integers = integers.long().clamp(0, n)
    return integers.to(device=device, dtype=torch.int32).contiguous()


def length_pair(given: tuple[Length, Length], scores: Tensor) -> tuple[Tensor, Tensor]:
    """The valid rows and columns of scores (B, N, M), each (B,) int32."""
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(f"lengths must be a pair (lengths1, lengths2), got {type(given).__name__}")
    b, n, m = scores.shape
    what = "the size of the scores"
    first = lengths("lengths[0]", given[0], b, n, scores.device, what)
    return first, lengths("lengths[1]", given[1], b, m, scores.device, what)


def groups(given: Tensor, b: int, device: torch.device, name: str = "groups") -> Tensor:
    """(B,) int64 on `device`: which recordings show the same action."""
    integers = _integers(name, given)
    if integers.shape != (b,):
        raise ValueError(f"{name} must have shape ({b},), one number per recording, got {tuple(integers.shape)}")
    return integers.to(device=device, dtype=torch.int64)


def guide(name: str, given: Tensor | None, like: str, shape: tuple[int, ...], lengths: Tensor) -> None:
    """(B, N, K) floating point, a row for each frame of `like`; finite within the lengths where that can be read."""
    if given is None:
        return
    if not isinstance(given, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(given).__name__}")
    if not given.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {given.dtype}; convert with {name}.float()")
    if given.dim() != 3 or tuple(given.shape[:2]) != shape or not given.shape[2]:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} must be ({wanted}, K), a row for each frame of {like}, got {tuple(given.shape)}")
    same_device(name, given, like, lengths.device)
    if readable(given, lengths):
        bad = (~given.detach().isfinite()).any(2) & valid_frames(lengths, shape[1])
        if bad.any():
            at = tuple(bad.nonzero()[0].tolist())
            raise ValueError(
                f"{name} must be finite, got {given[at].tolist()[:3]} ... at frame {at[1]} of sequence {at[0]}"
            )


def _integers(name: str, given: Tensor | Sequence[int] | int) -> Tensor:
    try:
        integers = given if isinstance(given, Tensor) else torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must hold integers, got {given!r}") from error
    if integers.is_floating_point() or integers.dtype == torch.bool or integers.is_complex():
        raise TypeError(f"{name} must hold integers, got {integers.dtype}")
    return integers


def embeddings(name: str, z: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """A batch of embedded sequences (B, T, E), or exactly `shape` and one dimension E more."""
    if not isinstance(z, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(z).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {z.dtype}")
    if shape is None:
        if z.dim() != 3 or 0 in z.shape:
            raise ValueError(f"{name} must be (batch, frames, embedding) with at least one frame, got {tuple(z.shape)}")
    elif z.dim() != len(shape) + 1 or z.shape[:-1] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} must be ({wanted}, E), a row for each frame of the scores, got {tuple(z.shape)}")


def same_device(name: str, x: Tensor, like: str, device: torch.device) -> None:
    """A tensor must be on the device of what it belongs to, `like`."""
    if x.device != device:
        raise ValueError(f"{name} is on {x.device} but {like} is on {device}; move one of them")


def embedding_pair(z1: Tensor, z2: Tensor, lengths1: Length, lengths2: Length) -> tuple[Tensor, Tensor]:
    """Embeddings (B, T1, E) and (B, T2, E) of one batch; their lengths (B,) int64."""
    embeddings("z1", z1)
    embeddings("z2", z2)
    same_device("z2", z2, "z1", z1.device)
    if z1.shape[0] != z2.shape[0] or z1.shape[2] != z2.shape[2]:
        raise ValueError(
            f"z1 and z2 must agree in batch and embedding size, got {tuple(z1.shape)} and {tuple(z2.shape)}"
        )
    first = lengths("lengths1", lengths1, z1.shape[0], z1.shape[1], z1.device)
    return first.long(), lengths("lengths2", lengths2, z2.shape[0], z2.shape[1], z1.device).long()


def times(name: str, given: Tensor, shape: tuple[int, ...], like: str, device: torch.device) -> Tensor:
    """Times of frames on `device` with all their digits: float32, float64, or int64 for any integers."""
    if not isinstance(given, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor, got {type(given).__name__}; torch.as_tensor(..., dtype=torch.float64) "
            "keeps the digits of seconds"
        )
    if given.dtype == torch.bool or given.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {given.dtype}")
    if given.shape != shape:
        raise ValueError(f"{name} must be {shape} like {like}, one time per frame, got {tuple(given.shape)}")
    wide = torch.promote_types(given.dtype, torch.float32) if given.is_floating_point() else torch.int64
    return given.to(device, wide)


def in_order(name: str, times: Tensor, lengths: Tensor) -> None:
    """Times (B, T) must be finite and must not decrease up to each length; what stands behind it is not looked at."""
    if not readable(times, lengths):
        return
    times = times.detach()
    valid = valid_frames(lengths, times.shape[1])
    good = times.isfinite()
    good[:, 1:] &= times[:, 1:] >= times[:, :-1]
    if (good | ~valid).all():
        return
    bad = valid & ~times.isfinite()
    if bad.any():
        k, i = bad.nonzero()[0].tolist()
        raise ValueError(f"{name} must be finite, got {times[k, i].item()} at frame {i} of sequence {k}")
    k, i = (valid[:, 1:] & ~good[:, 1:]).nonzero()[0].tolist()
    raise ValueError(
        f"{name} must not decrease within a sequence, got {times[k, i].item()} and then {times[k, i + 1].item()} "
        f"at frames {i} and {i + 1} of sequence {k}; sort the frames by time"
    )


def both_or_none(first: str, x: object, second: str, y: object) -> None:
    """Of two arguments both must have come, or neither."""
    if (x is None) != (y is None):
        present, missing = (first, second) if y is None else (second, first)
        raise ValueError(f"{present} came without {missing}: give both (in one unit), or neither")
