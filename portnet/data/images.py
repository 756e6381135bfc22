"""Open one image, whatever its format, mode or orientation, as upright 8-bit RGB.

An image file is untrusted input: only the formats of `FORMATS` are parsed, and the pixel count in the
header is held against `MAX_PIXELS` before anything is decoded. Colour profiles (ICC, gAMA) are not
applied, as they are not by torchvision and Keras, whose pretrained weights PortNet uses.
"""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

# imported by name, because Pillow's own search for plugins is not made for many threads
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,
    PngImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from portnet.data.decoders import Decoder
from portnet.data.geometry import Box
from portnet.data.jpeg import LARGEST_FILE, decode_jpeg, plain_jpeg
from portnet.data.lazy import LazyImage
from portnet.data.pixels import as_image, size_of
from portnet.errors import DataError

__all__ = ["FORMATS", "MAX_PIXELS", "ImageSource", "check_header", "check_pixels", "decode", "naming", "open_image"]

ImageSource: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | LazyImage"
Content: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | bytes"
Region: TypeAlias = Callable[[int, int], Box]
RGB: TypeAlias = tuple[int, int, int]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
"""Formats that are parsed, whatever a file's name says."""

MAX_PIXELS = 128 * 2**20
"""Largest width × height accepted: 384 MiB of RGB, and more than a 108-megapixel camera's."""

WHITE: RGB = (255, 255, 255)

# one PIL image may be decoded by several threads, and Pillow reads pixels and EXIF on first use without a lock
_LAZY_IMAGES = threading.Lock()

# EXIF 2.32, tag 0x0112: how to turn what is stored into what is upright
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """An upright RGB image, and the part of it that the picture fills.

    ``box`` is (left, top, right, bottom) in pixels. It differs from the whole image only after a
    JPEG was decoded at a fraction of its size that does not divide it, as then the last row or column
    is partly padding; or when a region was asked for. ``image`` is an array only where the fast decoder was asked for:
    uint8 of (H, W, 4), RGB and a byte of no meaning, valid until this thread decodes another.
    """

    image: Image.Image | NDArray[np.uint8]
    box: Box

    def part(self, region: Box, width: int, height: int) -> Decoded:
        """Return the part that is ``region`` when the whole picture is taken as ``width`` × ``height``."""
        left, top, right, bottom = self.box
        x, y = (right - left) / width, (bottom - top) / height
        ends = min(left + region[2] * x, right), min(top + region[3] * y, bottom)
        return self._replace(box=(left + region[0] * x, top + region[1] * y, *ends))


def open_image(source: ImageSource, background: RGB = WHITE, *, shorter_side: int | None = None) -> Image.Image:
    """Open ``source`` as an upright RGB image of 8 bits a channel.

    Grey becomes three equal channels; transparency (alpha, palette or colour key) is composited over
    ``background``; 16-bit values are scaled (65535 becomes 255); CMYK is converted without a profile,
    inverted as Adobe writes it; EXIF rotation is applied; of an animation the first frame is taken.

    Args:
        source: a path; a PIL image, returned itself if it is upright RGB already; a uint8 array of shape (H, W),
            (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; or a `LazyImage` that gives one of these, or a file's bytes.
        background: RGB bytes behind transparent pixels.
        shorter_side: pixels that the shorter side will be resized to. A JPEG is then decoded at 1/2,
            1/4 or 1/8 of its size (DCT scaling) as long as twice that many pixels remain. It is a
            saving of time alone: the size of the result is up to the decoder.

    Raises:
        DataError: the image cannot be read, is truncated or too large, or its pixels have no defined
            range (floats, 32-bit integers). The message names the path.
    """
    image = decode(source, background, shorter_side=shorter_side).image
    assert isinstance(image, Image.Image)
    return image


def decode(
    source: ImageSource,
    background: RGB = WHITE,
    *,
    shorter_side: int | None = None,
    region: Region | None = None,
    decoder: Decoder = "pillow",
) -> Decoded:
    """Do what `open_image` does, and also say which part of the image the picture fills.

    With ``region``, that is the part it returns, given the upright picture's width and height; ``shorter_side``
    is then what the shorter side of this part will be resized to.
    """
    with naming(source):
        content = source.fetch() if isinstance(source, LazyImage) else source
        return _of_content(content, background, shorter_side, region, decoder)


def _of_content(
    source: Content, background: RGB, shorter_side: int | None, region: Region | None, decoder: Decoder
) -> Decoded:
    if isinstance(source, np.ndarray):
        return _part(_upright_rgb(_from_array(source), background, None), region)
    if isinstance(source, Image.Image):
        check_pixels(source.width, source.height)
        with _LAZY_IMAGES:
            source.load()
            _orientation(source)
        return _part(_upright_rgb(source, background, None), region)
    if not isinstance(source, bytes):
        _check_file(source)
    plain = _plain(source, shorter_side, region) if decoder == "fast" else None
    if plain is not None:
        return plain
    with _opened(source) as image:
        if region is None:
            return _decoded(image, background, _reduction((0, 0, *image.size), shorter_side), decoder)
        width, height = _upright_size(image)
        box = region(width, height)
        return _decoded(image, background, _reduction(box, shorter_side), decoder).part(box, width, height)


def _plain(file: str | os.PathLike[str] | bytes, shorter_side: int | None, region: Region | None) -> Decoded | None:
    """Decode a JPEG without asking Pillow for its header, or return None where that is needed."""
    found = plain_jpeg(file)
    if found is None:
        return None
    data, (width, height) = found
    check_pixels(width, height)
    box = (0, 0, width, height) if region is None else region(width, height)
    reduction = _reduction(box, shorter_side)
    pixels = decode_jpeg(data, (width, height), reduction)
    if pixels is None:
        return None
    whole = Decoded(pixels, (0, 0, width / reduction, height / reduction))
    return whole if region is None else whole.part(box, width, height)


def _part(whole: Decoded, region: Region | None) -> Decoded:
    if region is None:
        return whole
    width, height = round(whole.box[2]), round(whole.box[3])
    return whole.part(region(width, height), width, height)


def _decoded(image: Image.Image, background: RGB, reduction: int, decoder: Decoder) -> Decoded:
    """Decode an open file at 1 / ``reduction`` of its size, where its format can do that."""
    pixels = _fast_jpeg(image, reduction) if decoder == "fast" else None
    if pixels is None:
        return _upright_rgb(image, background, _draft(image, reduction))
    right, bottom = image.width / reduction, image.height / reduction
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        box = _turned_box(orientation, size_of(pixels), right, bottom)
        return Decoded(as_image(pixels).convert("RGB").transpose(_UPRIGHT[orientation]), box)
    return Decoded(pixels, (0, 0, right, bottom))


def _fast_jpeg(image: Image.Image, reduction: int) -> NDArray[np.uint8] | None:
    """Return the pixels as stored, or None where Pillow has to decode them."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or image.mode not in ("RGB", "L"):
        return None
    file = image.fp
    assert file is not None
    file.seek(0)
    data = file.read(LARGEST_FILE + 1)
    return decode_jpeg(data, image.size, reduction) if len(data) <= LARGEST_FILE else None


def check_header(source: ImageSource) -> None:
    """Check cheaply, without decoding, that ``source`` looks like an image `open_image` accepts.

    A `LazyImage` that has to be decoded to be fetched is passed over.

    Raises:
        DataError: as `open_image`, for what can be seen in the header.
    """
    with naming(source):
        if isinstance(source, np.ndarray):
            _from_array(source)
        elif isinstance(source, LazyImage):
            if source.is_encoded:
                _opened(cast(bytes, source.fetch())).close()
        elif not isinstance(source, Image.Image):
            _check_file(source)
            _opened(source).close()


def check_pixels(width: int, height: int) -> None:
    """Raise DataError if an image of ``width`` × ``height`` is empty or larger than `MAX_PIXELS`."""
    if not 0 < width * height <= MAX_PIXELS:
        raise DataError(f"got {width} × {height} pixels, expected 1 to {MAX_PIXELS:,} in all. Make it smaller")


def _check_file(path: str | os.PathLike[str]) -> None:
    """Raise if a path is no regular file, or an empty one: opening a pipe or a device may never end."""
    found = os.stat(os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "pipe or device"
        raise DataError(f"got a {kind}, expected an image file")
    if not found.st_size:
        raise DataError("the file is empty, expected an image")


def _opened(file: str | os.PathLike[str] | bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else os.fspath(file), formats=FORMATS)
    try:
        check_pixels(image.width, image.height)
    except DataError:
        image.close()
        raise
    return image


def _reduction(box: Box, shorter_side: int | None) -> int:
    """Return 8, 4, 2 or 1: by how much ``box`` can be reduced so that twice ``shorter_side`` pixels remain."""
    if shorter_side is None:
        return 1
    room = min(box[2] - box[0], box[3] - box[1]) // (2 * shorter_side)
    return next(scale for scale in (8, 4, 2, 1) if scale <= max(room, 1))


def _draft(image: Image.Image, reduction: int) -> tuple[float, float] | None:
    """Ask a JPEG decoder for fewer pixels; return the width and height that the picture will fill."""
    if reduction == 1 or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    chosen = image.draft(None, (image.width // reduction, image.height // reduction))
    return None if chosen is None else chosen[1][2:]


def _upright_rgb(image: Image.Image, background: RGB, filled: tuple[float, float] | None) -> Decoded:
    image.load()
    orientation = _orientation(image)
    right, bottom = filled or image.size
    box = _turned_box(orientation, image.size, right, bottom)
    rgb = _rgb(image, background)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return Decoded(rgb, box)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)


def _turned_box(orientation: int, size: tuple[int, int], right: float, bottom: float) -> Box:
    """Turn the box (0, 0, right, bottom) of an image of ``size`` as the image itself is turned."""
    width, height = size
    left, top = 0.0, 0.0
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height
    return (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels, which are fine
        return 1
    return value if value in _UPRIGHT else 1


def _rgb(image: Image.Image, background: RGB) -> Image.Image:
    if image.mode in ("I", "F"):
        raise DataError(
            f"got a PIL image of mode {image.mode!r}, whose range is not defined, expected 8 or 16 bits. "
            "Scale it to 0..255 and convert('L')"
        )
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        return _composited(image, background)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, rounded; Pillow's own conversion clips at 255."""
    values = np.asarray(image)
    grey = Image.fromarray(((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8))
    if "transparency" in image.info:
        opaque = values != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


def _composited(image: Image.Image, background: RGB) -> Image.Image:
    canvas = Image.new("RGBA", image.size, (*background, 255))
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if array.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise DataError(
            f"got {array.dtype} of shape {array.shape}, expected uint8 of (H, W), (H, W, 1), (H, W, 3) or "
            "(H, W, 4). Scale to 0..255 and convert with astype('uint8'); put channels last"
        )
    check_pixels(shape[1], shape[0])
    return Image.fromarray(np.ascontiguousarray(array.reshape(shape)))


@contextmanager
def naming(source: ImageSource) -> Iterator[None]:
    """Turn whatever goes wrong inside into a DataError that names ``source``."""
    try:
        yield
    except Exception as error:  # Pillow's parsers raise anything from SyntaxError to struct.error
        raise DataError(f"cannot read {_name(source)}: {_reason(error)}.") from error


def _name(source: ImageSource) -> str:
    if isinstance(source, np.ndarray):
        return "image array"
    if isinstance(source, LazyImage):
        return f"image {source.name!r}"
    if isinstance(source, Image.Image):
        filename = getattr(source, "filename", "")
        return f"image {filename!r}" if filename else "image from memory"
    if not isinstance(source, (str, bytes, os.PathLike)):
        return f"image of type {type(source).__module__}.{type(source).__qualname__}"
    return "image in bytes" if isinstance(source, bytes) else f"image {os.fspath(source)!r}"


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of a kind that is read, expected one of {', '.join(FORMATS)}"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"got more pixels than the {MAX_PIXELS:,} accepted. Make it smaller"
    if isinstance(error, TypeError) and "PathLike" in str(error):
        return "expected a path, a PIL image or a uint8 array; of a tensor, its numpy array"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
