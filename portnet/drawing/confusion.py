"""The confusion matrix as a picture: rows are true classes, columns what they were called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from portnet.drawing.canvas import Canvas
from portnet.drawing.text import fit, width

__all__ = ["ConfusionSheet"]

# room for the labels and the cells together: what is large takes the whole width of a page
_ROOM, _LARGE_ROOM = 760.0, 1016.0
_LARGEST, _SMALLEST = 46.0, 3.0
_LABEL_SIZE, _LABEL_ROOM = 10.5, 220.0
MOST_LABELS, MOST_NUMBERS = 110, 30
MOST_CLASSES = 250


@dataclass(frozen=True)
class ConfusionSheet:
    """A confusion matrix, measured and ready to be drawn.

    Right answers (the diagonal) are blue, wrong ones orange; the shade is the share of the row.

    Attributes:
        confusion: int64 (classes, classes), at most `MOST_CLASSES` of them.
        classes: class names.
    """

    confusion: np.ndarray
    classes: Sequence[str]

    @property
    def cell(self) -> float:
        """Side of a cell, in pixels."""
        room = _ROOM if len(self.classes) <= MOST_NUMBERS else _LARGE_ROOM
        return min(max((room - self._labels) / len(self.classes), _SMALLEST), _LARGEST)

    @property
    def _has_labels(self) -> bool:
        return len(self.classes) <= MOST_LABELS

    @property
    def _label_size(self) -> float:
        """Size of a label: as high as the largest cell with room for all of them."""
        return min(_LABEL_SIZE, 0.95 * (_LARGE_ROOM - _LABEL_ROOM) / len(self.classes))

    @property
    def _labels(self) -> float:
        if not self._has_labels:
            return 34.0
        widest = max(width(name, self._label_size) for name in self.classes)
        return 42 + min(widest, _LABEL_ROOM * self._label_size / _LABEL_SIZE)

    @property
    def width(self) -> float:
        """Width of the drawing, in pixels."""
        return self._labels + self.cell * len(self.classes) + 8

    @property
    def height(self) -> float:
        """Height of the drawing, in pixels."""
        return self._labels + self.cell * len(self.classes) + 8

    def draw(self, canvas: Canvas) -> None:
        """Draw it."""
        left = top = self._labels
        middle = self.cell * len(self.classes) / 2
        canvas.text(left + middle, 14, "called", size=11, fill="muted", anchor="middle")
        canvas.text(14, top + middle, "true class", size=11, fill="muted", anchor="middle", turned=True)
        extent = self.cell * len(self.classes)
        canvas.rect(left, top, extent, extent, fill="frame", stroke="frame-line")
        if self._has_labels:
            self._draw_labels(canvas)
        for row, column in np.argwhere(self.confusion):
            self._draw_cell(canvas, int(row), int(column))

    def _draw_labels(self, canvas: Canvas) -> None:
        room, size = self._labels - 32, self._label_size
        for i, name in enumerate(self.classes):
            at = self._labels + (i + 0.5) * self.cell + size / 3
            text = fit(name, size, room, keep="start")
            title = name if text != name else ""
            canvas.text(self._labels - 8, at, text, size=size, anchor="end", title=title)
            canvas.text(at, self._labels - 8, text, size=size, turned=True, title=title)

    def _draw_cell(self, canvas: Canvas, row: int, column: int) -> None:
        number, total = int(self.confusion[row, column]), int(self.confusion[row].sum())
        share = number / total
        x, y = self._labels + column * self.cell, self._labels + row * self.cell
        gap = 1 if self.cell > 8 else 0
        what = "right" if row == column else f"called {self.classes[column]}"
        canvas.rect(
            x + gap,
            y + gap,
            self.cell - 2 * gap,
            self.cell - 2 * gap,
            fill="right" if row == column else "wrong",
            opacity=round(0.12 + 0.88 * share, 3),
            radius=2 if gap else 0,
            title=f"{self.classes[row]}: {number:,} of {total:,} {what} ({share:.1%})",
        )
        if len(self.classes) <= MOST_NUMBERS:
            size = min(11.0, self.cell / 2.2)
            colour = "page" if share > 0.55 else "ink"
            canvas.text(
                x + self.cell / 2, y + self.cell / 2 + size / 3, f"{number}", size=size, fill=colour, anchor="middle"
            )
