"""Text in pictures. A system's sans-serif is used where there is one; Pillow's own font knows ASCII alone."""

from __future__ import annotations

import functools
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from portnet.drawing.canvas import Anchor
from portnet.drawing.text import clean

__all__ = ["draw_text", "font", "legible", "text_width"]

_REGULAR = ("LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf", "Helvetica.ttc", "DejaVuSans.ttf")
_BOLD = ("LiberationSans-Bold.ttf", "Arial Bold.ttf", "arialbd.ttf", "Helvetica.ttc", "DejaVuSans-Bold.ttf")
_PLAIN = str.maketrans({"×": "x", "·": "-", "–": "-", "—": "-", "…": "...", "→": ">", "’": "'", "\ufffd": "?"})


@functools.lru_cache(64)
def font(size: int, bold: bool = False) -> Any:
    """Return a sans-serif font of ``size`` pixels: the system's, or else Pillow's own."""
    for name in _BOLD if bold else _REGULAR:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def legible(text: str, chosen: Any) -> str:
    """Return text in characters that the font can show; what it cannot show becomes a question mark."""
    text = clean(text).replace("\n", " ").replace("\t", " ")
    if not _is_own(chosen):
        return text
    return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")


def _is_own(chosen: Any) -> bool:
    return not isinstance(chosen, ImageFont.FreeTypeFont) or chosen.getname()[0] == "Aileron"


def text_width(text: str, size: int, bold: bool = False) -> float:
    """Return the width of text in pixels."""
    chosen = font(size, bold)
    return chosen.getlength(legible(text, chosen))


def draw_text(
    image: Image.Image,
    place: tuple[int, int],
    text: str,
    size: int,
    fill: Any,
    *,
    anchor: Anchor = "start",
    bold: bool = False,
    turned: bool = False,
) -> None:
    """Write text on a picture; ``place`` is on its baseline, at its start, middle or end."""
    chosen = font(size, bold)
    text = legible(text, chosen)
    if not turned:
        side = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        _draw(image, place, text, chosen, fill, side)
        return
    length = int(chosen.getlength(text)) + size
    strip = Image.new("L", (length, 2 * size))
    _draw(strip, (0, int(1.5 * size)), text, chosen, 255, "ls")
    strip = strip.rotate(90, expand=True)
    shift = {"start": 0, "middle": (length - size) // 2, "end": length - size}[anchor]
    image.paste(fill, (place[0] - int(1.5 * size), place[1] - length + shift), strip)


def _draw(image: Image.Image, place: tuple[int, int], text: str, chosen: Any, fill: Any, side: str) -> None:
    if isinstance(chosen, ImageFont.FreeTypeFont):
        ImageDraw.Draw(image).text(place, text, fill=fill, font=chosen, anchor=side)
    else:  # a Pillow without FreeType has one small font, placed by its top left
        ImageDraw.Draw(image).text((place[0], place[1] - 10), text, fill=fill, font=chosen)
