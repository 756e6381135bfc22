"""What can be drawn. Charts and graphs draw on a `Canvas`; whether SVG or PNG comes of it is not theirs to know.

Coordinates are in pixels from the top left. Colours are roles of `portnet.drawing.theme`.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from portnet.errors import UnknownNameError
from portnet.files import replace_file

__all__ = ["Anchor", "Canvas", "Command", "Point", "arrow_head", "curve", "elbow", "line", "save"]

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
# ("M", x, y), ("L", x, y), ("C", x1, y1, x2, y2, x, y) or ("Z",), as in an SVG path
Command = tuple[str | float, ...]


class Canvas(Protocol):
    """A sheet of ``width`` × ``height`` pixels. ``title`` is shown where the pointer rests, if the format can."""

    width: float
    height: float

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
        """Draw a rectangle, with rounded corners when ``radius`` is given."""

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
        """Write text whose baseline begins (or has its middle, or its end) at x, y; ``turned``: from bottom to top."""


def line(points: Sequence[Point]) -> list[Command]:
    """Return a path of straight pieces through the points."""
    return [("M" if i == 0 else "L", x, y) for i, (x, y) in enumerate(points)]


def curve(points: Sequence[Point]) -> list[Command]:
    """Return a path through the points that is vertical in each of them."""
    commands: list[Command] = [("M", *points[0])]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        middle = (y0 + y1) / 2
        commands.append(("L", x1, y1) if x0 == x1 else ("C", x0, middle, x1, middle, x1, y1))
    return commands


# a quarter of a circle by a cubic: how far its control points lie from the corner, as a share of the radius
_CORNER = 1 - 4 / 3 * (math.sqrt(2) - 1)


def elbow(points: Sequence[Point], radius: float = 10) -> list[Command]:
    """Return a path of horizontal and vertical pieces through the points, its corners rounded."""
    commands: list[Command] = [("M", *points[0])]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        start, end = _towards(corner, before, radius), _towards(corner, after, radius)
        near_start, near_end = _towards(corner, before, radius * _CORNER), _towards(corner, after, radius * _CORNER)
        commands += [("L", *start), ("C", *near_start, *near_end, *end)]
    return [*commands, ("L", *points[-1])]


def _towards(start: Point, goal: Point, distance: float) -> Point:
    length = math.dist(start, goal)
    share = 0 if length == 0 else min(distance, length / 2) / length
    return start[0] + (goal[0] - start[0]) * share, start[1] + (goal[1] - start[1]) * share


def arrow_head(x: float, y: float, size: float = 6) -> list[Command]:
    """Return a triangle that points down to x, y."""
    return [("M", x, y), ("L", x - size / 2, y - size), ("L", x + size / 2, y - size), ("Z",)]


def save(path: str | os.PathLike[str], width: float, height: float, draw: Callable[[Canvas], None]) -> Path:
    """Draw on a canvas of the suffix's format, .svg or .png, and write it whole or not at all.

    Raises:
        UnknownNameError: another suffix.
        OutputError: the path cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".svg":
        from portnet.drawing.svg import SvgCanvas

        svg = SvgCanvas(width, height)
        draw(svg)
        content = svg.document().encode()
    elif suffix == ".png":
        from portnet.drawing.png import PngCanvas

        png = PngCanvas(width, height)
        draw(png)
        content = png.encode()
    else:
        raise UnknownNameError("drawing format", suffix or path.name, [".svg", ".png"])
    replace_file(path, lambda file: file.write(content))
    return path
