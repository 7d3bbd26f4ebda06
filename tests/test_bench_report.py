"""The tables of speed, from made-up rows."""

import csv

import pytest
import torch

from bench import measure, report, tables_of_speed, training
from bench import rows as places
from lac.measure.gate import exact_answer, gate
from lac.measure.limits import MEMORY_LIMIT
from lac.measure.problem import Shape, random_inputs
from lac.measure.rows import append_rows
from lac.measure.sides import LOOP, WAVEFRONT

MISSING = "jax scan"


def made_up():
    """Rows as bench/measure.py writes them for a CPU; the pace is 1 Mcell/s a thread, ten times that for lac cpu."""
    rows = []
    for threads in ("1", "2"):
        common = {"date": "2026-01-02T03:04:05", "device": "Some CPU", "threads": threads, "torch": "2.9", "lac": "0.1"}
        common |= {"commit": "abc1234", "command": "python bench/measure.py"}
        for what in measure.passes("cpu", quick=False, threads=int(threads)):
            kind = {"mode": what.mode, "dtype": what.dtype, **common}
            rows.append(kind | {"side": MEMORY_LIMIT, "computes": "a copy", "mcells_per_s": "1000"})
            names = {
                "loop": LOOP,
                "wavefront": WAVEFRONT,
                "learned": "lac cpu, gaps learned",
                "alignment": "lac cpu, soft_alignment without autograd",
            }
            names |= {name: f"lac {name}" for name in ("eager", "cpu", "triton")}
            for text in what.shapes:
                shape = Shape.parse(text)
                size = {"batch": str(shape.batch), "n": " ".join(map(str, shape.lengths1)) or str(shape.n)}
                size |= {"m": " ".join(map(str, shape.lengths2)) or str(shape.m)}
                for side in (names.get(name, name.replace("_", " ")) for name in what.sides):
                    computes = "this recursion" + "; a ragged batch: padded" * (
                        bool(shape.lengths1) and "tslearn" in side
                    )
                    row = kind | size | {"side": side, "computes": computes}
                    if side in (MISSING, "lac triton"):
                        rows.append(row | {"skipped": "not installed"})
                        continue
                    pace = int(threads) * (10 if side == "lac cpu" else 1)
                    ms = f"{shape.cells / pace / 1e3:.4g}"
                    row |= {"ms_p20": ms, "ms_p50": ms, "ms_p80": ms, "mcells_per_s": str(pace), "error": "1e-6"}
                    rows.append(row | {"peak_bytes": str(shape.cells * 12), "version": "1.2", "rounds": "3"})
    return rows


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path)
    monkeypatch.setattr(places, "RESULTS", tmp_path)
    return tmp_path


def test_tables_of_speed(folder):
    append_rows(folder / "cpu-some.csv", made_up())
    speed = report.TABLES["speed"]("cpu")
    assert "| lac cpu, 2 threads | 0.41 (20) | 3.28 (20) | 52.4 (20) | 210 (20) | 0.595 (20) | 10 | 50.3 |" in speed
    assert "| lac cpu | 0.819 (10) | 6.55 (10) | 105 (10) | 419 (10) | 1.19 (10) | 10 | 50.3 |" in speed
    assert "| lac cpu, soft_alignment without autograd | 8.19 (1) | 65.5 (1) |" in speed
    assert "soft_alignment without autograd: one public call that returns the score's gradient" in speed
    assert "gaps learned" not in speed
    assert "naive loop, cell by cell in Python, was timed on 1x32x32 only" in speed
    assert "softdtw" not in speed
    for words in ("Some CPU", "torch 2.9", "commit abc1234", "2026-01-02", "cpu-some.csv", "`python bench/measure.py`"):
        assert words in speed
    peers = report.TABLES["peers"]("cpu")
    assert "Not in the table: jax scan: not installed." in peers
    assert "softdtw tslearn" in peers
    assert "Not taken as such by: softdtw tslearn (padded)." in peers
    assert "| 1x4096x4096 | 100 | 1 000 | 1 000 | 50 | 500 | 500 |" in report.TABLES["flat"]("cpu")
    assert "| 16x256x256 | 10 (cpu) | 1 % | - | 20 (cpu) | 2 % | - |" in report.TABLES["limits"]("cpu")
    assert "| 1x4096x4096 | 16 780 (201) |" in report.TABLES["growth"]("cpu")
    assert "| 105 (1e-6) |" in report.TABLES["passes"]("cpu")
    (folder / "docs").mkdir()
    tables_of_speed.draw(tables_of_speed.Rows(folder / "cpu-some.csv"))
    assert (folder / "docs" / "growth-cpu-some.png").read_bytes()[1:4] == b"PNG"


def test_of_rows_that_measure_the_same_the_last_counts(folder):
    rows = made_up()
    append_rows(folder / "cpu-some.csv", rows)
    before = report.TABLES["speed"]("cpu")
    append_rows(folder / "cpu-some.csv", [row | {"date": "2026-02-03T00:00:00"} for row in rows])
    assert report.TABLES["speed"]("cpu") == before.replace("2026-01-02", "2026-02-03")


@pytest.mark.parametrize("name", ["speed", "peers", "growth", "flat", "limits", "passes"])
def test_a_file_with_few_rows(folder, name):
    rows = [row for row in made_up() if row.get("n") == "32"]
    append_rows(folder / "cpu-some.csv", rows)
    assert "cpu-some.csv" in report.TABLES[name]("cpu")
    tables_of_speed.draw(tables_of_speed.Rows(folder / "cpu-some.csv"))


@pytest.mark.parametrize("name", ["speed", "peers", "growth", "flat", "limits", "passes"])
def test_not_measured(folder, name):
    assert report.TABLES[name]("cuda").startswith("Not measured")
    assert "`python -m bench.measure --device cuda`" in report.TABLES[name]("cuda")


def test_training_steps(folder, monkeypatch):
    """A step is run for real, on a tiny batch."""
    path = folder / "training-cpu-some.csv"
    flags = ["--batch", "2", "--frames", "5", "--backends", "eager", "triton", "--seconds", "0", "--out", str(path)]
    monkeypatch.setattr("sys.argv", ["bench/training.py", *flags])
    training.main()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["side"] for row in rows] == [training.ALONE, "eager", "triton"]
    for row in rows[:2]:
        parts = [float(row[x]) for x in ("ms_loss_forward", "ms_loss_backward", "ms_encoder")]
        assert min(parts) > 0
    if not torch.cuda.is_available():
        assert rows[2]["skipped"]
    text = report.TABLES["training"]("training-cpu")
    assert "| 5 | eager |" in text
    assert "Not in the table: triton" in text


def test_peers_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr(measure, "PEERS", {"no_such_peer": "nothing==1.0"})
    side = measure.peer_sides()["no_such_peer"]
    refused = gate([side], "both", torch.float32, torch.device("cpu"))
    assert refused == {"no such peer": "not installed (pip install nothing==1.0)"}


def test_the_fastest_engine_without_autograd():
    device = torch.device("cpu")
    side = measure.engine_sides(device)["alignment"]
    if side.obstacle is not None:
        pytest.skip(side.obstacle)
    given = random_inputs(Shape.parse("3x4,5x2"), "both", torch.float32, device, seed=0)
    exact = exact_answer(given, "both", "reference")
    given.scores.requires_grad_()
    found = side.prepare(given, "both")().derivative
    assert not found.requires_grad
    torch.testing.assert_close(found, exact.derivative.float())
    assert gate([side], "both", torch.float32, device) == {}
