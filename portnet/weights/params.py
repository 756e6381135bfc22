"""MXNet's .params: a list of NDArrays and their names.

Layout of ``NDArray::Save`` and ``NDArray::Load`` in MXNet's ``src/ndarray/ndarray.cc``: list magic, a reserved
word, the arrays (each with its own magic by version), the names. Everything is little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.arrays import MAX_ARRAYS, MAX_RANK, contiguous_view, map_file, named_dtype

__all__ = ["LIST_MAGIC", "read_params"]

LIST_MAGIC = struct.pack("<Q", 0x112)

_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0
_MAX_NAME = 4096

# mshadow's type flags
_DTYPES = {
    **{0: "float32", 1: "float64", 2: "float16", 12: "bfloat16"},
    **{3: "uint8", 9: "uint16", 10: "uint32", 11: "uint64"},
    **{5: "int8", 8: "int16", 4: "int32", 6: "int64", 7: "bool"},
}


class _Cursor:
    """A position in the file that reads numbers and never leaves it."""

    def __init__(self, data: Any, path: Path) -> None:
        self.data, self.path, self.position = data, path, len(LIST_MAGIC) + 8

    def take(self, nbytes: int) -> int:
        start, self.position = self.position, self.position + nbytes
        if self.position > len(self.data):
            raise WeightsError(f"{self.path} ends at byte {len(self.data)} in the midst of an array. Fetch it again.")
        return start

    def numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack_from(f"<{layout}", self.data, self.take(struct.calcsize(f"<{layout}")))

    def count(self, layout: str, most: int, what: str) -> int:
        (count,) = self.numbers(layout)
        if not 0 <= count <= most:
            raise WeightsError(f"{self.path}: got {count} {what}, expected at most {most}. Refused.")
        return count


def read_params(path: Path) -> dict[str, np.ndarray]:
    """Read a .params file, in its order; the prefixes ``arg:`` and ``aux:`` of MXNet's Module are removed.

    Raises:
        WeightsError: broken, truncated, sparse arrays, or names that are missing or occur twice.
    """
    cursor = _Cursor(map_file(path), path)
    arrays = [_array(cursor) for _ in range(cursor.count("Q", MAX_ARRAYS, "arrays"))]
    names = [_name(cursor) for _ in range(cursor.count("Q", MAX_ARRAYS, "names"))]
    if len(set(names)) != len(arrays) or len(names) != len(arrays):
        raise WeightsError(f"{path}: got {len(arrays)} arrays and {len(set(names))} names, expected a name for each")
    return dict(zip(names, arrays, strict=True))


def _array(cursor: _Cursor) -> np.ndarray:
    (magic,) = cursor.numbers("I")
    if magic in (_V2, _V3):
        (storage,) = cursor.numbers("i")
        if storage != _DENSE:
            raise WeightsError(f"{cursor.path}: sparse arrays are not read. Save it with .tostype('default').")
    if magic in (_V1, _V2, _V3):
        shape = cursor.numbers(f"{cursor.count('i', MAX_RANK, 'axes')}q")
    else:  # the first version has no magic: the number is the count of axes
        cursor.position -= 4
        shape = cursor.numbers(f"{cursor.count('I', MAX_RANK, 'axes')}I")
    if not shape and magic != _V3:
        raise WeightsError(f"{cursor.path}: an array without a shape: it was saved before it was initialized")
    _device, _device_id, flag = cursor.numbers("iii")
    if flag not in _DTYPES:
        raise WeightsError(f"{cursor.path}: unknown type flag {flag}, expected one of {sorted(_DTYPES)}")
    array = contiguous_view(cursor.data, named_dtype(_DTYPES[flag]), shape, cursor.position, str(cursor.path))
    cursor.take(array.nbytes)
    return array


def _name(cursor: _Cursor) -> str:
    length = cursor.count("Q", _MAX_NAME, "bytes in a name")
    start = cursor.take(length)
    try:
        name = bytes(cursor.data[start : start + length]).decode()
    except UnicodeDecodeError as error:
        raise WeightsError(f"{cursor.path}: a name is not UTF-8. Fetch the file again.") from error
    return name.removeprefix("arg:").removeprefix("aux:")
