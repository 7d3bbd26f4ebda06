"""A run as one HTML page: everything in it, nothing fetched, no script. Parts in, text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lac.data.doubts import first_few
from lac.runs.markup import Html, table, tag, wide

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de; --tint: #f3f5f7;
  --link: #0072b2 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --soft: #9aa4af; --line: #3a424c;
  --tint: #1f242a; --link: #5bb3e6 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 72rem; margin: 0 auto; padding: 1.2rem 1rem 3rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .4rem 0; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line) }
p, li, dd, dt, figcaption { max-width: 46rem; overflow-wrap: anywhere }
.soft, figcaption { color: var(--soft); font-size: .9rem }
.verdict { border-left: 4px solid var(--link); padding: .2rem 0 .2rem .9rem; font-size: 1.05rem }
.verdict p { margin: .35rem 0 }
.wide { overflow-x: auto; max-width: 100% }
.wide:focus-visible { outline: 2px solid var(--link) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child { text-align: left }
thead th { vertical-align: bottom; white-space: normal; min-width: 5rem }
tbody th { font-weight: 600 }
td.best { font-weight: 700; background: var(--tint) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; font-size: .92rem }
dt { font-weight: 600 } dd { margin: 0 }
figure { margin: 1rem 0 }
figcaption { margin-top: .4rem }
figure img { display: block; max-width: max(100%, 42rem); height: auto; background: #fff; border-radius: 6px }
video { display: block; width: min(100%, 36rem); border-radius: 6px; background: #000 }
pre { background: var(--tint); padding: .8rem; overflow-x: auto; font-size: .85rem; border-radius: 6px }
summary { cursor: pointer; color: var(--link) }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr } dd { margin-bottom: .4rem } }
"""
# Neither a script nor anything from elsewhere, whatever the names in it hold.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
_NONE = "–"


@dataclass(frozen=True)
class Media:
    """A picture or a video of the page.

    Attributes:
        heading: of its section.
        reading: how it is to be read.
        shows: what this one shows; also its text for those who do not see it.
        uri: its content as a data URI; empty where there is none.
        missing: why there is none.
    """

    heading: str
    reading: str
    shows: str = ""
    uri: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Page:
    """What stands on the page of a run.

    Attributes:
        title: the name of the data.
        run: the name of the run folder.
        metrics: as in `metrics.json`; what is not there is left out.
        settings: `config.yaml`.
        media: pictures and videos, in order.
    """

    title: str
    run: str
    metrics: Mapping[str, Any]
    settings: str
    media: Sequence[Media] = field(default_factory=tuple)


def to_html(page: Page) -> str:
    """The page as text: self-contained, every name in it escaped."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{page.title} – {page.run}"),
        tag("style", Html(_STYLE)),
    )
    metrics = page.metrics
    main = tag(
        "main",
        _header(page),
        _results(metrics),
        _remarks(metrics),
        *(_media(medium) for medium in page.media),
        _settings(page.settings),
        _versions(metrics),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', main), lang='en')}\n"


def _header(page: Page) -> Html:
    metrics, facts = page.metrics, []
    if clips := metrics.get("clips"):
        facts.append(f"{clips['train']} training and {clips['val']} validation clips")
    if "steps" in metrics:
        facts.append(f"{metrics['steps']} steps")
    if environment := metrics.get("environment"):
        facts.append(f"lac {environment.get('lac', '?')} on {environment.get('device', '?')}")
    verdict = metrics.get("verdict") or []
    said = tag("div", *(tag("p", str(sentence)) for sentence in verdict), class_="verdict") if verdict else Html("")
    return tag(
        "header", tag("h1", page.title), tag("p", f"Run {page.run}: " + ", ".join(facts) + ".", class_="soft"), said
    )


def _results(metrics: Mapping[str, Any]) -> Html:
    results = metrics.get("results") or {}
    heading = tag("h2", "Results")
    if not results:
        return tag("section", heading, tag("p", f"Not evaluated: {metrics.get('not_evaluated') or 'no result'}."))
    columns = _columns(next(iter(results.values())))
    figures = [[column.value(row) for column in columns] for row in results.values()]
    best = [max((x for x in column if x is not None), default=None) for column in zip(*figures, strict=True)]
    rows = [
        [name, *(_cell(x, most if column.more else None) for x, most, column in zip(row, best, columns, strict=True))]
        for name, row in zip(results, figures, strict=True)
    ]
    first = next(iter(results.values()))
    caption = (
        f"Validation clips, by the trained encoder and by what has learned nothing; {first.get('classifier', '?')} "
        f"classifier, tau of {first.get('kendalls_tau_pairs', '?')} pairs at stride {first.get('stride', '?')}. "
        "Marked: the greatest of each column."
    )
    legend = _terms(_CONTROLS | {column.heading: column.legend for column in columns})
    return tag(
        "section",
        heading,
        table(caption, ["", *(column.heading for column in columns)], rows),
        tag("details", tag("summary", "What rows and columns mean"), legend),
        *([_matching(metrics["alignment"])] if metrics.get("alignment") else []),
    )


_CONTROLS = {
    "time index": "A control that has seen nothing: the number of a frame, divided by the length of its clip.",
    "raw features": "A control: the frames themselves.",
    "random encoder": "A control: the encoder that was trained, with the weights that it started from.",
}


@dataclass(frozen=True)
class _Column:
    """A column of the results: where its figure stands in a row of `metrics["results"]`, and whether more is better."""

    heading: str
    legend: str
    keys: tuple[str, ...]
    more: bool = True

    def value(self, row: Mapping[str, Any]) -> float | None:
        """The figure; `None` where there is none."""
        found: Any = row
        for key in self.keys:
            found = (found or {}).get(key)
        return found if isinstance(found, int | float) and math.isfinite(found) else None


def _columns(row: Mapping[str, Any]) -> list[_Column]:
    """The columns for which a row has figures."""
    columns = [
        _Column(
            f"accuracy, {100 * float(share):g} %",
            f"Share of the frames whose phase a classifier tells that saw {100 * float(share):g} % of the training "
            "clips.",
            ("classification", share),
        )
        for share in row.get("classification") or {}
    ]
    shares = row.get("event_completion") or {}
    if shares:
        progress = "R² of a linear fit of how far the action has come; 1 is perfect, and it has no lower limit."
        columns.append(_Column("progression", progress, ("event_completion", max(shares, key=float))))
    tau = "Whether nearest frames of two clips come in the same order, from -1 to 1. The time index has it for nothing."
    columns.append(_Column("tau", tau, ("kendalls_tau",)))
    without = "Pairs of clips without a tau, as all nearest frames are one and the same."
    columns.append(_Column("no tau", without, ("kendalls_tau_nan",), more=False))
    for key, whose in (("retrieval", "other clips"), ("retrieval_other_people", "clips of other people")):
        for k in row.get(key) or {}:
            heading = f"AP@{k}" if key == "retrieval" else f"AP@{k}, other people"
            legend = f"Share of a frame's {k} nearest frames in {whose} that have its phase."
            columns.append(_Column(heading, legend, (key, k)))
    return columns


def _cell(value: float | None, best: float | None) -> str:
    if value is None:
        return _NONE
    text = f"{value:d}" if isinstance(value, int) else f"{value:.3f}"
    return tag("td", text, class_="best") if value == best else text


def _matching(quality: Mapping[str, Any]) -> Html:
    """The table of `lac-eval --alignment`."""
    rows = quality["rows"]
    headings = list(next(iter(rows.values())))
    cells = [[name, *(_cell(row[key], None) for key in headings)] for name, row in rows.items()]
    caption = (
        f"Matching of {len(quality['clips'])} validation clips, mean over {quality['pairs']} ordered pairs; error in "
        "phases."
    )
    return table(caption, ["", *headings], cells)


def _remarks(metrics: Mapping[str, Any]) -> Html:
    """What makes the result say less than it seems to."""
    lines = [str(doubt) for doubt in metrics.get("doubts") or []]
    left_out = metrics.get("left_out") or {}
    if left_out:
        lines.append(f"left out {len(left_out)} clips: {first_few(list(map(str, left_out.values())))}")
    if not lines:
        return Html("")
    return tag("section", tag("h2", "Remarks"), tag("ul", *(tag("li", line) for line in lines)))


def _media(medium: Media) -> Html:
    heading = tag("h2", medium.heading)
    if not medium.uri:
        return tag("section", heading, tag("p", f"Not drawn: {medium.missing}", class_="soft"))
    text = f"{medium.heading}: {medium.shows}" if medium.shows else medium.heading
    if medium.uri.startswith("data:video/"):
        playing = {"controls": True, "muted": True, "loop": True, "playsinline": True}
        shown = tag("video", src=medium.uri, aria_label=text, **playing)
    else:
        shown = wide(tag("img", src=medium.uri, alt=text), medium.heading)
    caption = f"{medium.shows}. {medium.reading}" if medium.shows else medium.reading
    return tag("section", heading, tag("figure", shown, tag("figcaption", caption)))


def _settings(settings: str) -> Html:
    if not settings:
        return Html("")
    shown = tag("pre", settings, tabindex="0", aria_label="config.yaml")
    return tag("section", tag("h2", "Settings"), tag("details", tag("summary", "config.yaml"), shown))


def _versions(metrics: Mapping[str, Any]) -> Html:
    facts = {str(key): str(value) for key, value in (metrics.get("environment") or {}).items()}
    facts |= {f"seconds of {what}": f"{value:.1f}" for what, value in (metrics.get("seconds") or {}).items()}
    if not facts:
        return Html("")
    return tag("section", tag("h2", "Versions"), _terms(facts))


def _terms(terms: Mapping[str, str]) -> Html:
    """A list of terms, and what each of them is."""
    return tag("dl", *(part for term, text in terms.items() for part in (tag("dt", term), tag("dd", text))))
