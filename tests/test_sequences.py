"""The padded batch of sequences."""

import torch

from lac.sequences import Sequences, mean_interval, sequence_pairs

LENGTHS = torch.tensor([3, 1, 0, 4])
Z = torch.arange(4 * 4 * 2, dtype=torch.float32).reshape(4, 4, 2) + 1
TIMES = torch.tensor([[0.0, 1.0, 3.0, 9.0], [5.0, 9.0, 9.0, 9.0], [7.0, 8.0, 9.0, 9.0], [2.0, 3.0, 5.0, 8.0]])


def batch() -> Sequences:
    return sequence_pairs(Z, Z, TIMES, TIMES, LENGTHS, LENGTHS)[0]


def test_padding_is_nothing_and_the_last_time_is_held():
    sequences = batch()
    assert sequences.valid.sum(1).tolist() == LENGTHS.tolist()
    assert not sequences.z[~sequences.valid].any()
    assert sequences.times.tolist() == [[0, 1, 3, 3], [5, 5, 5, 5], [0, 0, 0, 0], [2, 3, 5, 8]]
    assert sequences.divisor().tolist() == [3, 1, 1, 4]
    assert sequences.mean(torch.ones(4, 4)).tolist() == [1, 1, 0, 1]


def test_where_one_of_a_pair_is_empty_both_are():
    first, second = sequence_pairs(Z, Z, None, None, [3, 0, 4, 4], [2, 4, 0, 1])
    assert first.lengths.tolist() == [3, 0, 0, 4]
    assert second.lengths.tolist() == [2, 0, 0, 1]
    assert not second.z[1].any()
    assert not second.valid[1].any()


def test_reversed_twice_is_the_same():
    sequences = batch()
    backwards = sequences.reversed()
    assert torch.equal(backwards.z[3], Z[3].flip(0))
    assert torch.equal(backwards.z[0, :3], Z[0, :3].flip(0))
    assert backwards.times.tolist() == [[0, 2, 3, 3], [5, 5, 5, 5], [0, 0, 0, 0], [2, 5, 7, 8]]
    for x, y in zip(backwards.reversed(), sequences, strict=True):
        assert torch.equal(x, y)


def test_selected_repeated_and_joined():
    sequences = batch()
    assert sequences.selected(torch.tensor([3, 3, 0])).lengths.tolist() == [4, 4, 3]
    assert sequences.repeated(2).lengths.tolist() == [3, 3, 1, 1, 0, 0, 4, 4]
    joined = sequences.joined(sequences.reversed())
    assert torch.equal(joined.z[4:], sequences.reversed().z)
    assert torch.equal(joined.z[:4], sequences.z)


def test_the_unit_of_time_is_the_mean_interval_of_the_pair():
    first = batch()
    second = first._replace(times=2 * first.times)
    assert mean_interval(first, second).tolist() == [(3 + 6) / 4, 1, 1, (6 + 12) / 6]
