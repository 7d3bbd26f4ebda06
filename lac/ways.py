"""What clips are aligned by: what a run has learned, or their frames as they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lac.call import centred_pairs, unit_pairs
from lac.consensus import AlignedTogether, Consensus
from lac.data.base import Clip
from lac.embed import embed_clips, embed_long
from lac.errors import DataError
from lac.functional import hard_alignment, smith_waterman, soft_alignment
from lac.guides import small_frames, with_guides
from lac.loss import Aligned, LACLoss
from lac.model.encoder import FrameEncoder
from lac.paths import expected_paths
from lac.search import Compared

MOST_BYTES = 4e9  # that the consensus of several clips may take
LEAST_WINDOW = 64  # frames of a recording that are embedded together at least, however short the query
_TENSORS = 7  # of (clips x longest)^2 float32 numbers, or N x M of two alone; 6.2 is the most that was measured


class Way(Protocol):
    """A way to align clips.

    Attributes:
        consensus: how several are aligned.
        reach: of their self-similarity, in seconds, see `lac.self_similarity`; 0: none.
    """

    @property
    def consensus(self) -> Consensus: ...

    @property
    def reach(self) -> float: ...

    def vectors(self, clips: Sequence[Clip]) -> list[Tensor]:
        """What the frames of each clip are compared by: (T, E) float32."""
        ...

    def pair(self, first: Clip, second: Clip, vectors: Sequence[Tensor]) -> Aligned:
        """Two clips alone, of such vectors: as a batch of one pair."""
        ...

    def compared(self, query: Clip, recording: Clip, vectors: Sequence[Tensor] | None = None) -> Compared:
        """A query beside a recording of any length, to find it there: see `lac.search.find`; by these vectors of both,
        or by those that suit a long recording."""
        ...


@dataclass(frozen=True, eq=False)
class Trained:
    """By what a run has learned: embeddings, their similarity, gaps.

    Args:
        encoder: of a run, say; put into evaluation mode to embed.
        loss: likewise.
        reach: see `Way`.
    """

    encoder: FrameEncoder
    loss: LACLoss
    reach: float = 0.8

    @property
    def consensus(self) -> Consensus:
        """That of the loss."""
        return self.loss.consensus

    def vectors(self, clips: Sequence[Clip]) -> list[Tensor]:
        """Embeddings."""
        device = next(self.encoder.parameters()).device
        return [torch.from_numpy(z).to(device) for z in embed_clips(self.encoder, clips, device)]

    def pair(self, first: Clip, second: Clip, vectors: Sequence[Tensor]) -> Aligned:
        """`lac.LACLoss.align`."""
        (z1, z2), (times1, times2) = vectors, seconds((first, second), vectors[0])
        with torch.no_grad():
            return self.loss.align(z1[None], z2[None], times1=times1[None], times2=times2[None])

    def compared(self, query: Clip, recording: Clip, vectors: Sequence[Tensor] | None = None) -> Compared:
        """By the loss's similarity and gaps; without vectors the recording is embedded in windows of twice the query's
        length, so that its frames see about as much around them as those of the query."""
        if vectors is None:
            device = next(self.encoder.parameters()).device
            window = max(2 * len(query), LEAST_WINDOW)
            long = torch.from_numpy(embed_long(self.encoder, recording, device, window=window)).to(device)
            vectors = [*self.vectors([query]), long]
        z1, z2 = (z[None] for z in vectors)
        times1, times2 = seconds((query, recording), z1)
        first, second = centred_pairs(*unit_pairs(z1, z2, times1[None], times2[None], None, None))

        def problem(frames: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            others, times = second.z[0][frames], second.times[0][places]
            with torch.no_grad():
                gaps = self.loss.aligner.gaps(first.z.expand(len(frames), -1, -1), others, first.times, times)
                return self.loss.signed(first.z, others), *gaps

        return Compared(query.times, recording.times, problem, (first.z[0], second.z[0]), self.loss.aligner.backend)


@dataclass(frozen=True, eq=False)
class Raw:
    """By the frames as they are and their self-similarity: nothing is trained.

    Two clips alone have no third to confirm anything: they are aligned by the first two steps of `lac.Consensus`, which
    are in units of how much frames differ, and the path is `lac.paths.expected_paths` of that posterior.

    Args:
        consensus: see `Way`.
        reach: see `Way`.
        device: where it is computed.
    """

    consensus: Consensus = field(default_factory=Consensus)
    reach: float = 0.8
    device: torch.device | str = "cpu"

    def vectors(self, clips: Sequence[Clip]) -> list[Tensor]:
        """Frames, flattened; images as `lac.guides` makes them small."""
        return [small_frames(clip).flatten(1).to(self.device) for clip in clips]

    def pair(self, first: Clip, second: Clip, vectors: Sequence[Tensor]) -> Aligned:
        """Steps 1 and 2 of the consensus."""
        settings = self.consensus
        rows, columns = self._frames((first, second), vectors)
        scores = (rows @ columns.mT)[None] - settings.margin
        gap_open, gap_extend, temperature = settings.gap_open, settings.gap_extend, settings.temperature
        posterior = soft_alignment(scores, gap_open=gap_open, gap_extend=gap_extend, temperature=temperature)
        score = smith_waterman(scores, gap_open=gap_open, gap_extend=gap_extend, temperature=temperature)
        best = hard_alignment(scores, gap_open=gap_open, gap_extend=gap_extend).score
        return Aligned(scores, posterior, expected_paths(posterior), score, best)

    def compared(self, query: Clip, recording: Clip, vectors: Sequence[Tensor] | None = None) -> Compared:
        """By steps 1 and 2 of the consensus."""
        settings, clips = self.consensus, (query, recording)
        first, second = self._frames(clips, self.vectors(clips) if vectors is None else vectors)
        gaps = first.new_tensor(settings.gap_open), first.new_tensor(settings.gap_extend)

        def problem(frames: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return first @ second[frames].mT - settings.margin, *gaps

        return Compared(query.times, recording.times, problem, (first, second))

    def _frames(self, clips: tuple[Clip, Clip], vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The frames of two clips as step 1 compares them: (N, F) and (M, F)."""
        guides = _guides(self, clips, vectors)
        given = []
        for z, guide in zip(vectors, guides or (None, None), strict=True):
            group = torch.zeros(1, dtype=torch.int64, device=z.device)
            given.append(self.consensus.given(z[None], group, guide=None if guide is None else guide[None]))
        first, second = self.consensus.compared_apart(given)
        return first[0], second[0]


def align_together(way: Way, clips: Sequence[Clip], vectors: Sequence[Tensor]) -> AlignedTogether:
    """All of the clips aligned with each other by the consensus of the way, every third of them heard, not spread.

    Args:
        way: what they are aligned by.
        clips: of one action, see `check_memory`.
        vectors: `way.vectors(clips)`.
    """
    settings = dataclasses.replace(way.consensus, spread=0.0, n_thirds=len(clips))
    batch = _batch(way, clips, vectors)
    return settings(batch.z, batch.groups, batch.lengths, times=batch.times, guide=batch.guide)


def check_memory(clips: Sequence[Clip]) -> None:
    """Whether there may be so many clips of such lengths in `align_together`.

    Raises:
        ValueError: it would take more than `MOST_BYTES`.
    """
    longest = max(map(len, clips))
    needed = _TENSORS * 4 * (len(clips) * longest) ** 2
    if needed > MOST_BYTES:
        most = int((MOST_BYTES / _TENSORS / 4) ** 0.5 / longest)
        raise DataError(
            f"{len(clips)} clips of up to {longest} frames take about {needed / 1e9:.0f} GB when they are aligned "
            f"together, more than {MOST_BYTES / 1e9:.0f} GB: give fewer clips (of this length at most {most}), or "
            "fewer frames a second (of videos --set data.options.fps=5)"
        )


def check_memory_of_two(first: Clip, second: Clip) -> None:
    """Whether two clips may be so long in `Way.pair`, and in what is drawn of it.

    Raises:
        ValueError: it would take more than `MOST_BYTES`.
    """
    needed = _TENSORS * 4 * len(first) * len(second)
    if needed > MOST_BYTES:
        raise DataError(
            f"{first.name} and {second.name}, of {len(first)} and {len(second)} frames, take about "
            f"{needed / 1e9:.0f} GB when they are aligned, more than {MOST_BYTES / 1e9:.0f} GB: give shorter ones or "
            "fewer frames a second (of videos --set data.options.fps=5), or look for a part of one in the other "
            "(lac-find, of any length)"
        )


class _Batch(NamedTuple):
    """The arguments of `lac.Consensus`, all clips in one group."""

    z: Tensor
    groups: Tensor
    lengths: Tensor
    times: Tensor
    guide: Tensor | None


def _batch(way: Way, clips: Sequence[Clip], vectors: Sequence[Tensor]) -> _Batch:
    device = vectors[0].device
    guides = _guides(way, clips, vectors)
    return _Batch(
        pad_sequence(list(vectors), batch_first=True),
        torch.zeros(len(clips), dtype=torch.int64, device=device),
        torch.tensor([len(clip) for clip in clips], device=device),
        pad_sequence(seconds(clips, vectors[0]), batch_first=True),
        pad_sequence(guides, batch_first=True) if guides else None,
    )


def _guides(way: Way, clips: Sequence[Clip], vectors: Sequence[Tensor]) -> list[Tensor]:
    """The guide of each clip, or none of any."""
    guided = with_guides(clips, way.reach)
    guides = [torch.from_numpy(clip.guide).to(vectors[0]) for clip in guided if clip.guide is not None]
    return guides if len(guides) == len(clips) else []


def seconds(clips: Sequence[Clip], like: Tensor) -> list[Tensor]:
    """Of each clip the seconds of its frames since the first, of the type and on the device of `like`."""
    return [torch.from_numpy(clip.times - clip.times[0]).to(like) for clip in clips]
