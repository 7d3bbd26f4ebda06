"""The runner: sides take turns on the same fresh problems, so that what else the machine does falls on all of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from lac.measure.clock import Timer, too_large
from lac.measure.gate import exact_answer, failure, judge
from lac.measure.problem import Inputs, Shape, random_inputs
from lac.measure.rows import Row
from lac.measure.sides import Side

_MOST_ROUNDS = 100
_WARM_UP_SEED, _FIRST_SEED = 1, 2


class _Case(NamedTuple):
    """What all sides are measured on."""

    shape: Shape
    mode: str
    dtype: torch.dtype
    device: torch.device

    def inputs(self, seed: int) -> Inputs:
        return random_inputs(self.shape, self.mode, self.dtype, self.device, seed)

    def __str__(self) -> str:
        return f"{self.shape} {self.mode}"


@dataclass
class _Entry:
    """A side that takes part."""

    side: Side
    timer: Timer
    error: float = float("nan")


def measure(
    sides: Iterable[Side],
    shape: Shape,
    *,
    mode: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device,
    refused: Mapping[str, str] | None = None,
    seconds: float = 0.5,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """A row for each side on one shape.

    Args:
        sides: what to measure.
        shape: of the scores.
        mode: see `differentiated`.
        dtype: of the scores.
        device: of the scores.
        refused: by the name of a side, why it is not timed (from `gate`).
        seconds: time spent on each side, not counting its first, untimed runs. At least one run is timed.
        tell: is told what is being done.
    """
    sides = list(sides)
    case = _Case(shape, mode, dtype, device)
    skipped: dict[str, str] = {}
    entries = []
    for side in sides:
        reason = (refused or {}).get(side.name) or _not_tried(side, case)
        if reason is None:
            entries.append(_Entry(side, Timer(seconds, device)))
        else:
            skipped[side.name] = reason
    skipped |= _warm_up(entries, case, tell)
    skipped |= _take_turns([entry for entry in entries if entry.side.name not in skipped], case, tell)
    timed = {entry.side.name: entry for entry in entries}
    return [
        _row(side, case)
        | ({"skipped": skipped[side.name]} if side.name in skipped else _numbers(timed[side.name], case))
        for side in sides
    ]


def _not_tried(side: Side, case: _Case) -> str | None:
    """Why a side is not tried on problems of this size."""
    if side.max_cells is not None and case.shape.cells > side.max_cells:
        return f"would take minutes; timed up to {side.max_cells} cells"
    number = 8 if case.dtype == torch.float64 else 4
    needed = 2 * number + side.bytes_per_cell * number / 4 * (4 if case.mode == "second" else 1)
    return too_large(case.shape.padded_cells * needed, case.device)


def _warm_up(entries: Sequence[_Entry], case: _Case, tell: Callable[[str], None]) -> dict[str, str]:
    """The first, untimed runs of each side, whose answers are judged: why those that fail are not timed, by name."""
    if not entries:
        return {}
    failed = {}
    inputs = case.inputs(_WARM_UP_SEED)
    tell(f"{case}: float64")
    exact = exact_answer(inputs, case.mode)
    for entry in entries:
        tell(f"{case}: {entry.side.name}")
        try:
            answer = entry.timer.warm_up(lambda side=entry.side: side.prepare(inputs, case.mode))  # type: ignore[misc]
            entry.error, reason = judge(answer, exact, inputs)
        except Exception as error:  # a side that fails must not stop the others
            reason = failure(error)
        if reason is not None:
            failed[entry.side.name] = reason
    return failed


def _take_turns(entries: Sequence[_Entry], case: _Case, tell: Callable[[str], None]) -> dict[str, str]:
    """Time the sides in turn, each round on a fresh problem: why those that fail have no time, by name."""
    failed: dict[str, str] = {}
    for turn in range(_MOST_ROUNDS):
        waiting = [entry for entry in entries if not entry.timer.done and entry.side.name not in failed]
        if not waiting:
            break
        inputs = case.inputs(_FIRST_SEED + turn)
        for entry in waiting:
            tell(f"{case}: {entry.side.name}")
            try:
                entry.timer.turn(entry.side.prepare(inputs, case.mode))
            except Exception as error:  # as above
                failed[entry.side.name] = failure(error)
    return failed


def _row(side: Side, case: _Case) -> Row:
    """What stands in the row of a side whether it is timed or not."""
    shape = case.shape
    seconds = side.estimate and side.estimate(shape, case.mode, case.dtype)
    ragged = f"; a ragged batch: {side.ragged}" if shape.lengths1 and side.ragged else ""
    return {
        "mode": case.mode,
        "dtype": str(case.dtype).removeprefix("torch."),
        "batch": str(shape.batch),
        "n": _listed(shape.n, shape.lengths1),
        "m": _listed(shape.m, shape.lengths2),
        "side": side.name,
        "computes": side.computes + ragged,
        "version": side.version,
        "ms_estimated": f"{1e3 * seconds:.4g}" if seconds else "",
    }


def _listed(size: int, lengths: tuple[int, ...]) -> str:
    """A size as it stands in a row: that of each pair, if they differ."""
    return " ".join(map(str, lengths)) or str(size)


def _numbers(entry: _Entry, case: _Case) -> Row:
    """What was measured."""
    timer = entry.timer
    low, middle, high = timer.percentiles()
    return {
        "ms_p20": f"{1e3 * low:.4g}",
        "ms_p50": f"{1e3 * middle:.4g}",
        "ms_p80": f"{1e3 * high:.4g}",
        "mcells_per_s": f"{case.shape.cells / middle / 1e6:.4g}",
        "peak_bytes": "" if timer.peak is None else str(timer.peak),
        "error": "" if entry.error != entry.error else f"{entry.error:.2g}",
        "rounds": str(len(timer.seconds)),
    }
