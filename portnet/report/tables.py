"""Tables, and lists of facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from portnet.report.html import Html, join, tag

__all__ = ["details", "facts", "flat", "table"]


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Iterable[int] = (),
    classes: Sequence[str] = (),
) -> Html:
    """Return a table.

    Args:
        columns: what stands above.
        rows: cells, text or `Html`.
        numbers: columns that are aligned to the right.
        classes: CSS class of each row, or none.
    """
    right = set(numbers)
    head = join(*(_cell("th", name, i in right) for i, name in enumerate(columns)))
    body = [
        tag("tr", join(*(_cell("td", cell, i in right) for i, cell in enumerate(row))), class_=_class(classes, number))
        for number, row in enumerate(rows)
    ]
    return tag("div", tag("table", tag("thead", tag("tr", head)), tag("tbody", *body)), class_="scroll")


def _cell(name: str, content: object, is_number: bool) -> Html:
    return tag(name, content, class_="number" if is_number else None, scope="col" if name == "th" else None)


def _class(classes: Sequence[str], number: int) -> str | None:
    return (classes[number] if number < len(classes) else "") or None


def facts(pairs: Mapping[str, object]) -> Html:
    """Return names and values as a table of two columns; values that are None are left out."""
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in pairs.items() if value is not None
    ]
    return tag("div", tag("table", *rows, class_="facts"), class_="scroll")


def details(summary: str, *content: object, is_open: bool = False) -> Html:
    """Return content that is shown when its summary is clicked on."""
    return tag("details", tag("summary", summary), *content, open=is_open)


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested plain data as one level of text: ``{"optimizer": {"lr": 0.1}}`` → ``{"optimizer.lr": "0.1"}``."""
    found: dict[str, str] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = _text(value)
    return found


def _text(value: Any) -> str:
    if value is None or (isinstance(value, (Mapping, list, tuple)) and not value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
