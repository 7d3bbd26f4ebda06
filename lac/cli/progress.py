"""How far a command has come: bars on a terminal, and lines or nothing elsewhere."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lac.data.features import FeatureProgress
    from lac.runs.fit import Progress

ReportTraining = Callable[["Progress"], None]


@contextmanager
def training_progress() -> Iterator[ReportTraining]:
    """A function that shows `lac.runs.fit.Progress`: a live bar on a terminal, else a line each time."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal:
        with _training_bar() as show:
            yield show
    else:
        yield _training_lines(console.print)


def _training_lines(say: Callable[[str], None]) -> ReportTraining:
    began, first_step = 0.0, 0

    def show(report: Progress) -> None:
        nonlocal began, first_step
        left = ""
        if first_step:
            pace = (time.monotonic() - began) / (report.step - first_step)
            left = f"  {_clock(pace * (report.steps - report.step))} left"
        else:
            began, first_step = time.monotonic(), report.step
        say(f"step {report.step}/{report.steps}  {_numbers(report)}{left}")

    return show


@contextmanager
def _training_bar() -> Iterator[ReportTraining]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    task = bar.add_task("training", total=None)
    live = Live(bar, console=Console(), refresh_per_second=4)

    def show(report: Progress) -> None:
        live.start()  # not before: reading videos has a bar of its own
        doing = "training" if report.step < report.steps else "evaluating"
        bar.update(task, description=doing, total=report.steps, completed=report.step)
        live.update(Group(bar, Text(_numbers(report))))

    try:
        yield show
    finally:
        live.stop()


def _numbers(report: Progress) -> str:
    numbers = {name: f"{value:.4f}" for name, value in report.terms.items()}
    numbers |= {"lr": f"{report.lr:.2e}"} | {name: f"{value:.3f}" for name, value in report.learned.items()}
    return "  ".join(f"{name} {value}" for name, value in numbers.items())


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def clip_progress() -> Iterator[Callable[[int, int, str], None]]:
    """A function `(done, total, name)` that moves a bar on stderr, on a terminal only."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total, description=escape(name))


@contextmanager
def measuring_progress(shapes: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Two functions, to say what is being measured and that one of the `shapes` is finished: on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # Drawn when told only: a thread that draws by itself would run beside what is timed.
    with Progress(
        *columns, console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=shapes)
        yield (lambda text: bar.update(task, description=text, refresh=True)), (lambda: bar.advance(task))


@contextmanager
def feature_progress() -> Iterator[None]:
    """Within it what is told beforehand (`lac.data.telling`), and features of videos as they are computed, are shown on
    stderr: lines, and a bar on a terminal."""
    from lac.data.features import watched
    from lac.data.telling import told

    stop: Callable[[], None] = lambda: None  # noqa: E731
    advance: Callable[[int], None] | None = None

    def show(progress: FeatureProgress) -> None:
        nonlocal advance, stop
        if advance is None and progress.computing:
            advance, stop = _feature_bar(progress)
        if advance is not None:
            advance(progress.done)

    try:
        with told(_say), watched(show):
            yield
    finally:
        stop()


def _say(line: str) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(line)


def showing_features(act: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """What a command does, with `feature_progress` around it."""

    def act_and_show(arguments: argparse.Namespace) -> int:
        with feature_progress():
            return act(arguments)

    return act_and_show


def _feature_bar(progress: FeatureProgress) -> tuple[Callable[[int], None], Callable[[], None]]:
    """Two functions, to say how many videos have been read and to take the bar away."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, soft_wrap=True)
    where = f"features by {progress.backbone}, computed once and kept in {progress.folder}"
    console.print(where, markup=False, highlight=False)
    bar = Progress(console=console, disable=not console.is_terminal, transient=True)
    task = bar.add_task(f"features by {progress.backbone}", total=progress.total)
    bar.start()
    return (lambda done: bar.update(task, completed=done)), bar.stop
