"""lac: a local-alignment contrastive loss for sequences, on a differentiable Smith-Waterman alignment."""

from lac.alignment import SmithWaterman
from lac.consensus import AlignedTogether, Consensus, consistent_alignments
from lac.functional import HardAlignment, hard_alignment, smith_waterman, soft_alignment
from lac.local import LocalAlignments, local_alignments
from lac.loss import Aligned, LACLoss, LACTerms
from lac.model.encoder import FrameEncoder
from lac.similarity import self_similarity

__version__ = "0.1.0"

__all__ = [
    "Aligned",
    "AlignedTogether",
    "Consensus",
    "FrameEncoder",
    "HardAlignment",
    "LACLoss",
    "LACTerms",
    "LocalAlignments",
    "SmithWaterman",
    "consistent_alignments",
    "hard_alignment",
    "local_alignments",
    "self_similarity",
    "smith_waterman",
    "soft_alignment",
]
