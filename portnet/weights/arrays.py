"""Arrays out of untrusted bytes: every size is checked against what is really there before anything is made.

Arrays are views of the mapped file wherever its bytes are aligned, so reading costs what is looked at.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from portnet.errors import WeightsError

__all__ = [
    "MAX_ARRAYS",
    "Buffer",
    "check_budget",
    "contiguous_view",
    "element_count",
    "map_file",
    "named_dtype",
    "native",
    "storage_view",
    "strided_view",
]

Buffer = mmap.mmap | memoryview | bytes

MAX_RANK = 32
MAX_ARRAYS = 100_000
# what a file may unpack to: tied weights and mild compression fit, a bomb does not
_EXPANSION, _ALLOWANCE = 16, 64 << 20

_EXTENDED = {
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


def named_dtype(name: str) -> np.dtype:
    """Return the little-endian dtype of that name; bfloat16 and the float8 types are ml_dtypes'."""
    return np.dtype(_EXTENDED.get(name, name)).newbyteorder("<")


def map_file(path: Path) -> mmap.mmap:
    """Map a file read-only.

    Raises:
        WeightsError: no such file, not a file, unreadable or empty.
    """
    if not path.is_file():
        raise WeightsError(f"no such weights file: {path}")
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise WeightsError(f"{path} is empty. Fetch it again.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def element_count(shape: Sequence[int], what: str) -> int:
    """Return the product of ``shape``.

    Raises:
        WeightsError: a size that is no non-negative integer, or more than 32 axes.
    """
    if len(shape) > MAX_RANK or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
        raise WeightsError(f"{what}: ill-formed shape, expected at most {MAX_RANK} non-negative integers")
    return math.prod(shape)


def contiguous_view(buffer: Buffer, dtype: np.dtype, shape: Sequence[int], offset: int, what: str) -> np.ndarray:
    """Return the row-major array that begins at byte ``offset`` of ``buffer``, read-only.

    Raises:
        WeightsError: it would reach beyond the buffer.
    """
    count = element_count(shape, what)
    nbytes = count * dtype.itemsize
    if not 0 <= offset <= len(buffer) - nbytes:
        raise WeightsError(
            f"{what}: got {max(len(buffer) - offset, 0)} bytes of data, expected {nbytes} for shape {tuple(shape)}. "
            "The file is truncated or broken; fetch it again."
        )
    if count == 0:
        return np.empty(shape, native(dtype))
    stored = native(dtype) if dtype.isnative else dtype
    return _usable(np.frombuffer(buffer, stored, count, offset).reshape(shape))


def storage_view(buffer: Buffer, dtype: np.dtype, offset: int, count: int, what: str) -> np.ndarray:
    """Return ``count`` elements from byte ``offset`` as a flat array that tensors are cut from."""
    return contiguous_view(buffer, dtype, (count,), offset, what)


def strided_view(
    storage: np.ndarray, shape: Sequence[int], strides: Sequence[int], offset: int, what: str
) -> np.ndarray:
    """Return the tensor of that shape, strides and offset (in elements) over a flat ``storage``, read-only.

    Raises:
        WeightsError: it reaches beyond the storage, or has more elements than the storage holds.
    """
    count = element_count(shape, what)
    element_count(strides, what)
    if len(strides) != len(shape) or type(offset) is not int or offset < 0:
        raise WeightsError(f"{what}: ill-formed tensor: shape, strides and offset do not fit one another")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count > storage.size or (count and last >= storage.size):
        raise WeightsError(
            f"{what}: a tensor of shape {tuple(shape)} does not fit its storage of {storage.size} elements. "
            "Save expanded tensors with .contiguous()."
        )
    if count == 0:
        return np.empty(shape, storage.dtype)
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def check_budget(nbytes: Iterable[int], file_size: int, what: str) -> None:
    """Refuse arrays that unpack to far more than the file's own size.

    Raises:
        WeightsError: more than 16 times the file and 64 MiB, or more than 100,000 arrays.
    """
    sizes = list(nbytes)
    total, allowed = sum(sizes), _EXPANSION * file_size + _ALLOWANCE
    if len(sizes) > MAX_ARRAYS:
        raise WeightsError(f"{what}: got {len(sizes)} arrays, expected at most {MAX_ARRAYS}")
    if total > allowed:
        raise WeightsError(
            f"{what}: a file of {file_size} bytes unpacks to {total}, expected at most {allowed}. Refused."
        )


def native(dtype: np.dtype) -> np.dtype:
    """Return ``dtype`` in this machine's byte order."""
    return dtype.newbyteorder("=")


def _usable(array: np.ndarray) -> np.ndarray:
    """Copy only what no consumer could take as it lies: odd booleans, unaligned or foreign-endian data."""
    if array.dtype == np.bool_:
        return array.view(np.uint8) != 0
    if array.flags.aligned and array.dtype.isnative:
        return array
    return np.array(array, dtype=native(array.dtype))
