"""Finds weights inside a serialized model without parsing them, and writes a model around them.

Protobuf's parser copies every byte it reads. Here the outline of a ModelProto is walked by its wire format
(https://protobuf.dev/programming-guides/encoding), large ``raw_data`` is left where it is in the file, and only
the rest is handed to the parser.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portnet.errors import ModelError

__all__ = ["Outline", "field_header", "outline"]

# field numbers of onnx.proto
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
# raw_data below this size is cheaper to parse than to track
MIN_RAW_BYTES = 1024


@dataclass(frozen=True)
class Outline:
    """A serialized model without its large weights.

    Attributes:
        light: a serialized ModelProto whose large initializers have no ``raw_data``.
        regions: index of an initializer of the main graph -> offset and length of its ``raw_data``, in bytes.
    """

    light: bytes
    regions: dict[int, tuple[int, int]]


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    start: int
    payload: int
    end: int


def outline(data: Any) -> Outline:
    """Split a serialized ModelProto into its outline and the places of its large weights.

    Args:
        data: bytes, or a memory map of the file.

    Raises:
        ModelError: the bytes end too early, or are no protobuf.
    """
    light, regions, count = bytearray(), {}, 0
    for field in _fields(data, 0, len(data)):
        if field.number != MODEL_GRAPH or field.kind != _BYTES:
            light += data[field.start : field.end]
            continue
        graph = bytearray()
        for part in _fields(data, field.payload, field.end):
            if part.number != GRAPH_INITIALIZER or part.kind != _BYTES:
                graph += data[part.start : part.end]
                continue
            tensor, region = _without_raw_data(data, part)
            graph += field_header(GRAPH_INITIALIZER, len(tensor)) + tensor
            if region is not None:
                regions[count] = region
            count += 1
        light += field_header(MODEL_GRAPH, len(graph)) + graph
    return Outline(bytes(light), regions)


def _without_raw_data(data: Any, tensor: _Field) -> tuple[bytes, tuple[int, int] | None]:
    if tensor.end - tensor.payload < MIN_RAW_BYTES:
        return bytes(data[tensor.payload : tensor.end]), None
    kept, region = bytearray(), None
    for field in _fields(data, tensor.payload, tensor.end):
        if field.number == TENSOR_RAW_DATA and field.kind == _BYTES:
            region = (field.payload, field.end - field.payload)
        else:
            kept += data[field.start : field.end]
    return bytes(kept), region


def _fields(data: Any, position: int, end: int) -> Iterator[_Field]:
    """Yield the fields of one message."""
    while position < end:
        start = position
        tag, position = _varint(data, position, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            payload, (_, position) = position, _varint(data, position, end)
        elif kind == _BYTES:
            length, payload = _varint(data, position, end)
            position = payload + length
        elif kind in _FIXED_SIZES:
            payload, position = position, position + _FIXED_SIZES[kind]
        else:
            raise ModelError(f"model: not ONNX: byte {start} begins no protobuf field")
        if position > end or not number:
            raise ModelError(f"model: truncated, or not ONNX: the field at byte {start} ends beyond byte {end}")
        yield _Field(number, kind, start, payload, position)


def _varint(data: Any, position: int, end: int) -> tuple[int, int]:
    result = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= end:
            break
        byte = data[position + index]
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return result, position + index + 1
    raise ModelError(f"model: truncated, or not ONNX: no number ends after byte {position}")


def field_header(number: int, length: int) -> bytes:
    """Return tag and length that stand before ``length`` bytes of a field."""
    return _encoded(number << 3 | _BYTES) + _encoded(length)


def _encoded(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
