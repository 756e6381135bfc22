"""Text that comes from file names and labels: made safe for XML, measured and shortened without a font at hand."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Literal

__all__ = ["clean", "escape", "figure", "fit", "width", "wrap"]

# what XML 1.0 cannot hold: control characters, surrogates (of undecodable file names), U+FFFE and U+FFFF
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# control characters that turn the direction of what follows them
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")

# advance widths of Helvetica in thousandths of the size (Adobe Core 14 AFM), by group
_WIDTHS = {
    "ijl'": 222,
    " !,./:;I[\\]ft|": 278,
    "()-`r{}": 333,
    "Jckstvxyz": 500,
    "FTZ": 611,
    "ABEKPSVXY&": 667,
    "CDHNRUw": 722,
    "GOQ": 778,
    "Mm": 833,
    "W": 944,
    "%": 889,
    "@": 1015,
    "+<=>~×": 584,
    "·": 278,
    "…": 1000,
}
_WIDTH = {character: units for group, units in _WIDTHS.items() for character in group}
_OTHER_LATIN, _WIDE = 556, 1000


def clean(text: str) -> str:
    """Return text without characters that XML forbids or that reverse its direction; each becomes U+FFFD."""
    return _TURNING.sub("\ufffd", _FORBIDDEN.sub("\ufffd", text))


def escape(text: object) -> str:
    """Return text for an XML or HTML element or attribute."""
    return html.escape(clean(str(text)))


def figure(loss: float) -> str:
    """Return a loss with four decimals or, where a run diverges, with its power of ten.

    >>> figure(0.25), figure(7.145e31)
    ('0.2500', '7.145e+31')
    """
    return f"{loss:.4f}" if abs(loss) < 1e6 else f"{loss:.3e}"


def width(text: str, size: float) -> float:
    """Return the width of text in Helvetica or a font of its measure (Arial, Liberation Sans), in units of ``size``."""
    return sum(_units(character) for character in text) * size / 1000


def fit(text: str, size: float, room: float, *, keep: Literal["start", "end"] = "end") -> str:
    """Return text, or as much of its end (which tells more of a name) or of its start as fits, with an ellipsis."""
    if width(text, size) <= room:
        return text
    while text and width("…" + text, size) > room:
        text = text[1:] if keep == "end" else text[:-1]
    return "…" + text if keep == "end" else text + "…"


def wrap(text: str, room: float, most: int, measure: Callable[[str], float]) -> list[str]:
    """Return text in lines that fit, cut behind what separates words where there is some; the last may be shortened.

    Args:
        text: the text.
        room: most that a line may measure.
        most: most lines.
        measure: the width of a piece of text.
    """
    lines: list[str] = []
    while measure(text) > room and len(lines) < most - 1:
        end = len(text)
        while end > 1 and measure(text[:end]) > room:
            end -= 1
        place = max(text.rfind(mark, end // 2, end) for mark in " _-/.,") + 1
        end = place or end
        lines.append(text[:end].rstrip())
        text = text[end:]
    if measure(text) > room:
        while text and measure(text + "…") > room:
            text = text[:-1]
        text += "…"
    return [*lines, text]


def _units(character: str) -> int:
    return _WIDTH.get(character, _OTHER_LATIN if character < "\u2e80" else _WIDE)
