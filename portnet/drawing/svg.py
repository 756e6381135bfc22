"""The canvas that becomes SVG: a document of its own, or a fragment inside a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from portnet.drawing.canvas import Anchor, Command
from portnet.drawing.text import escape
from portnet.drawing.theme import paint_light

__all__ = ["SvgCanvas"]

_FONT = "Helvetica,Arial,'Liberation Sans',sans-serif"


class SvgCanvas:
    """Collects SVG elements; the same calls give the same bytes.

    Args:
        width: in pixels.
        height: in pixels.
        paint: from a role to an SVG paint.
        label: what a screen reader says of the drawing.
    """

    def __init__(self, width: float, height: float, paint: Callable[[str], str] = paint_light, label: str = "") -> None:
        self.width, self.height, self.label = width, height, label
        self._paint = paint
        self._elements: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str | None = None,
        stroke: str | None = None,
        thickness: float = 1,
        radius: float = 0,
        opacity: float = 1,
        title: str = "",
    ) -> None:
        """Draw a rectangle."""
        place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        corners = f' rx="{_n(radius)}"' if radius else ""
        self._add("rect", place + corners + self._style(fill, stroke, thickness, opacity), title)

    def path(
        self,
        commands: Sequence[Command],
        *,
        fill: str | None = None,
        stroke: str | None = None,
        thickness: float = 1,
        dash: bool = False,
        opacity: float = 1,
        title: str = "",
    ) -> None:
        """Draw a path."""
        d = "".join(f"{kind}{' '.join(_n(float(n)) for n in numbers)}" for kind, *numbers in commands)
        dashes = ' stroke-dasharray="5 4"' if dash else ""
        joins = ' stroke-linejoin="round" stroke-linecap="round"' if stroke else ""
        self._add("path", f'd="{d}"{self._style(fill, stroke, thickness, opacity)}{joins}{dashes}', title)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        fill: str = "ink",
        anchor: Anchor = "start",
        bold: bool = False,
        turned: bool = False,
        title: str = "",
    ) -> None:
        """Write text."""
        place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{self._paint(fill)}"'
        place += f' text-anchor="{anchor}"' if anchor != "start" else ""
        place += ' font-weight="600"' if bold else ""
        place += f' transform="rotate(-90 {_n(x)} {_n(y)})"' if turned else ""
        self._add("text", place, title, escape(text))

    def fragment(self) -> str:
        """Return an ``<svg>`` element for a page of HTML, as wide as it is given room for up to its own width."""
        size = f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" style="width:100%;max-width:{_n(self.width)}px"'
        return f'<svg {size} role="img" aria-label="{escape(self.label)}" font-family="{_FONT}">{self._body()}</svg>'

    def document(self) -> str:
        """Return a document of its own, on a page of the theme's colour."""
        size = f'width="{_n(self.width)}" height="{_n(self.height)}" viewBox="0 0 {_n(self.width)} {_n(self.height)}"'
        page = f'<rect width="100%" height="100%" fill="{self._paint("page")}"/>\n'
        body = page + self._body("\n")
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}">\n{body}\n</svg>\n'
        )

    def _body(self, separator: str = "") -> str:
        return separator.join(self._elements)

    def _style(self, fill: str | None, stroke: str | None, thickness: float, opacity: float) -> str:
        style = f' fill="{self._paint(fill) if fill else "none"}"'
        if stroke:
            style += f' stroke="{self._paint(stroke)}" stroke-width="{_n(thickness)}"'
        return style + (f' opacity="{_n(opacity)}"' if opacity != 1 else "")

    def _add(self, tag: str, attributes: str, title: str, content: str = "") -> None:
        inside = content + (f"<title>{escape(title)}</title>" if title else "")
        self._elements.append(f"<{tag} {attributes}>{inside}</{tag}>" if inside else f"<{tag} {attributes}/>")


def _n(number: float) -> str:
    """Return a number in as few characters as hundredths of a pixel need."""
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
