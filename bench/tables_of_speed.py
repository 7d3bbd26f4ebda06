"""Tables and plots of speed and of errors, from the rows of each machine in bench/results."""

from collections.abc import Callable
from pathlib import Path

import torch

from bench import rows as places
from bench.measure import WITHOUT_AUTOGRAD
from lac.measure.figure import growth_figure
from lac.measure.limits import ARITHMETIC_LIMIT, MEMORY_LIMIT
from lac.measure.problem import Shape
from lac.measure.rows import Row, read_rows, shape_of, speed_up
from lac.measure.sides import LOOP, WAVEFRONT

EMULATED_ROWS = places.RESULTS / "emulated.csv"
HOST_ROWS = places.RESULTS / "host.csv"
ESTIMATED = (
    "2x64x64", "16x64x64", "16x256x256", "64x256x256", "16x512x512", "4x1024x1024", "1x4096x4096", "1024x256x256",
)  # fmt: skip
FUZZ_ROWS = places.RESULTS / "fuzz.csv"


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
        return f"Not measured: {path.relative_to(places.ROOT)} has no rows of this."
    dates = sorted(row["date"][:10] for row in rows)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    versions = f"torch {every('torch')}, lac {every('lac')}" + (
        f", commit {every('commit')}" if every("commit") else ""
    )
    return (
        f"{every('device')}, {versions}, {when}. Rows: {path.relative_to(places.ROOT)}; command: `{every('command')}`."
    )


def lines_of(head: list[str], body: list[list[str]], words: int = 0) -> list[str]:
    """A table whose first column and last `words` columns are text."""
    rule = "|---|" + "---:|" * (len(head) - 1 - words) + "---|" * words
    return ["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in body)]


class Rows:
    """The rows of one machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all = read_rows(path)
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
    return places.ROOT / "docs" / f"growth-{rows.path.stem}.png"


def draw(rows: Rows) -> None:
    from lac.files import atomic_path

    chosen = [row for row in rows.some() if row["side"] in GROWING and shape_of(row).n >= 64]
    chosen = [row for row in chosen if row["threads"] == rows.threads or row["side"] == "lac cpu"]
    if not chosen:
        return
    figure = growth_figure(chosen, title=f"score and gradient, float32, {chosen[0]['device']}")
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
                for limit in (MEMORY_LIMIT, ARITHMETIC_LIMIT):
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
    last = {(row["threads"], row["frames"], row["side"]): row for row in places.read(path)}
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
        paths = sorted(places.RESULTS.glob(f"{data}-*.csv"))
        device = data.rpartition("-")[2]
        module = "bench.training" if data.startswith("training") else "bench.measure"
        command = f"python -m {module}" + (f" --device {device}" if device != "cpu" else "")
        if not paths:
            return f"Not measured: no row of a machine of this kind ({device}) is committed. To measure: `{command}`."
        return "\n\n".join(make(path) for path in paths)

    return table_of


def fuzzed(engine: str) -> str:
    """The largest errors on random problems: the newest row of each dtype."""
    rows = {row["dtype"]: row for row in places.read(FUZZ_ROWS) if row["engine"] == engine}
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
    return "\n".join([*lines, "", *below, f"Rows: {FUZZ_ROWS.relative_to(places.ROOT)}."])


def emulated(_: str) -> str:
    """Speed of the emulator: the newest row of each kernel."""
    rows = {row["kernel"]: row for row in places.read(EMULATED_ROWS)}
    lines = ["| kernel | million cells per second | seconds to compile |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {float(row['cells_per_second']) / 1e6:.1f} | {row['compile_seconds']} |"
        for name, row in rows.items()
    ]
    below = {
        f"{row['device']}, one thread, Triton {row['triton']}, commit {row['commit']}, `{row['command']}`."
        for row in rows.values()
    }
    return "\n".join([*lines, "", *sorted(below), f"Rows: {EMULATED_ROWS.relative_to(places.ROOT)}."])


def host(_: str) -> str:
    """What calls cost the host: the newest row of each."""
    rows = {row["call"]: row for row in places.read(HOST_ROWS)}
    lines = ["| call, on 16 pairs of 64 x 64 frames | microseconds |", "|---|---:|"]
    lines += [f"| {name} | {row['microseconds']} |" for name, row in rows.items()]
    below = {
        f"{row['device']}, one thread, torch {row['torch']}, Triton {row['triton']}, commit {row['commit']}, "
        f"`{row['command']}`."
        for row in rows.values()
    }
    return "\n".join([*lines, "", *sorted(below), f"Rows: {HOST_ROWS.relative_to(places.ROOT)}."])


def estimated(_: str) -> str:
    """What the kernels are estimated to take on an H100, in the forms in which they run these shapes."""
    from lac_kernels.triton import estimate
    from lac_kernels.triton.plan import Shape as Problem
    from lac_kernels.triton.plan import form_of

    lines = ["| B x N x M | rows, warps | form | forward | backward | both |", "|---|---|---|---:|---:|---:|"]
    for text in ESTIMATED:
        shape = Problem(*Shape.parse(text)[:3], torch.float32, torch.device("cpu"), dual=False, cell=False)
        form = form_of(shape, estimate.H100)
        how = "programs that wait" if form.waits else "one program a pair"
        kept = "steps kept" if form.keep else "run again"
        times = [estimate.estimate(shape, backward) for backward in (False, True)]
        if None in times:
            raise ValueError(f"{text}: the steps of {form} are not known")
        forward, backward = (1e6 * x for x in times if x is not None)
        lines.append(
            f"| {text} | {form.rows}, {form.warps} | {how}, {kept} | {number(forward)} | {number(backward)} | "
            f"{number(forward + backward)} |"
        )
    return "\n".join([*lines, "", "Microseconds, **estimates** (`lac_kernels/triton/estimate.py`), without launches."])
