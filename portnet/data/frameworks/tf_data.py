"""``tf.data.Dataset``: read through once, batched or not, and kept as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portnet.data.frameworks.items import Collected, Labelled, class_of, pair_of, pixels_of
from portnet.errors import InputError

__all__ = ["labelled"]

_WHAT = "the tf.data.Dataset"
_REMEDY = "Leave out the map that normalises, such as Rescaling."
# tf.data.INFINITE_CARDINALITY
_INFINITE = -1


def labelled(source: Any) -> Labelled:
    """Return what a dataset of pairs, or of mappings with "image" and "label", holds; see `portnet.data.frameworks`."""
    if int(source.cardinality()) == _INFINITE:
        raise InputError(f"{_WHAT} has no end: leave out repeat(), or take a part of it with take(n).")
    pair_of(source.element_spec, _WHAT)  # without labels, it is said before the first image is read
    kept = Collected(_WHAT, "Give a part of it with take(n), or the folder of its files.")
    for item in source.as_numpy_iterator():
        for image, label in _singly(*pair_of(item, _WHAT)):
            pixels = np.asarray(pixels_of(_whole(image), _WHAT, _REMEDY))
            kept.add(pixels, class_of(label, _WHAT), pixels.nbytes)
    names = getattr(source, "class_names", None)
    return Labelled(kept.images, kept.labels, None if names is None else tuple(map(str, names)))


def _singly(images: Any, labels: Any) -> Iterator[tuple[Any, Any]]:
    """Yield image and label one by one, of a batch or of a single one."""
    if _is_batch(np.shape(images), np.shape(labels)):
        yield from zip(images, labels, strict=True)
    else:
        yield images, labels


def _is_batch(images: tuple[int, ...], labels: tuple[int, ...]) -> bool:
    """Whether an item is a batch, of (N, H, W, C), or of (N, H, W) with a label for each; else (H, W, C) or (H, W)."""
    if len(images) != 3:
        return len(images) == 4
    return images[2] not in (1, 3, 4) and len(labels) > 0 and labels[0] == images[0]


def _whole(image: Any) -> NDArray[Any]:
    """Round floats that are pixels in 0..255, as resizing leaves them; others are left to be refused."""
    array = np.asarray(image)
    if array.dtype.kind != "f" or not array.size or not (array.min() >= 0 and array.max() <= 255):
        return array
    rounded = np.rint(array)
    # pixels in 0..1 are normalised, but for a black image, which is whole numbers
    return rounded.astype(np.uint8) if array.max() > 1 or np.array_equal(rounded, array) else array
