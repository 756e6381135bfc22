"""HTML elements. Text is escaped unless it is `Html`, so what comes of names and paths is never markup."""

from __future__ import annotations

from portnet.drawing.text import escape

__all__ = ["Html", "join", "tag"]

_EMPTY = frozenset({"img", "meta", "br"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def join(*parts: object) -> Html:
    """Return parts one after the other, escaped unless they are `Html`; None is nothing."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    >>> tag("td", "1 < 2", class_="number")
    '<td class="number">1 &lt; 2</td>'

    Args:
        name: the element's name.
        children: `Html`, or text to be escaped.
        attributes: a trailing underscore is dropped, others become dashes; None leaves one out, True has no value.
    """
    written = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written += f" {key}" if value is True else f' {key}="{escape(value)}"'
    return Html(f"<{name}{written}>" if name in _EMPTY else f"<{name}{written}>{join(*children)}</{name}>")
