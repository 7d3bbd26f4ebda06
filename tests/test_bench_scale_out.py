"""The cost model counts what the loss does."""

import math

import torch

from bench.scale_out import Batch
from lac import LACLoss
from lac.joint import shares


def test_alignments_are_counted_as_the_loss_makes_them():
    for n_others in (None, 3):
        batch, processes = Batch(pairs=4, n_others=n_others, n_negatives=2, sides=2, group=2), 3
        loss = LACLoss(negatives="both", n_others=n_others, n_negatives=2)
        chosen = loss._candidates(4, batch.pairs, batch.pairs * processes, torch.device("cpu"), True)
        assert batch.pairs_aligned(processes) == chosen.numel()
        for spread, groups in ((None, [0, 0, 1, 1] * processes), (1, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])):
            parts = shares(groups, 4, batch.pairs, 2)
            twice = sum(2 * math.comb(len(share.members), 2) for share in parts)
            assert Batch(pairs=4, sides=2, group=2, spread=spread).recordings_aligned(processes) == twice
