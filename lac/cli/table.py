"""An evaluation for the terminal: the table of results, the remarks below it, and the table of alignment quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

    from lac.runs.alignment_quality import AlignmentQuality
    from lac.runs.evaluate import EvalResult


WIDTH = 80
_LEGEND = "acc: accuracy (share of train clips); progr: R²; tau: order; AP@K: retrieval"
_LEGEND_OF_MATCHING = "of posterior: recall, precision, hit; of path: error, covered, distracted"


def results_table(rows: Mapping[str, EvalResult], *, title: str, width: int = WIDTH) -> Group:
    """The table of an evaluation: a row for each embedding, the controls among them.

    Accuracy is shown for each share of labelled training clips, progression for the greatest; "no tau" counts
    the pairs of clips whose Kendall's tau is not a number. Where it is known whose the clips are, "people" is AP@K
    of the smallest K among the clips of other people. Columns for which `width` has no room are left out, those that
    say least first, and named below. See `docs/evaluation.md`.
    """
    first = next(iter(rows.values()))
    shares, ks = list(first.classification), list(first.retrieval)
    columns = {
        _accuracy_heading(share): [_in_six(row.classification[share]) for row in rows.values()] for share in shares
    }
    columns["progr"] = [_in_six(row.event_completion[max(row.event_completion)]) for row in rows.values()]
    columns["tau"] = [_in_six(row.kendalls_tau) for row in rows.values()]
    columns["no tau"] = [str(row.kendalls_tau_nan) for row in rows.values()]
    columns |= {f"AP@{k}": [_in_six(row.retrieval[k]) for row in rows.values()] for k in ks}
    notes = [_LEGEND, f"{first.classifier} classifier; tau: {first.kendalls_tau_pairs} pairs, stride {first.stride}"]
    if first.retrieval_other_people:
        k = min(first.retrieval_other_people)
        columns["people"] = [_in_six(row.retrieval_other_people[k]) for row in rows.values()]
        notes[-1] += f"; people: AP@{k} among clips of other people"
    middle, last = [f"AP@{k}" for k in sorted(ks)[1:-1]], [f"AP@{k}" for k in sorted(ks)[1:][-1:]]
    few = [_accuracy_heading(share) for share in sorted(shares, reverse=True)[1:]]
    return _table(title, list(rows), columns, notes, [*middle, *few[:-1], "no tau", *last, *few[-1:]], width)


def alignment_table(quality: AlignmentQuality, *, width: int = WIDTH) -> Group:
    """The table of alignment quality: a row for each aligner and one for its consensus below it, "-" where it has no
    such figure; for `width` see `results_table`. See `docs/evaluation.md`."""
    whose = f" of {quality.people} people" if quality.people else ""
    between = "of different people" if quality.people else "of different clips"
    names = ["  + consensus" if name.endswith(" + consensus") else name for name in quality.rows]
    figures = next(iter(quality.rows.values()))._fields
    columns = {figure: [_in_six(getattr(row, figure)) for row in quality.rows.values()] for figure in figures}
    notes = [_LEGEND_OF_MATCHING, f"mean over {quality.pairs} ordered pairs {between}; error in phases"]
    title = f"matching of {len(quality.clips)} validation clips{whose}"
    return _table(title, names, columns, notes, ["distracted", "recall", "precision", "covered"], width)


def _table(
    title: str, names: Sequence[str], columns: dict[str, list[str]], notes: Sequence[str], spare: list[str], width: int
) -> Group:
    """A table whose columns are whole in `width`: what has no room is left out, the first of `spare` first."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def taken(cells: Sequence[str]) -> int:
        return max(map(len, cells)) + 1

    left_out: list[str] = []
    while spare and 1 + sum(map(taken, (names, *([name, *cells] for name, cells in columns.items())))) > width:
        left_out.append(spare.pop(0))
        del columns[left_out[-1]]
    if left_out:
        notes = [*notes, f"no room for: {', '.join(left_out)}"]
    table = Table(title=title, box=box.SIMPLE, padding=0)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in zip(names, *columns.values(), strict=True):
        table.add_row(*row)
    return Group(table, *(Text(note, style="italic dim") for note in notes))


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
