"""The count of promises: what is kept, skipped and broken, and what a test says of itself."""

import pytest

from bench import reliability
from bench.rows import read
from bench.tables_of_reliability import promises

TESTS = '''
import pytest

@pytest.mark.promise("torch")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_kept(k, record_property):
    """Two is odd.

    Not at all.
    """
    if k == 3:
        pytest.skip("no three here")
    record_property("cases", 10 * k)
    record_property("worst", k / 100)
    record_property("limit", 0.5)

@pytest.mark.promise("torch")
@pytest.mark.slow
def test_broken():
    """Never kept."""
    assert False

@pytest.mark.promise("files")
def test_of_another_part():
    """Of another part."""

def test_of_none():
    assert False
'''

INI = """
[pytest]
addopts = --import-mode=importlib
markers =
    slow
    promise(part)
"""


@pytest.fixture
def rows(tmp_path, monkeypatch, capsys):
    """Of a part of made-up tests, and what the command said."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_made_up.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --import-mode=importlib\nmarkers = slow\n    promise(part)\n"
    )
    monkeypatch.setattr(reliability, "ROOT", tmp_path)
    monkeypatch.setattr(reliability, "ROWS", tmp_path / "rows.csv")
    monkeypatch.setattr("bench.tables_of_reliability.ROWS", tmp_path / "rows.csv")
    monkeypatch.setattr("sys.argv", ["reliability", "torch"])
    assert reliability.main() == 1
    return read(tmp_path / "rows.csv"), capsys.readouterr().out


def test_kept_promises_are_recorded_and_broken_ones_told(rows):
    (row,), said = rows
    assert (row["part"], row["promise"], row["cases"], row["skipped"]) == ("torch", "Two is odd.", "30", "1")
    assert (row["worst"], row["limit"]) == ("0.02", "0.5")
    assert row["command"] == "python -m bench.reliability torch"
    assert "Never kept." in said


def test_the_table_says_what_the_row_says(rows):
    assert "| Two is odd | 30, 1 not possible there | 0.02 (0.5) |" in promises("torch")
