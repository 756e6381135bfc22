"""How the run went: its curves and its numbers by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portnet.drawing import curves as drawing
from portnet.drawing.curves import Curves, draw_panels
from portnet.drawing.svg import SvgCanvas
from portnet.drawing.text import figure
from portnet.drawing.theme import paint_variable
from portnet.report.html import Html, join, tag
from portnet.report.tables import details, table

__all__ = ["training"]


def training(curves: Curves, record: Mapping[str, Any]) -> Html:
    """Return the section with curves and the table of epochs."""
    if not curves.steps and not curves.loss:
        return tag("p", "Not one step was taken.")
    panels = [
        SvgCanvas(drawing.PANEL, drawing.HEIGHT, paint_variable, f"{what} by epoch") for what in ("loss", "accuracy")
    ]
    draw_panels(curves, *panels)
    pictures = tag("div", *(tag("div", Html(canvas.fragment())) for canvas in panels), class_="panels")
    return join(pictures, _epochs(record["history"]["epochs"]))


def _epochs(epochs: list[Mapping[str, Any]]) -> Html:
    columns = ("epoch", "loss", "accuracy", "val loss", "val accuracy", "learning rate", "images/s", "seconds")
    rows = [
        (
            str(e["epoch"] + 1),
            figure(e["loss"]),
            f"{e['accuracy']:.2%}",
            "–" if e["val_loss"] is None else figure(e["val_loss"]),
            "–" if e["val_accuracy"] is None else f"{e['val_accuracy']:.2%}",
            f"{e['lr']:.3g}",
            f"{e['images_per_second']:,.0f}",
            f"{e['seconds']:.1f}",
        )
        for e in epochs
    ]
    content = table(columns, rows, numbers=range(8))
    return content if len(rows) <= 12 else details(f"{len(rows)} epochs", content)
