"""The picture of one alignment before and after the consensus, from a run.

    python -m bench.picture_of_consensus RUN                    # docs/consensus.png
    python -m bench.picture_of_consensus RUN --out mine.png

Of the first validation clips of an action every pair of different people is aligned, alone and with the help of all
the others, and the pair that gains the *median* in recall is drawn: neither the best nor the worst of them.
"""

import argparse
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lac.data import Clip
from lac.loss import LACLoss
from lac.model.encoder import FrameEncoder
from lac.pairs import AlignedClips, Together, align_clips
from lac.plots import plot_alignments, save_figure
from lac.runs.alignment_quality import choose_clips
from lac.runs.checkpoint import read_loss
from lac.runs.matching import judge, phase_positions
from lac.runs.run import load_run

CLIPS = 12  # that help each other


class Pair(NamedTuple):
    """Two clips aligned, and the recall (see `lac.runs.matching.Matching`) alone and with the help of others."""

    first: Clip
    second: Clip
    labels: tuple[np.ndarray, np.ndarray]
    aligned: AlignedClips
    together: Together
    alone: float
    helped: float


def aligned_pairs(encoder: FrameEncoder, loss: LACLoss, clips: list[Clip]) -> list[Pair]:
    """All pairs of clips of different people, or of different clips where people are not known."""
    known = all(clip.person for clip in clips)
    pairs = []
    for first, second in combinations(clips, 2):
        if (known and first.person == second.person) or first.labels is None or second.labels is None:
            continue
        aligned = align_clips(encoder, loss, first, second, [c for c in clips if c is not first and c is not second])
        if aligned.together is None:
            raise ValueError(f"there are no clips but {first.name} and {second.name}: three at least are needed")
        positions = phase_positions(first.labels), phase_positions(second.labels)
        alone, helped = (
            judge(*positions, posterior.cpu().numpy()).recall
            for posterior in (aligned.posterior, aligned.together.posterior)
        )
        pairs.append(Pair(first, second, (first.labels, second.labels), aligned, aligned.together, alone, helped))
    return pairs


def main(argv: list[str] | None = None) -> None:
    """Draw the picture; prints which pair, and of how many."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="run folder of lac-train")
    parser.add_argument("--out", type=Path, default=Path("docs/consensus.png"))
    arguments = parser.parse_args(argv)

    encoder, _, data = load_run(arguments.run)
    clips = choose_clips(data, CLIPS)[0]
    pairs = sorted(aligned_pairs(encoder, read_loss(arguments.run), clips), key=lambda pair: pair.helped - pair.alone)
    pair = pairs[len(pairs) // 2]
    panels = {
        f"the two alone: recall {pair.alone:.2f}": (pair.aligned.posterior, pair.aligned.path),
        f"with {len(clips) - 2} others: recall {pair.helped:.2f}": (pair.together.posterior, pair.together.path),
    }
    figure = plot_alignments(
        panels,
        pair.first.times,
        pair.second.times,
        labels=pair.labels,
        label_names=data.label_names,
        names=(pair.first.name, pair.second.name),
    )
    save_figure(figure, arguments.out, dpi=100)
    print(f"{arguments.out}: {pair.first.name} and {pair.second.name}, the median of {len(pairs)} pairs")


if __name__ == "__main__":
    main()
