"""Where everything of a network's drawing goes: columns, rows, frames of stages, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from portnet.drawing.blocks import Block
from portnet.drawing.columns import choose_columns, ranks_of, split
from portnet.drawing.layout import Layout, layout
from portnet.drawing.text import width

__all__ = ["BOX_HEIGHT", "PADDING", "SMALL", "TITLE", "Column", "Frame", "Sheet"]

TITLE, SMALL = 11.5, 9.5
BOX_HEIGHT, PADDING = 36.0, 9.0
_NARROWEST, _WIDEST = 104.0, 224.0
_ROW_GAP, _BOX_GAP = 22.0, 22.0
_FRAME_SIDE, _FRAME_HEAD, _FRAME_FOOT = 12.0, 22.0, 10.0
_GUTTER, _MARGIN, _HEADER, _LEGEND = 56.0, 28.0, 62.0, 36.0
_ASPECT = 1.25


@dataclass(frozen=True)
class Frame:
    """The boxes of a stage in one column: its first and last row."""

    stage: str
    first: int
    last: int


@dataclass
class Column:
    """One column of the drawing.

    Attributes:
        indices: its boxes, by their place in the diagram.
        places: rows, and x from the column's left.
        frames: stages, top to bottom.
        tops: y of each row, in pixels of the drawing.
        left: x of the column's left.
    """

    indices: list[int]
    places: Layout
    frames: list[Frame]
    tops: list[float] = field(default_factory=list)
    left: float = 0.0

    def centre(self, index: int) -> tuple[float, float]:
        """Return x of the middle of a box and y of its top."""
        local = self.indices.index(index)
        return self.left + self.places.x[local], self.tops[self.places.rank[local]]

    @property
    def bottom(self) -> float:
        """y below the last row and its frame."""
        foot = _FRAME_FOOT if any(frame.last == len(self.tops) - 1 for frame in self.frames) else 0
        return self.tops[-1] + BOX_HEIGHT + foot

    def frame_box(self, frame: Frame, box_width: float) -> tuple[float, float, float, float]:
        """Return x, y, width and height of a stage's frame."""
        inside = [i for i, rank in enumerate(self.places.rank) if frame.first <= rank <= frame.last]
        xs = [self.places.x[i] for i in inside]
        lanes = [x for edge in self.places.edges if edge.source in inside and edge.target in inside for x in edge.lanes]
        left = min([*(x - box_width / 2 for x in xs), *(x - 5 for x in lanes)]) - _FRAME_SIDE
        right = max([*(x + box_width / 2 for x in xs), *(x + 5 for x in lanes)]) + _FRAME_SIDE
        top = self.tops[frame.first] - _FRAME_HEAD
        return self.left + left, top, right - left, self.tops[frame.last] + BOX_HEIGHT + _FRAME_FOOT - top


class Sheet:
    """A diagram laid out.

    Attributes:
        blocks: the boxes.
        box_width: width of every box.
        columns: from left to right.
        width: of the whole drawing.
        height: of the whole drawing.
        legend: y of the legend's line.
    """

    def __init__(self, blocks: Sequence[Block], columns: int | None = None) -> None:
        self.blocks = blocks
        self.box_width = _box_width(blocks)
        rows = max(ranks_of(blocks), default=0) + 1
        if columns is None:
            whole = self._column(list(range(len(blocks)))).places.width
            columns = choose_columns(rows, BOX_HEIGHT + _ROW_GAP + 12, whole + _GUTTER, _ASPECT)
        self.columns = [self._column(indices) for indices in split(blocks, columns)]
        self._spread()

    def _column(self, indices: list[int]) -> Column:
        local = {index: i for i, index in enumerate(indices)}
        sources = [[local[s] for s in self.blocks[index].sources if s in local] for index in indices]
        places = layout([self.box_width] * len(indices), sources, _BOX_GAP)
        return Column(indices, places, _frames([self.blocks[index].stage for index in indices], places.rank))

    def _spread(self) -> None:
        left = _MARGIN
        for column in self.columns:
            side = _FRAME_SIDE if column.frames else 0.0
            column.left = left + side
            column.tops = _tops(column, _HEADER)
            left += column.places.width + 2 * side + _GUTTER
        self.width = max(left - _GUTTER + _MARGIN, 420.0)
        self.legend = max(column.bottom for column in self.columns) + _LEGEND
        self.height = self.legend + 22

    def column_of(self, index: int) -> Column:
        """Return the column that a box is in."""
        return next(column for column in self.columns if index in column.indices)


def _box_width(blocks: Sequence[Block]) -> float:
    """Return the width that the longest title needs, within limits; names are shortened to what is left."""
    titles = max((width(block.title, TITLE) * 1.06 for block in blocks), default=0)
    lines = sorted(width(f"{block.name}  {block.shape}", SMALL) for block in blocks)
    usual = lines[int(0.8 * (len(lines) - 1))] if lines else 0
    return round(min(max(titles, usual) + 2 * PADDING, _WIDEST) if lines else _NARROWEST)


def _frames(stages: Sequence[str], ranks: Sequence[int]) -> list[Frame]:
    """Return a frame for each stage whose rows hold no other stage's boxes."""
    frames = []
    for stage in dict.fromkeys(stage for stage in stages if stage):
        rows = [rank for name, rank in zip(stages, ranks, strict=True) if name == stage]
        frame = Frame(stage, min(rows), max(rows))
        others = (rank for name, rank in zip(stages, ranks, strict=True) if name != stage)
        if not any(frame.first <= rank <= frame.last for rank in others):
            frames.append(frame)
    return frames


def _tops(column: Column, y: float) -> list[float]:
    firsts, lasts = {frame.first for frame in column.frames}, {frame.last for frame in column.frames}
    tops = []
    for row in range(max(column.places.rank) + 1):
        y += _FRAME_HEAD - 6 if row in firsts else 0
        tops.append(y)
        y += BOX_HEIGHT + _ROW_GAP + (_FRAME_FOOT if row in lasts else 0)
    return tops
