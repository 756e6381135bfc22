"""PyTorch's .pth and .pt: the zip format (since 1.6) and the older single stream, without torch.

Both hold one pickle that describes tensors and names their storages, and the storages' raw bytes. The layouts
are those of ``torch/serialization.py`` (``_save`` and ``_legacy_save``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.arrays import Buffer, map_file, named_dtype, storage_view, strided_view
from portnet.weights.tree import flatten, strip_prefixes, unwrap
from portnet.weights.unpickle import Known, Stream, unpickle
from portnet.weights.zipped import Archive

__all__ = ["LEGACY_MAGIC", "read_legacy", "read_zip"]

# pickle of torch.serialization.MAGIC_NUMBER, protocol 2
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_VERSION = 1001

_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclass(frozen=True)
class _StorageKind:
    dtype: np.dtype


@dataclass(frozen=True)
class _Storage:
    """A storage, or the part of it from ``start`` on, as the pickle names it; counts are in elements."""

    key: str
    dtype: np.dtype
    start: int
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    if not (isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise TypeError("ill-formed tensor")
    if len(rest) > 2 and rest[2]:
        raise WeightsError("checkpoint: conjugate and negative views are not read. Save them with .resolve_conj().")
    return _Tensor(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _ordered_dict(items: Any = ()) -> dict[Any, Any]:
    if any(not isinstance(key, str) for key, _ in items):
        raise TypeError("ill-formed OrderedDict")
    return dict(items)


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": Known(_ordered_dict),
    "torch._utils._rebuild_tensor": Known(_tensor),
    "torch._utils._rebuild_tensor_v2": Known(_tensor),
    "torch._utils._rebuild_parameter": Known(_parameter),
    **{
        f"{module}.{name}": _StorageKind(named_dtype(dtype))
        for module in ("torch", "torch.cuda")
        for name, dtype in _STORAGE_DTYPES.items()
    },
}


def _storage(identity: Any) -> _Storage:
    """Resolve a persistent id: ("storage", kind, key, device, count[, view of (key, offset, count)])."""
    tag, kind, key, _device, count, *view = identity
    start, size = 0, count
    if view and view[0] is not None:
        _, start, size = view[0]
    numbers = all(type(n) is int and n >= 0 for n in (count, start, size))
    if tag != "storage" or not isinstance(kind, _StorageKind) or not isinstance(key, str) or not numbers:
        raise TypeError("ill-formed storage")
    if start + size > count:
        raise WeightsError(f"checkpoint: a view of storage {key!r} reaches beyond it")
    return _Storage(key, kind.dtype, start, size)


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """Read a .pth of torch 1.6 or later: a zip of ``data.pkl`` and one stored member for each storage.

    Raises:
        WeightsError: broken, compressed, big-endian, or it names anything but tensors and plain values.
    """
    archive = Archive(path)
    pickles = [name for name in archive.members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise WeightsError(f"{path}: got {len(pickles)} members named data.pkl, expected one as torch.save writes")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.members and archive.stored(f"{root}byteorder") != b"little":
        raise WeightsError(f"{path}: big-endian checkpoints are not read. Save it again on a little-endian machine.")
    tree = unpickle(Stream(archive.stored(pickles[0])), _KNOWN, _storage)
    members: dict[str, memoryview] = {}

    def bytes_of(key: str) -> tuple[Buffer, int]:
        if key not in members:
            members[key] = archive.stored(f"{root}data/{key}")
        return members[key], 0

    return _arrays(tree, bytes_of, path)


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """Read a .pth from before torch 1.6: five pickles, then each storage as its count and its bytes.

    Raises:
        WeightsError: broken, truncated, big-endian, or it names anything but tensors and plain values.
    """
    data = map_file(path)
    stream = Stream(data, len(LEGACY_MAGIC))
    version, system = unpickle(stream, {}), unpickle(stream, {})
    if version != _LEGACY_VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise WeightsError(f"{path}: expected a little-endian checkpoint of protocol version {_LEGACY_VERSION}")
    seen: dict[str, np.dtype] = {}

    def remember(identity: Any) -> _Storage:
        storage = _storage(identity)
        seen.setdefault(storage.key, storage.dtype)
        return storage

    tree = unpickle(stream, _KNOWN, remember)
    places = _legacy_places(stream, unpickle(stream, {}), seen, path)
    return _arrays(tree, lambda key: (data, places[key]), path)


def _legacy_places(stream: Stream, keys: Any, dtypes: dict[str, np.dtype], path: Path) -> dict[str, int]:
    """Return where each storage's bytes begin."""
    places: dict[str, int] = {}
    position, size = stream.position, len(stream.data)
    for key in keys:
        if not isinstance(key, str) or key not in dtypes or key in places or position + 8 > size:
            raise WeightsError(f"{path}: the list of storages is broken or the file is truncated. Fetch it again.")
        (count,) = struct.unpack_from("<q", stream.data, position)
        places[key] = position + 8
        position += 8 + count * dtypes[key].itemsize
        if count < 0 or position > size:
            raise WeightsError(
                f"{path}: truncated in storage {key!r}: {size} bytes, expected {position}. Fetch it again."
            )
    return places


def _arrays(tree: Any, bytes_of: Callable[[str], tuple[Buffer, int]], path: Path) -> dict[str, np.ndarray]:
    tensors = strip_prefixes(flatten(unwrap(tree, _Tensor), _Tensor, "."))
    storages: dict[_Storage, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        what, storage = f"{path}: {name!r}", tensor.storage
        if storage not in storages:
            buffer, begin = bytes_of(storage.key)
            offset = begin + storage.start * storage.dtype.itemsize
            storages[storage] = storage_view(buffer, storage.dtype, offset, storage.count, what)
        arrays[name] = strided_view(storages[storage], tensor.shape, tensor.strides, tensor.offset, what)
    return arrays
