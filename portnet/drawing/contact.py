"""A contact sheet: small pictures in a grid, a few lines of text below each."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from portnet.data.images import ImageSource, open_image
from portnet.drawing.fonts import draw_text, text_width
from portnet.drawing.theme import paint_light
from portnet.errors import InputError, UnknownNameError
from portnet.files import replace_file

__all__ = ["Tile", "contact_sheet", "thumbnail"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_SIDE, _GAP, _MARGIN, _TEXT, _LINE = 220, 24, 28, 15, 20


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Attributes:
        image: a path, PIL image or uint8 array.
        lines: text below it, the first in bold.
        is_right: decides the colour of the bar beside the text.
    """

    image: ImageSource
    lines: tuple[str, ...]
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
    lines = max(len(tile.lines) for tile in tiles)
    height = _SIDE + 8 + lines * _LINE
    rows = -(-len(tiles) // columns)
    size = (2 * _MARGIN + columns * (_SIDE + _GAP) - _GAP, 2 * _MARGIN + rows * (height + _GAP) - _GAP)
    sheet = Image.new("RGB", size, paint_light("page"))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        _draw_tile(sheet, tile, _MARGIN + column * (_SIDE + _GAP), _MARGIN + row * (height + _GAP))
    return sheet


def _draw_tile(sheet: Image.Image, tile: Tile, x: int, y: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((x, y, x + _SIDE - 1, y + _SIDE - 1), fill=paint_light("frame"))
    small = thumbnail(tile.image, _SIDE)
    sheet.paste(small, (x + (_SIDE - small.width) // 2, y + (_SIDE - small.height) // 2))
    top = y + _SIDE + 8
    colour = paint_light("right" if tile.is_right else "wrong")
    draw.rectangle((x, top, x + 3, top + len(tile.lines) * _LINE - 4), fill=colour)
    for number, line in enumerate(tile.lines):
        place = (x + 12, top + number * _LINE + _TEXT - 2)
        text = _shortened(line, _SIDE - 12, bold=number == 0)
        draw_text(sheet, place, text, _TEXT, paint_light("ink"), bold=number == 0)


def _shortened(text: str, room: int, *, bold: bool) -> str:
    if text_width(text, _TEXT, bold) <= room:
        return text
    while text and text_width(text + "…", _TEXT, bold) > room:
        text = text[:-1]
    return text + "…"
