"""Make the tables of the README and the docs from committed rows.

    python bench/report.py            # rewrite what lies between the markers
    python bench/report.py --check    # exit 1 if a table does not agree with its rows

A table lies between `<!-- table: NAME DATA -->` and `<!-- end -->` in README.md or docs/*.md. Pictures of growth are
drawn beside the docs. Tables of speed are made for every machine that has rows, and say "not measured" for none.
"""

import argparse
import csv
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "kernels"):
    sys.path.insert(0, str(folder))

from bench.measure import WITHOUT_AUTOGRAD  # noqa: E402
from bench.representations import COMPARED, CONTROLS, CURVES, VARIANTS  # noqa: E402
from lac.measure import run as benchmark  # noqa: E402
from lac.measure.run import LOOP, WAVEFRONT, Row, Shape, shape_of, speed_up  # noqa: E402

RESULTS = ROOT / "bench" / "results"
ROWS = RESULTS / "representations.csv"
VIDEO_ROWS = RESULTS / "video.csv"
FUZZ_ROWS = RESULTS / "fuzz.csv"
CURVES_PICTURE = ROOT / "docs" / "curves.png"
COLUMNS = {
    "phase accuracy": "accuracy_1", "progression": "progression_1", "AP@5": "ap5", "tau": "tau",
}  # fmt: skip
WIDE = {
    "acc .1": "accuracy_0.1", "acc .5": "accuracy_0.5", "acc 1": "accuracy_1", "progression": "progression_1",
    "AP@5": "ap5", "AP@10": "ap10", "AP@15": "ap15", "tau": "tau",
}  # fmt: skip


def read(path: Path, data: str = "") -> list[Row]:
    """Rows of a data set, or of every data set."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if not data or data == row["data"].replace(" ", "_")]


def shown(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def mean_spread(values: list[float]) -> str:
    return shown(statistics.mean(values)) + (f" ({shown(statistics.stdev(values))})" if len(set(values)) > 1 else "")


def conditions(rows: list[Row], path: Path) -> str:
    """What stands below a table of representations."""

    def every(name: str) -> str:
        return ", ".join(sorted({row[name] for row in rows}))

    seeds = len({row["seed"] for row in rows})
    commands = "; ".join(f"`{command}`" for command in sorted({row["command"] for row in rows}))
    threads = "one thread of " * (path == ROWS)
    return (
        f"{every('data')}: mean (standard deviation) over {seeds} seed{'s' * (seeds > 1)}, {every('steps')} steps, "
        f"{threads}{every('device')}, torch {every('torch')}, lac {every('lac')}, commit {every('commit')}. "
        f"Rows: bench/results/{path.name}; command: {commands}."
    )


def table(data: str, columns: dict[str, str], losses: Sequence[str]) -> str:
    """Losses on a data set as it is."""
    rows = [row for row in read(ROWS, data) if not row["condition"]]
    return compared_losses(rows, columns, losses, ROWS) or not_measured(ROWS, data)


def video(data: str) -> str:
    """A table for each way from the videos to the embedding."""
    ways: dict[str, list[Row]] = {}
    for row in read(VIDEO_ROWS, data):
        ways.setdefault(row["condition"], []).append(row)
    tables = [compared_losses(rows, WIDE, ("LACLoss",), VIDEO_ROWS, head=way) for way, rows in ways.items()]
    return "\n\n".join(tables) or not_measured(VIDEO_ROWS, data)


def not_measured(path: Path, data: str) -> str:
    return f"Not measured: bench/results/{path.name} has no rows of {data}."


def compared_losses(
    rows: list[Row], columns: dict[str, str], losses: Sequence[str], path: Path, *, head: str = ""
) -> str:
    """Losses by row, over the seeds that all of them have, the best mean of a column in bold; the controls below."""
    trained = [row for row in rows if row["loss"] in losses]
    if not trained:
        return ""
    groups = {loss: [row for row in trained if row["loss"] == loss] for loss in losses}
    seeds = set.intersection(*({row["seed"] for row in group} for group in groups.values() if group))
    groups = {loss: [row for row in group if row["seed"] in seeds] for loss, group in groups.items() if group}
    trained = [row for group in groups.values() for row in group]
    means = {
        column: {loss: statistics.mean(float(row[column]) for row in group) for loss, group in groups.items()}
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
    """Rows by what makes the data harder, from easy to hard: "distractors 20%", or "tempo 2x"."""
    groups: dict[str, list[Row]] = {}
    for row in read(ROWS):
        if row["condition"].startswith(f"{kind} ") and row["embedding"] in ("trained", "time index"):
            groups.setdefault(row["condition"], []).append(row)
    return dict(sorted(groups.items(), key=lambda item: amount(item[0])))


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


def number(text: str | float) -> str:
    """Three digits, without an exponent."""
    value = float(text)
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def megabytes(row: Row) -> str:
    return number(int(row["peak_bytes"]) / 1e6) if row["peak_bytes"] else "-"


def name_of(row: Row, threads: str) -> str:
    """The side, with its thread count where that is not the smallest of the file."""
    return row["side"] if row["threads"] == threads else f"{row['side']}, {row['threads']} threads"


def source(rows: list[Row], path: Path) -> str:
    """What stands below a table: machine, versions, commit, file, command."""

    def every(name: str) -> str:
        return ", ".join(sorted({row[name] for row in rows if row[name]}))

    if not rows:
        return f"Not measured: {path.relative_to(ROOT)} has no rows of this."
    dates = sorted(row["date"][:10] for row in rows)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    versions = f"torch {every('torch')}, lac {every('lac')}" + (
        f", commit {every('commit')}" if every("commit") else ""
    )
    return f"{every('device')}, {versions}, {when}. Rows: {path.relative_to(ROOT)}; command: `{every('command')}`."


def lines_of(head: list[str], body: list[list[str]], words: int = 0) -> list[str]:
    """A table whose first column and last `words` columns are text."""
    rule = "|---|" + "---:|" * (len(head) - 1 - words) + "---|" * words
    return ["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in body)]


class Rows:
    """The rows of one machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all = benchmark.read_rows(path)
        self.threads = min((row["threads"] for row in self.all), key=lambda x: (len(x), x))
        self.most = max((row["threads"] for row in self.all), key=lambda x: (len(x), x))

    def some(self, mode: str = "both", dtype: str = "float32", threads: str | None = None) -> list[Row]:
        return [
            row
            for row in self.all
            if row["mode"] == mode and row["dtype"] == dtype and threads in (None, row["threads"]) and row["batch"]
        ]

    def limit(self, side: str, mode: str, dtype: str, threads: str) -> Row | None:
        keys = {"side": side, "mode": mode, "dtype": dtype, "threads": threads}
        return next((row for row in self.all if all(row[k] == v for k, v in keys.items())), None)


BACKENDS = ("lac eager", "lac cpu", "lac triton")
ALIGNMENTS = tuple(f"{side}, {WITHOUT_AUTOGRAD}" for side in BACKENDS)
GROWING = (WAVEFRONT, *BACKENDS, *ALIGNMENTS, "nwgrad scaled")
LARGE = Shape(4, 1024, 1024)
TABLE_SHAPES = [Shape(2, 64, 64), Shape(16, 64, 64), Shape(16, 256, 256), LARGE, Shape.parse("80x64,33x80,7x5,64x64")]
SMALL = Shape(1, 32, 32)
CONSTANT = 4096**2  # cells of each problem that shows the time per cell
ONE = Shape(16, 256, 256)


def compared(rows: Rows, *, everyone: bool) -> str:
    """ms and Mcells/s of each side on the shapes of the table, fastest first; in short without peers that differ."""
    found: dict[tuple[str, str], dict[Shape, Row]] = {}
    for row in rows.some():
        near = row["side"] in (*BACKENDS, *ALIGNMENTS, "nwgrad scaled")
        kept = near or (row["threads"] == rows.threads and row["side"] in (WAVEFRONT, "jax scan"))
        if shape_of(row) in TABLE_SHAPES and not row["skipped"] and (kept or everyone):
            found.setdefault((row["side"], row["threads"]), {})[shape_of(row)] = row

    def slowness(key: tuple[str, str]) -> tuple[bool, float]:
        row = found[key].get(LARGE)
        return row is None, float(row["ms_p50"]) if row else 0.0

    body = []
    for key in sorted(found, key=slowness):
        of = found[key]
        some = next((row for shape, row in of.items() if not shape.lengths1), next(iter(of.values())))
        cells = [
            f"{number(of[s]['ms_p50'])} ({number(of[s]['mcells_per_s'])})" if s in of else "-" for s in TABLE_SHAPES
        ]
        gain = speed_up(of[LARGE], rows.all, WAVEFRONT) if LARGE in of else None
        cells += ["-" if gain is None else number(gain), megabytes(of[LARGE]) if LARGE in of else "-"]
        body.append([name_of(some, rows.threads), *cells, *([some["computes"], some["version"]] if everyone else [])])
    head = ["ms (Mcells/s), score and gradient", *map(str, TABLE_SHAPES), "x naive", "MB"]
    lines = lines_of(head + ["computes", "version"] * everyone, body, words=2 * everyone)
    lines += [
        "",
        f"x naive: times faster than the naive wavefront with as many threads, on {LARGE}. MB: peak memory there,",
    ]
    lines += ["beyond the scores and with the gradient."]
    if any(side in ALIGNMENTS for side, _ in found):
        lines += [
            f"{WITHOUT_AUTOGRAD}: one public call that returns the score's gradient; the other lac rows are "
            "`smith_waterman`,",
            "a sum and `backward`.",
        ]
    lines += small(rows)
    padded = {}
    for row in rows.some():
        _, found_so, how = row["computes"].partition("; a ragged batch: ")
        if found_so and not row["skipped"]:
            padded[row["side"]] = how
    if everyone and padded:
        sides = ", ".join(f"{side} ({how})" for side, how in sorted(padded.items()))
        lines += [f"The last shape is a ragged batch; Mcells/s count its valid cells. Not taken as such by: {sides}."]
    if everyone:
        missing = {
            row["side"]: row["skipped"] for row in rows.some() if row["skipped"] and shape_of(row) in TABLE_SHAPES
        }
        lines += [f"Not in the table: {side}: {reason}." for side, reason in missing.items() if side != LOOP]
    return "\n".join([*lines, source(rows.some(), rows.path)])


def small(rows: Rows) -> list[str]:
    """What is known of the naive loop, which only a small problem can show."""
    here = [row for row in rows.some(threads=rows.threads) if shape_of(row) == SMALL and not row["skipped"]]
    loop = next((row for row in here if row["side"] == LOOP), None)
    if loop is None:
        return []
    others = []
    for row in here:
        gain = speed_up(row, here, LOOP)
        if row["side"] in BACKENDS and gain is not None:
            others.append(f"{row['side']} {number(row['ms_p50'])} ms ({number(gain)} times faster)")
    return [
        f"The naive loop, cell by cell in Python, was timed on {SMALL} only: {number(loop['ms_p50'])} ms "
        f"({float(loop['mcells_per_s']):.2g} Mcells/s); there {', '.join(others)}."
    ]


def growing(rows: Rows) -> str:
    """Time and memory by N at one pair and by B at one size, one thread."""
    timed = [row for row in rows.some(threads=rows.threads) if not row["skipped"]]
    here = {row["side"] for row in timed}
    sides = [side for side in GROWING if side in here]
    batches = [shape_of(row) for row in timed if row["side"] in BACKENDS]
    shapes = sorted({s for s in batches if s.n == s.m and s.batch == 1 and s.n >= 64}, key=lambda s: s.n)
    size = 128
    shapes += sorted({s for s in batches if s.n == s.m == size and s.batch > 1 and s.cells < CONSTANT})
    body = []
    for shape in shapes:
        cells = []
        for side in sides:
            row = next((row for row in timed if row["side"] == side and shape_of(row) == shape), None)
            cells.append("-" if row is None else f"{number(row['ms_p50'])} ({megabytes(row)})")
        body.append([str(shape), *cells])
    picture = picture_of(rows)
    return "\n".join(
        [
            f"![Time and memory against N and B]({picture.name})",
            "",
            *lines_of([f"ms (MB){', one thread' * (rows.threads == '1')}", *sides], body),
            "",
            source(timed, rows.path),
        ]
    )


def flat(rows: Rows) -> str:
    """Nanoseconds per cell by N, of as many cells in each problem and so of ever fewer pairs."""
    timed = [row for row in rows.some() if not row["skipped"] and shape_of(row).cells == CONSTANT]
    found = {(shape_of(row), name_of(row, rows.threads)): row for row in timed}
    names = [name for _, name in found]
    sides = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not sides:
        return source([], rows.path)
    body = []
    for shape in sorted({shape for shape, _ in found}, key=lambda shape: shape.n):
        here = [found.get((shape, side)) for side in sides]
        body.append([str(shape), *(number(1e6 * float(row["ms_p50"]) / CONSTANT) if row else "-" for row in here)])
    return "\n".join([*lines_of(["ns per cell", *sides], body), "", source(timed, rows.path)])


def picture_of(rows: Rows) -> Path:
    return ROOT / "docs" / f"growth-{rows.path.stem}.png"


def draw(rows: Rows) -> None:
    from lac.files import atomic_path

    chosen = [row for row in rows.some() if row["side"] in GROWING and shape_of(row).n >= 64]
    chosen = [row for row in chosen if row["threads"] == rows.threads or row["side"] == "lac cpu"]
    if not chosen:
        return
    figure = benchmark.growth_figure(chosen, title=f"score and gradient, float32, {chosen[0]['device']}")
    with atomic_path(picture_of(rows)) as temporary:
        figure.savefig(temporary, dpi=150)


def bounded(rows: Rows) -> str:
    """How far the fastest engine is from what the machine allows."""
    counts = sorted({rows.threads, rows.most}, key=lambda x: (len(x), x))
    head = ["score and gradient"]
    for threads in counts:
        head += [
            f"Mcells/s, {threads} thread{'s' * (threads != '1')}" if threads else "Mcells/s",
            "of memory",
            "of arithmetic",
        ]
    body = []
    for shape in sorted({shape_of(row) for row in rows.some()} - {SMALL}, key=lambda s: (s.cells, s)):
        cells = []
        for threads in counts:
            paces = [
                (float(row["mcells_per_s"]), row["side"])
                for row in rows.some(threads=threads)
                if shape_of(row) == shape and row["side"] in BACKENDS and not row["skipped"]
            ]
            if paces:
                pace, side = max(paces)
                cells.append(f"{number(pace)} ({side.removeprefix('lac ')})")
                for limit in (benchmark.MEMORY_LIMIT, benchmark.ARITHMETIC_LIMIT):
                    top = rows.limit(limit, "both", "float32", threads)
                    cells.append(f"{100 * pace / float(top['mcells_per_s']):.2g} %" if top else "-")
        if cells:
            body.append([str(shape), *cells])
    limits = [row for row in rows.all if not row["batch"] and row["mode"] == "both" and row["dtype"] == "float32"]
    notes = [
        f"{row['side']}, {row['threads'] or 'all'} thread{'s' * (row['threads'] != '1')}: {row['computes']}: "
        f"{number(row['mcells_per_s'])} Mcells/s."
        for row in limits
    ]
    return "\n".join([*lines_of(head, body), "", *notes, source(limits, rows.path)])


def passes(rows: Rows) -> str:
    """The passes one by one, and other number types, on one shape."""
    kinds = [("forward", "float32"), ("backward", "float32"), ("second", "float32")]
    kinds += [("both", dtype) for dtype in ("float32", "bfloat16", "float64")]
    found: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for kind in kinds:
        for row in rows.some(*kind):
            if shape_of(row) == ONE and not row["skipped"] and (row["side"] in (WAVEFRONT, *BACKENDS)):
                found.setdefault((row["side"], row["threads"]), {})[kind] = row
    body = []
    for of in found.values():
        some = next(iter(of.values()))
        if len(of) > 1:
            cells = [f"{number(of[k]['ms_p50'])} ({of[k]['error'] or '-'})" if k in of else "-" for k in kinds]
            body.append([name_of(some, rows.threads), *cells])
    head = [f"ms (error), {ONE}", "score", "gradient", "Hessian-vector product"]
    head += [f"both, {dtype}" for dtype in ("float32", "bfloat16", "float64")]
    every = [row for of in found.values() for row in of.values()]
    return "\n".join([*lines_of(head, body), "", source(every, rows.path)])


def stepped(path: Path) -> str:
    """The share of a training step that the loss takes."""
    with path.open(newline="") as file:
        last = {(row["threads"], row["frames"], row["side"]): row for row in csv.DictReader(file)}
    rows = list(last.values())
    body = [
        [
            row["frames"], row["side"], *(number(row[x]) for x in ("ms_step", "ms_loss_forward", "ms_loss_backward")),
            f"{100 * float(row['ms_loss']) / (float(row['ms_loss']) + float(row['ms_encoder'])):.0f} %",
        ]
        for row in rows if not row["skipped"]
    ]  # fmt: skip
    lines = lines_of(["frames", "alignment by", "step, ms", "loss forward", "loss backward", "share of the loss"], body)
    skipped = {row["side"]: row["skipped"] for row in rows if row["skipped"]}
    lines += ["", *(f"Not in the table: {side}: {reason}." for side, reason in skipped.items())]
    threads = ", ".join(sorted({row["threads"] for row in rows if row["threads"]}))
    note = f"Batch {rows[0]['batch']}" + (f", {threads} thread{'s' * (threads != '1')}. " if threads else ". ")
    return "\n".join([*lines, note + source(rows, path)])


def each_machine(make: Callable[[Path], str]) -> Callable[[str], str]:
    """The table of every machine of a kind ("cpu", "cuda", "training-cpu"), or that there is none."""

    def table_of(data: str) -> str:
        paths = sorted(RESULTS.glob(f"{data}-*.csv"))
        device = data.rpartition("-")[2]
        script = "bench/training.py" if data.startswith("training") else "bench/measure.py"
        command = f"python {script}" + (f" --device {device}" if device != "cpu" else "")
        if not paths:
            return f"Not measured: no row of a machine of this kind ({device}) is committed. To measure: `{command}`."
        return "\n\n".join(make(path) for path in paths)

    return table_of


def fuzzed(engine: str) -> str:
    """The largest errors on random problems: the newest row of each dtype."""
    rows = {row["dtype"]: row for row in read(FUZZ_ROWS) if row["engine"] == engine}
    names = ("score", "posterior", "gap_open", "gap_extend", "temperature", "second")
    lines = ["| dtype | cases | beyond the limits | " + " | ".join(names) + " |", "|---|" + "---:|" * (2 + len(names))]
    lines += [
        f"| {dtype} | {int(row['cases']):,} | {row['beyond']} | ".replace(",", " ")
        + " | ".join(f"{float(row[name]):.1e}" for name in names) + " |"
        for dtype, row in rows.items()
    ]  # fmt: skip
    below = [
        f"{dtype}: {row['device']}, torch {row['torch']}, commit {row['commit']}, `{row['command']}`."
        for dtype, row in rows.items()
    ]
    return "\n".join([*lines, "", *below, f"Rows: {FUZZ_ROWS.relative_to(ROOT)}."])


TABLES = {
    "representations": lambda data: table(data, COLUMNS, COMPARED),
    "comparison": lambda data: table(data, WIDE, COMPARED),
    "ablation": lambda data: table(data, WIDE, tuple(VARIANTS)),
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
    if not options.check:
        draw_curves()
    for device in ("cpu", "cuda"):
        for path in sorted(RESULTS.glob(f"{device}-*.csv")) if not options.check else []:
            draw(Rows(path))
    for path in stale:
        print(f"{path}: {'does not agree with its rows' if options.check else 'rewritten'}")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
