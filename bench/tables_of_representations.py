"""Tables and curves of representations, from bench/results/representations.csv and video.csv."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.plans import CONTRAST, CONTROLS, CURVES, HEADROOM, NO_CONSENSUS, PLANS, WRONG_GROUPS, Plan
from bench.rows import RESULTS, ROOT, Row, read
from lac.runs.config import TrainSection

ROWS = RESULTS / "representations.csv"
VIDEO_ROWS = RESULTS / "video.csv"
CURVES_PICTURE = ROOT / "docs" / "curves.png"
COLUMNS = {
    "phase accuracy": "accuracy_1", "progression": "progression_1", "AP@5": "ap5", "tau": "tau",
}  # fmt: skip
WIDE = {
    "acc .1": "accuracy_0.1", "acc .5": "accuracy_0.5", "acc 1": "accuracy_1", "progression": "progression_1",
    "AP@5": "ap5", "AP@10": "ap10", "AP@15": "ap15", "tau": "tau",
}  # fmt: skip


GAINS = {
    "acc .1": "accuracy_0.1", "acc 1": "accuracy_1", "progression": "progression_1", "AP@5": "ap5",
    "AP@5, other people": "people_ap5", "tau": "tau",
}  # fmt: skip


def read_data(path: Path, data: str) -> list[Row]:
    """Rows of a data set."""
    return [row for row in read(path) if data == row["data"].replace(" ", "_")]


def shown(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def mean_spread(values: list[float], sign: str = "") -> str:
    mean = statistics.mean(values)
    spread = f" ({shown(statistics.stdev(values))})" if len(set(values)) > 1 else ""
    return sign * (mean >= 0) + shown(mean) + spread


def conditions(rows: list[Row], path: Path) -> str:
    """What stands below a table of representations."""

    def every(name: str) -> str:
        return ", ".join(sorted({row[name] for row in rows}))

    seeds = len({row["seed"] for row in rows})
    commands = "; ".join(f"`{command}`" for command in sorted({row["command"].split(" --")[0] for row in rows}))
    threads = "" if path == VIDEO_ROWS else "one thread of "
    return (
        f"{every('data')}: mean (standard deviation) over {seeds} seed{'s' * (seeds > 1)}, {every('steps')} steps, "
        f"{threads}{every('device')}, torch {every('torch')}, lac {every('lac')}, commit {every('commit')}. "
        f"Rows: bench/results/{path.name}; command: {commands}."
    )


def under(condition: str, data: str) -> list[Row]:
    """Rows of a data set under a condition, "" for the data set as it is."""
    return [row for row in read_data(ROWS, data) if row["condition"] == condition]


def table(
    data: str, columns: dict[str, str], losses: Sequence[str], condition: str = "", *, controls: bool = True
) -> str:
    """Losses on a data set, and what embeddings reach that have not been trained."""
    rows = [row for row in under(condition, data) if controls or row["loss"] != CONTROLS]
    return compared_losses(rows, columns, losses, ROWS) or not_measured(ROWS, data)


def gains(data: str, losses: Sequence[str]) -> str:
    """LACLoss minus each other loss."""
    rows = [row for row in under("", data) if row["embedding"] == "trained"]
    lines = [gain_line(loss, rows, "LACLoss", loss) for loss in losses if loss != "LACLoss"]
    return gain_table("LACLoss minus", lines, [row for row in rows if row["loss"] in losses]) or not_measured(
        ROWS, data
    )


def harmless() -> str:
    """What is learned from groups, right or wrong, minus the frame contrast, on the data of the plan "harmless"."""
    lines, used = [], []
    for plan in PLANS["harmless"]:
        rows = plan_rows(plan)
        name = plan.data + (plan.condition and f", {plan.condition}")
        for loss in ("LACLoss", NO_CONSENSUS, *WRONG_GROUPS):
            lines.append(gain_line(name if loss == "LACLoss" else f"the same, {loss}", rows, loss, CONTRAST))
        used += [row for row in rows if row["loss"] in plan.losses]
    return gain_table("minus the frame contrast", lines, used) or not_measured(ROWS, "the plan harmless")


def plan_rows(plan: Plan) -> list[Row]:
    """Rows of the trained encoders of a plan."""
    steps = str(plan.settings.get("train.steps", TrainSection.steps))
    return [
        row
        for row in read(ROWS)
        if (row["data"], row["condition"], row["steps"], row["embedding"])
        == (plan.data, plan.condition, steps, "trained")
    ]


def gain_line(name: str, rows: list[Row], loss: str, other: str) -> str:
    """Loss minus another, seed by seed: mean and standard deviation of the differences; "" where one has no row."""
    sides = [{row["seed"]: row for row in rows if row["loss"] == side} for side in (loss, other)]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    if not seeds:
        return ""
    cells = []
    for column in GAINS.values():
        if all(row[column] for side in sides for row in side.values()):
            cells.append(
                mean_spread([float(sides[0][seed][column]) - float(sides[1][seed][column]) for seed in seeds], "+")
            )
        else:
            cells.append("")
    return f"| {name} | {len(seeds)} | {' | '.join(cells)} |"


def gain_table(head: str, lines: list[str], rows: list[Row]) -> str:
    lines = [line for line in lines if line]
    if not lines:
        return ""
    columns = f"| {head} | seeds | {' | '.join(GAINS)} |"
    return "\n".join([columns, "|---|---|" + "---|" * len(GAINS), *lines, "", conditions(rows, ROWS)])


def video(data: str) -> str:
    """A table for each way from the videos to the embedding."""
    ways: dict[str, list[Row]] = {}
    for row in read_data(VIDEO_ROWS, data):
        ways.setdefault(row["condition"], []).append(row)
    tables = [compared_losses(rows, WIDE, ("LACLoss",), VIDEO_ROWS, head=way) for way, rows in ways.items()]
    return "\n\n".join(tables) or not_measured(VIDEO_ROWS, data)


def not_measured(path: Path, data: str) -> str:
    return f"Not measured: bench/results/{path.name} has no rows of {data}."


def compared_losses(
    rows: list[Row], columns: dict[str, str], losses: Sequence[str], path: Path, *, head: str = ""
) -> str:
    """Losses by row, over the seeds that all of them have, the controls below; the best mean of a column in bold.

    Who is told the labels is never the best.
    """
    trained = [row for row in rows if row["loss"] in losses]
    if not trained:
        return ""
    groups = {loss: [row for row in trained if row["loss"] == loss] for loss in losses}
    seeds = set.intersection(*({row["seed"] for row in group} for group in groups.values() if group))
    groups = {loss: [row for row in group if row["seed"] in seeds] for loss, group in groups.items() if group}
    trained = [row for group in groups.values() for row in group]
    means = {
        column: {
            loss: statistics.mean(float(row[column]) for row in group)
            for loss, group in groups.items()
            if loss not in HEADROOM
        }
        for column in columns.values()
    }
    for row in rows:
        if row["loss"] == CONTROLS and row["seed"] in seeds:
            groups.setdefault(row["embedding"], []).append(row)
    lines = [f"| {head} | ".replace("  ", " ") + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, group in groups.items():
        cells = [mean_spread([float(row[column]) for row in group]) for column in columns.values()]
        best = [
            len(losses) > 1 and shown(means[c].get(name, -9)) == shown(max(means[c].values())) for c in columns.values()
        ]
        lines.append(
            f"| {name} | " + " | ".join(f"**{x}**" if b else x for x, b in zip(cells, best, strict=True)) + " |"
        )
    return "\n".join([*lines, "", conditions(trained, path)])


def hardening(kind: str) -> dict[str, list[Row]]:
    """Rows by what makes the data harder, from easy to hard: "distractors 20%", or "tempo 2x"; over common seeds."""
    groups: dict[str, list[Row]] = {}
    seeds: dict[tuple[str, str], set[str]] = {}
    for row in read(ROWS):
        if row["condition"].startswith(f"{kind} ") and label(row) in (*CURVES, "time index"):
            groups.setdefault(row["condition"], []).append(row)
            seeds.setdefault((row["condition"], label(row)), set()).add(row["seed"])
    common = set.intersection(*seeds.values()) if seeds else set()
    return {
        condition: [row for row in groups[condition] if row["seed"] in common]
        for condition in sorted(groups, key=amount)
    }


def amount(condition: str) -> float:
    return float(condition.split()[1].rstrip("%x"))


def label(row: Row) -> str:
    return row["loss"] if row["embedding"] == "trained" else row["embedding"]


def drawn_sides(groups: dict[str, list[Row]]) -> list[str]:
    found = {label(row) for rows in groups.values() for row in rows}
    return [side for side in (*CURVES, "time index") if side in found]


def curve(kind: str) -> str:
    groups = hardening(kind)
    if not groups:
        return not_measured(ROWS, kind)
    sides = drawn_sides(groups)
    lines = [f"| phase accuracy / progression / AP@5 | {' | '.join(sides)} |", "|---|" + "---|" * len(sides)]
    for condition, rows in groups.items():
        cells = []
        for side in sides:
            chosen = [row for row in rows if label(row) == side]
            cells.append(
                " / ".join(shown(statistics.mean(float(row[c]) for row in chosen)) for c in list(COLUMNS.values())[:3])
            )
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    trained = [row for rows in groups.values() for row in rows if row["embedding"] == "trained"]
    return "\n".join([*lines, "", conditions(trained, ROWS)])


def draw_curves() -> None:
    """Distractors and tempo against accuracy, progression and AP@5: mean and range over the seeds."""
    from matplotlib.figure import Figure

    from lac.files import atomic_path

    kinds = {kind: hardening(kind) for kind in ("distractors", "tempo")}
    if not all(kinds.values()):
        return
    columns = list(COLUMNS.items())[:3]
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots(2, 3)
    names = {"distractors": "frames of other movements, %", "tempo": "fastest tempo / slowest tempo"}
    for (kind, groups), line in zip(kinds.items(), axes, strict=True):
        for (title, column), axis in zip(columns, line, strict=True):
            for side in drawn_sides(groups):
                points = {
                    amount(condition): [float(row[column]) for row in rows if label(row) == side]
                    for condition, rows in groups.items()
                }
                x = list(points)
                (drawn,) = axis.plot(
                    x, [statistics.mean(v) for v in points.values()], ":" if side == "time index" else "o-", label=side
                )
                low, high = [min(v) for v in points.values()], [max(v) for v in points.values()]
                axis.fill_between(x, low, high, color=drawn.get_color(), alpha=0.15, linewidth=0)
            axis.set(title=title, xlabel=names[kind])
            axis.set_ylim(bottom=max(axis.get_ylim()[0], 0), top=1)
            axis.grid(alpha=0.3)
    axes[0, 0].legend(loc="lower left", fontsize="small")
    with atomic_path(CURVES_PICTURE) as temporary:
        figure.savefig(temporary, dpi=150)
