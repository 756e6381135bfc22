"""Text in pictures, each character in the first font that has it. Pillow's own font knows ASCII alone."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from portnet.drawing.canvas import Anchor
from portnet.drawing.text import clean

__all__ = ["draw_text", "text_width"]

_REGULAR = ("LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf", "Helvetica.ttc", "DejaVuSans.ttf")
_BOLD = ("LiberationSans-Bold.ttf", "Arial Bold.ttf", "arialbd.ttf", "Helvetica.ttc", "DejaVuSans-Bold.ttf")
# for what those lack: other alphabets, then Chinese, Japanese and Korean
_WIDER = (
    "DejaVuSans.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "DroidSansFallbackFull.ttf",
    "msyh.ttc",
    "malgun.ttf",
    "Hiragino Sans GB.ttc",
)
_PLAIN = str.maketrans({"×": "x", "·": "-", "–": "-", "—": "-", "…": "...", "→": ">", "’": "'", "\ufffd": "?"})
# no character, so what a font draws for it is what it draws for everything that it lacks
_NO_CHARACTER = "\U0010ffff"


def text_width(text: str, size: int, bold: bool = False) -> float:
    """Return the width of text in pixels."""
    return sum(chosen.getlength(piece) for chosen, piece in _pieces(text, size, bold))


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
    pieces = _pieces(text, size, bold)
    length = sum(chosen.getlength(piece) for chosen, piece in pieces)
    shift = {"start": 0.0, "middle": length / 2, "end": length}[anchor]
    if not turned:
        _draw(image, (place[0] - shift, place[1]), pieces, fill)
        return
    strip = Image.new("L", (int(length) + size, 2 * size))
    _draw(strip, (0, int(1.5 * size)), pieces, 255)
    strip = strip.rotate(90, expand=True)
    image.paste(fill, (place[0] - int(1.5 * size), place[1] - strip.height + int(shift)), strip)


def _draw(image: Image.Image, place: tuple[float, float], pieces: Iterable[tuple[Any, str]], fill: Any) -> None:
    x, y = place
    for chosen, piece in pieces:
        if isinstance(chosen, ImageFont.FreeTypeFont):
            ImageDraw.Draw(image).text((x, y), piece, fill=fill, font=chosen, anchor="ls")
        else:  # a Pillow without FreeType has one small font, placed by its top left
            ImageDraw.Draw(image).text((x, y - 10), piece, fill=fill, font=chosen)
        x += chosen.getlength(piece)


def _pieces(text: str, size: int, bold: bool) -> list[tuple[Any, str]]:
    """Cut text where another font is needed; what no font has becomes a question mark."""
    text = clean(text).replace("\n", " ").replace("\t", " ")
    usual = _usual(size, bold)
    if not isinstance(usual, ImageFont.FreeTypeFont) or usual.getname()[0] == "Aileron":  # Pillow's own
        text = text.translate(_PLAIN)
    found = [_font_of(character, size, bold) for character in text]
    shown = [
        (usual, "?") if chosen is None else (chosen, character) for chosen, character in zip(found, text, strict=True)
    ]
    return [
        (chosen, "".join(character for _, character in run))
        for chosen, run in itertools.groupby(shown, key=lambda pair: pair[0])
    ]


@functools.lru_cache(4096)
def _font_of(character: str, size: int, bold: bool) -> Any:
    """Return the first font that has a character, or None."""
    usual = _usual(size, bold)
    if character.isascii() or _has(usual, character):
        return usual
    others = (_font(name, size) for name in _WIDER)
    return next((other for other in others if other is not None and _has(other, character)), None)


def _has(chosen: Any, character: str) -> bool:
    if not isinstance(chosen, ImageFont.FreeTypeFont):
        return character.isascii()
    drawn, missing = chosen.getmask(character), chosen.getmask(_NO_CHARACTER)
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@functools.lru_cache(64)
def _usual(size: int, bold: bool) -> Any:
    """Return a sans-serif font of ``size`` pixels: the system's, or else Pillow's own."""
    fonts = (_font(name, size) for name in (_BOLD if bold else _REGULAR))
    return next((found for found in fonts if found is not None), None) or ImageFont.load_default(size)


@functools.lru_cache(256)
def _font(name: str, size: int) -> Any:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
