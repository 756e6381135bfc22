"""Random changes to a training image: mirrored, shifted and stretched a little.

One affine transform on bytes, in the core, with numbers that depend on nothing but the seed, the epoch
and the image: every engine sees the very same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portnet.errors import InputError

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """How far an image may be changed; each number is drawn uniformly and independently.

    Attributes:
        horizontal_flip: mirror left to right half of the time.
        translate: largest shift to either side in x and in y, in pixels of the network's input.
        scale: smallest and largest factor, in x and in y, about the centre.
        fill: RGB bytes of what is uncovered.
    """

    horizontal_flip: bool = True
    translate: float = 30.0
    scale: tuple[float, float] = (0.9, 1.1)
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        if self.translate < 0:
            raise InputError(f"augment: got translate {self.translate}, expected 0 or more pixels.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"augment: got scale {self.scale}, expected 0 < smallest <= largest.")

    def __call__(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a changed copy of uint8 RGB ``pixels`` of shape (H, W, 3), bilinearly resampled."""
        height, width = pixels.shape[:2]
        mirror = -1.0 if self.horizontal_flip and rng.random() < 0.5 else 1.0
        shift_x, shift_y = rng.uniform(-self.translate, self.translate, 2)
        scale_x, scale_y = rng.uniform(*self.scale, 2)
        # Pillow asks the inverse: which input point does an output point come from
        a, e = mirror / scale_x, 1 / scale_y
        c = width / 2 - a * (width / 2 + shift_x)
        f = height / 2 - e * (height / 2 + shift_y)
        image = Image.fromarray(pixels).transform(
            (width, height),
            Image.Transform.AFFINE,
            (a, 0.0, c, 0.0, e, f),
            Image.Resampling.BILINEAR,
            fillcolor=self.fill,
        )
        return np.array(image)
