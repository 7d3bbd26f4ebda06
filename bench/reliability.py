"""What the project promises, tried: each test of a part is a promise, and a row of bench/results/reliability.csv.

    python -m bench.reliability torch          # one part, with its long cases
    python -m bench.reliability all
    python -m bench.reliability torch -k any_shape     # those of its tests with such names, as pytest takes them

A part is the tests that are marked `promise("PART")`. The first line of a test's docstring is the promise; its
parametrised cases count as cases. A test may say more of itself by pytest's `record_property`: "cases", how many it
has tried itself; "worst", the largest error it has met, and "limit", what it allows; "note", a few words.
A promise that was broken is told and not recorded.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from bench.rows import RESULTS, ROOT, Row, command_line, read
from lac.files import atomic_path
from lac.measure.rows import context

ROWS = RESULTS / "reliability.csv"
PARTS = ("processes", "torch", "faults", "files", "large")
FIELDS = (
    "part", "promise", "test", "cases", "skipped", "worst", "limit", "note", "seconds",
    "date", "device", "threads", "torch", "triton", "lac", "python", "platform", "commit", "command",
)  # fmt: skip


@dataclass
class Promise:
    """A test, all of its cases together.

    Attributes:
        part: see the module.
        text: the first line of the docstring.
        test: file and name.
        cases: that held.
        skipped: cases that could not be tried here.
        broken: cases that did not hold.
        seconds: of all.
        said: what the cases said of themselves, by name.
    """

    part: str
    text: str
    test: str
    cases: int = 0
    skipped: int = 0
    broken: int = 0
    seconds: float = 0.0
    said: dict[str, list[Any]] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As it stands in the file."""
        worst, limit = (max(map(float, self.said[name]), default=None) if name in self.said else None
                        for name in ("worst", "limit"))  # fmt: skip
        return {
            "part": self.part,
            "promise": self.text,
            "test": self.test,
            "cases": self.cases,
            "skipped": self.skipped,
            "worst": "" if worst is None else f"{worst:.2g}",
            "limit": "" if limit is None else f"{limit:.2g}",
            "note": "; ".join(dict.fromkeys(map(str, self.said.get("note", [])))),
            "seconds": round(self.seconds),
        }


class Watching:
    """A plugin of pytest that keeps the promises of a part and counts what becomes of them."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.promises: dict[str, Promise] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        of_part = [item for item in items if self._part(item) == self.part]
        config.hook.pytest_deselected(items=[item for item in items if item not in of_part])
        items[:] = of_part
        for item in items:
            assert isinstance(item, pytest.Function)
            text = (item.function.__doc__ or "").strip().partition("\n")[0]
            assert text, f"{item.nodeid} promises nothing: it needs a docstring"
            self.promises.setdefault(_test(item.nodeid), Promise(self.part, text, _test(item.nodeid)))

    @staticmethod
    def _part(item: pytest.Item) -> str | None:
        mark = item.get_closest_marker("promise")
        return None if mark is None else str(mark.args[0])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        promise = self.promises[_test(report.nodeid)]
        promise.seconds += report.duration
        if report.failed:
            promise.broken += 1
        elif report.skipped:
            promise.skipped += 1
        elif report.when == "call":
            said = dict(report.user_properties)
            promise.cases += int(str(said.pop("cases", 1)))
            for name, value in said.items():
                promise.said.setdefault(name, []).append(value)


def _test(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def tried(part: str, words: str = "") -> list[Promise]:
    """Run the tests of a part, the slow ones too, or those whose names have the words."""
    watching = Watching(part)
    pytest.main(["-q", "-m", "", "-k", words, "-p", "no:cacheprovider", str(ROOT / "tests")], plugins=[watching])
    return list(watching.promises.values())


def write(rows: Iterable[Row], *, whole: bool) -> None:
    """The rows in the place of those of the same part, if it was tried as a whole, or else of the same tests."""
    new = list(rows)
    parts, tests = {row["part"] for row in new}, {row["test"] for row in new}
    kept = [row for row in read(ROWS) if row["test"] not in tests and not (whole and row["part"] in parts)]
    with atomic_path(ROWS) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *new], key=lambda row: (PARTS.index(row["part"]), row["test"])))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=(*PARTS, "all"))
    parser.add_argument("-k", dest="words", default="", help="only tests with these words in their names")
    arguments = parser.parse_args()
    parts = PARTS if arguments.part == "all" else (arguments.part,)
    broken = 0
    for part in parts:
        about = context(torch.device("cpu"), command_line("reliability"))  # before anything has changed
        promises = tried(part, arguments.words)
        for promise in promises:
            if promise.broken or not promise.cases + promise.skipped:
                broken += 1
                print(f"broken: {promise.test}: {promise.text}")
        rows = [{**promise.row(), **about} for promise in promises if promise.cases and not promise.broken]
        write(rows, whole=not arguments.words)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
