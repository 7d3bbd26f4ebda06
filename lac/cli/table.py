"""An evaluation for the terminal: the table of results, the remarks below it, and the table of alignment quality."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from lac.runs.alignment_quality import AlignmentQuality
    from lac.runs.evaluate import EvalResult


def results_table(rows: Mapping[str, EvalResult], *, title: str) -> Table:
    """The table of an evaluation: a row for each embedding, the controls among them.

    Accuracy is shown for each share of labelled training clips, progression for the greatest; "no tau" counts
    the pairs of clips whose Kendall's tau is not a number. Where it is known whose the clips are, "people" is AP@K
    of the smallest K among the clips of other people, in the place of the Ks between the smallest and the greatest,
    for which 80 columns have no room. See `docs/evaluation.md`.
    """
    from rich import box
    from rich.table import Table

    first = next(iter(rows.values()))
    caption = f"{first.classifier} classifier; tau: {first.kendalls_tau_pairs} pairs, stride {first.stride}"
    ks, people = list(first.retrieval), [min(first.retrieval_other_people)] if first.retrieval_other_people else []
    if people:
        ks = sorted({min(ks), max(ks)})
        caption += f"; people: AP@{people[0]} among clips of other people"
    table = Table(
        title=title,
        box=box.SIMPLE,
        padding=0,
        caption=caption,
    )
    table.add_column("", no_wrap=True)
    shares = [f" {_accuracy_heading(fraction)}" for fraction in first.classification]
    retrieval = [*(f" AP@{k}" for k in ks), *("people" for _ in people)]
    for name in [*shares, " progr", "  tau", "no tau", *retrieval]:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        numbers = [*row.classification.values(), row.event_completion[max(row.event_completion)]]
        table.add_row(
            name,
            *(_in_six(number) for number in [*numbers, row.kendalls_tau]),
            str(row.kendalls_tau_nan),
            *(_in_six(row.retrieval[k]) for k in ks),
            *(_in_six(row.retrieval_other_people[k]) for k in people),
        )
    return table


def alignment_table(quality: AlignmentQuality) -> Table:
    """The table of alignment quality: a row for each aligner and one for its consensus below it, "-" where it has no
    such figure. See `docs/evaluation.md`."""
    from rich import box
    from rich.table import Table

    whose = f" of {quality.people} people" if quality.people else ""
    between = "of different people" if quality.people else "of different clips"
    table = Table(
        title=f"matching of {len(quality.clips)} validation clips{whose}",
        box=box.SIMPLE,
        padding=0,
        caption=f"mean over {quality.pairs} ordered pairs {between}; error in phases",
    )
    table.add_column("", no_wrap=True)
    for name in next(iter(quality.rows.values()))._fields:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in quality.rows.items():
        shown = "  + consensus" if name.endswith(" + consensus") else name
        table.add_row(shown, *(_in_six(figure) for figure in row))
    return table


def remarks(rows: Mapping[str, EvalResult], clips: Mapping[str, int], left_out: Mapping[str, str]) -> list[str]:
    """Lines below the table: which clips were left out and which phases are missing; none if all is there.

    Args:
        rows: as in `results_table`, or empty.
        clips: number of clips of "train" and "val", without those left out.
        left_out: reason by clip.
    """
    from lac.data.doubts import first_few

    lines = []
    if left_out:
        total = len(left_out) + sum(clips.values())
        lines.append(f"left out {len(left_out)} of {total} clips: {first_few(list(left_out.values()))}")
    missing = _missing_phases(next(iter(rows.values())), clips) if rows else []  # the labels are the same for all rows
    if missing:
        lines.append(f"missing phases: {first_few(missing)}")
    return lines


def _missing_phases(row: EvalResult, clips: Mapping[str, int]) -> list[str]:
    """Where which phase is missing, the places that lack it wholly first."""
    by_share: list[tuple[float, str]] = []  # the share of the clips that lack it
    never_trained = {label for label, n in row.missing_classes.get("train", {}).items() if n == clips["train"]}
    for split, labels in row.missing_classes.items():
        for label, without in labels.items():
            of = "all" if without == clips[split] else f"{without} of"
            by_share.append((without / clips[split], f"{label} in {of} {clips[split]} {split} clips"))
    for fraction, unseen in row.unseen_classes.items():
        for label in sorted(set(unseen) - never_trained):
            by_share.append((1.0, f"{label} in the train clips of {_accuracy_heading(fraction)}"))
    by_share.sort(key=lambda place: -place[0])
    return [text for _, text in by_share]


def _accuracy_heading(fraction: float) -> str:
    """The heading of the accuracy with this share of the training clips: `acc .1`, `acc 1`."""
    return "acc " + f"{fraction:g}".removeprefix("0")


def _in_six(number: float) -> str:
    """A number in at most six characters, so that the table fits 80 columns; R^2 has no lower limit."""
    if math.isnan(number):
        return "-"
    if number <= -1000:
        return "< -999"
    return f"{number:.0f}" if number <= -10 else f"{number:.3f}"
