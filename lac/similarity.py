"""What frames are compared by: the directions of embeddings, and how far a frame is from those around it."""

from collections.abc import Callable

import torch
from torch import Tensor

from lac import checks
from lac.checks import Length
from lac.sequences import Sequences, frame_numbers, held_times
from lac_kernels import dispatch
from lac_kernels.problem import valid_frames

_SHORT = 1e-3  # e of the cosine: the norm below which a vector has less and less of a direction
_PIECE = 1 << 20  # numbers of a long recording that are looked at together: what is made on the way takes no more


def unit(z: Tensor) -> Tensor:
    """z / (|z|^4 + e^4)^(1/4), e = 1e-3: z / |z| but near 0, smooth, its derivatives at most 1 / e, 0 where z is 0.

    It is computed on z divided by its largest component, so that no size overflows or underflows.
    """
    return _in_pieces(lambda part: _unit(z[..., part, :]), z) if z.dim() > 1 else _unit(z)


def _in_pieces(of_frames: Callable[[slice], Tensor], z: Tensor) -> Tensor:
    """What `of_frames` makes of the frames of z (..., T, E), of its shape; of many without a gradient in pieces."""
    if dispatch.traced() or dispatch.differentiated(z) or z.numel() <= 4 * _PIECE:
        return of_frames(slice(None))
    result, step = torch.empty_like(z), max(1, _PIECE * z.shape[-2] // z.numel())
    for start in range(0, z.shape[-2], step):
        part = slice(start, start + step)
        result[..., part, :] = of_frames(part)
    return result


def _unit(z: Tensor) -> Tensor:
    largest = z.detach().abs().amax(dim=-1, keepdim=True).clamp(min=_SHORT)
    z = z / largest
    return z / (z.square().sum(dim=-1, keepdim=True).square() + (_SHORT / largest) ** 4).sqrt().sqrt()


def centred(sequences: Sequences) -> Tensor:
    """Unit vectors minus what all frames of their sequence share, and of unit length again: (B, T, E), 0 at padding.

    What is taken off is (1 - 1 / T) times the mean over the T frames: so a sequence of one frame, which has nothing to
    be told apart from, stays as it is. What is the recording's own (a camera, a person, a room) drops out.

    A frame that has less and less of a direction, see `unit`, keeps that little: its length before is its length after.
    """
    count = sequences.divisor()[:, None, None].to(sequences.z.dtype)
    shared = sequences.z.sum(1, keepdim=True) / count * (1 - 1 / count)

    def of_frames(part: slice) -> Tensor:
        z = sequences.z[:, part]
        length = z.square().sum(2, keepdim=True)  # its square: 1 is 1, and near 0 it has a derivative
        return torch.where(sequences.valid[:, part, None], length * _unit(z - shared), 0)

    return _in_pieces(of_frames, sequences.z)


def self_similarity(
    frames: Tensor,
    lengths: Length = None,
    *,
    times: Tensor | None = None,
    reach: float | None = None,
    count: int = 10,
) -> Tensor:
    r"""How far each frame is from those before and after it: what a movement looks like from any camera.

    For offsets o_k = reach k / count, k = -count ... count without 0, and x(t) the frames, linear between two of them
    and held at both ends,

        d[t, k] = |x(t) - x(t + o_k)|,

    divided by the clip's mean distance; then each column is standardised over all frames of the batch, and each row
    brought to unit length. Two clips of one movement have nearly the same d whatever the camera, the place and the
    person: give it to `LACLoss` as a guide, or align by it without training anything. Of embeddings it is worth
    little: they should not differ among neighbours in this way.

    Best made of whole recordings, of which frames are then picked, and of many at a time.

    Args:
        frames: (B, T, ...) floating point: poses, features, small pictures. Trailing dimensions are flattened.
        lengths: (B,) integers, the frames that are no padding; default T. Padding may hold anything.
        times: (B, T) of any real dtype, not decreasing, default the frame numbers. The sampling rate may change.
        reach: the greatest offset, > 0, in the unit of the times. Default 0.8 with `times` (seconds of human movement),
            20 without.
        count: offsets on each side, >= 1. Default 10.

    Returns:
        (B, T, 2 count) float32 (float64 for float64), without a gradient; 0 at padding, and everywhere in a clip whose
        frames are all the same.

    Raises:
        ValueError, TypeError: arguments of the wrong shape, type or range.

    References: I. Junejo, E. Dexter, I. Laptev, P. Perez, "Cross-View Action Recognition from Temporal
    Self-Similarities", 2008.

    Examples:
        >>> poses = torch.randn(4, 50, 17, 2).cumsum(1)
        >>> self_similarity(poses).shape
        torch.Size([4, 50, 20])
    """
    if not isinstance(frames, Tensor) or not frames.is_floating_point():
        raise TypeError(
            f"frames must be a floating-point tensor, got {getattr(frames, 'dtype', type(frames).__name__)}"
        )
    if frames.dim() < 3 or 0 in frames.shape:
        raise ValueError(f"frames must be (batch, frames, ...), none of them empty, got {tuple(frames.shape)}")
    b, t = frames.shape[:2]
    lengths = checks.lengths("lengths", lengths, b, t, frames.device)
    return standardised(frame_distances(frames, lengths, times=times, reach=reach, count=count), lengths)


def frame_distances(
    frames: Tensor, lengths: Tensor, *, times: Tensor | None, reach: float | None = None, count: int = 10
) -> Tensor:
    """d of `self_similarity`, over the clip's mean distance and not yet standardised: (B, T, 2 count)."""
    b, t = frames.shape[:2]
    checks.count("count", count)
    reach = checks.positive("reach", (20.0 if times is None else 0.8) if reach is None else reach)
    whole = frame_numbers(t, lengths) if times is None else held_times("times", times, (b, t), "the frames", lengths)
    valid = valid_frames(lengths, t)
    x = frames.detach().flatten(2)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    since = (whole - whole[:, :1]).to(x.dtype).contiguous()
    offsets = [reach * k / count for k in range(-count, count + 1) if k]
    apart = x.new_empty(b, t, len(offsets))
    step = max(1, _PIECE // (b * x.shape[2]))
    for part in (slice(start, start + step) for start in range(0, t, step)):
        for k, offset in enumerate(offsets):
            apart[:, part, k] = _distance(x, since, part, offset)
    apart = torch.where(valid[:, :, None], apart, 0)
    mean = apart.mean(2).sum(1) / lengths.clamp(min=1)
    return apart / torch.where(mean > 0, mean, 1)[:, None, None]


def _distance(x: Tensor, times: Tensor, part: slice, offset: float) -> Tensor:
    """|x(t) - x(t + offset)| at each frame of a part: (B, T, D), (B, T) -> (B, P). No valid frame looks at padding."""
    wanted = torch.minimum((times[:, part] + offset).clamp(min=0), times[:, -1:]).contiguous()
    after = torch.searchsorted(times, wanted).clamp(max=times.shape[1] - 1)
    before = (after - 1).clamp(min=0)
    start, end = times.gather(1, before), times.gather(1, after)
    share = torch.where(end > start, (wanted - start) / torch.where(end > start, end - start, 1), 1)
    recording = torch.arange(len(x), device=x.device)[:, None]
    around = torch.lerp(x[recording, before], x[recording, after], share[:, :, None])
    distance: Tensor = torch.linalg.vector_norm(x[:, part] - around, dim=2)
    return distance


_STILL = 1e-3  # deviation, in mean distances, below which a column says nothing: rounding is not to be blown up


def standardised(apart: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, K): columns minus their mean over all frames of the batch, over their deviation; rows of unit length."""
    valid = valid_frames(lengths, apart.shape[1])
    inside, count = valid[:, :, None], valid.sum().clamp(min=1)
    off = apart - torch.where(inside, apart, 0).sum((0, 1)) / count
    deviation = (torch.where(inside, off, 0).square().sum((0, 1)) / count).sqrt()
    return torch.where(inside, unit(off / deviation.clamp(min=_STILL)), 0)
