"""Where everything of a network's drawing goes: columns, rows, frames of stages, in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from portnet.drawing.blocks import Block
from portnet.drawing.columns import choose_columns, ranks_of, split
from portnet.drawing.layout import Layout, layout
from portnet.drawing.text import width

__all__ = ["BOX_HEIGHT", "PADDING", "SMALL", "TITLE", "Column", "Frame", "Sheet"]

TITLE, SMALL = 11.5, 9.5
BOX_HEIGHT, PADDING = 36.0, 9.0
_NARROWEST, _WIDE, _WIDEST = 104.0, 200.0, 256.0
_ROW_GAP, _BOX_GAP = 22.0, 22.0
_FRAME_SIDE, _FRAME_HEAD, _FRAME_FOOT = 12.0, 22.0, 10.0
_GUTTER, _MARGIN, _HEADER, _LEGEND = 56.0, 28.0, 62.0, 36.0
_ASPECT = 1.25
_POINT = 8.0


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
        entry: whether it begins with a bare point, at which the arrow from the column before branches.
        places: rows, and x from the column's left, of the point (if any) and the boxes.
        frames: stages, top to bottom.
        tops: y of each row, in pixels of the drawing.
        left: x of the column's left.
    """

    indices: list[int]
    entry: bool
    places: Layout
    frames: list[Frame]
    tops: list[float] = field(default_factory=list)
    left: float = 0.0

    def row_height(self, row: int) -> float:
        """Return the height of a row: none for the point, else a box's."""
        return 0.0 if self.entry and row == 0 else BOX_HEIGHT

    def centre(self, index: int) -> tuple[float, float]:
        """Return x of the middle of a box and y of its top."""
        return self.at(self.indices.index(index) + self.entry)

    def at(self, local: int) -> tuple[float, float]:
        """Return x of the middle of a box or the point by its place in the column, and y of its top."""
        return self.left + self.places.x[local], self.tops[self.places.rank[local]]

    @property
    def bottom(self) -> float:
        """y below the last row and its frame."""
        foot = _FRAME_FOOT if any(frame.last == len(self.tops) - 1 for frame in self.frames) else 0
        return self.tops[-1] + BOX_HEIGHT + foot

    def frame_box(self, frame: Frame, box_width: float) -> tuple[float, float, float, float]:
        """Return x, y, width and height of a stage's frame: around its boxes and the lanes that end or begin there."""
        rank = self.places.rank
        inside = {i for i in range(self.entry, len(rank)) if frame.first <= rank[i] <= frame.last}
        reach = [(self.places.x[i], box_width / 2) for i in inside]
        for edge in self.places.edges:
            if edge.source in inside or edge.target in inside:
                rows = range(rank[edge.source] + 1, rank[edge.target])
                reach += [(x, 4) for row, x in zip(rows, edge.lanes, strict=True) if frame.first <= row <= frame.last]
        left = min(x - half for x, half in reach) - _FRAME_SIDE
        right = max(x + half for x, half in reach) + _FRAME_SIDE
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
        here = set(indices)
        outside = [index for index in indices for source in self.blocks[index].sources if source not in here]
        entry = len(outside) > 1
        local = {index: i + entry for i, index in enumerate(indices)}
        sources = [
            [local[s] for s in self.blocks[index].sources if s in local] + [0] * (entry and index in outside)
            for index in indices
        ]
        widths = [*([_POINT] if entry else []), *[self.box_width] * len(indices)]
        places = layout(widths, [*([[]] if entry else []), *sources], _BOX_GAP)
        stages = [*([""] if entry else []), *(self.blocks[index].stage for index in indices)]
        return Column(indices, entry, places, _frames(stages, places.rank))

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

    def gutter(self, column: Column) -> float:
        """Return x of the middle of the gutter before a column."""
        return column.left - (_FRAME_SIDE if column.frames else 0.0) - _GUTTER / 2

    def head_room(self, column: Column) -> float:
        """Return how far above a column's first box the arrow from the column before turns down to it."""
        return _FRAME_HEAD + 14 if any(frame.first == 0 for frame in column.frames) else 16.0


def _box_width(blocks: Sequence[Block]) -> float:
    """Return the width that titles and most names need, within limits; longer names are shortened to what is left."""
    titles = max((width(block.title, TITLE) * 1.06 for block in blocks), default=0)
    lines = sorted(width(block.name, SMALL) + 8 + width(block.shape, SMALL) for block in blocks)
    usual = max(lines[int(0.8 * (len(lines) - 1))], min(lines[-1], _WIDE)) if lines else 0
    return math.ceil(min(max(titles, usual) + 2 * PADDING, _WIDEST) if lines else _NARROWEST)


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
        y += column.row_height(row) + _ROW_GAP + (_FRAME_FOOT if row in lasts else 0)
    return tops
