"""From an image to the float32 array that a network was trained on.

Two steps that are used apart: `to_bytes` decodes, resizes and crops one image, and is slow; `normalise`
turns a batch of bytes into floats, and is fast. Between them an image is small and can be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import IOBase
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portnet.data.decoders import Decoder
from portnet.data.geometry import Box
from portnet.data.images import Decoded, ImageSource, Region, decode
from portnet.data.pixels import as_array, as_image, resize_fast, size_of
from portnet.data.threads import in_threads
from portnet.errors import InputError
from portnet.graph.metadata import Preprocessing

__all__ = ["as_list", "normalise", "preprocess", "to_bytes"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# most pixels of a whole picture that is resized for the crop in its middle
LARGEST_RESIZED = 1 << 24
# ITU-R BT.601 luma, in the 16-bit fixed point of Pillow's convert("L")
_LUMA = (19595, 38470, 7471)


class HasPreprocessing(Protocol):
    """Anything that says how its images are prepared, above all `portnet.Model`."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How an image becomes the network's input, or None when unknown."""


def preprocess(
    model: HasPreprocessing | Preprocessing, image: ImageSource | Iterable[ImageSource]
) -> NDArray[np.float32]:
    """Return ``image`` as the float32 array of shape (N, C, H, W) that ``model`` wants.

    Args:
        model: a `portnet.Model`, or a `Preprocessing` itself.
        image: a path, a PIL image or a uint8 array of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), which
            gives N = 1; or several of these in a list or generator, or one uint8 array of (N, H, W, C).

    Raises:
        InputError: the model does not know its preprocessing, or there is no image.
        DataError: an image that cannot be read; the message names it.
    """
    preprocessing = _preprocessing_of(model)
    images = as_list(image)
    if not images:
        raise InputError("preprocess: got no image, expected one or more.")
    pixels = in_threads(lambda one: to_bytes(one, preprocessing), images)
    return normalise(np.stack(list(pixels)), preprocessing)


def to_bytes(
    image: ImageSource,
    preprocessing: Preprocessing,
    *,
    draft: bool = False,
    decoder: Decoder = "pillow",
    region: Region | None = None,
    planar: bool = False,
) -> NDArray[np.uint8]:
    """Decode, resize and centre crop one image to uint8 of shape (H, W, 3), always in RGB order.

    The geometry is torchvision's ``Resize(resize)`` and ``CenterCrop(size)`` on PIL images: the longer
    side becomes ``int(resize * longer / shorter)``, the crop begins at ``round((length - crop) / 2)``,
    and what the crop lacks is black, evenly on both sides.

    Args:
        image: a path, a PIL image or a uint8 array; see `open_image`.
        preprocessing: ``size``, ``resize``, ``interpolation`` and ``background`` are used.
        draft: decode large JPEGs at a fraction of their size, 2 to 3 times as fast. The bytes differ by
            about 0.3 on average from those of a full decode, and more at sharp edges.
        decoder: who decodes and resizes; see `portnet.data.decoders`.
        region: given the upright image's width and height, says which part is stretched to ``size``, in place of
            the resizing and cropping above.
        planar: lay the bytes out channel by channel in memory, which `normalise` reads fastest; the shape is the same.

    Raises:
        DataError: the image cannot be read.
    """
    resize = None if region is not None else preprocessing.resize
    shorter_side = (resize or max(preprocessing.size)) if draft else None
    decoded = decode(image, preprocessing.background, shorter_side=shorter_side, region=region, decoder=decoder)
    size = _resized_size(decoded.box, preprocessing.size, resize)
    height, width = preprocessing.size
    left, top = _crop_start(size[0], width), _crop_start(size[1], height)
    if size[0] * size[1] > LARGEST_RESIZED:
        decoded, size, left, top = _around_crop(decoded, size, (left, top, left + width, top + height))
    picture = _resized(decoded, size, preprocessing.interpolation, decoder)
    if (width, height) != size:
        picture = picture.crop((left, top, left + width, top + height))
    return as_array(picture, planar=planar)


def normalise(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Turn uint8 RGB of (N, H, W, 3) into float32 of (N, C, H, W), ``(x / scale - mean) / std``.

    Channels come in ``preprocessing.color`` order; GRAY is ITU-R BT.601 luma, as in Pillow and torchvision.

    Raises:
        InputError: an array of another shape or dtype.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise InputError(
            f"normalise: got {pixels.dtype} of shape {pixels.shape}, expected uint8 of (N, H, W, 3) in RGB order."
        )
    channels = _in_order(pixels, preprocessing.color)
    std = np.array(preprocessing.std)
    gain = (1 / (preprocessing.scale * std)).astype(np.float32)[:, None, None]
    offset = (-np.array(preprocessing.mean) / std).astype(np.float32)[:, None, None]
    batch = np.empty((len(channels), *channels.shape[1:]), np.float32)
    for out, image in zip(batch, channels, strict=True):  # image by image: it stays in the CPU's cache
        out[...] = image
        out *= gain
        out += offset
    return batch


def _preprocessing_of(model: HasPreprocessing | Preprocessing) -> Preprocessing:
    if isinstance(model, Preprocessing):
        return model
    found = getattr(model, "preprocessing", None)
    if isinstance(found, Preprocessing):
        return found
    if found is None and hasattr(model, "preprocessing"):
        raise InputError(
            "the model does not know its preprocessing: got None. "
            "Set model.preprocessing = portnet.graph.metadata.Preprocessing(size=(224, 224), ...) to what it was "
            "trained with, and save the model."
        )
    raise InputError(f"preprocess: got {type(model).__name__}, expected a portnet.Model or a Preprocessing.")


def as_list(image: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    """Return one image as a list of it, and several (a list, a generator, an array of (N, H, W, C)) as a list."""
    is_stream = isinstance(image, Iterator) and not isinstance(image, IOBase)  # an open file yields lines
    if is_stream or isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim == 4):
        return list(cast("Iterable[ImageSource]", image))
    return [cast(ImageSource, image)]


def _resized(decoded: Decoded, size: tuple[int, int], interpolation: str, decoder: Decoder) -> Image.Image:
    """Return the picture in ``decoded.box`` as RGB or RGBX, ``size`` being (width, height)."""
    image, box = decoded
    if box == (0, 0, *size) and size == size_of(image):
        return as_image(image)
    if decoder == "fast" and interpolation == "bilinear":
        return resize_fast(image, size, box)
    return as_image(image).resize(size, _FILTERS[interpolation], box=box)


def _resized_size(box: Box, size: tuple[int, int], resize: int | None) -> tuple[int, int]:
    """Width and height after resizing the picture in ``box``, before the crop."""
    if resize is None:
        height, width = size
        return width, height
    left, top, right, bottom = box
    shorter, longer = sorted((right - left, bottom - top))
    new = (resize, int(resize * longer / shorter))
    return new if right - left <= bottom - top else new[::-1]


def _around_crop(
    decoded: Decoded, size: tuple[int, int], crop: tuple[int, int, int, int]
) -> tuple[Decoded, tuple[int, int], int, int]:
    """Return the part of an image that a crop shows, its size there, and where the crop begins in it.

    A picture of 20,000 × 10 pixels would be resized to 2,600 times what is seen of it. What is made of the part alone
    is what would be cut from the whole, but for the order in which a filter's two passes round.
    """
    shown = max(crop[0], 0), max(crop[1], 0), min(crop[2], size[0]), min(crop[3], size[1])
    part = decoded.part((float(shown[0]), float(shown[1]), float(shown[2]), float(shown[3])), *size)
    return part, (shown[2] - shown[0], shown[3] - shown[1]), crop[0] - shown[0], crop[1] - shown[1]


def _crop_start(length: int, crop: int) -> int:
    return round((length - crop) / 2) if length >= crop else -((crop - length) // 2)


def _in_order(pixels: NDArray[np.uint8], color: str) -> NDArray[np.uint8]:
    """View (or reduce) RGB bytes of (N, H, W, 3) as (N, C, H, W) in the order ``color``."""
    if color == "GRAY":
        red, green, blue = (
            np.multiply(pixels[..., channel], weight, dtype=np.uint32) for channel, weight in enumerate(_LUMA)
        )
        grey = (red + green + blue + 0x8000) >> 16
        return grey.astype(np.uint8)[:, None]
    ordered = pixels if color == "RGB" else pixels[..., ::-1]
    return ordered.transpose(0, 3, 1, 2)
