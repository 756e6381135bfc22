"""A frame with two axes: from values to pixels, round ticks, grid and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from portnet.drawing.canvas import Canvas, Point, line

__all__ = ["Axes", "ticks", "top_for"]

_SIZE = 10.5


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times a power of ten, at most ``most``."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def top_for(value: float) -> float:
    """Return where an axis from 0 should end that shows ``value``: at a tick."""
    marks = ticks(0, value)
    if len(marks) < 2:
        return 1.0
    step = marks[1] - marks[0]
    return step * math.ceil(value / step - 1e-9)


@dataclass
class Axes:
    """A rectangle of the drawing in which values are plotted.

    Attributes:
        left: of the rectangle, in pixels, like the three that follow.
        top: of the rectangle.
        width: of the rectangle.
        height: of the rectangle.
        x: smallest and largest value from left to right.
        y: smallest and largest value from bottom to top.
        percent: whether y is written as a percentage.
        whole: whether x counts something: no ticks between whole numbers.
    """

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    percent: bool = False
    whole: bool = False
    x_label: str = field(default="")
    title: str = field(default="")

    def at(self, x: float, y: float) -> Point:
        """Return the pixel of a value; values beyond the frame lie on its edge."""
        return (
            self.left + self.width * _share(x, *self.x),
            self.top + self.height * (1 - _share(y, *self.y)),
        )

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> list[Point]:
        """Return the pixels of values."""
        return [self.at(x, y) for x, y in zip(xs, ys, strict=True)]

    def draw(self, canvas: Canvas) -> None:
        """Draw title, grid, ticks and labels."""
        bottom, right = self.top + self.height, self.left + self.width
        canvas.text(self.left, self.top - 14, self.title, size=12.5, bold=True)
        for value in ticks(*self.y):
            _, y = self.at(self.x[0], value)
            canvas.path(line([(self.left, y), (right, y)]), stroke="grid")
            canvas.text(self.left - 8, y + 3.5, self._y_text(value), size=_SIZE, fill="muted", anchor="end")
        for value in self._x_ticks():
            x, _ = self.at(value, self.y[0])
            canvas.path(line([(x, bottom), (x, bottom + 4)]), stroke="line")
            canvas.text(x, bottom + 17, f"{value:g}", size=_SIZE, fill="muted", anchor="middle")
        canvas.path(line([(self.left, bottom), (right, bottom)]), stroke="line")
        canvas.text(self.left + self.width / 2, bottom + 34, self.x_label, size=_SIZE, fill="muted", anchor="middle")

    def _x_ticks(self) -> list[float]:
        found = ticks(*self.x, most=8)
        return [value for value in found if value == int(value)] if self.whole else found

    def _y_text(self, value: float) -> str:
        return f"{value:.0%}" if self.percent else f"{value:g}"


def _share(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5
