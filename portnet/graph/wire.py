"""Finds weights inside a serialized model without parsing them, and writes a model around them.

Protobuf's parser copies every byte it reads. Here the outline of a ModelProto is walked by its wire format
(https://protobuf.dev/programming-guides/encoding), large ``raw_data`` is left where it is in the file, and only
the rest is handed to the parser.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from portnet.errors import ModelError

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "Outline", "field_header", "fields", "outline", "varint"]

# field numbers of onnx.proto
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
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


class Field(NamedTuple):
    """A field of a message: its number, wire type, and where it, its payload and its end lie, in bytes."""

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
    for field in fields(data, 0, len(data)):
        if field.number != MODEL_GRAPH or field.kind != BYTES:
            light += data[field.start : field.end]
            continue
        graph, taken = bytearray(), field.payload
        for part in fields(data, field.payload, field.end):
            if part.number != GRAPH_INITIALIZER or part.kind != BYTES:
                continue
            if part.end - part.payload >= MIN_RAW_BYTES:
                tensor, region = _without_raw_data(data, part)
                graph += data[taken : part.start]
                graph += field_header(GRAPH_INITIALIZER, len(tensor)) + tensor
                taken = part.end
                if region is not None:
                    regions[count] = region
            count += 1
        graph += data[taken : field.end]
        light += field_header(MODEL_GRAPH, len(graph)) + graph
    return Outline(bytes(light), regions)


def _without_raw_data(data: Any, tensor: Field) -> tuple[bytes, tuple[int, int] | None]:
    kept, region = bytearray(), None
    for field in fields(data, tensor.payload, tensor.end):
        if field.number == TENSOR_RAW_DATA and field.kind == BYTES:
            region = (field.payload, field.end - field.payload)
        else:
            kept += data[field.start : field.end]
    return bytes(kept), region


def fields(data: Any, position: int, end: int, what: str = "model", kind: str = "ONNX") -> Iterator[Field]:
    """Yield the fields of the message between two bytes; ``what`` and ``kind`` are what errors call it.

    Raises:
        ModelError: a field that is none, or that ends beyond the message.
    """
    while position < end:
        start, tag = position, data[position]
        if tag < 0x80:
            position += 1
        else:
            tag, position = varint(data, position, end, what, kind)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == BYTES:
            length, payload = varint(data, position, end, what, kind)
            position = payload + length
        elif wire_type == VARINT:
            payload, (_, position) = position, varint(data, position, end, what, kind)
        elif wire_type in _FIXED_SIZES:
            payload, position = position, position + _FIXED_SIZES[wire_type]
        else:
            raise ModelError(f"{what}: not {kind}: byte {start} begins no protobuf field")
        if position > end or not number:
            raise ModelError(f"{what}: truncated, or not {kind}: the field at byte {start} ends beyond byte {end}")
        yield Field(number, wire_type, start, payload, position)


def varint(data: Any, position: int, end: int, what: str = "model", kind: str = "ONNX") -> tuple[int, int]:
    """Return the number that begins at a byte, and the byte after it.

    Raises:
        ModelError: it does not end before ``end``.
    """
    if position < end and data[position] < 0x80:
        return data[position], position + 1
    result = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= end:
            break
        byte = data[position + index]
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return result, position + index + 1
    raise ModelError(f"{what}: truncated, or not {kind}: no number ends after byte {position}")


def field_header(number: int, length: int) -> bytes:
    """Return tag and length that stand before ``length`` bytes of a field."""
    return _encoded(number << 3 | BYTES) + _encoded(length)


def _encoded(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
