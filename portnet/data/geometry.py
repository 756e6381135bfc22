"""Where the pixels of a changed image come from: one affine transform, and the crop that is resized to the input."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image

__all__ = ["Affine", "Box", "random_crop"]

Box: TypeAlias = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""

# how often a crop of a drawn area and shape is tried before the largest one in the middle is taken
_TRIALS = 10


class Affine(NamedTuple):
    """Mirrored, scaled, turned about the centre, then shifted; in this order.

    Attributes:
        mirror: whether left and right change places.
        shift: pixels to the right and down.
        scale: factors in x and y.
        angle: degrees, counter-clockwise.
    """

    mirror: bool = False
    shift: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    angle: float = 0.0

    def __call__(self, image: Image.Image, fill: tuple[int, int, int]) -> Image.Image:
        """Return a changed copy of the same size, bilinearly resampled, ``fill`` where nothing was."""
        if self == Affine(self.mirror):
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirror else image
        inverse = self._inverse(*image.size)
        return image.transform(image.size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR, fillcolor=fill)

    def _inverse(self, width: int, height: int) -> tuple[float, ...]:
        """Return what Pillow asks for: the input point (ax + by + c, dx + ey + f) of an output point (x, y)."""
        turn = math.radians(self.angle)
        to_x, to_y = (-1.0 if self.mirror else 1.0) / self.scale[0], 1 / self.scale[1]
        a, b = to_x * math.cos(turn), -to_x * math.sin(turn)
        d, e = to_y * math.sin(turn), to_y * math.cos(turn)
        x, y = width / 2 + self.shift[0], height / 2 + self.shift[1]
        return a, b, width / 2 - a * x - b * y, d, e, height / 2 - d * x - e * y


def random_crop(
    width: int, height: int, area: tuple[float, float], aspect: tuple[float, float], rng: np.random.Generator
) -> Box:
    """Draw the part of an image that is cut out: torchvision's ``RandomResizedCrop`` (Szegedy et al. 2015).

    Args:
        width: of the whole image.
        height: of the whole image.
        area: smallest and largest share of the image's area, drawn uniformly.
        aspect: smallest and largest width / height, its logarithm drawn uniformly.
        rng: where numbers come from.
    """
    for _ in range(_TRIALS):
        share = width * height * rng.uniform(*area)
        shape = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(share * shape)), round(math.sqrt(share / shape))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return _middle(width, height, aspect)


def _middle(width: int, height: int, aspect: tuple[float, float]) -> Box:
    """Return the largest crop in the middle whose shape is allowed."""
    shape = min(max(width / height, aspect[0]), aspect[1])
    w = min(width, max(1, round(height * shape)))
    h = min(height, max(1, round(width / shape)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
