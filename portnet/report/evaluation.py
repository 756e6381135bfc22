"""What the network is worth on images it has not seen: classes, confusion, calibration, images to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from portnet.drawing import reliability
from portnet.drawing.confusion import MOST_CLASSES, ConfusionSheet
from portnet.drawing.reliability import draw_reliability
from portnet.drawing.svg import SvgCanvas
from portnet.drawing.theme import paint_variable
from portnet.report.html import Html, join, tag
from portnet.report.pictures import Picture, gallery
from portnet.report.tables import details, table

if TYPE_CHECKING:
    from portnet.finetuning.metrics import Evaluation

__all__ = ["ambiguous", "calibration", "classes", "confusion", "mistakes"]

_SHORT_TABLE = 25
# a drawing up to so many pixels wide has room for a table beside it
_HALF = 620
_SMALLEST = 0.75


def classes(evaluation: Evaluation) -> Html:
    """Return each class's precision and recall, the worst first, of the classes that have images."""
    counts = evaluation.confusion.sum(axis=1)
    order = sorted(np.flatnonzero(counts), key=lambda i: evaluation.recall[evaluation.classes[i]])
    rows = [
        (
            name := evaluation.classes[i],
            f"{counts[i]:,}",
            _share(evaluation.precision[name]),
            _share(evaluation.recall[name]),
            tag("span", tag("i", style=f"width:{100 * evaluation.recall[name]:.1f}%"), class_="meter"),
        )
        for i in order
    ]
    content = table(("class", "images", "precision", "recall", ""), rows, numbers=(1, 2, 3))
    return content if len(rows) <= _SHORT_TABLE else details(f"{len(rows)} classes, worst recall first", content)


def confusion(evaluation: Evaluation) -> Html:
    """Return the confusion matrix and the pairs of classes that are confused most."""
    parts: list[object] = []
    is_narrow = False
    if len(evaluation.classes) <= MOST_CLASSES:
        sheet = ConfusionSheet(evaluation.confusion, evaluation.classes)
        is_narrow = sheet.width <= _HALF
        canvas = SvgCanvas(sheet.width, sheet.height, paint_variable, "confusion matrix")
        sheet.draw(canvas)
        # on a phone it is reduced as long as its numbers can be read, then it scrolls
        picture = tag("div", Html(canvas.fragment()), style=f"min-width:{_SMALLEST * sheet.width:.0f}px")
        parts.append(tag("div", picture, class_="scroll"))
    return tag("div", *parts, tag("div", _pairs(evaluation)), class_="columns" if is_narrow else None)


def _pairs(evaluation: Evaluation, most: int = 8) -> Html:
    wrong = evaluation.confusion - np.diag(np.diag(evaluation.confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows = []
    for true, called in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if number := int(wrong[true, called]):
            total = int(evaluation.confusion[true].sum())
            share = f"{number / total:.0%} of {total:,}"
            rows.append((evaluation.classes[true], evaluation.classes[called], f"{number:,}", share))
    if not rows:
        return tag("p", "No image was called by a wrong name.")
    return join(
        tag("h3", "Confused most"),
        table(("true class", "called", "images", "of the class"), rows, numbers=(2, 3)),
    )


def calibration(evaluation: Evaluation) -> Html:
    """Return the reliability diagram."""
    found = evaluation.calibration
    canvas = SvgCanvas(reliability.WIDTH, reliability.HEIGHT, paint_variable, "reliability diagram")
    draw_reliability(canvas, found.count.tolist(), found.confidence.tolist(), found.accuracy.tolist())
    return Html(canvas.fragment())


def ambiguous(evaluation: Evaluation, top: int) -> Html:
    """Return the most ambiguous images, and their table."""
    found = evaluation.ambiguity(top)
    pictures = [
        Picture(
            row.image,
            ((row.likeliest, row.probability), (row.second, row.second_probability)),
            row.true,
            f"image {row.number}, ambiguity {row.ambiguity:.3f}",
        )
        for row in found
    ]
    columns = ("image", "ambiguity", "likeliest", "second", "true class", "path")
    return join(gallery(pictures), details("as a table", table(columns, found.as_rows(), numbers=(0, 1))))


def mistakes(evaluation: Evaluation, top: int) -> Html:
    """Return the images called by a wrong name, those that the network was surest of first."""
    probabilities = evaluation.probabilities
    called = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(called != evaluation.labels)
    order = wrong[np.argsort(-probabilities[wrong, called[wrong]], kind="stable")]
    if not len(order):
        return tag("p", "None: every image was called by its name.")
    shown = order[:top]
    pictures = [
        Picture(
            evaluation.images[i] if evaluation.images else None,
            tuple((evaluation.classes[c], float(probabilities[i, c])) for c in (called[i], evaluation.labels[i])),
            evaluation.classes[evaluation.labels[i]],
            f"image {i + 1}",
        )
        for i in shown
    ]
    rest = f" The {len(shown)} it was surest of:" if len(shown) < len(order) else ""
    share = f"{len(order):,} of {evaluation.count:,} images were called by a wrong name.{rest}"
    return join(tag("p", share, class_="lead"), gallery(pictures))


def _share(value: float) -> str:
    return "–" if value != value else f"{value:.1%}"
