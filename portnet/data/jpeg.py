"""JPEGs of RGB and grey by libjpeg-turbo (simplejpeg): read and decoded into memory that the thread keeps.

Pixels have four bytes, the last of no meaning, because the resizer is quickest at that and Pillow stores its own so.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from portnet.data.scratch import scratch

__all__ = ["LARGEST_FILE", "decode_jpeg", "plain_jpeg"]

# larger files are left to Pillow, which does not read them whole
LARGEST_FILE = 256 * 2**20
# how a JPEG begins; the segments that may say how to turn it (EXIF, XMP), and the one that the pixels follow
_JPEG = b"\xff\xd8\xff"
_APP1, _SCAN = 0xE1, 0xDA


def plain_jpeg(file: str | os.PathLike[str] | bytes) -> tuple[bytes | memoryview, tuple[int, int]] | None:
    """Read a file; return it with its width and height if it is an RGB or grey JPEG that is stored upright.

    The file's bytes are valid until this thread reads another. None for everything that Pillow has to look at: other
    formats and colours, and metadata that may tell of a rotation.

    Raises:
        OSError: the file cannot be read.
    """
    import simplejpeg

    data = file if isinstance(file, bytes) else _read(file)
    if data[: len(_JPEG)] != _JPEG or len(data) > LARGEST_FILE or not _is_upright(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (data, (width, height)) if colours in ("YCbCr", "RGB", "Gray") else None


def _read(path: str | os.PathLike[str]) -> bytes | memoryview:
    """Return a file that begins as a JPEG does, or a byte more than the largest wanted; of another its beginning."""
    with open(path, "rb", buffering=0) as file:
        beginning = file.read(len(_JPEG))
        if beginning != _JPEG:
            return beginning
        # no more is asked for than there is, and one byte to see the end
        size = max(os.fstat(file.fileno()).st_size, len(_JPEG))
        data = scratch("file", min(size, LARGEST_FILE) + 1).data
        data[: len(_JPEG)] = beginning
        end = len(_JPEG)
        while count := file.readinto(data[end:]):
            end += count
        return data[:end]


def _is_upright(data: bytes | memoryview) -> bool:
    """Whether the segments of a JPEG's header are in order and none may say how to turn it."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            return True
        if marker == _APP1:
            return False
        # a marker may be filled up with bytes of 255
        place += 1 if marker == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def decode_jpeg(data: bytes | memoryview, size: tuple[int, int], reduction: int) -> NDArray[np.uint8] | None:
    """Decode an RGB or grey JPEG at 1 / ``reduction`` of its size, or return None to leave it to Pillow.

    The result is uint8 of (H, W, 4), RGB and a byte of no meaning, valid until this thread decodes another.

    Args:
        data: the file.
        size: width and height that its header says.
        reduction: 1, 2, 4 or 8.
    """
    import simplejpeg

    # libjpeg-turbo rounds up what does not divide
    width, height = (-(-side // reduction) for side in size)
    memory = scratch("pixels", width * height * 4)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGBX", min_width=width, min_height=height, buffer=memory
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 4) else None
