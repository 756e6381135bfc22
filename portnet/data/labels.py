"""From class labels as people write them, names or numbers, to int64 indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portnet.errors import DataError, UnknownNameError

__all__ = ["Names", "encode"]


@dataclass(frozen=True)
class Names:
    """What the classes are called.

    Attributes:
        classes: their names in the order of a network's logits, when they are fixed already, else None.
        rename: other names for some that are found.
    """

    classes: Sequence[str] | None = None
    rename: Mapping[str, str] | None = None

    def encode(
        self, labels: Sequence[Any] | NDArray[Any], found: Sequence[str] | None = None
    ) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return ``labels`` as indices, and the names they point at; see `encode`.

        Args:
            labels: class names or class numbers.
            found: all names that there are, some perhaps without an image; None for those in ``labels``.

        Raises:
            DataError: as `encode`, or a class would get the name that another one has already.
            UnknownNameError: a name to be changed that is not there, or a name that is not in ``classes``.
        """
        if not self.rename:
            return encode(labels, found if self.classes is None else self.classes)
        values = labels.tolist() if isinstance(labels, np.ndarray) and labels.ndim == 1 else labels
        if len(values) and not all(isinstance(value, str) for value in values):
            numbers, known = encode(labels, self.classes)
            return (numbers, known) if self.classes is not None else (numbers, self._renamed(known))
        known = tuple(dict.fromkeys(values)) if found is None else tuple(found)
        names = dict(zip(known, self._renamed(known), strict=True))
        classes = sorted(set(names.values())) if self.classes is None else self.classes
        return encode([names[value] for value in values], classes)

    def _renamed(self, known: Sequence[str]) -> tuple[str, ...]:
        rename = self.rename or {}
        for old, new in rename.items():
            if old not in known and self.classes is None:
                raise UnknownNameError("class to rename", old, known)
            if old in known and new in known and new not in rename:
                raise DataError(f"rename: class {old!r} would be called {new!r}, as another class is. Rename both.")
        return tuple(rename.get(name, name) for name in known)


def encode(
    labels: Sequence[Any] | NDArray[Any], classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return ``labels`` as int64 indices of shape (N,), and the class names they point at.

    Names are numbered in sorted order, numbers are indices and name themselves; with ``classes`` given,
    names are looked up there and numbers point into it.

    Raises:
        DataError: labels of several kinds, a number out of range, a name that ``classes`` has twice.
        UnknownNameError: a name that is not in ``classes``.
    """
    if isinstance(labels, np.ndarray) and labels.ndim != 1:
        raise DataError(
            f"labels: got an array of shape {labels.shape}, expected (N,), one class for each image. "
            "Give labels.ravel() of (N, 1), labels.argmax(axis=1) of one-hot rows."
        )
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if all(isinstance(value, str) for value in values):
        return _encode_names(values, classes)
    if all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in values):
        return _encode_numbers(np.array(values, np.int64), classes)
    kinds = sorted({type(value).__name__ for value in values})
    raise DataError(f"labels: got {', '.join(kinds)}, expected class names alone or class numbers alone.")


def _encode_names(names: list[str], classes: Sequence[str] | None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    known = tuple(sorted(set(names)) if classes is None else classes)
    index = {name: i for i, name in enumerate(known)}
    used = dict.fromkeys(names)
    twice = [name for name, times in Counter(known).items() if times > 1 and name in used]
    if twice:
        raise DataError(f"labels: class {twice[0]!r} stands more than once in classes. Use numbers instead.")
    for name in used:
        if name not in index:
            raise UnknownNameError("class", name, known)
    return np.array([index[name] for name in names], np.int64), known


def _encode_numbers(
    numbers: NDArray[np.int64], classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    highest = len(numbers) if classes is None else len(classes)
    wrong = numbers[(numbers < 0) | (numbers >= highest)]
    if len(wrong):
        raise DataError(f"labels: got class number {wrong[0]}, expected 0 to {highest - 1}.")
    known = map(str, range(int(numbers.max(initial=-1)) + 1)) if classes is None else classes
    return numbers, tuple(known)
