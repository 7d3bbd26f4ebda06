"""The numbers of a run as TensorBoard reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lac.files import while_writing
from lac.runs.evaluate import EvalResult
from lac.runs.fit import Progress

_NUMBERS = " the numbers for TensorBoard"  # whose errors do not say what could not be written


def flat(numbers: Progress) -> dict[str, float]:
    """All numbers of a logging step by name."""
    terms = {"loss" if name == "total" else name: value for name, value in numbers.terms.items()}
    return terms | {"gradient_norm": numbers.gradient, "lr": numbers.lr} | numbers.learned


def tags(result: EvalResult, data: str) -> dict[str, float]:
    """The tags under which TCC and CARL log their evaluation."""
    values = {
        "kendalls_tau/val_align_tau": result.kendalls_tau,
        f"metrics/{data}_kendalls_tau": result.kendalls_tau,
    }
    for fraction, value in result.classification.items():
        values[f"classification/val_{data}_{fraction:g}_accuracy"] = value
    for fraction, value in result.event_completion.items():
        values[f"event_completion/val_{data}_{fraction:g}_score"] = value
    for k, value in result.retrieval.items():
        values[f"AP/val set {k}_align_precision"] = value
    for k, value in result.retrieval_other_people.items():
        values[f"AP/val other people {k}_align_precision"] = value
    values[f"metrics/{data}_classification"] = result.classification[max(result.classification)]
    values[f"metrics/{data}_event_completion"] = result.event_completion[max(result.event_completion)]
    values[f"metrics/{data}_retrieval"] = result.retrieval[min(result.retrieval)]
    return values


@contextmanager
def events(folder: Path, step: int) -> Iterator[Callable[[Mapping[str, float], int], None]]:
    """A function that logs numbers by tag at a step, for TensorBoard.

    TensorBoard writes in a thread and raises what went wrong there at the next call. The thread's own
    traceback on the terminal would only say the same again, so it is left out.

    Raises:
        OSError: it could not write; the message names `folder`.
    """
    from torch.utils.tensorboard import SummaryWriter

    before = threading.excepthook
    threading.excepthook = lambda arguments: None
    with while_writing(folder, _NUMBERS):
        writer = SummaryWriter(folder, purge_step=step or None)

    def log(values: Mapping[str, float], step: int) -> None:
        with while_writing(folder, _NUMBERS):
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)

    try:
        yield log
    finally:
        threading.excepthook = before
        with while_writing(folder, _NUMBERS):
            writer.close()
