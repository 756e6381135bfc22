"""From pixels to a Pillow image, resized, and back to bytes, without copies that nobody needs.

Arrays are uint8 of (H, W, 4) here, RGB and a byte of no meaning, as `portnet.data.jpeg` decodes them.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portnet.data.geometry import Box
from portnet.data.scratch import KEPT, scratch

__all__ = ["as_array", "as_image", "resize_fast", "size_of"]

# a resizer keeps buffers, and would serve one thread at a time
_OF_THREAD = threading.local()


def size_of(image: Image.Image | NDArray[np.uint8]) -> tuple[int, int]:
    """Return width and height."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def as_image(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    """Return an image itself, or one of mode RGBX in an array's own memory."""
    return image if isinstance(image, Image.Image) else _over(image, size_of(image), "RGBX")


def as_array(image: Image.Image, *, planar: bool) -> NDArray[np.uint8]:
    """Return the pixels of an RGB or RGBX image, uint8 of (H, W, 3).

    ``planar`` lays them out channel by channel in memory, as networks read them; the shape is the same.
    """
    width, height = image.size
    if not planar:
        return np.array(np.frombuffer(image.tobytes("raw", "RGB"), np.uint8).reshape(height, width, 3))
    planes = np.empty((3, height, width), np.uint8)
    for plane, channel in zip(planes, "RGB", strict=True):
        plane[...] = np.frombuffer(image.tobytes("raw", channel), np.uint8).reshape(height, width)
    return planes.transpose(1, 2, 0)


def resize_fast(image: Image.Image | NDArray[np.uint8], size: tuple[int, int], box: Box) -> Image.Image:
    """Resize ``box`` of an RGB image to ``size`` by fast_image_resize, bilinear with antialiasing.

    Of an array, the result is valid until this thread resizes another.
    """
    options, resizer = _options(box), _resizer()
    if isinstance(image, Image.Image):
        resized = Image.new("RGB", size)
        resizer.resize_pil(image, resized, options)
        return resized
    # to the resizer CMYK means four channels of which none is alpha; RGBX it does not know
    written, read = _target(size)
    resizer.resize_pil(_over(image, size_of(image), "CMYK"), written, options)
    return read


@lru_cache(64)
def _options(box: Box) -> Any:
    from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions

    left, top, right, bottom = box
    return ResizeOptions(
        resize_alg=ResizeAlg.convolution(FilterType.bilinear),
        crop_box=CropBox(left, top, right - left, bottom - top),
        use_alpha=False,
    )


def _target(size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """Return two images in the same memory, of modes CMYK and RGBX; the last ones again where the size is the same."""
    kept: tuple[Image.Image, Image.Image] | None = getattr(_OF_THREAD, "target", None)
    if kept is not None and kept[0].size == size:
        return kept
    memory = scratch("resized", size[0] * size[1] * 4)
    images = _over(memory, size, "CMYK"), _over(memory, size, "RGBX")
    if len(memory) <= KEPT:
        _OF_THREAD.target = images
    return images


def _over(memory: Any, size: tuple[int, int], mode: str) -> Image.Image:
    """Return an image in someone else's memory, four bytes a pixel."""
    return Image.frombuffer(mode, size, memory, "raw", mode, 0, 1)


def _resizer() -> Any:
    from cykooz_resizer import Resizer

    if not hasattr(_OF_THREAD, "resizer"):
        _OF_THREAD.resizer = Resizer()
    return _OF_THREAD.resizer
