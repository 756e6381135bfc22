"""A .caffemodel: the arrays of each layer, read by the field numbers of caffe.proto.

https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto. Three editions of layers are known: ``layer``
of today, ``layers`` with types as numbers (V1), and those that hold another message inside (V0).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from portnet.errors import WeightsError
from portnet.graph.wire import BYTES, VARINT, Field, fields, varint
from portnet.weights.arrays import MAX_ARRAYS, contiguous_view, map_file
from portnet.weights.h5 import read_groups
from portnet.weights.hdf5 import SIGNATURE

__all__ = ["Blobs", "is_hdf5", "read_blob", "read_caffemodel"]

MAX_FIELDS = 2_000_000
MAX_NAME = 4096

# NetParameter
_LAYERS, _LAYER = 2, 100
# kind of layer message -> numbers of its fields: name, arrays, and the message inside it
_NUMBERS = {"layer": (1, 7, 0), "layers": (4, 6, 1), "V0": (1, 50, 0)}
# BlobProto
_LEGACY_SHAPE, _DATA, _DOUBLE_DATA, _SHAPE = (1, 2, 3, 4), 5, 8, 7
_DIM = 1


@dataclass(frozen=True)
class Blobs:
    """The arrays of a layer, in order.

    Attributes:
        arrays: as the file shapes them; old files say (num, channels, height, width) for everything.
        is_legacy: whether an array's shape is such a one.
    """

    arrays: list[np.ndarray] = field(default_factory=list)
    is_legacy: list[bool] = field(default_factory=list)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: mmap.mmap = map_file(path)
        self.count = 0

    def fields(self, start: int, end: int) -> Iterator[Field]:
        for each in fields(self.data, start, end, str(self.path), "a caffemodel"):
            self.count += 1
            if self.count > MAX_FIELDS:
                raise WeightsError(f"{self.path}: got more than {MAX_FIELDS:,} fields. Refused.")
            yield each

    def integer(self, each: Field) -> int:
        number, _ = varint(self.data, each.payload, each.end, str(self.path), "a caffemodel")
        return number

    def text(self, each: Field) -> str:
        if each.end - each.payload > MAX_NAME:
            raise WeightsError(f"{self.path}: a layer's name has {each.end - each.payload} bytes. Refused.")
        try:
            return bytes(self.data[each.payload : each.end]).decode()
        except UnicodeDecodeError as error:
            raise WeightsError(f"{self.path}: a layer's name is not UTF-8. Fetch the file again.") from error

    def layer(self, kind: str, start: int, end: int) -> Iterator[tuple[str, Blobs]]:
        """Yield the layer's name and arrays, and those of the layer inside it."""
        name_number, blobs_number, inside_number = _NUMBERS[kind]
        name, blobs = "", Blobs()
        for each in self.fields(start, end):
            if each.kind != BYTES:
                continue
            if each.number == name_number:
                name = self.text(each)
            elif each.number == blobs_number:
                self.add_blob(blobs, each)
            elif each.number == inside_number:
                yield from self.layer("V0", each.payload, each.end)
        yield name, blobs

    def add_blob(self, blobs: Blobs, blob: Field) -> None:
        legacy: dict[int, int] = {}
        shape: list[int] | None = None
        chunks: list[np.ndarray] = []
        for each in self.fields(blob.payload, blob.end):
            if each.number in _LEGACY_SHAPE and each.kind == VARINT:
                legacy[each.number] = self.integer(each)
            elif each.number == _SHAPE and each.kind == BYTES:
                shape = self.shape(each)
            elif each.number in (_DATA, _DOUBLE_DATA):
                chunks.append(self.numbers(each))
        data = chunks[0] if len(chunks) == 1 else np.concatenate([*chunks, np.empty(0, np.float32)])
        is_legacy = shape is None
        sizes = [legacy.get(number, 0) for number in _LEGACY_SHAPE] if shape is None else shape
        if any(size >= 1 << 62 for size in sizes) or math.prod(sizes) != data.size:
            raise WeightsError(
                f"{self.path}: an array of shape {tuple(sizes)} has {data.size} numbers, expected {math.prod(sizes)}. "
                "The file is truncated or broken; fetch it again."
            )
        blobs.arrays.append(data.reshape(sizes))
        blobs.is_legacy.append(is_legacy)

    def shape(self, shape: Field) -> list[int]:
        sizes: list[int] = []
        for each in self.fields(shape.payload, shape.end):
            if each.number != _DIM:
                continue
            position, end = each.payload, each.end
            while position < end:
                size, position = varint(self.data, position, end, str(self.path), "a caffemodel")
                sizes.append(size)
                if len(sizes) > 32:
                    raise WeightsError(f"{self.path}: an array has more than 32 axes. Refused.")
        return sizes

    def numbers(self, each: Field) -> np.ndarray:
        """Return packed floats as a view of the file, doubles as floats."""
        dtype = np.dtype("<f4" if each.number == _DATA else "<f8")
        nbytes = each.end - each.payload
        if each.kind != BYTES or nbytes % dtype.itemsize:
            raise WeightsError(f"{self.path}: the numbers at byte {each.start} are not packed floats or doubles")
        view = contiguous_view(self.data, dtype, (nbytes // dtype.itemsize,), each.payload, str(self.path))
        return view if dtype.itemsize == 4 else view.astype(np.float32)


def is_hdf5(path: Path) -> bool:
    """Whether a file of arrays is one that Caffe wrote with ``snapshot_format: HDF5``."""
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def _read_hdf5(path: Path) -> dict[str, Blobs]:
    """Read the arrays ``data/LAYER/0``, ``data/LAYER/1``, ... (Net::ToHDF5 of net.cpp)."""
    try:
        group = read_groups(map_file(path), str(path)).groups.get("data")
    except (struct.error, LookupError, ValueError, ArithmeticError, TypeError) as error:
        raise WeightsError(f"{path} is broken: {error}. Fetch it again.") from error
    if group is None:
        raise WeightsError(f"{path}: got HDF5 without a group 'data', expected a .caffemodel.h5 of Caffe")
    numbered: dict[str, dict[int, np.ndarray]] = {}
    for name, array in group.flat():
        layer, _, number = name.rpartition("/")
        if not layer or not (number.isdecimal() and len(number) < 4):
            raise WeightsError(f"{path}: got an array 'data/{name[:80]}', expected data/LAYER/NUMBER")
        numbered.setdefault(layer, {})[int(number)] = array.astype(np.float32, copy=False)
    for layer, arrays in numbered.items():
        if sorted(arrays) != list(range(len(arrays))):
            raise WeightsError(f"{path}: layer {layer!r} got arrays {sorted(arrays)[:8]}, expected 0, 1, ...")
    return {
        layer: Blobs([arrays[number] for number in sorted(arrays)], [False] * len(arrays))
        for layer, arrays in numbered.items()
    }


def read_blob(path: Path) -> np.ndarray:
    """Return the array of a .binaryproto, which holds a BlobProto: a mean image, (1, channels, height, width).

    Raises:
        PortNetError: no such file, broken, truncated, or lengths that lie.
    """
    reader, blobs = _Reader(path), Blobs()
    reader.add_blob(blobs, Field(0, BYTES, 0, 0, len(reader.data)))
    return blobs.arrays[0]


def read_caffemodel(path: Path) -> dict[str, Blobs]:
    """Return the arrays of each layer that has any, by the layer's name, in the file's order.

    Arrays are float32 and views of the mapped file where its bytes are aligned.

    Raises:
        PortNetError: no such file, broken, truncated, or lengths that lie.
    """
    reader = _Reader(path)
    if is_hdf5(path):
        return _read_hdf5(path)
    found: dict[str, Blobs] = {}
    count = 0
    for each in reader.fields(0, len(reader.data)):
        if each.number not in (_LAYER, _LAYERS) or each.kind != BYTES:
            continue
        for name, blobs in reader.layer("layer" if each.number == _LAYER else "layers", each.payload, each.end):
            count += len(blobs.arrays)
            if count > MAX_ARRAYS:
                raise WeightsError(f"{path}: got more than {MAX_ARRAYS} arrays. Refused.")
            if blobs.arrays:
                found.setdefault(name, blobs)
    return found
