"""The tables of docs/scale_out.md, from bench/results/scale_out.csv."""

from bench.rows import Row, read
from bench.scale_out import ROWS
from bench.tables_of_representations import not_measured

COUNTED = ("what", "processes", "forwards, by the formula", "counted", "backwards, by the formula", "counted")
ESTIMATED = (
    "what",
    "processes",
    "gathered, MB",
    "pairs aligned",
    "in a consensus",
    "loss, ms",
    "gather, ms",
    "efficiency",
)


def scale_out(kind: str) -> str:
    """Bytes that were counted beside the formula, or the estimates."""
    rows = {(row["parts"], row["processes"]): row for row in read(ROWS) if row["kind"] == kind}
    if not rows:
        return not_measured(ROWS, kind)
    names, cells = (COUNTED, _counted) if kind == "measured" else (ESTIMATED, _estimated)
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    lines += [f"| {' | '.join([row['parts'], row['processes'], *cells(row)])} |" for row in rows.values()]
    one = list(rows.values())[-1]
    said = f"Estimated, not measured, from {one['assumed']}" if kind == "estimate" else f"Bytes, on {one['device']}"
    about = f"{said}; {one['pairs']} pairs of {one['frames']} frames in each process, embeddings of {one['embed']}."
    made = f"torch {one['torch']}, lac {one['lac']}, commit {one['commit']}. Rows: bench/results/{ROWS.name}"
    return "\n".join([*lines, "", f"{about} {made}; command: `{one['command']}`."])


def _counted(row: Row) -> list[str]:
    names = ("forward_bytes", "counted_forward", "backward_bytes", "counted_backward")
    return [f"{int(row[name]):,}" for name in names]


def _estimated(row: Row) -> list[str]:
    moved = (int(row["forward_bytes"]) + int(row["backward_bytes"])) / 1e6
    aligned = [f"{int(row[name]):,}" for name in ("pairs_aligned", "recordings_aligned")]
    times = [f"{float(row[name]):,.1f}" for name in ("loss_ms", "gather_ms")]
    return [f"{moved:,.0f}", *aligned, *times, f"{float(row['efficiency']):.0%}"]
