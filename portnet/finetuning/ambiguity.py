"""Ambiguity: the images between which and another class a network can hardly decide.

An image's ambiguity is its second-largest probability over its largest: 0 when the network is sure, 1 when two classes
are equally likely (MathWorks, "Train Deep Learning Network to Classify New Images": the most ambiguous images are the
ones to look at first, for wrong labels, several objects, and classes that look alike).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from portnet.data.images import ImageSource
from portnet.errors import InputError, ModelError

__all__ = ["Ambiguity", "AmbiguousImage", "ambiguity_of", "rank"]


@dataclass(frozen=True)
class AmbiguousImage:
    """One image and the two classes it may be.

    Attributes:
        number: place in the data, from 1.
        path: the image's file, or "" for one from memory.
        ambiguity: second-largest probability over the largest, 0..1.
        likeliest: name of the likeliest class.
        probability: its probability, 0..1.
        second: name of the second likeliest class.
        second_probability: its probability.
        true: name of the true class.
        image: the image itself, or None where it is not known.
    """

    number: int
    path: str
    ambiguity: float
    likeliest: str
    probability: float
    second: str
    second_probability: float
    true: str
    image: ImageSource | None = field(default=None, repr=False, compare=False)

    @property
    def is_right(self) -> bool:
        """Whether the likeliest class is the true one."""
        return self.likeliest == self.true


class Ambiguity(Sequence[AmbiguousImage]):
    """The most ambiguous images, most ambiguous first; print it for the table.

    Attributes:
        rows: one an image.
        values: float64 (N,), the ambiguity of every image of the data, in its order.
    """

    def __init__(self, rows: Sequence[AmbiguousImage], values: np.ndarray) -> None:
        self.rows = tuple(rows)
        self.values = values

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: Any) -> Any:
        return self.rows[item]

    def __iter__(self) -> Iterator[AmbiguousImage]:
        return iter(self.rows)

    def as_rows(self) -> list[tuple[str, ...]]:
        """Return (image, ambiguity, likeliest, second, true, path) as text, a row an image."""
        return [
            (str(r.number), f"{r.ambiguity:.4f}", r.likeliest, r.second, r.true, r.path or "from memory")
            for r in self.rows
        ]

    def __str__(self) -> str:
        table = [("image", "ambiguity", "likeliest", "second", "true class", "path"), *self.as_rows()]
        widths = [max(len(line[column]) for line in table) for column in range(6)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table)
        return "\n".join(line.rstrip() for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        names = [name for name in AmbiguousImage.__dataclass_fields__ if name != "image"]
        return {
            "images": [{name: getattr(row, name) for name in names} for row in self.rows],
            "count": len(self.values),
            "mean": float(self.values.mean()),
        }

    def contact_sheet(self, path: str | os.PathLike[str], *, columns: int = 5) -> Path:
        """Draw the images with their two classes and the true one into a .png, .jpg or .webp file.

        Raises:
            UnknownNameError: another suffix.
            OutputError: the path cannot be written.
            DataError: an image that cannot be read any more.
            InputError: the images are not known.
        """
        from portnet.drawing.contact import Tile, contact_sheet

        if any(row.image is None for row in self.rows):
            raise InputError("contact sheet: the images are not known. Evaluate a folder or images, not bare batches.")
        tiles = [Tile(row.image, _caption(row), row.is_right) for row in self.rows if row.image is not None]
        return contact_sheet(tiles, path, columns=columns)


def _caption(row: AmbiguousImage) -> tuple[tuple[str, str], ...]:
    return (
        (f"image {row.number}", f"ambiguity {row.ambiguity:.3f}"),
        (row.likeliest, f"{row.probability:.1%}"),
        (row.second, f"{row.second_probability:.1%}"),
        ("right" if row.is_right else f"wrong, it is {row.true}", ""),
    )


def ambiguity_of(logits: np.ndarray) -> np.ndarray:
    """Return the ambiguity of each row of logits (N, classes), float64 (N,).

    The ratio of two softmax probabilities is exp(second − first): nothing overflows, nothing underflows early.

    Raises:
        InputError: fewer than two classes.
        ModelError: logits that are NaN or infinite.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(f"ambiguity: got logits of shape {logits.shape}, expected (N, classes) with 2 classes or more")
    if not np.isfinite(logits).all():
        raise ModelError("ambiguity: the network answers with NaN or infinity. Check its weights and preprocessing.")
    two = np.partition(logits, -2, axis=1)[:, -2:].astype(np.float64)
    return np.exp(two[:, 0] - two[:, 1])


def rank(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], images: Sequence[ImageSource], top: int = 10
) -> Ambiguity:
    """Return the ``top`` most ambiguous images, most ambiguous first, equal ones in their order.

    Args:
        logits: (N, classes).
        labels: true class of each image, int64 (N,).
        classes: class names.
        images: the N images, or none if they are not known.
        top: how many to return; all, if there are fewer.
    """
    if top < 1:
        raise InputError(f"ambiguity: got top {top}, expected 1 or more")
    values = ambiguity_of(logits)
    chosen = np.argsort(-values, kind="stable")[:top]
    rows = []
    for index in chosen:
        row = logits[index].astype(np.float64)
        probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        first, second = np.argsort(-row, kind="stable")[:2]
        image = images[index] if images else None
        rows.append(
            AmbiguousImage(
                number=int(index) + 1,
                path=os.fspath(image) if isinstance(image, (str, os.PathLike)) else "",
                ambiguity=float(values[index]),
                likeliest=classes[first],
                probability=float(probabilities[first]),
                second=classes[second],
                second_probability=float(probabilities[second]),
                true=classes[labels[index]],
                image=image,
            )
        )
    return Ambiguity(rows, values)
