"""The picture of one alignment before and after the consensus: which pair it shows."""

import numpy as np
import pytest
from tiny_run import write_clips, write_run

from bench import picture_of_consensus as picture
from lac.runs.matching import judge, phase_positions


def test_the_pair_of_median_gain_is_drawn(tmp_path, capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(picture, "save_figure", lambda figure, path, **_: drawn.append(figure))
    clips = write_clips(tmp_path / "clips")
    (clips / "split.json").write_text(
        '{"train": ["clip0", "clip1", "clip2"], "val": ["clip3", "clip4", "clip5", "clip6"]}'
    )
    run = write_run(tmp_path / "run", clips, 3)
    picture.main([str(run)])
    encoder, _, data = picture.load_run(run)
    pairs = picture.aligned_pairs(encoder, picture.read_loss(run), data.val)
    assert len(pairs) == 6
    for pair in pairs:
        positions = phase_positions(pair.first.labels), phase_positions(pair.second.labels)
        assert pair.helped == judge(*positions, pair.together.posterior.numpy()).recall
        assert pair.alone == judge(*positions, pair.aligned.posterior.numpy()).recall
    gains = np.sort([pair.helped - pair.alone for pair in pairs])
    (median,) = [pair for pair in pairs if pair.helped - pair.alone == gains[3]]
    assert f"{median.first.name} and {median.second.name}, the median of 6 pairs" in capsys.readouterr().out
    assert f"recall {median.helped:.2f}" in drawn[0].axes[1].get_title()


def test_two_clips_have_nobody_to_help_them(tmp_path):
    run = write_run(tmp_path / "run", write_clips(tmp_path / "clips"), 3)
    encoder, _, data = picture.load_run(run)
    with pytest.raises(ValueError, match="three at least are needed"):
        picture.aligned_pairs(encoder, picture.read_loss(run), data.val[:2])
