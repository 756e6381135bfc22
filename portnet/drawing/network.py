"""A network's graph as a drawing: boxes by kind of layer, branches side by side, stages framed, in columns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from portnet.drawing.blocks import KINDS, Block, diagram
from portnet.drawing.canvas import Canvas, Point, arrow_head, curve, elbow, save
from portnet.drawing.layout import Edge
from portnet.drawing.sheet import BOX_HEIGHT, PADDING, SMALL, TITLE, Column, Sheet
from portnet.drawing.text import fit, width
from portnet.errors import InputError
from portnet.graph.summary import summarize

if TYPE_CHECKING:
    from portnet.graph.model import Model

__all__ = ["MOST_BLOCKS", "plot_network"]

MOST_BLOCKS = 3000
_LEFT, _LEGEND_LINE = 28.0, 18.0


def plot_network(
    model: Model, path: str | os.PathLike[str], *, every_layer: bool = False, columns: int | None = None
) -> Path:
    """Draw a network's graph into a file.

    A box tells what a layer does (window, width, "/2" for a stride), its name and its output's shape without the
    batch. The same network gives the same bytes of SVG.

    Args:
        model: the network.
        path: an .svg or .png file.
        every_layer: a box for each layer, with its number; else one for a layer, its normalisation and activation.
        columns: how many to fold the drawing into; None for what suits a page.

    Raises:
        InputError: more than `MOST_BLOCKS` boxes, none, or a count of columns out of range.
        UnknownNameError: another suffix.
        OutputError: the path cannot be written.
    """
    summary = summarize(model)
    blocks = diagram(model, summary, every_layer=every_layer)
    if not 0 < len(blocks) <= MOST_BLOCKS:
        raise InputError(f"plot: got a network of {len(blocks):,} boxes, expected 1 to {MOST_BLOCKS:,}")
    sheet = Sheet(blocks, columns)
    macs = summary.macs or 0
    cost = f", {macs / 1e9:.2f} GMACs" if macs >= 1e7 else f", {macs:,} MACs" if macs else ""
    subtitle = f"{len(summary.rows)} layers, {summary.parameters:,} parameters{cost}"

    def draw(canvas: Canvas) -> None:
        _header(canvas, sheet, summary.name or "network", subtitle)
        for column in sheet.columns:
            _draw_frames(canvas, sheet, column)
        _draw_edges(canvas, sheet)
        for column in sheet.columns:
            for index in column.indices:
                _draw_box(canvas, sheet, column, index, numbered=every_layer)
        _draw_legend(canvas, sheet)

    return save(path, sheet.width, sheet.height + _LEGEND_LINE * (len(_legend(sheet)) - 1), draw)


def _header(canvas: Canvas, sheet: Sheet, name: str, subtitle: str) -> None:
    canvas.text(_LEFT, 30, fit(name, 17, sheet.width - 2 * _LEFT), size=17, bold=True)
    canvas.text(_LEFT, 47, fit(subtitle, 11, sheet.width - 2 * _LEFT), size=11, fill="muted")


def _draw_frames(canvas: Canvas, sheet: Sheet, column: Column) -> None:
    for frame in column.frames:
        x, y, w, h = column.frame_box(frame, sheet.box_width)
        canvas.rect(x, y, w, h, fill="frame", stroke="frame-line", radius=8)
        canvas.text(x + 9, y + 14, fit(frame.stage, 10.5, w - 18), size=10.5, fill="muted", bold=True)


def _draw_edges(canvas: Canvas, sheet: Sheet) -> None:
    for before, column in zip([None, *sheet.columns], sheet.columns, strict=False):
        if before is not None:
            _draw_turn(canvas, sheet, before, column)
        for edge in column.places.edges:
            _draw_arrow(canvas, _points(column, edge))


def _points(column: Column, edge: Edge) -> list[Point]:
    """Return where an arrow passes: from a box's bottom, through its lanes straight down, to a box's top."""
    first = column.places.rank[edge.source]
    x, y = column.at(edge.source)
    points = [(x, y + column.row_height(first))]
    for row, x in enumerate(edge.lanes, start=first + 1):
        points += [(column.left + x, column.tops[row]), (column.left + x, column.tops[row] + BOX_HEIGHT)]
    return [*points, column.at(edge.target)]


def _draw_arrow(canvas: Canvas, points: list[Point]) -> None:
    x, y = points[-1]
    canvas.path(curve([*points[:-1], (x, y - 5)]), stroke="line", thickness=1.4)
    canvas.path(arrow_head(x, y), fill="line")


def _draw_turn(canvas: Canvas, sheet: Sheet, start: Column, end: Column) -> None:
    """Draw the arrow from the foot of a column to the head of the next, through the gutter between them."""
    source, target = next(
        (source, target) for target in end.indices for source in sheet.blocks[target].sources if source in start.indices
    )
    (x0, top), (x1, y1) = start.centre(source), end.at(0) if end.entry else end.centre(target)
    foot, gutter = start.bottom + 14, sheet.gutter(end)
    head = y1 if end.entry else y1 - sheet.head_room(end)
    points = [(x0, top + BOX_HEIGHT), (x0, foot), (gutter, foot), (gutter, head), (x1, head)]
    if end.entry:
        canvas.path(elbow(points), stroke="line", thickness=1.4)
        return
    canvas.path(elbow([*points, (x1, y1 - 5)]), stroke="line", thickness=1.4)
    canvas.path(arrow_head(x1, y1), fill="line")


def _draw_box(canvas: Canvas, sheet: Sheet, column: Column, index: int, *, numbered: bool) -> None:
    block, room = sheet.blocks[index], sheet.box_width - 2 * PADDING
    x, y = column.centre(index)
    left = x - sheet.box_width / 2
    canvas.rect(
        left,
        y,
        sheet.box_width,
        BOX_HEIGHT,
        fill=block.kind,
        stroke=f"{block.kind}-line",
        radius=BOX_HEIGHT / 2 if block.kind == "port" else 5,
        title=block.details,
    )
    title = f"{block.layers[0].index}  {block.title}" if numbered and block.layers else block.title
    canvas.text(x, y + 15, fit(title, TITLE * 1.06, room, keep="start"), size=TITLE, anchor="middle", bold=True)
    _draw_small(canvas, block, left + PADDING, y + 28.5, room)


def _draw_small(canvas: Canvas, block: Block, left: float, y: float, room: float) -> None:
    """Write name and shape on one line, at its two ends; in a rounded box, in its middle."""
    if block.kind == "port" or not block.shape:
        text = f"{block.name}  {block.shape}".strip()
        canvas.text(left + room / 2, y, fit(text, SMALL, room - 8), size=SMALL, fill="muted", anchor="middle")
        return
    shape = fit(block.shape, SMALL, 0.6 * room)
    canvas.text(left + room, y, shape, size=SMALL, anchor="end")
    canvas.text(left, y, fit(block.name, SMALL, room - width(shape, SMALL) - 8), size=SMALL, fill="muted")


def _legend(sheet: Sheet) -> list[list[str]]:
    """Return the kinds of the drawing's boxes in lines that fit its width."""
    used = {block.kind for block in sheet.blocks}
    lines: list[list[str]] = [[]]
    room = sheet.width - 2 * _LEFT
    for kind in (kind for kind in KINDS if kind in used):
        if lines[-1] and sum(_legend_width(each) for each in [*lines[-1], kind]) > room:
            lines.append([])
        lines[-1].append(kind)
    return lines


def _legend_width(kind: str) -> float:
    return 44 + width(KINDS[kind], 10)


def _draw_legend(canvas: Canvas, sheet: Sheet) -> None:
    for row, kinds in enumerate(_legend(sheet)):
        x, y = _LEFT, sheet.legend + row * _LEGEND_LINE
        for kind in kinds:
            canvas.rect(x, y - 9, 18, 11, fill=kind, stroke=f"{kind}-line", radius=3)
            canvas.text(x + 24, y, KINDS[kind], size=10, fill="muted")
            x += _legend_width(kind)
