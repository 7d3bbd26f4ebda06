"""The runner of the comparison: one run of each kind, and what it does not run again."""

import csv
import importlib.util
import sys

import pytest

from bench import alignments, plans, report, representations, tables_of_alignments
from bench import tables_of_representations as tables
from bench.consensus import SIDES
from bench.losses import LOSSES
from bench.plans import COMPARED, CONSENSUS, CONTROLS, PLANS, TRIED, VARIANTS
from bench.representations import FIELDS, run
from bench.rows import append_rows

QUICK = {"data.name": "watch", "data.options.repetitions": 1, "train.steps": 2, "train.batch": 2}
WATCH = "watch ROW untrimmed"


def quick(condition: str = "", **more: float) -> plans.Plan:
    return plans.Plan(WATCH, condition, {**QUICK, **more}, ("LACLoss",), 2)


demo = pytest.mark.skipif(importlib.util.find_spec("seglearn") is None, reason="needs seglearn, of the extra 'demo'")


def test_every_loss_of_the_plans_can_be_made():
    planned = {loss for plans in PLANS.values() for plan in plans for loss in plan.losses}
    assert planned <= {*VARIANTS, *TRIED, *CONSENSUS, *SIDES, *LOSSES}
    assert set(LOSSES) <= set(COMPARED)


@demo
@pytest.mark.parametrize(("loss", "embeddings"), [("LACLoss", ["trained"]), ("LAV", ["trained"]), (CONTROLS, None)])
def test_a_run_gives_the_columns(loss, embeddings):
    rows = run(quick(), loss, seed=1)
    assert list(rows) == (embeddings or ["time index", "raw features", "random encoder"])
    for name, row in rows.items():
        assert set(row) <= set(FIELDS)
        assert (row["data"], row["embedding"], row["loss"], row["seed"]) == (WATCH, name, loss, 1)
        assert 0 < row["accuracy_1"] <= 1


@demo
def test_the_loss_makes_the_difference():
    random = run(quick(**{"train.lr": 1e-9}), "LACLoss", seed=0)["trained"]
    results = [run(quick(**{"train.steps": 4}), loss, seed=0)["trained"]["ap5"] for loss in ("LACLoss", "TCN", "LAV")]
    assert len({random["ap5"], *results}) == 4


@demo
def test_rows_that_are_there_are_not_made_again(tmp_path, monkeypatch, capsys):
    plan = quick("distractors 20%")
    monkeypatch.setitem(PLANS, "tempo", [plan])
    out = tmp_path / "rows.csv"
    made = {"data": WATCH, "condition": plan.condition}
    for loss, seed in ((CONTROLS, 0), (CONTROLS, 1), ("LACLoss", 0), ("LACLoss", 1)):
        append_rows(out, [{**dict.fromkeys(FIELDS, "1"), **made, "loss": loss, "seed": seed}], FIELDS)
    before = out.read_text()
    monkeypatch.setattr(sys, "argv", ["representations.py", "tempo", "--out", str(out)])
    representations.main()
    assert out.read_text() == before
    assert capsys.readouterr().out == ""


def test_tables_and_curves(tmp_path, monkeypatch):
    rows = tmp_path / "rows.csv"
    monkeypatch.setattr(tables, "ROWS", rows)
    monkeypatch.setattr(tables, "CURVES_PICTURE", tmp_path / "curves.png")
    assert "Not measured" in report.TABLES["comparison"]("a_set")
    numbers = dict.fromkeys((field for field in FIELDS if field.startswith(("acc", "prog", "ap", "tau"))), 0.5)
    base = {**dict.fromkeys(FIELDS, "x"), **numbers, "data": "a set", "embedding": "trained", "condition": ""}

    def add(**values):
        append_rows(rows, [{**base, **values}], FIELDS)

    add(loss="LACLoss", seed=0, accuracy_1=0.8)
    add(loss="LACLoss", seed=1, accuracy_1=0.9)
    add(loss="LACLoss", seed=2, accuracy_1=0.1)  # a seed that the other loss has not
    for seed in (0, 1):
        add(loss="TCC", seed=seed, accuracy_1=0.7, progression_1=-10.25)
    add(loss=CONTROLS, embedding="time index", seed=0, accuracy_1=0.95)
    for share in (60, 0):
        add(loss="LACLoss", seed=0, condition=f"distractors {share}%", accuracy_1=share / 100)
        add(loss="LACLoss", seed=0, condition=f"tempo {1 + share / 30:g}x")
    lines = report.TABLES["representations"]("a_set").splitlines()
    assert lines[2].startswith("| LACLoss | **.850 (.071)** | **.500** |")
    assert lines[3].startswith("| TCC | .700 | -10.250 |")
    assert lines[4].startswith("| time index | .950 |")  # a control is never the best loss
    assert "2 seeds" in lines[-1]
    curve = report.TABLES["curve"]("distractors").splitlines()
    assert curve[2] == "| distractors 0% | .000 / .500 / .500 |"
    assert curve[3] == "| distractors 60% | .600 / .500 / .500 |"
    tables.draw_curves()
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    with rows.open() as file:
        assert len(list(csv.DictReader(file))) == 10


def test_differences_are_taken_seed_by_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS", tmp_path / "rows.csv")
    assert "Not measured" in report.TABLES["gains"]("a_set")
    base = {**dict.fromkeys(FIELDS, 0.5), "data": "a set", "embedding": "trained", "condition": "", "people_ap5": ""}
    for seed, (ours, theirs) in enumerate(((0.8, 0.7), (0.6, 0.4), (0.9, None))):
        for loss, accuracy in (("LACLoss", ours), ("SCL", theirs)):
            if accuracy is not None:
                append_rows(tables.ROWS, [{**base, "loss": loss, "seed": seed, "accuracy_1": accuracy}], FIELDS)
    lines = report.TABLES["gains"]("a_set").splitlines()
    assert lines[0].startswith("| LACLoss minus | seeds | acc .1 | acc 1 |")
    assert lines[2].startswith("| SCL | 2 | +.000 | +.150 (.071) | +.000 | +.000 |  |")
    assert len(lines) == 5


def test_the_table_of_what_is_lost_has_a_line_for_each_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS", tmp_path / "rows.csv")
    plan = PLANS["harmless"][-1]
    base = {**dict.fromkeys(FIELDS, 0.5), "data": plan.data, "condition": plan.condition, "embedding": "trained"}
    for loss, ap5 in ((plans.CONTRAST, 0.5), ("LACLoss", 0.7), ("groups shuffled", 0.4)):
        append_rows(tables.ROWS, [{**base, "loss": loss, "seed": 0, "steps": 300, "ap5": ap5}], FIELDS)
    append_rows(tables.ROWS, [{**base, "loss": "LACLoss", "seed": 0, "steps": 600, "ap5": 0.9}], FIELDS)
    lines = report.TABLES["harmless"]("").splitlines()
    assert lines[2] == f"| {plan.data} | 1 | +.000 | +.000 | +.000 | +.200 | +.000 | +.000 |"
    assert lines[3] == "| the same, groups shuffled | 1 | +.000 | +.000 | +.000 | -.100 | +.000 | +.000 |"


def test_tables_of_videos_by_the_way_to_the_embedding(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "VIDEO_ROWS", tmp_path / "video.csv")
    assert "video.csv has no rows of drawn_squat" in report.TABLES["video"]("drawn_squat")
    base = {**dict.fromkeys(FIELDS, 0.5), "data": "drawn_squat", "embedding": "trained", "loss": "LACLoss"}
    for way, accuracy in (("features", 0.9), ("end to end", 0.7)):
        for loss, embedding, number in (("LACLoss", "trained", accuracy), (CONTROLS, "time index", 0.6)):
            row = {**base, "condition": way, "loss": loss, "embedding": embedding, "accuracy_1": number, "seed": 0}
            append_rows(tables.VIDEO_ROWS, [row], FIELDS)
    lines = report.TABLES["video"]("drawn_squat").splitlines()
    assert lines[0].startswith("| features | acc .1 |")
    assert lines[2].startswith("| LACLoss | .500 | .500 | .900 |")
    assert lines[3].startswith("| time index | .500 | .500 | .600 |")
    assert "1 seed," in lines[5]
    assert "one thread" not in lines[5]
    assert lines[7].startswith("| end to end | acc .1 |")
    assert lines[9].startswith("| LACLoss | .500 | .500 | .700 |")


@demo
def test_the_matching_of_clips_has_a_row_for_each_aligner(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PLANS, "cameras", [quick()])
    monkeypatch.setattr(alignments, "ENCODERS", ("LACLoss", "SCL"))
    monkeypatch.setattr(alignments, "at_once", lambda run, wanted, jobs: [(given, run(*given)) for given in wanted])
    monkeypatch.setattr(tables_of_alignments, "ROWS", tmp_path / "rows.csv")
    assert "Not measured" in report.TABLES["matching"]("watch_ROW_untrimmed")
    monkeypatch.setattr(sys, "argv", ["alignments", "--seeds", "1", "--out", str(tables_of_alignments.ROWS)])
    alignments.main()
    assert len(capsys.readouterr().out.splitlines()) == 2
    lines = report.TABLES["matching"]("watch_ROW_untrimmed").splitlines()
    assert lines[2].startswith("| nothing | linear stretching | .")
    assert any(line.startswith("| SCL | row softmax | .") for line in lines)
    assert "1 seed, 2 steps" in lines[-1]
    alignments.main()
    assert capsys.readouterr().out == ""
