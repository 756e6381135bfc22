"""The canvas that becomes PNG, drawn by Pillow at up to three times the size and reduced, which smooths its edges."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageColor, ImageDraw

from portnet.drawing.canvas import Anchor, Command, Point
from portnet.drawing.fonts import draw_text, text_width
from portnet.drawing.text import width
from portnet.drawing.theme import paint_light
from portnet.errors import InputError

__all__ = ["PngCanvas"]

# pixels of the file for one of the drawing, and how much finer it is drawn before it is reduced, finest first
_FINENESS = ((2, 3), (2, 2), (2, 1), (1, 1))
_USUAL_PIXELS, _MOST_PIXELS = 64e6, 256e6
_PIECES = 12


class PngCanvas:
    """A white sheet; ``encode`` gives the file, two pixels for each of the drawing, or one where it is very large.

    Raises:
        InputError: it is larger than 256 million pixels.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        if width * height > _MOST_PIXELS:
            raise InputError(f"png: got {width:.0f}×{height:.0f} pixels, expected 256 million at most. Draw an .svg.")
        fits = [(scale, finer) for scale, finer in _FINENESS if width * height * (scale * finer) ** 2 <= _USUAL_PIXELS]
        self._scale, finer = fits[0] if fits else _FINENESS[-1]
        self._zoom = self._scale * finer
        self._image = Image.new("RGB", (self._px(width), self._px(height)), paint_light("page"))

    def _px(self, length: float) -> int:
        return round(length * self._zoom)

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
        box = [self._px(x), self._px(y), self._px(x + width), self._px(y + height)]
        ImageDraw.Draw(self._image).rounded_rectangle(
            box,
            radius=self._px(radius),
            fill=_colour(fill, opacity),
            outline=_colour(stroke, opacity),
            width=self._px(thickness),
        )

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
        draw = ImageDraw.Draw(self._image)
        for points in _flattened(commands):
            scaled = [(x * self._zoom, y * self._zoom) for x, y in points]
            if fill and len(scaled) > 2:
                draw.polygon(scaled, fill=_colour(fill, opacity))
            if stroke:
                pieces = _dashes(scaled, 5 * self._zoom, 4 * self._zoom) if dash else [scaled]
                for piece in pieces:
                    draw.line(piece, fill=_colour(stroke, opacity), width=self._px(thickness), joint="curve")

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
        place, pixels = (self._px(x), self._px(y)), self._px(size)
        room = width(text, pixels) * (1.08 if bold else 1.02)  # what the drawing reckons with; some fonts are wider
        pixels = min(pixels, int(pixels * room / max(text_width(text, pixels, bold), 1)))
        draw_text(self._image, place, text, pixels, _colour(fill, 1), anchor=anchor, bold=bold, turned=turned)

    def encode(self) -> bytes:
        """Return the PNG file."""
        size = (round(self.width * self._scale), round(self.height * self._scale))
        file = io.BytesIO()
        self._image.resize(size, Image.Resampling.BOX).save(file, "PNG", optimize=True)
        return file.getvalue()


def _colour(role: str | None, opacity: float) -> tuple[int, ...] | None:
    """Return a role's colour as it looks on the white sheet when it lets some of it through."""
    if role is None:
        return None
    page = ImageColor.getrgb(paint_light("page"))
    ink = ImageColor.getrgb(paint_light(role))
    return tuple(round(opacity * a + (1 - opacity) * b) for a, b in zip(ink, page, strict=True))


def _flattened(commands: Sequence[Command]) -> list[list[Point]]:
    """Return each part of a path as points, cubics in short straight pieces."""
    parts: list[list[Point]] = []
    for kind, *raw in commands:
        numbers = [float(n) for n in raw]
        if kind == "M":
            parts.append([(numbers[0], numbers[1])])
        elif kind == "L":
            parts[-1].append((numbers[0], numbers[1]))
        elif kind == "C":
            parts[-1] += _cubic(parts[-1][-1], numbers)
        else:
            parts[-1].append(parts[-1][0])
    return parts


def _cubic(start: Point, control: Sequence[float]) -> list[Point]:
    ends = [start, (control[0], control[1]), (control[2], control[3]), (control[4], control[5])]
    points = []
    for step in range(1, _PIECES + 1):
        t = step / _PIECES
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        points.append(
            (
                sum(w * x for w, (x, _) in zip(weights, ends, strict=True)),
                sum(w * y for w, (_, y) in zip(weights, ends, strict=True)),
            )
        )
    return points


def _dashes(points: Sequence[Point], on: float, off: float) -> list[list[Point]]:
    """Cut a line of points into dashes of length ``on`` with gaps of ``off``."""
    dashes: list[list[Point]] = []
    left, drawing = on, True
    current = [points[0]]
    for goal in points[1:]:
        x, y = current[-1]
        while (length := ((goal[0] - x) ** 2 + (goal[1] - y) ** 2) ** 0.5) > left:
            x, y = x + (goal[0] - x) * left / length, y + (goal[1] - y) * left / length
            if drawing:
                dashes.append([*current, (x, y)])
            drawing = not drawing
            left, current = on if drawing else off, [(x, y)]
        left -= length
        current = [*current, goal] if drawing else [goal]
    return [*dashes, current] if drawing and len(current) > 1 else dashes
