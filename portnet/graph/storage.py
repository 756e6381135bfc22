"""Weights that stay in their file: memory maps, and external data that may not leave the model's folder."""

from __future__ import annotations

import functools
import mmap
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.shared import shared_shape

__all__ = ["Buffer", "External", "MappedTensor", "byte_size", "map_file", "open_contained", "roots_of", "to_copy"]


# giving back pages of less is not worth the call
KEPT = 8 << 20


def roots_of(path: Path) -> tuple[Path, ...]:
    """Return the folders that a model's external data may lie in.

    They are the folder of the path, and the folder of the file itself where the path is a symlink: a download cache
    links names to blobs, and keeps the blobs of a model together.
    """
    return tuple(dict.fromkeys((path.absolute().parent.resolve(), path.resolve().parent)))


def open_contained(roots: Iterable[Path], location: str) -> IO[bytes]:
    """Open a file for reading that lies below one of ``roots``, symlinks followed.

    Raises:
        ModelError: an absolute path, "..", a symlink or hardlink that leads outside, or no regular file.
    """
    windows, posix = PureWindowsPath(location), PurePosixPath(location)
    parts = {*windows.parts, *posix.parts}
    if not location or "\0" in location or posix.is_absolute() or windows.anchor or ".." in parts:
        raise ModelError(f"external data {location!r}: expected a path below the model's folder")
    roots = tuple(roots)
    try:
        target = (roots[0] / location).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"external data {location!r}: no such file beside the model") from error
    if not any(target.is_relative_to(root) for root in roots):
        raise ModelError(f"external data {location!r}: a link that leads outside the model's folder, to {target}")
    return _open_regular(target, location)


def _open_regular(target: Path, location: str) -> IO[bytes]:
    try:
        # a path of plain files was resolved above: a link put in its place since then is refused
        descriptor = os.open(target, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise ModelError(f"external data {location!r}: cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        is_file = stat.S_ISREG(status.st_mode)
        problem = "has hardlinks, which may lead outside the model's folder" if is_file else "is no file"
        raise ModelError(f"external data {location!r}: {problem}. Copy it beside the model.")
    return os.fdopen(descriptor, "rb")


class Buffer:
    """Bytes that tensors are views of: those of a file, memory-mapped, or given ones.

    Of a mapped file, about one tensor at a time takes memory, or `KEPT` bytes of small ones: then the pages of what
    was read are given back. A view of them stays valid, and reads them from the file again.

    Args:
        data: bytes, or a memory map.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self._begin, self._end = len(data), 0

    def __len__(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> Any:
        """Return ``data``, of which ``size`` bytes from ``offset`` are about to be read."""
        if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            if self._end - self._begin > KEPT:
                begin = -(-self._begin // mmap.PAGESIZE) * mmap.PAGESIZE
                self.data.madvise(mmap.MADV_DONTNEED, begin, self._end - begin)
                self._begin, self._end = len(self.data), 0
            self._begin, self._end = min(self._begin, offset), max(self._end, offset + size)
        return self.data


def map_file(file: IO[bytes]) -> Buffer:
    """Return the contents of an open file as a read-only memory map (empty bytes for an empty file)."""
    size = os.fstat(file.fileno()).st_size
    return Buffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b"")


def byte_size(dims: Iterable[int], dtype: ir.DataType) -> int:
    """Bytes of a tensor's raw data; types below a byte are packed."""
    count = 1
    for size in dims:
        count *= size
    return -(-count * dtype.bitwidth // 8)


class MappedTensor(ir.LazyTensor):
    """A tensor that reads a buffer each time it is asked, and keeps nothing of what it read.

    Args:
        buffer: holds the tensor's little-endian raw data.
        offset: where it begins, in bytes.
        dtype: element type, one byte or more an entry.
        dims: shape.
        name: the tensor's name.

    Attributes:
        view: returns the entries where they lie, which may be at any byte: read-only, to be copied from.
    """

    __slots__ = ("view",)

    def __init__(self, buffer: Buffer, offset: int, dtype: ir.DataType, dims: tuple[int, ...], name: str) -> None:
        self.view = functools.partial(_entries, buffer, offset, dtype, dims)
        super().__init__(functools.partial(_tensor, self.view, dtype, name), dtype, shared_shape(dims), name=name)

    def numpy(self) -> np.ndarray:
        """Return the entries; a copy where they do not lie as the processor wants them."""
        return _aligned(self.view())


def _entries(buffer: Buffer, offset: int, dtype: ir.DataType, dims: tuple[int, ...]) -> np.ndarray:
    kind, size = _little_endian(dtype), byte_size(dims, dtype)
    return np.frombuffer(buffer.read(offset, size), kind, size // kind.itemsize, offset).reshape(dims)


@functools.cache
def _little_endian(dtype: ir.DataType) -> np.dtype:
    kind = dtype.numpy()
    return kind.newbyteorder("<") if kind.kind in "iuf" else kind


def _aligned(array: np.ndarray) -> np.ndarray:
    return array if array.flags.aligned else array.copy()


def _tensor(view: Callable[[], np.ndarray], dtype: ir.DataType, name: str) -> ir.Tensor:
    return ir.Tensor(_aligned(view()), dtype=dtype, name=name)


def to_copy(tensor: ir.TensorProtocol) -> np.ndarray:
    """Return a tensor's entries for somebody who copies them at once: `MappedTensor.view` where there is one.

    The array may be read-only and lie at any byte.
    """
    return tensor.view() if isinstance(tensor, MappedTensor) else tensor.numpy()


class External:
    """The external data files of one model, each opened once.

    Args:
        roots: folders that they may lie in; none for a model that has no file.
    """

    def __init__(self, roots: tuple[Path, ...] = ()) -> None:
        self._roots = roots
        self._maps: dict[str, Buffer] = {}

    def region(self, entries: dict[str, str], size: int, name: str) -> tuple[Buffer, int]:
        """Return the buffer and offset of one tensor's data.

        Args:
            entries: the tensor's ``external_data``: location, offset, length.
            size: bytes that the tensor's shape and type need.
            name: the tensor's name.

        Raises:
            ModelError: no file to look beside, a path that is not contained, or a region that does not fit.
        """
        location = entries.get("location", "")
        if not self._roots:
            raise ModelError(f"tensor {name!r}: its data is external ({location!r}), and the model is no file")
        if location not in self._maps:
            with open_contained(self._roots, location) as file:
                self._maps[location] = map_file(file)
        buffer = self._maps[location]
        offset = _number(entries, "offset", 0, name)
        length = _number(entries, "length", size, name)
        if length != size or offset + size > len(buffer):
            raise ModelError(
                f"tensor {name!r}: got bytes {offset} to {offset + length} of external data {location!r} "
                f"({len(buffer)} bytes), expected {size} bytes inside it"
            )
        return buffer, offset


def _number(entries: dict[str, str], key: str, default: int, name: str) -> int:
    text = entries.get(key, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ModelError(f"tensor {name!r}: external data {key} got {text!r}, expected a number of bytes")
    return int(text)
