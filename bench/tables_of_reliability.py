"""The tables of docs/reliability.md, from bench/results/reliability.csv."""

from bench.reliability import ROWS
from bench.rows import read
from bench.tables_of_representations import not_measured


def promises(part: str) -> str:
    """Each promise of a part: how many cases were tried, all of which held, and the worst error."""
    rows = [row for row in read(ROWS) if row["part"] == part]
    if not rows:
        return not_measured(ROWS, part)
    lines = ["| promise | cases | worst error (allowed) |", "|---|---|---|"]
    for row in rows:
        worst = f"{row['worst']} ({row['limit']})" if row["limit"] else row["worst"]
        cases = row["cases"] + (f", {row['skipped']} not possible there" if row["skipped"] != "0" else "")
        note = f" ({row['note']})" if row["note"] else ""
        lines.append(f"| {row['promise'].rstrip('.')}{note} | {cases} | {worst} |")
    one = rows[0]
    made = ", ".join(sorted({row["commit"] for row in rows}))
    commands = ", ".join(f"`{command}`" for command in sorted({row["command"] for row in rows}))
    about = f"{one['device']}, torch {one['torch']}, lac {one['lac']}, Python {one['python']}, commit {made}."
    return "\n".join([*lines, "", f"{about} Rows: bench/results/{ROWS.name}; commands: {commands}."])
