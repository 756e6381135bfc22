"""What datasets of other libraries are turned into, and the checks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portnet.data.images import ImageSource
from portnet.errors import InputError

__all__ = ["LIMIT", "Collected", "Labelled", "class_of", "pair_of", "pixels_of"]

LIMIT = 4 * 2**30
"""Most bytes of images that are kept in memory."""

_IMAGES = ("image", "images", "img", "pixel_values", "x")
_LABELS = ("label", "labels", "fine_label", "target", "y")


@dataclass(frozen=True)
class Labelled:
    """Images and labels.

    Attributes:
        images: the images.
        labels: class names alone or class numbers alone.
        classes: names that numbers point at, or None.
    """

    images: Sequence[ImageSource]
    labels: Sequence[int | str]
    classes: tuple[str, ...] | None = None

    def named(self) -> tuple[Sequence[int | str], tuple[str, ...] | None]:
        """Return labels by name where names are known, and the names that have images, in the dataset's own order.

        Raises:
            InputError: a number that no name belongs to.
        """
        if self.classes is None or not all(isinstance(label, (int, np.integer)) for label in self.labels):
            return self.labels, None
        numbers = [int(label) for label in self.labels]
        wrong = [number for number in numbers if not 0 <= number < len(self.classes)]
        if wrong:
            last = len(self.classes) - 1
            raise InputError(f"dataset: got the label {wrong[0]}, expected 0 to {last}. Leave out what has no label.")
        present = set(numbers)
        names = [name for number, name in enumerate(self.classes) if number in present]
        return [self.classes[number] for number in numbers], tuple(names)


@dataclass
class Collected:
    """Images and labels that are read through once and kept.

    Attributes:
        what: what the dataset is called in errors.
        remedy: how to make it smaller.
    """

    what: str
    remedy: str
    images: list[Any] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    size: int = 0

    def add(self, image: ImageSource | Any, label: Any, size: int) -> None:
        """Keep one more image of ``size`` bytes.

        Raises:
            InputError: all of them take more than `LIMIT`, or there is no end.
        """
        self.size += size
        if self.size > LIMIT:
            raise InputError(
                f"{self.what} has no end or is too large to be kept in memory: got more than {LIMIT:,} bytes after "
                f"{len(self.images):,} images. {self.remedy}"
            )
        self.images.append(image)
        self.labels.append(label)


def pair_of(item: Any, what: str) -> tuple[Any, Any]:
    """Return the image and the label of one item: a pair, or a mapping that names them.

    Raises:
        InputError: it is neither.
    """
    if isinstance(item, dict):
        images, labels = ([name for name in names if name in item] for names in (_IMAGES, _LABELS))
        if len(images) == len(labels) == 1:
            return item[images[0]], item[labels[0]]
        raise InputError(f"{what}: got items with {', '.join(map(repr, item))}, expected 'image' and 'label'.")
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    kind = f"{type(item).__name__} of {len(item)}" if isinstance(item, (tuple, list)) else type(item).__name__
    raise InputError(f"{what}: got {kind} as an item, expected a pair of image and label.")


def pixels_of(image: Any, what: str, remedy: str) -> Image.Image | NDArray[np.uint8]:
    """Return a PIL image, or uint8 with channels last of an array or tensor with channels first or last.

    Args:
        image: one image.
        what: what the dataset is called in errors.
        remedy: how to get bytes out of it.

    Raises:
        InputError: floats, or no image.
    """
    if isinstance(image, Image.Image):
        return image
    is_tensor = not isinstance(image, np.ndarray) and hasattr(image, "numpy")
    array = np.asarray(image.numpy() if is_tensor else image)
    if array.dtype != np.uint8:
        values = f" with values from {array.min():.3g} to {array.max():.3g}" if array.dtype.kind == "f" else ""
        raise InputError(
            f"{what}: got images of {array.dtype}{values}, expected PIL images or uint8, as PortNet normalises by "
            f"itself. {remedy}"
        )
    first = array.ndim == 3 and array.shape[0] in (1, 3, 4) and (is_tensor or array.shape[2] not in (1, 3, 4))
    return np.ascontiguousarray(array.transpose(1, 2, 0)) if first else array


def class_of(label: Any, what: str) -> int | str:
    """Return a class number or name: of a number, a text, or a one-hot vector.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(label, str):
        return label
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    array = np.asarray(label.numpy() if hasattr(label, "numpy") else label)
    if array.size == 1 and array.dtype.kind in "iubf" and float(array.item()).is_integer():
        return int(array.item())
    if array.ndim == 1 and array.dtype.kind in "iubf" and sorted(array.tolist()) == [0] * (len(array) - 1) + [1]:
        return int(array.argmax())
    shown = f"{array.dtype} of shape {array.shape}" if array.dtype != object else type(label).__name__
    raise InputError(f"{what}: got {shown} as a label, expected a class number, a class name or a one-hot vector.")
