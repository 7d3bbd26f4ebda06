"""The ways to align two clips that are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lac.loss import LACLoss
from lac.runs.warping import dtw_cells, soft_dtw_cells, subsequence_dtw_cells
from lac_kernels.problem import valid_frames

GAMMA = 0.1  # of soft-DTW, as Haresh et al. (LAV) have it; costs are 2 on average between frames that share nothing
_NONE = 1e-30  # in place of a sum of 0: what is divided by it is 0, too (padding, frames that never change)


class ActionClips(NamedTuple):
    """C clips of one action, padded to T frames.

    Attributes:
        raw: (C, T, D) float32 frames as features, 0 at padding.
        z: (C, T, E) float32 embeddings, 0 at padding.
        times: (C, T) float64 seconds since the first frame.
        lengths: (C,) int64.
        guide: (C, T, K) float32 self-similarity of the frames, 0 at padding; or `None`.
    """

    raw: Tensor
    z: Tensor
    times: Tensor
    lengths: Tensor
    guide: Tensor | None = None


class Alignments(NamedTuple):
    """K pairs (i, j) aligned; `None` where an aligner has no such thing.

    Attributes:
        rows: (K, T, T) posterior of the frames of i: its rows sum to at most 1.
        columns: (K, T, T) posterior of the frames of j: its columns do.
        paths: K LongTensors (., 2) of matched frames of i and j.
        paths_back: the same for (j, i), where that is more than `paths` turned about.
    """

    rows: Tensor | None = None
    columns: Tensor | None = None
    paths: list[Tensor] | None = None
    paths_back: list[Tensor] | None = None


Aligner = Callable[[ActionClips, Tensor, Tensor], Alignments]


def aligners(loss: LACLoss) -> dict[str, Aligner]:
    """The aligners compared, by the name of their row.

    Args:
        loss: that of a run; it brings the temperature of "row softmax" and all of "LACLoss".
    """
    table: dict[str, Aligner] = {"linear stretching": _stretched}
    for name, cost in (("raw", _raw_cost), ("learned", _learned_cost)):
        table[f"DTW, {name}"] = _warped(cost, dtw_cells)
        table[f"subsequence DTW, {name}"] = _subsequence(cost)
        table[f"soft-DTW, {name}"] = _softly_warped(cost)
    table["row softmax"] = _softmax(loss.frame_temperature)
    table["LACLoss"] = _local(loss)
    return table


# The aligners


def _stretched(clips: ActionClips, i: Tensor, j: Tensor) -> Alignments:
    """Frame by frame at equal shares of both clips."""

    def path(n: int, m: int) -> Tensor:
        frames = torch.arange(n)
        return torch.stack((frames, ((frames + 0.5) * m / n).long()), dim=1)

    n, m = clips.lengths[i].tolist(), clips.lengths[j].tolist()
    return Alignments(
        paths=[path(*pair) for pair in zip(n, m, strict=True)],
        paths_back=[path(*pair) for pair in zip(m, n, strict=True)],
    )


Cost = Callable[[ActionClips, Tensor, Tensor], Tensor]
Cells = Callable[[Tensor, Tensor, Tensor], Tensor]


def _raw_cost(clips: ActionClips, i: Tensor, j: Tensor) -> Tensor:
    """|x_i - x_j|^2 over the variance of all frames: 2 on average, as between directions that share nothing."""
    frames = clips.raw[valid_frames(clips.lengths, clips.raw.shape[1])]
    variance = frames.var(dim=0, correction=0).sum()
    return torch.cdist(clips.raw[i], clips.raw[j]).square() / variance.clamp(min=_NONE)


def _learned_cost(clips: ActionClips, i: Tensor, j: Tensor) -> Tensor:
    """|u_i - u_j|^2 = 2 - 2 cos of the embeddings."""
    return 2 - 2 * _cosine(clips, i, j)


def _cosine(clips: ActionClips, i: Tensor, j: Tensor) -> Tensor:
    unit = normalize(clips.z, dim=2)
    return unit[i] @ unit[j].mT


def _warped(cost: Cost, cells: Cells) -> Aligner:
    def align(clips: ActionClips, i: Tensor, j: Tensor) -> Alignments:
        return Alignments(paths=_paths(cells(cost(clips, i, j), clips.lengths[i], clips.lengths[j])))

    return align


def _subsequence(cost: Cost) -> Aligner:
    there = _warped(cost, subsequence_dtw_cells)

    def align(clips: ActionClips, i: Tensor, j: Tensor) -> Alignments:
        return Alignments(paths=there(clips, i, j).paths, paths_back=there(clips, j, i).paths)

    return align


def _softly_warped(cost: Cost) -> Aligner:
    """No frame is left out, and some are matched several times: a posterior of rows is each row over its sum."""

    def align(clips: ActionClips, i: Tensor, j: Tensor) -> Alignments:
        cells = soft_dtw_cells(cost(clips, i, j), clips.lengths[i], clips.lengths[j], GAMMA)
        rows, columns = (cells / cells.sum(dim, keepdim=True).clamp(min=_NONE) for dim in (2, 1))
        return Alignments(rows, columns)

    return align


def _paths(cells: Tensor) -> list[Tensor]:
    """The cells that are not 0, in order."""
    return [pair.nonzero() for pair in cells]


def _softmax(temperature: float) -> Aligner:
    def align(clips: ActionClips, i: Tensor, j: Tensor) -> Alignments:
        first, second = (valid_frames(clips.lengths[k], clips.z.shape[1]) for k in (i, j))
        return Alignments(*softmax_both_ways(_cosine(clips, i, j) / temperature, first, second))

    return align


def softmax_both_ways(logits: Tensor, valid1: Tensor, valid2: Tensor) -> tuple[Tensor, Tensor]:
    """softmax of (K, N, M) over the valid frames of sequence 2, and over those of sequence 1; 0 at padding."""
    inside = valid1[:, :, None] & valid2[:, None, :]
    logits = logits.masked_fill(~inside, -torch.inf)
    rows, columns = (logits.softmax(dim).masked_fill(~inside, 0) for dim in (2, 1))  # NaN where all is padding
    return rows, columns


def _local(loss: LACLoss) -> Aligner:
    def align(clips: ActionClips, i: Tensor, j: Tensor) -> Alignments:
        with torch.no_grad():
            aligned = loss.align(
                clips.z[i],
                clips.z[j],
                times1=clips.times[i],
                times2=clips.times[j],
                lengths1=clips.lengths[i],
                lengths2=clips.lengths[j],
            )
        return Alignments(aligned.posterior, aligned.posterior, aligned.path)

    return align
