"""Who decodes and resizes: Pillow alone, or faster libraries for most of the work where they are installed.

* ``pillow``: Pillow.
* ``fast``: JPEGs of RGB and grey by libjpeg-turbo (simplejpeg), bilinear resizing by fast_image_resize
  (cykooz-resizer, vectorised); everything else, and whatever simplejpeg finds fault with, by Pillow.

The policy is the same: formats, checks, orientation, scale of the DCT, filter. What differs is rounding, by at most one
level of 255 in about a seventh of the bytes, because fast_image_resize rounds its weights and sums in another way. A
run records its decoder, and a resumed run asks for the same one.
"""

from __future__ import annotations

import os
import threading
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portnet.data.geometry import Box
from portnet.errors import MissingDependencyError, UnknownNameError

__all__ = ["DECODERS", "Decoder", "choose", "choose_again", "decode_jpeg", "describe", "plain_jpeg", "resize_fast"]

Decoder: TypeAlias = Literal["pillow", "fast"]
DECODERS = ("auto", "pillow", "fast")
# larger files are left to Pillow, which does not read them whole
LARGEST_FILE = 256 * 2**20
# how a JPEG begins; the segments that may say how to turn it (EXIF, XMP), and the one that the pixels follow
_JPEG = b"\xff\xd8\xff"
_APP1, _SCAN = 0xE1, 0xDA

# a resizer keeps buffers, and would serve one thread at a time
_OF_THREAD = threading.local()


def choose(name: str) -> Decoder:
    """Return the decoder that is meant: "auto" is the fast one if it is installed.

    Raises:
        UnknownNameError: another name.
        MissingDependencyError: the fast one is asked for and not installed.
    """
    if name not in DECODERS:
        raise UnknownNameError("decoder", name, DECODERS)
    installed = all(find_spec(package) for package in ("simplejpeg", "cykooz_resizer"))
    if name == "fast" and not installed:
        raise MissingDependencyError("the fast decoder is not installed: pip install 'portnet[fast]'")
    return "fast" if installed and name != "pillow" else "pillow"


def choose_again(name: str, libraries: str) -> Decoder:
    """Return the decoder of a run that goes on: the one it began with if it is there, else as `choose`.

    Args:
        name: what the run asks for.
        libraries: what `describe` said when it began.
    """
    if name == "auto" and libraries and not libraries.startswith("simplejpeg"):
        return "pillow"
    return choose(name)


def describe(decoder: Decoder) -> str:
    """Return its libraries and their versions, e.g. "Pillow 11.0.0"."""
    pillow = f"Pillow {version('pillow')}"
    if decoder == "pillow":
        return pillow
    return f"simplejpeg {version('simplejpeg')}, cykooz-resizer {version('cykooz-resizer')}, {pillow}"


def plain_jpeg(file: str | os.PathLike[str] | bytes) -> tuple[bytes, tuple[int, int]] | None:
    """Read a file; return it with its width and height if it is an RGB or grey JPEG that is stored upright.

    None for everything that Pillow has to look at: other formats and colours, and metadata that may tell of a rotation.

    Raises:
        OSError: the file cannot be read.
    """
    import simplejpeg

    if isinstance(file, bytes):
        data = file if file.startswith(_JPEG) else b""
    else:
        with open(file, "rb") as opened:
            is_jpeg = opened.read(len(_JPEG)) == _JPEG
            opened.seek(0)
            # no more is asked for than there is: Python takes the memory of what is asked for
            wanted = min(os.fstat(opened.fileno()).st_size, LARGEST_FILE) + 1
            data = opened.read(wanted) if is_jpeg else b""
    if not data or len(data) > LARGEST_FILE or not _is_upright(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (data, (width, height)) if colours in ("YCbCr", "RGB", "Gray") else None


def _is_upright(data: bytes) -> bool:
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


def decode_jpeg(data: bytes, size: tuple[int, int], reduction: int) -> NDArray[np.uint8] | None:
    """Decode an RGB or grey JPEG to uint8 RGB at 1 / ``reduction`` of its size, or return None to leave it to Pillow.

    Args:
        data: the file.
        size: width and height that its header says.
        reduction: 1, 2, 4 or 8.
    """
    import simplejpeg

    # libjpeg-turbo rounds up what does not divide
    width, height = (-(-side // reduction) for side in size)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def resize_fast(image: Image.Image | NDArray[np.uint8], size: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    """Resize ``box`` of an RGB image to ``size``, bilinear with antialiasing; return uint8 of (H, W, 3)."""
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions

    left, top, right, bottom = box
    options = ResizeOptions(
        resize_alg=ResizeAlg.convolution(FilterType.bilinear),
        crop_box=CropBox(left, top, right - left, bottom - top),
        use_alpha=False,
    )
    if isinstance(image, Image.Image):
        resized = Image.new("RGB", size)
        _resizer().resize_pil(image, resized, options)
        return np.array(resized)
    height, width = image.shape[:2]
    source, target = ImageData(width, height, PixelType.U8x3, image.tobytes()), ImageData(*size, PixelType.U8x3)
    _resizer().resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size[1], size[0], 3)


def _resizer() -> Any:
    from cykooz_resizer import Resizer

    if not hasattr(_OF_THREAD, "resizer"):
        _OF_THREAD.resizer = Resizer()
    return _OF_THREAD.resizer
