"""lac: a local-alignment contrastive loss for sequences, on a differentiable Smith-Waterman alignment."""

__version__ = "0.1.0"
