"""From class labels as people write them, names or numbers, to int64 indices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portnet.errors import DataError, UnknownNameError

__all__ = ["encode"]


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
        raise DataError(f"labels: got an array of shape {labels.shape}, expected (N,), one class for each image.")
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
