"""Losses of other authors that LACLoss is compared with, each written from its published formula.

A loss takes what LACLoss takes and can be trained in its place:

    from bench.losses import LOSSES

    loss = LOSSES["SCL"]()
    loss.terms(z1, z2, times1=times1, times2=times2, lengths1=lengths1, lengths2=lengths2).total.mean().backward()

Hyper-parameters are the published ones. Windows published in frames are in frames of the clip at 25 frames a second
where times (in seconds) are given, in frames of the view where not. "SaL" needs the size of the embeddings, embed_dim.
"""

from .base import PairLoss, Terms
from .gta import GTA
from .lac_released import LACAsReleased
from .lav import LAV
from .sal import SaL
from .scl import SCL
from .tcc import TCC
from .tcn import TCN

LOSSES: dict[str, type[PairLoss]] = {
    "SCL": SCL,
    "TCC": TCC,
    "LAV": LAV,
    "GTA": GTA,
    "TCN": TCN,
    "SaL": SaL,
    "LAC as released": LACAsReleased,
}

__all__ = ["LOSSES", "PairLoss", "Terms"]
