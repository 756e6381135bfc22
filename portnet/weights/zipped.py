"""Members of a zip file, checked: no duplicates, no overlap with the file's end, checksums, bounded inflation."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from portnet.errors import WeightsError
from portnet.weights.arrays import MAX_ARRAYS, check_budget, map_file

__all__ = ["Archive"]

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1


class Archive:
    """A zip file whose stored members are read in place.

    Args:
        path: the file.

    Raises:
        WeightsError: members of the same name, encryption, or over 100,000 members.
        zipfile.BadZipFile: no zip file, or a truncated one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = memoryview(map_file(path))
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        self.members = {member.filename: member for member in members}
        if len(self.members) != len(members) or len(members) > MAX_ARRAYS:
            raise WeightsError(f"{path}: two members of the same name, or over {MAX_ARRAYS} members. Refused.")
        if any(member.flag_bits & _ENCRYPTED for member in members):
            raise WeightsError(f"{path}: encrypted members are not read")

    def stored(self, name: str) -> memoryview:
        """Return the bytes of an uncompressed member, in place, after checking their CRC-32.

        Raises:
            WeightsError: no such member, compressed, out of bounds, or a wrong checksum.
        """
        member = self._member(name)
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise WeightsError(
                f"{self.path}: member {name!r} is compressed; torch stores tensors as they are. Refused."
            )
        raw = self._raw(member)
        if zlib.crc32(raw) != member.CRC:
            raise WeightsError(f"{self.path}: member {name!r} fails its CRC-32. The file is damaged; fetch it again.")
        return raw

    def inflated(self, name: str) -> memoryview | bytes:
        """Return the bytes of a stored or deflated member, after checking size and CRC-32.

        Raises:
            WeightsError: no such member, out of bounds, another compression, or a wrong size or checksum.
        """
        member = self._member(name)
        if member.compress_type == zipfile.ZIP_STORED:
            return self.stored(name)
        if member.compress_type != zipfile.ZIP_DEFLATED:
            raise WeightsError(f"{self.path}: member {name!r}: only stored and deflated members are read")
        check_budget([member.file_size], len(self.data), str(self.path))
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(self._raw(member), member.file_size + 1)
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise WeightsError(f"{self.path}: member {name!r} fails its size or CRC-32. Fetch the file again.")
        return data

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self.members:
            raise WeightsError(f"{self.path}: the archive lacks its member {name!r}. Fetch it again.")
        return self.members[name]

    def _raw(self, member: zipfile.ZipInfo) -> memoryview:
        header = self.data[member.header_offset : member.header_offset + _LOCAL_HEADER.size]
        if len(header) != _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise WeightsError(
                f"{self.path}: member {member.filename!r} is not where the archive says. Fetch it again."
            )
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        raw = self.data[start : start + member.compress_size]
        if len(raw) != member.compress_size:
            raise WeightsError(f"{self.path}: member {member.filename!r} is truncated. Fetch the file again.")
        return raw
