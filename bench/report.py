"""Make the tables of the README and the docs from committed rows.

    python bench/report.py            # rewrite what lies between the markers
    python bench/report.py --check    # exit 1 if a table does not agree with its rows

A table lies between `<!-- table: NAME -->` and `<!-- end -->` in README.md or docs/*.md.
"""

import argparse
import csv
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "bench" / "results" / "representations.csv"
ALONE = "contrastive part alone"
COLUMNS = {
    "phase accuracy": "accuracy_1", "progression": "progression_1", "AP@5": "ap5", "tau": "tau",
}  # fmt: skip
WIDE = {
    "acc .1": "accuracy_0.1", "acc .5": "accuracy_0.5", "acc 1": "accuracy_1", "progression": "progression_1",
    "AP@5": "ap5", "AP@10": "ap10", "AP@15": "ap15", "tau": "tau",
}  # fmt: skip
CONTROLS = ("time index", "raw features", "random encoder")


def read(data: str) -> list[dict[str, str]]:
    with ROWS.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["data"] == data]


def mean_spread(values: list[float]) -> str:
    text = f"{statistics.mean(values):.3f}"
    if len(set(values)) > 1:
        text += f" ({statistics.stdev(values):.3f})"
    return text.replace("0.", ".")


def table(data: str, columns: dict[str, str], losses: list[str] | None) -> str:
    rows = read(data)
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        name = row["loss"] if row["embedding"] == "trained" else row["embedding"]
        if row["embedding"] == "trained" and losses is not None and name not in losses:
            continue
        groups.setdefault(name, []).append(row)
    order = sorted(groups, key=lambda name: (name in CONTROLS, name not in ("LACLoss", ALONE), name != "LACLoss"))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in order:
        cells = [mean_spread([float(row[column]) for row in groups[name]]) for column in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    trained = [row for row in rows if row["embedding"] == "trained"]
    seeds = len({row["seed"] for row in trained})
    commits = ", ".join(sorted({row["commit"] for row in trained}))
    first = trained[0]
    lines += [
        "",
        f"{data}: mean (standard deviation) over {seeds} seeds, {first['steps']} steps, one thread of {first['device']}, "
        f"torch {first['torch']}, lac {first['lac']}, commit {commits}. "
        f"Rows: bench/results/representations.csv; command: `{first['command']}`.",
    ]
    return "\n".join(lines)


TABLES = {
    "representations": lambda data: table(data, COLUMNS, ["LACLoss", ALONE]),
    "ablation": lambda data: table(data, WIDE, None),
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
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        new = rewritten(text)
        if new != text:
            stale.append(path.relative_to(ROOT))
            if not options.check:
                path.write_text(new)
    for path in stale:
        print(f"{path}: {'does not agree with its rows' if options.check else 'rewritten'}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
