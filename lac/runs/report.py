"""`report.html`: what lies in a run folder, put together into one page."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lac.bounds import read_text
from lac.data.reading import read_json
from lac.errors import DataError
from lac.files import atomic_path, is_sealed
from lac.runs.config import CONFIG
from lac.runs.drawing import PLOTS
from lac.runs.page import Media, Page, to_html

REPORT = "report.html"
METRICS = "metrics.json"
_JUDGED = ("clips", "results", "alignment", "verdict", "doubts", "left_out")
_LARGEST = 6_000_000  # bytes of a file that is put into the page
_TYPES = {".png": "image/png", ".mp4": "video/mp4"}
# By file: the heading, and how to read it.
_PARTS = {
    "alignment.png": (
        "Two clips aligned",
        "Red scores speak for a match, blue ones against it. Beside them: how likely each match is, over all "
        "alignments, with the best single one as a line. A bright, narrow band through the boxes (equal phases) is "
        "good; a broad and dim one says that the alignment is unsure.",
    ),
    "frames.png": (
        "Frames at matched moments",
        "Each frame stands at its time, and lines join what the best alignment matches. Grey stretches have no match.",
    ),
    "side_by_side.mp4": (
        "Side by side",
        "The second video follows the first one's timing; it is dimmed where nothing matches.",
    ),
    "retrieval.png": (
        "Nearest frames",
        "In each row a frame, then the nearest frames of other clips by their embeddings. Green border: the phase "
        "agrees; red: it does not; grey: not known.",
    ),
    "curves.png": ("Training", "The terms of the loss, the learning rate and the learned penalties over the steps."),
}


def write_page(folder: str | Path, judged: Mapping[str, Any] | None = None) -> Path:
    """Write `report.html` of a run folder, from its `config.yaml`, `metrics.json` and `plots/`; whole or not at all.

    Args:
        folder: of a finished run.
        judged: as in `evaluation.json`, of the run on its own data: shown in place of the results of the run.

    Raises:
        OSError, ValueError: there is no `metrics.json`, it is damaged, or the page cannot be written.
    """
    folder = Path(folder)
    metrics = read_metrics(folder)
    if judged is not None:
        metrics |= {key: judged[key] for key in _JUDGED if key in judged}
    settings = read_text(folder / CONFIG)
    try:
        page = Page(
            title=str(metrics.get("data", folder.name)),
            run=folder.absolute().name,
            metrics=metrics,
            settings=settings,
            media=[medium for name in _PARTS if (medium := _medium(folder / PLOTS, name, metrics))],
        )
        html = to_html(page)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{folder / METRICS} is not as a run writes it: {type(error).__name__}: {error}") from error
    with atomic_path(folder / REPORT) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return folder / REPORT


def read_metrics(folder: Path) -> dict[str, Any]:
    """What `metrics.json` of a run folder holds.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    metrics = read_json(folder / METRICS)
    if not isinstance(metrics, dict) or not is_sealed(metrics):
        raise DataError(f"{folder / METRICS} is damaged; lac-train --resume {folder} writes it again")
    return metrics


def _medium(plots: Path, name: str, metrics: Mapping[str, Any]) -> Media | None:
    """A picture of the run; `None` for one that it was not to draw."""
    path, (heading, reading) = plots / name, _PARTS[name]
    missing = (metrics.get("not_drawn") or {}).get(name)
    shows = (metrics.get("pictures") or {}).get(name)
    if missing is None and shows is None and not path.is_file():
        return None
    if missing is None and not path.is_file():
        missing = f"{PLOTS}/{name} is not there any more"
    if missing is None and path.is_symlink():  # the page may be sent on, with what lies in the folder and no more
        missing = f"{PLOTS}/{name} is a link to elsewhere"
    if missing is None and path.stat().st_size > _LARGEST:
        missing = f"{PLOTS}/{name} is too large for this page, {path.stat().st_size / 1e6:.0f} MB; it lies in the run"
    if missing is not None:
        return Media(heading, reading, missing=str(missing))
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return Media(heading, reading, str(shows or ""), f"data:{_TYPES[path.suffix]};base64,{content}")
