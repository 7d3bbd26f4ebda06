"""HTML in which all text is escaped that is not HTML already."""

from __future__ import annotations

import html
from collections.abc import Sequence

_EMPTY = ("meta", "img", "br")  # have no end


class Html(str):
    """Text that is HTML already; any other is escaped where it is put into a tag."""

    __slots__ = ()


def tag(element: str, /, *inside: str, **attributes: str | bool) -> Html:
    """An element; `class_` stands for `class`, `aria_label` for `aria-label`, and `True` for an attribute alone.

    Examples:
        >>> tag("p", "a < b", tag("br"), title="<script>")
        '<p title="&lt;script&gt;">a &lt; b<br></p>'
    """
    shown = ""
    for key, value in attributes.items():
        if value is not False:
            key = key.rstrip("_").replace("_", "-")
            shown += f" {key}" if value is True else f' {key}="{html.escape(value)}"'
    if element in _EMPTY:
        return Html(f"<{element}{shown}>")
    return Html(f"<{element}{shown}>{together(*inside)}</{element}>")


def together(*parts: str) -> Html:
    """Parts one after the other."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table whose first row and first column are headers, below its caption, in a frame as of `wide`.

    A cell that is a `td` already stands as it is.
    """
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [tag("tr", tag("th", name, scope="row"), *(map(_cell, cells))) for name, *cells in rows]
    inner = tag("table", tag("thead", head), tag("tbody", *body), aria_label=caption)
    return together(tag("p", caption, class_="soft"), wide(inner, caption))


def _cell(content: str) -> Html:
    return content if isinstance(content, Html) and content.startswith("<td") else tag("td", content)


def wide(inner: Html, label: str) -> Html:
    """A frame that scrolls sideways, by the keyboard too."""
    return tag("div", inner, class_="wide", role="region", tabindex="0", aria_label=label)
