"""The part of HDF5 that Keras and h5py write by default, without libhdf5, which damaged files can hang.

Superblocks 0 and 1, object headers 1, groups as symbol tables, contiguous and compact data of plain numbers, text
attributes. Whatever else the format knows is refused by name, and with it all that leads outside the file: external
links and storage, virtual datasets, filters. Section numbers are those of the HDF5 File Format Specification 3.0,
https://support.hdfgroup.org/archive/support/HDF5/doc/H5.format.html
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from portnet.errors import WeightsError
from portnet.weights.arrays import Buffer, contiguous_view, named_dtype

__all__ = ["SIGNATURE", "H5File", "Message"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_UNDEFINED = (1 << 64) - 1
_MAX_NAME = 1024
_MAX_TEXT = 64 << 20
_MAX_ENTRIES = 100_000
_MAX_NODES = 1_000_000

# kinds of header messages (IV.A.2)
_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
_FILTERS, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = 0x0B, 0x0C, 0x10, 0x11
_SHARED = 0x02

# (bytes, bits of exponent, bits of mantissa) of the IEEE formats and bfloat16
_FLOATS = {(2, 5, 10): "float16", (4, 8, 23): "float32", (8, 11, 52): "float64", (2, 8, 7): "bfloat16"}
_INTEGERS = (1, 2, 4, 8)
_FIXED, _FLOAT, _STRING, _VARIABLE = 0, 1, 3, 9


class Message(NamedTuple):
    """One message of an object's header."""

    kind: int
    body: bytes


class H5File:
    """An HDF5 file: objects are addressed by the position of their header.

    Malformed structures raise WeightsError, `struct.error` or LookupError.

    Args:
        data: the whole file.
        what: its name, for messages.
    """

    def __init__(self, data: Buffer, what: str) -> None:
        self.data, self.what = data, what
        self.seen: set[int] = set()
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}

    @property
    def root(self) -> int:
        """Address of the root group (II.A)."""
        version, sizes = self.data[8], self.data[13:15]
        if version > 1:
            raise self.refuse(f"superblock version {version}, made with libver='latest'")
        if sizes != b"\x08\x08":
            raise self.refuse("addresses of other than eight bytes")
        start = 24 if version == 0 else 28
        base, *_, root = self.unpack("6Q", start)
        if base:
            raise self.refuse("a user block")
        return root

    def refuse(self, feature: str) -> WeightsError:
        """Return the error for a feature that is not read."""
        return WeightsError(f"{self.what}: {feature} is not read. Save the weights again with Keras' defaults.")

    def unpack(self, layout: str, position: int) -> tuple:
        """Return little-endian numbers at a position."""
        return struct.unpack_from(f"<{layout}", self.data, position)

    def enter(self, address: int, signature: bytes = b"") -> int:
        """Return ``address`` after checking what is there; nothing may be entered twice.

        Raises:
            WeightsError: another signature, or a second visit: the file goes in a circle.
        """
        if address in self.seen or len(self.seen) > _MAX_NODES:
            raise WeightsError(f"{self.what}: its groups go in a circle or share their members. Refused.")
        self.seen.add(address)
        if bytes(self.data[address : address + len(signature)]) != signature:
            raise WeightsError(f"{self.what}: no {signature.decode()} at byte {address}. Fetch it again.")
        return address

    # ---- objects (IV.A)

    def messages(self, address: int) -> list[Message]:
        """Return the messages of the object at ``address``, those of its continuations too."""
        version, _, _, size = self.unpack("BxHII", self.enter(address))
        if version != 1:
            raise self.refuse(f"object header version {version}")
        blocks, found = [(address + 16, size)], []
        for start, length in blocks:  # grows while it is walked
            for message in self._block(start, length):
                if message.kind == _CONTINUATION:
                    begin, extent = struct.unpack("<2Q", message.body[:16])
                    blocks.append((self.enter(begin), extent))
                else:
                    found.append(message)
        return found

    def _block(self, start: int, length: int) -> Iterator[Message]:
        end = start + length
        if end > len(self.data):
            raise WeightsError(f"{self.what}: an object header reaches beyond the file. Fetch it again.")
        while start + 8 <= end:
            kind, size, flags = self.unpack("HHB", start)
            if flags & _SHARED and kind in (_DATATYPE, _DATASPACE):
                raise self.refuse("a committed datatype")
            yield Message(kind, bytes(self.data[start + 8 : start + 8 + size]))
            start += 8 + size

    # ---- groups (III.A.1, III.B, III.D)

    def members(self, messages: Sequence[Message]) -> dict[str, int] | None:
        """Return the addresses of a group's members by name; None if the object is no group."""
        kinds = {message.kind: message.body for message in messages}
        if _LINK_INFO in kinds or _LINK in kinds:
            raise self.refuse("a group of links, which may lead outside the file,")
        if _SYMBOL_TABLE not in kinds:
            return None
        tree, heap = struct.unpack("<2Q", kinds[_SYMBOL_TABLE][:16])
        (names,) = self.unpack("Q", self.enter(heap, b"HEAP") + 24)
        found: dict[str, int] = {}
        for name_offset, address, cached in self._symbols(tree, 16):
            if cached == 2:
                raise self.refuse("a link, which may lead outside the file,")
            found[self._name(names + name_offset)] = address
        return found

    def _symbols(self, address: int, above: int) -> Iterator[tuple[int, int, int]]:
        """Yield name offset, address and cache type of each entry below a node of a group's B-tree."""
        kind, level, count = self.unpack("BBH", self.enter(address, b"TREE") + 4)
        if kind != 0 or level >= above:
            raise WeightsError(f"{self.what}: a group's index is ill-formed. Fetch it again.")
        children = self.unpack(f"{2 * count}Q", address + 24)[1::2]
        for child in children:
            if level:
                yield from self._symbols(child, level)
            else:
                (entries,) = self.unpack("H", self.enter(child, b"SNOD") + 6)
                yield from (self.unpack("QQI", child + 8 + 40 * index) for index in range(entries))

    def _name(self, position: int) -> str:
        text = bytes(self.data[position : position + _MAX_NAME])
        return text[: text.index(0)].decode()

    # ---- datasets (IV.A.2)

    def array(self, messages: Sequence[Message]) -> np.ndarray | None:
        """Return a dataset's array, a view of the file; None if the object is no dataset."""
        kinds = {message.kind: message.body for message in messages}
        if _LAYOUT not in kinds:
            return None
        if _EXTERNAL in kinds or _FILTERS in kinds:
            raise self.refuse("data outside the file" if _EXTERNAL in kinds else "compressed data")
        shape, dtype, layout = _shape(kinds[_DATASPACE]), self._dtype(kinds[_DATATYPE]), kinds[_LAYOUT]
        version, storage = layout[:2]
        if version != 3 or storage not in (0, 1):
            raise self.refuse("a chunked or virtual dataset")
        if storage == 0:
            (size,) = struct.unpack_from("<H", layout, 2)
            return contiguous_view(layout[4 : 4 + size], dtype, shape, 0, self.what)
        address, size = struct.unpack_from("<2Q", layout, 2)
        if address == _UNDEFINED:
            raise WeightsError(f"{self.what}: a dataset of shape {shape} has no data. Refused.")
        return contiguous_view(memoryview(self.data)[: address + size], dtype, shape, address, self.what)

    def _dtype(self, body: bytes) -> np.dtype:
        kind, flags, size = body[0] & 15, body[1], struct.unpack_from("<I", body, 4)[0]
        name = None
        if kind == _FIXED and size in _INTEGERS and body[8:12] == struct.pack("<HH", 0, 8 * size):
            name = f"{'i' if flags & 8 else 'u'}{size}"
        elif kind == _FLOAT:
            name = _FLOATS.get((size, body[13], body[15]))
        if name is None:
            raise self.refuse("a dataset of anything but integers and floats")
        return named_dtype(name).newbyteorder(">") if flags & 1 else named_dtype(name)

    # ---- attributes (IV.A.2.m, III.E)

    def text_attribute(self, messages: Sequence[Message], name: str) -> str | None:
        """Return an object's text attribute, or None if it has none of that name."""
        found = self._attribute(messages, name)
        return None if found is None else self._text(found[0], found[2])

    def texts_attribute(self, messages: Sequence[Message], name: str) -> list[str] | None:
        """Return an attribute that is a list of texts, or None if there is none of that name.

        Raises:
            WeightsError: it says that it is longer than it is, or than any network needs.
        """
        found = self._attribute(messages, name)
        if found is None:
            return None
        datatype, dataspace, value = found
        count = math.prod(_shape(dataspace)) if dataspace[1] else 1
        if datatype[0] & 15 not in (_STRING, _VARIABLE):
            if count:
                raise self.refuse(f"an attribute {name!r} of anything but texts")
            return []
        (size,) = struct.unpack_from("<I", datatype, 4)
        if count > _MAX_ENTRIES or count * size > len(value):
            raise WeightsError(f"{self.what}: attribute {name!r} lies about its length. Refused.")
        return [self._text(datatype, value[i * size : (i + 1) * size]) or "" for i in range(count)]

    def _attribute(self, messages: Sequence[Message], name: str) -> tuple[bytes, bytes, bytes] | None:
        """Return datatype, dataspace and value of an attribute."""
        for message in messages:
            if message.kind == _ATTRIBUTE:
                found, *parts = _attribute(message.body)
                if found == name.encode():
                    return parts[0], parts[1], parts[2]
        return None

    def _text(self, datatype: bytes, value: bytes) -> str | None:
        if datatype[0] & 15 == _VARIABLE:
            length, heap, index = struct.unpack_from("<IQI", value)
            value = self._heap_object(heap, index)[:length]
        elif datatype[0] & 15 != _STRING:
            return None
        return value[:_MAX_TEXT].rstrip(b"\0").decode()

    def _heap_object(self, heap: int, wanted: int) -> bytes:
        if heap not in self._heaps:
            self._heaps[heap] = dict(self._heap_objects(heap))
        if wanted not in self._heaps[heap]:
            raise LookupError(f"no object {wanted} in the heap at byte {heap}")
        start, end = self._heaps[heap][wanted]
        return bytes(self.data[start:end])

    def _heap_objects(self, heap: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield number, beginning and end of each object of a heap."""
        if bytes(self.data[heap : heap + 4]) != b"GCOL":
            raise WeightsError(f"{self.what}: no GCOL at byte {heap}. Fetch it again.")
        (size,) = self.unpack("Q", heap + 8)
        position, end = heap + 16, min(heap + size, len(self.data))
        while position + 16 <= end:
            index, length = self.unpack("H6xQ", position)
            yield index, (position + 16, min(position + 16 + length, end))
            position += 16 + (length + 7) // 8 * 8


def _shape(body: bytes) -> tuple[int, ...]:
    version, rank = body[:2]
    return struct.unpack_from(f"<{rank}Q", body, 8 if version == 1 else 4)


def _attribute(body: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return name, datatype, dataspace and value; version 1 pads each part to eight bytes."""
    version, *sizes = struct.unpack_from("<Bx3H", body)
    unit, position = (8, 8) if version == 1 else (1, 8 if version == 2 else 9)
    parts = []
    for size in sizes:
        parts.append(body[position : position + size])
        position += (size + unit - 1) // unit * unit
    return parts[0].rstrip(b"\0"), parts[1], parts[2], body[position:]
