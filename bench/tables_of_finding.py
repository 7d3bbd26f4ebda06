"""The tables of finding, from bench/results/finding.csv."""

import statistics

from bench.finding import METHODS, ROWS
from bench.rows import Row, read
from bench.tables_of_representations import mean_spread, not_measured, shown

FIGURES = {"average precision": "ap", "overlap": "overlap", "precision at .05": "precision", "recall at .05": "recall"}


def finding(data: str) -> str:
    """Each way of comparing frames, by each method."""
    rows = [row for row in read(ROWS) if row["data"] == data]
    if not rows:
        return not_measured(ROWS, data)
    lines = [f"| frames | method | {' | '.join(FIGURES)} |", "|---|---|" + "---|" * len(FIGURES)]
    for features in ("raw", "learned"):
        for method in METHODS:
            some = [row for row in rows if (row["features"], row["method"]) == (features, method)]
            if some:
                cells = [_cell(some, name) for name in FIGURES.values()]
                lines.append(f"| {features} | {method} | {' | '.join(cells)} |")
    one, seeds = rows[0], {row["seed"] for row in rows if row["seed"]}
    what = f"{one['queries']} queries, {one['occurrences']} occurrences; "
    what += f"learned: mean (standard deviation) over {len(seeds)} seeds"
    return "\n".join([*lines, "", f"{data}: {what}, {max(row['steps'] for row in rows)} steps. {_made(rows)}"])


def counting(_: str) -> str:
    """The count of repetitions, and the time of a search."""
    rows = {row["data"]: row for row in read(ROWS)}
    if "watch" not in rows or "speed" not in rows:
        return not_measured(ROWS, "watch and speed")
    watch, speed = rows["watch"], rows["speed"]
    error, guess = (shown(float(watch[name])) for name in ("count_error", "guess_error"))
    lines = [
        "| | |",
        "|---|---|",
        f"| repetitions counted in {watch['queries']} recordings of the watch, mean error | {error} |",
        f"| the guess of 20, mean error | {guess} |",
        f"| 50 frames found in 100,000, chance included | {float(speed['seconds']):.2g} s |",
    ]
    return "\n".join([*lines, "", _made([watch, speed])])


def _cell(rows: list[Row], name: str) -> str:
    values = [float(row[name]) for row in rows if row[name]]
    return (mean_spread(values) if name == "ap" else shown(statistics.mean(values))) if values else ""


def _made(rows: list[Row]) -> str:
    def every(name: str) -> str:
        return ", ".join(sorted({row[name] for row in rows}))

    commands = "; ".join(f"`{command}`" for command in sorted({row["command"] for row in rows}))
    return (
        f"One thread of {every('device')}, torch {every('torch')}, lac {every('lac')}, commit {every('commit')}. "
        f"Rows: bench/results/{ROWS.name}; command: {commands}."
    )
