"""lac: a local-alignment contrastive loss for sequences, on a differentiable Smith-Waterman alignment."""

from lac.alignment import SmithWaterman
from lac.functional import HardAlignment, hard_alignment, smith_waterman, soft_alignment
from lac.loss import Aligned, LACLoss, LACTerms
from lac.model.encoder import FrameEncoder

__version__ = "0.1.0"

__all__ = [
    "Aligned",
    "FrameEncoder",
    "HardAlignment",
    "LACLoss",
    "LACTerms",
    "SmithWaterman",
    "hard_alignment",
    "smith_waterman",
    "soft_alignment",
]
