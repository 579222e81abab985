"""Text and tables as HTML, with every stranger's word escaped: names in scenarios and traces are anybody's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

#: What else a cell of a table may be: text that is already markup.
_NUMBER = re.compile(r"[-+−]?[0-9][0-9.,]*( (%|±|ms|s|min|h|[A-Za-z/]+).*)?|–")  # noqa: RUF001 -- signs of tables


class Html(str):
    """Markup; any other ``str`` is text."""

    __slots__ = ()


def text(value: str) -> Html:
    """Text as markup."""
    return value if isinstance(value, Html) else Html(escape(value))


def element(name: str, *children: str, **attributes: str) -> Html:
    """An element. ``class_`` is the attribute ``class``; ``data_x`` is ``data-x``."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    return Html(f"<{name}{told}>{''.join(map(text, children))}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """One after the other."""
    return Html("\n".join(map(text, parts)))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> Html:
    """A table that can be read aloud: a caption, heads with scope, the first cell of a row heads it.

    Columns of numbers are aligned to the right.
    """
    kept = [list(row) for row in rows]
    numeric = [
        bool(kept) and all(_NUMBER.fullmatch(row[place]) or not row[place] for row in kept)
        for place in range(len(heads))
    ]
    classes = ["number" if each else "" for each in numeric]
    head = joined(element("th", each, scope="col", class_=kind) for each, kind in zip(heads, classes, strict=True))
    body = joined(_row(row, classes) for row in kept)
    whole = element(
        "table", element("caption", caption), element("thead", element("tr", head)), element("tbody", body)
    )
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _row(row: Sequence[str], classes: Sequence[str]) -> Html:
    first = element("th", row[0], scope="row", class_=classes[0])
    return element(
        "tr", first, *(element("td", cell, class_=kind) for cell, kind in zip(row[1:], classes[1:], strict=True))
    )


def section(heading: str, *children: str) -> Html:
    """A part of the page under a heading."""
    return element("section", element("h2", heading), *children)


def items(lines: Iterable[str]) -> Html:
    """A list."""
    return element("ul", *(element("li", line) for line in lines))


def details(summary: str, *children: str) -> Html:
    """What is there for those who ask."""
    return element("details", element("summary", summary), *children)
