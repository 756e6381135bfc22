"""Safetensors: the length of a JSON header, the header, raw bytes.

The format and its rules (offsets in order, no overlap, no hole) are those of
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.arrays import contiguous_view, element_count, map_file, named_dtype

__all__ = ["read_safetensors"]

# 100 bytes a tensor; the reference reader allows 100 MB, which Python's json would blow up to gigabytes
_MAX_HEADER = 16 << 20

_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "BOOL": "bool"},
    **{"U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read a .safetensors file, in order of its header.

    Raises:
        WeightsError: an ill-formed header, an unknown dtype, or offsets that overlap, leave holes or disagree
            with shapes.
    """
    data = map_file(path)
    if len(data) < 8:
        raise WeightsError(f"{path}: got {len(data)} bytes, no safetensors header. Fetch it again.")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(len(data) - 8, _MAX_HEADER):
        raise WeightsError(
            f"{path}: header of {length} bytes, expected at most {min(len(data) - 8, _MAX_HEADER)}. Fetch it again."
        )
    entries = _header(data[8 : 8 + length], path)
    _check_layout(entries, len(data) - 8 - length, path)
    return {
        name: contiguous_view(data, dtype, shape, 8 + length + begin, f"{path}: {name!r}")
        for name, (dtype, shape, begin, _) in entries.items()
    }


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts that a .safetensors file holds besides its tensors."""
    data = map_file(path)
    (length,) = struct.unpack_from("<Q", data)
    found = json.loads(data[8 : 8 + min(length, _MAX_HEADER)]).get("__metadata__")
    texts = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in texts if isinstance(value, str)}


_Entry = tuple[np.dtype, list[int], int, int]


def _header(text: bytes, path: Path) -> dict[str, _Entry]:
    header = json.loads(text, object_pairs_hook=_no_duplicates)
    header.pop("__metadata__", None)
    return {name: _entry(name, entry, path) for name, entry in header.items()}


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _entry(name: str, entry: Any, path: Path) -> _Entry:
    if entry["dtype"] not in _DTYPES:
        raise WeightsError(f"{path}: {name!r} has dtype {entry['dtype']!r}, expected one of {', '.join(_DTYPES)}")
    dtype, (begin, end) = named_dtype(_DTYPES[entry["dtype"]]), entry["data_offsets"]
    if end - begin != element_count(entry["shape"], f"{path}: {name!r}") * dtype.itemsize:
        raise WeightsError(f"{path}: {name!r}: data_offsets and shape disagree. Fetch the file again.")
    return dtype, entry["shape"], begin, end


def _check_layout(entries: dict[str, _Entry], size: int, path: Path) -> None:
    """Refuse overlapping tensors and bytes that belong to none."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise WeightsError(
                f"{path}: {name!r} begins at byte {begin}, expected {position}: overlap or hole. Refused."
            )
        position = end
    if position != size:
        raise WeightsError(f"{path}: got {size} bytes of data, expected {position}. Fetch it again.")
