"""Pickles of numpy arrays, in dicts and lists, without unpickling them.

What numpy writes is fixed: ``_reconstruct`` makes an empty array that is then given its state
(version, shape, dtype, Fortran order, bytes); protocol 5 uses ``_frombuffer``. The source is numpy's
``numpy/core/src/multiarray/methods.c``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.arrays import contiguous_view, element_count, map_file
from portnet.weights.tree import flatten, unwrap
from portnet.weights.unpickle import Known, Stateful, Stream, unpickle

__all__ = ["read_numpy_pickle"]

_KINDS = "biuf"


class _DType(Stateful):
    def __init__(self, code: Any, *_: Any) -> None:
        # "f4" and the like alone: longer codes could describe structures and objects
        if not isinstance(code, str) or not code[:1].isalpha() or not code[1:].isdigit() or code[0] not in _KINDS:
            raise WeightsError("pickle: an array of that dtype is refused: expected booleans, integers or floats")
        self.value = np.dtype(code)

    def build(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("ill-formed dtype")
        self.value = self.value.newbyteorder(order)


class _Array(Stateful):
    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin-1")  # Python 2 kept bytes in its str
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or not isinstance(data, (bytes, bytearray)):
        raise WeightsError("pickle: an array of objects is refused: expected plain numbers")
    if element_count(shape, "array") * dtype.value.itemsize != len(data):
        raise WeightsError(f"pickle: an array of shape {shape} got {len(data)} bytes of data. The file is broken.")
    if order == "F":
        return contiguous_view(bytes(data), dtype.value, shape[::-1], 0, "array").T
    return contiguous_view(bytes(data), dtype.value, shape, 0, "array")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    made = _Array()
    made.value = _array(data, dtype, shape, order)
    return made


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError("unexpected text encoding")
    return text.encode(encoding)


_KNOWN: dict[str, Any] = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": Known(_DType),
    "_codecs.encode": Known(_encode),
    **{
        f"numpy.{core}.{name}": Known(function)
        for core in ("core", "_core")
        for name, function in (("multiarray._reconstruct", _Array), ("numeric._frombuffer", _from_buffer))
    },
}


def read_numpy_pickle(path: Path) -> dict[str, np.ndarray]:
    """Read a pickled dict of arrays; a list's arrays are numbered: ``{"conv1": [k, b]}`` → ``conv1/0``, ``conv1/1``.

    Raises:
        WeightsError: broken, or it names anything but arrays of numbers and plain values.
    """
    tree = unpickle(Stream(map_file(path)), _KNOWN)
    found = flatten(unwrap(tree, _Array), _Array, "/")
    arrays = {name: array.value for name, array in found.items() if array.value is not None}
    if len(arrays) != len(found):
        raise WeightsError(f"{path}: an array was never given its data. Fetch the file again.")
    return arrays
