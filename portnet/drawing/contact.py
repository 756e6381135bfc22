"""A contact sheet: small pictures in a grid, a few lines of text below each."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from portnet.data.images import ImageSource, open_image
from portnet.drawing.fonts import draw_text, text_width
from portnet.drawing.text import wrap
from portnet.drawing.theme import paint_light
from portnet.errors import InputError, UnknownNameError
from portnet.files import replace_file

__all__ = ["Tile", "contact_sheet", "thumbnail"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_SIDE, _GAP, _MARGIN, _TEXT, _LINE, _BAR = 220, 24, 28, 14, 19, 12
_MOST_LINES = 3


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Attributes:
        image: a path, PIL image or uint8 array.
        lines: text below it, each with a number, or "", that stands at the right; the first in bold. A line that is too
            long goes on below.
        is_right: decides the colour of the bar beside the text.
    """

    image: ImageSource
    lines: tuple[tuple[str, str], ...]
    is_right: bool = True


def contact_sheet(tiles: Sequence[Tile], path: str | os.PathLike[str], *, columns: int = 5) -> Path:
    """Draw a contact sheet into a file.

    Raises:
        UnknownNameError: a suffix other than .png, .jpg, .jpeg and .webp.
        InputError: no tile, or a count of columns below 1.
        DataError: an image that cannot be read.
        OutputError: the path cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise UnknownNameError("picture format", path.suffix or path.name, _FORMATS)
    if not tiles or columns < 1:
        raise InputError(f"contact sheet: got {len(tiles)} images in {columns} columns, expected 1 or more of each")
    file = io.BytesIO()
    _draw(tiles, min(columns, len(tiles))).save(file, _FORMATS[path.suffix.lower()], quality=90)
    replace_file(path, lambda target: target.write(file.getvalue()))
    return path


def thumbnail(image: ImageSource, side: int) -> Image.Image:
    """Return an image as upright RGB whose longer side is at most ``side`` pixels; small ones are enlarged whole times.

    Raises:
        DataError: it cannot be read.
    """
    picture = open_image(image, shorter_side=side)
    longer = max(picture.size)
    if longer <= side // 2:  # pixel art and digits: every pixel becomes a square
        factor = side // longer
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _draw(tiles: Sequence[Tile], columns: int) -> Image.Image:
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [_SIDE + 8 + _LINE * max(len(_lines(tile)) for tile in row) for row in rows]
    size = (2 * _MARGIN + columns * (_SIDE + _GAP) - _GAP, 2 * _MARGIN + sum(heights) + _GAP * (len(rows) - 1))
    sheet = Image.new("RGB", size, paint_light("page"))
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _draw_tile(sheet, tile, _MARGIN + column * (_SIDE + _GAP), top)
        top += height + _GAP
    return sheet


def _draw_tile(sheet: Image.Image, tile: Tile, x: int, y: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((x, y, x + _SIDE - 1, y + _SIDE - 1), fill=paint_light("frame"), outline=paint_light("frame-line"))
    small = thumbnail(tile.image, _SIDE)
    sheet.paste(small, (x + (_SIDE - small.width) // 2, y + (_SIDE - small.height) // 2))
    top, lines = y + _SIDE + 8, _lines(tile)
    colour = paint_light("right" if tile.is_right else "wrong")
    draw.rectangle((x, top, x + 3, top + len(lines) * _LINE - 4), fill=colour)
    for number, (text, figure) in enumerate(lines):
        baseline, bold = top + number * _LINE + _TEXT - 1, number == 0
        draw_text(sheet, (x + _BAR, baseline), text, _TEXT, paint_light("ink"), bold=bold)
        draw_text(sheet, (x + _SIDE, baseline), figure, _TEXT, paint_light("ink"), anchor="end", bold=bold)


def _lines(tile: Tile) -> list[tuple[str, str]]:
    """Return the lines of a tile as they are drawn."""
    found: list[tuple[str, str]] = []
    for number, (text, figure) in enumerate(tile.lines):
        bold = number == 0
        room = _SIDE - _BAR - (text_width(figure, _TEXT, bold) + 8 if figure else 0)
        pieces = wrap(text, room, _MOST_LINES, functools.partial(text_width, size=_TEXT, bold=bold))
        found += [(piece, figure if i == 0 else "") for i, piece in enumerate(pieces)]
    return found
