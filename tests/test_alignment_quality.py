"""The table of alignment quality: its clips, its pairs, its figures, and `lac-eval --alignment`."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from tiny_run import write_clips, write_run

from lac import LACLoss
from lac.cli.evaluate import main
from lac.cli.table import alignment_table
from lac.data import Clip, Dataset
from lac.runs import alignment_quality as quality
from lac.runs.alignment_quality import AlignmentQuality, alignment_quality, choose_clips
from lac.runs.matching import Matching, judge, mean, phase_positions

PHASES = np.repeat([-1, 0, 1, 2, -1], [3, 4, 5, 4, 2])


def clip(name, *, person="", action="", labels=PHASES):
    """Frames that are the phase position, on a turn of a circle, and far away outside of the action."""
    position = phase_positions(PHASES)
    turn = np.where(np.isnan(position), 0, position * 1.5)
    outside = np.where(np.isnan(position), 3.0, 0.0)
    frames = np.stack([np.cos(turn), np.sin(turn), outside], axis=1)
    return Clip(name, frames, np.arange(len(frames)) / 10, labels, action, person)


def dataset(val, name="d"):
    return Dataset(name, [clip("t")], val, ["a", "b", "c"])


def frames_as_embeddings(clips):
    return [clip.frames for clip in clips]


def names(chosen):
    return [[clip.name for clip in clips] for clips in chosen]


# The clips


def test_clips_are_spread_over_people():
    val = [clip(f"{person}{k}", person=person) for person in ("anna", "ben", "cleo") for k in range(3)]
    assert names(choose_clips(dataset(val), 4)) == [["anna0", "ben0", "cleo0", "anna1"]]
    assert names(choose_clips(dataset(val[:4] + val[6:]), 6)) == [["anna0", "ben0", "cleo0", "anna1", "cleo1", "anna2"]]
    assert len(choose_clips(dataset(val), 24)[0]) == 9


def test_clips_of_nobody_come_in_their_order():
    assert names(choose_clips(dataset([clip(f"v{k}") for k in range(5)]), 3)) == [["v0", "v1", "v2"]]


def test_actions_share_the_clips():
    val = [clip(f"{action}{k}", action=action) for k in range(4) for action in ("lift", "row")]
    val.append(clip("alone", action="throw"))
    assert names(choose_clips(dataset(val), 6)) == [["lift0", "lift1", "lift2"], ["row0", "row1", "row2"]]
    assert names(choose_clips(dataset(val), 2)) == [["lift0", "lift1"], ["row0", "row1"]]


def test_long_clips_are_fewer(monkeypatch):
    val = [clip(f"v{k}") for k in range(5)]
    for frames, count in ((3 * len(PHASES), 3), (3 * len(PHASES) - 1, 2), (1, 2)):
        monkeypatch.setattr(quality, "FRAMES", frames)
        assert len(choose_clips(dataset(val), 4)[0]) == count


def test_clips_without_phases_are_passed_over():
    val = [clip("none", labels=None), clip("v0"), clip("outside", labels=PHASES * 0 - 1), clip("v1")]
    assert names(choose_clips(dataset(val), 24)) == [["v0", "v1"]]


@pytest.mark.parametrize("count", [1, 0, 2.0])
def test_a_count_that_is_none(count):
    with pytest.raises(ValueError, match=f"count must be a whole number of clips, at least 2, got {count}"):
        choose_clips(dataset([clip("v0"), clip("v1")]), count)


@pytest.mark.parametrize(
    ("val", "why"),
    [
        ([clip("v0", labels=None), clip("v1", labels=None)], "of its 2 validation clips 0 have labelled frames, in 0"),
        ([clip("v0"), clip("v1", labels=None)], "of its 2 validation clips 1 have labelled frames, in 1 actions"),
        ([clip("v0", action="lift"), clip("v1", action="row")], "2 have labelled frames, in 2 actions"),
    ],
)
def test_why_nothing_can_be_compared(val, why):
    with pytest.raises(ValueError, match=f"data set 'd': alignment quality is judged by phase labels, .*{why}"):
        alignment_quality(dataset(val), frames_as_embeddings, LACLoss())


def test_no_two_people_of_one_action():
    val = [clip(f"{action}{k}", action=action, person=action) for k in range(2) for action in ("lift", "row")]
    with pytest.raises(ValueError, match="by different people, and the 4 validation clips chosen have none"):
        alignment_quality(dataset(val), frames_as_embeddings, LACLoss())


def test_a_bad_embedding_names_its_clip():
    val = [clip("v0"), clip("v1")]
    for damaged, why in ((np.full((18, 2), np.nan), "is not finite"), (np.zeros((17, 2)), "of 18 frames")):
        with pytest.raises(ValueError, match=f"clip 'v1': .*{why}"):
            alignment_quality(dataset(val), lambda clips, z=damaged: [np.zeros((18, 2)), z], LACLoss())


# The pairs and their figures


@pytest.mark.parametrize(
    ("persons", "people", "pairs"),
    [
        (("", "", "", ""), 0, 12),
        (("anna",) * 4, 0, 12),
        (("anna", "ben", "anna", "ben"), 2, 8),
        (("a", "b", "", "b"), 0, 12),
    ],
)
def test_pairs_are_of_different_people_where_they_are_known(persons, people, pairs):
    val = [clip(f"v{k}", person=person) for k, person in enumerate(persons)]
    table = alignment_quality(dataset(val), frames_as_embeddings, LACLoss())
    assert (table.people, table.pairs, sorted(table.clips)) == (people, pairs, ["v0", "v1", "v2", "v3"])


def test_equal_clips_are_matched_and_later_ones_by_what_they_show():
    val = [clip(f"v{k}") for k in range(3)]
    rows = alignment_quality(dataset(val), frames_as_embeddings, LACLoss()).rows
    for name in ("linear stretching", "DTW, raw", "subsequence DTW, learned", "LACLoss"):
        assert rows[name][3:5] == (0, 1), name
    for name in ("row softmax", "row softmax + consensus", "LACLoss", "LACLoss + consensus"):
        assert rows[name].hit > 0.9, name
    assert rows["linear stretching + consensus"].hit == rows["linear stretching"].hit == 1
    # The action two frames later: it is found where it is, and the clock is wrong.
    frames, labels = (np.roll(array, 2, axis=0) for array in (val[0].frames, PHASES))
    later = dataclasses.replace(val[0], name="later", frames=frames, labels=labels)
    rows = alignment_quality(dataset([val[0], later]), frames_as_embeddings, LACLoss()).rows
    for name in ("row softmax", "LACLoss", "LACLoss + consensus"):
        assert rows[name].hit > 0.9, name
    assert rows["LACLoss"].error == 0
    assert rows["linear stretching"].error > 0.35


def test_figures_are_the_mean_over_the_pairs():
    val = [clip(f"v{k}", labels=np.roll(PHASES, k)) for k in range(3)]
    row = alignment_quality(dataset(val), frames_as_embeddings, LACLoss()).rows["linear stretching"]
    same_frame = np.stack([np.arange(len(PHASES))] * 2, axis=1)
    positions = [phase_positions(clip.labels) for clip in val]
    by_frames = np.eye(len(PHASES))
    expected = mean([judge(a, b, by_frames, same_frame) for a in positions for b in positions if a is not b])
    assert row == pytest.approx(expected)
    assert row.error > 0


def test_consistency_is_asked_of_each_action():
    calls = []

    def consistency(posteriors, groups, lengths):
        calls.append((tuple(posteriors.shape), groups.tolist(), lengths.tolist()))
        assert (posteriors == posteriors.permute(1, 0, 3, 2)).all()
        return 0 * posteriors

    val = [clip(f"{action}{k}", action=action) for action in ("lift", "row") for k in range(3)]
    rows = alignment_quality(dataset(val), frames_as_embeddings, LACLoss(), consistency=consistency).rows
    t = len(PHASES)
    assert calls == [((3, 3, t, t), [0, 0, 0], [t, t, t])] * 18  # nine aligners, two actions
    assert rows["LACLoss + consensus"][:3] == pytest.approx((0, math.nan, 0), nan_ok=True)
    assert rows["LACLoss"].recall > 0


def test_consensus_aligns_by_what_is_known_of_the_frames():
    val = [clip(f"v{k}") for k in range(3)]
    rows = alignment_quality(dataset(val), frames_as_embeddings, LACLoss()).rows
    for name in ("Consensus, self-similarity", "Consensus, embeddings", "Consensus, both"):
        assert rows[name].hit > 0.9, name
        assert rows[name].error == 0, name
    # Embeddings that know nothing leave the self-similarity as it is.
    blind = alignment_quality(dataset(val), lambda clips: [np.zeros((len(c), 2)) for c in clips], LACLoss()).rows
    assert blind["Consensus, self-similarity"] == pytest.approx(rows["Consensus, self-similarity"])
    assert blind["Consensus, embeddings"].covered == 0


def test_without_self_similarity_its_rows_are_left_out():
    rows = alignment_quality(dataset([clip("v0"), clip("v1")]), frames_as_embeddings, LACLoss(), reach=0).rows
    assert [name for name in rows if name.startswith("Consensus")] == ["Consensus, embeddings"]


# What is shown and written


def test_table_fits_a_terminal():
    row = Matching(1.0, 0.0, 0.25, float("nan"), 0.125, 0.5)
    longest = "subsequence DTW, learned"
    rows = {longest: Matching(), f"{longest} + consensus": row, "Consensus, self-similarity": row}
    table = AlignmentQuality(rows, ["a"] * 24, 4, 432)
    with open(os.devnull, "w") as nowhere:
        console = Console(width=80, record=True, file=nowhere)
        console.print(alignment_table(table))
        console.print(alignment_table(table._replace(people=0)))
    text = console.export_text()
    assert "…" not in text
    for part in (longest, "  + consensus", "distracted", "0.125", " - ", "24 validation clips of 4 people"):
        assert part in text
    assert "432 ordered pairs of different people" in text
    assert "432 ordered pairs of different clips" in text


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    clips = write_clips(tmp_path_factory.mktemp("clips"))
    (clips / "split.json").write_text(
        json.dumps({"train": [f"clip{k}" for k in range(5)], "val": ["clip5", "clip6", "clip7"]})
    )
    return write_run(tmp_path_factory.mktemp("run"), clips, 3)


def test_command(run_folder, tmp_path, capsys):
    assert main([str(run_folder), "--alignment", "--out", str(tmp_path), "--device", "cpu"]) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    written = report["alignment"]
    assert (written["clips"], written["people"], written["pairs"]) == (["clip5", "clip6", "clip7"], 0, 6)
    rows = written["rows"]
    assert rows["linear stretching"]["distracted"] is None  # all frames have a phase
    assert set(rows["LACLoss + consensus"]) == {"recall", "precision", "hit", "error", "covered", "distracted"}
    shown = capsys.readouterr().out
    for words in ("matching of 3 validation clips", "  + consensus", "subsequence DTW, raw", "6 ordered pairs"):
        assert words in shown
    assert f"{rows['row softmax']['hit']:.3f}" in shown
    assert report["verdict"][-1].startswith(
        f"Matching, LACLoss beside the best without learning: hit {rows['LACLoss']['hit']:.2f}"
    )
    assert report["verdict"][-1] in " ".join(shown.split())


def test_without_the_option_nothing_is_matched(run_folder, tmp_path, capsys):
    assert main([str(run_folder), "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert "alignment" not in json.loads((tmp_path / "evaluation.json").read_text())
    assert "matching" not in capsys.readouterr().out


def test_embeddings_alone_have_no_loss(tmp_path, capsys):
    assert main(["--features", str(tmp_path), "--alignment"]) == 2
    assert "--alignment compares the encoder and the loss of a run" in capsys.readouterr().err


def test_a_run_on_clips_without_labels(tmp_path, capsys):
    run = write_run(tmp_path / "run", write_clips(tmp_path / "clips", labels=False), 3)
    assert main([str(run), "--alignment", "--device", "cpu"]) == 1
    assert "the val split has no labels; retrieval and Kendall's tau need two" in capsys.readouterr().err


def test_import_is_light():
    check = (
        "import lac.runs.alignment_quality, sys; print([m for m in ('sklearn', 'scipy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
