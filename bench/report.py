"""Make the tables of the README and the docs from committed rows.

    python -m bench.report            # rewrite what lies between the markers
    python -m bench.report --check    # exit 1 if a table does not agree with its rows

A table lies between `<!-- table: NAME DATA -->` and `<!-- end -->` in README.md or docs/*.md. Pictures of growth are
drawn beside the docs. Tables of speed are made for every machine that has rows, and say "not measured" for none.
"""

import argparse
import re
import sys

from bench import rows as places
from bench.plans import CHOICES, CLAIM, COMPARED, CONTRAST, LONGER_TOO, ORIGINS, PUBLISHED, SHORTER
from bench.tables_of_alignments import matching
from bench.tables_of_finding import counting, finding
from bench.tables_of_reliability import promises
from bench.tables_of_representations import (
    COLUMNS,
    GAINS,
    WIDE,
    curve,
    draw_curves,
    gains,
    harmless,
    table,
    video,
)
from bench.tables_of_scale_out import scale_out
from bench.tables_of_speed import (
    Rows,
    bounded,
    compared,
    draw,
    each_machine,
    emulated,
    estimated,
    flat,
    fuzzed,
    growing,
    host,
    passes,
    stepped,
)

TABLES = {
    "representations": lambda data: table(
        data, {**COLUMNS, "accuracy, a tenth of the labels": "accuracy_0.1"}, COMPARED
    ),
    "comparison": lambda data: table(data, WIDE, (*COMPARED, CONTRAST)),
    "claim": lambda data: table(data, GAINS, CLAIM),
    "gains": lambda data: gains(data, CLAIM),
    "origins": lambda data: table(data, GAINS, ("LACLoss", CONTRAST, *ORIGINS, *LONGER_TOO), controls=False),
    "published": lambda data: table(data, GAINS, ("LACLoss", *PUBLISHED), controls=False),
    "choices": lambda data: table(data, GAINS, CHOICES, SHORTER, controls=False),
    "matching": matching,
    "finding": finding,
    "counting": counting,
    "reliability": promises,
    "harmless": lambda _: harmless(),
    "curve": curve,
    "video": video,
    "speed": each_machine(lambda path: compared(Rows(path), everyone=False)),
    "peers": each_machine(lambda path: compared(Rows(path), everyone=True)),
    "growth": each_machine(lambda path: growing(Rows(path))),
    "flat": each_machine(lambda path: flat(Rows(path))),
    "limits": each_machine(lambda path: bounded(Rows(path))),
    "passes": each_machine(lambda path: passes(Rows(path))),
    "training": each_machine(stepped),
    "fuzz": fuzzed,
    "emulated": emulated,
    "host": host,
    "estimated": estimated,
    "scale_out": scale_out,
}


def rewritten(text: str) -> str:
    def fill(match: re.Match[str]) -> str:
        name, data = match["name"], match["data"]
        return f"<!-- table: {name} {data} -->\n{TABLES[name](data)}\n<!-- end -->"

    return re.sub(r"<!-- table: (?P<name>\S+) (?P<data>\S+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for path in [places.ROOT / "README.md", *sorted((places.ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        new = rewritten(text)
        if new != text:
            stale.append(path.relative_to(places.ROOT))
            if not options.check:
                path.write_text(new)
    if not options.check:
        draw_curves()
    for device in ("cpu", "cuda"):
        for path in sorted(places.RESULTS.glob(f"{device}-*.csv")) if not options.check else []:
            draw(Rows(path))
    for path in stale:
        print(f"{path}: {'does not agree with its rows' if options.check else 'rewritten'}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
