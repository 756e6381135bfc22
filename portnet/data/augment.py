"""Random changes to training images: moved, cropped, recoloured, mixed.

All of it is done in the core, on bytes or float32, with numbers that depend on nothing but the seed, the epoch and the
image (mixing: the batch): every engine sees the very same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portnet.data.colour import jitter
from portnet.data.geometry import Affine, Box, random_crop
from portnet.data.mixing import cutmix, mixup, one_hot
from portnet.data.pixels import as_array
from portnet.data.trivial import trivial_augment
from portnet.errors import InputError

__all__ = ["Augment"]


@dataclass(frozen=True)
class Augment:
    """How far an image may be changed; each number is drawn uniformly and independently.

    ``Augment()`` mirrors, shifts and scales; `only` begins with nothing, `parse` reads what the command line takes. The
    order is: crop, then mirror, scale, rotation and shift as one transform, then TrivialAugment, then colours, then
    the mixing of a batch.

    Attributes:
        horizontal_flip: mirror left to right half of the time.
        translate: largest shift to either side in x and in y, in pixels of the network's input.
        scale: smallest and largest factor, in x and in y, about the centre.
        fill: RGB bytes of what is uncovered.
        rotate: largest angle to either side, in degrees.
        crop: smallest and largest share of the whole image's area in a random crop that is stretched to the network's
            input, in place of the usual resizing (torchvision's RandomResizedCrop), or None.
        crop_aspect: smallest and largest width / height of that crop.
        brightness: s of a factor from max(0, 1 − s) to 1 + s; see `portnet.data.colour`.
        contrast: likewise.
        saturation: likewise.
        hue: largest turn of the hue to either side, in whole turns, at most 0.5.
        trivial: TrivialAugment, wide; see `portnet.data.trivial`.
        mixup: α of mixup, 0 for none; see `portnet.data.mixing`.
        cutmix: α of CutMix, 0 for none; with both, each batch gets one of them, by a fair coin.
    """

    horizontal_flip: bool = True
    translate: float = 30.0
    scale: tuple[float, float] = (0.9, 1.1)
    fill: tuple[int, int, int] = (0, 0, 0)
    rotate: float = 0.0
    crop: tuple[float, float] | None = None
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    trivial: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    NOTHING: ClassVar[dict[str, Any]] = {"horizontal_flip": False, "translate": 0.0, "scale": (1.0, 1.0)}

    def __post_init__(self) -> None:
        for name in ("translate", "rotate", "brightness", "contrast", "saturation", "hue", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"augment: got {name} {getattr(self, name)}, expected a number from 0 on.")
        for name, ends in (("scale", self.scale), ("crop", self.crop), ("crop aspect", self.crop_aspect)):
            if ends is not None and not 0 < ends[0] <= ends[1]:
                raise InputError(f"augment: got {name} {ends}, expected 0 < smallest <= largest.")
        if self.crop is not None and self.crop[1] > 1:
            raise InputError(f"augment: got crop {self.crop}, expected shares of the image's area, at most 1.")
        if self.hue > 0.5:
            raise InputError(f"augment: got hue {self.hue}, expected at most 0.5, half a turn.")

    @classmethod
    def only(cls, **changes: Any) -> Augment:
        """Return one that does what ``changes`` says and nothing else.

        >>> Augment.only(rotate=10).horizontal_flip
        False
        """
        return cls(**{**cls.NOTHING, **changes})

    @classmethod
    def parse(cls, text: str) -> Augment:
        """Read a list of changes as the command line takes it; see `portnet.data.augment_text`.

        >>> Augment.parse("flip,rotate:10,mixup:0.2") == Augment.only(horizontal_flip=True, rotate=10, mixup=0.2)
        True

        Raises:
            InputError: an unknown change, or a number that it cannot take.
        """
        from portnet.data.augment_text import parse

        return parse(text)

    @classmethod
    def of(cls, given: Augment | str | bool | None) -> Augment | None:
        """Return what is meant: True is ``Augment()``, False and None nothing, text as in `parse`."""
        if isinstance(given, str):
            return cls.parse(given)
        return cls() if given is True else given or None

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, so that its targets are distributions."""
        return bool(self.mixup or self.cutmix)

    def __call__(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a changed copy of uint8 RGB ``pixels`` of shape (H, W, 3); crop and mixing are done elsewhere."""
        image = self._affine(rng)(Image.fromarray(pixels), self.fill)
        if self.trivial:
            image = trivial_augment(image, self.fill, rng)
        strengths = {name: getattr(self, name) for name in ("brightness", "contrast", "saturation", "hue")}
        if any(strengths.values()):
            image = jitter(image, strengths, rng)
        return as_array(image, planar=True)

    def region(self, width: int, height: int, rng: np.random.Generator) -> Box:
        """Draw the part of an upright image of ``width`` × ``height`` that becomes the input."""
        if self.crop is None:
            return 0, 0, width, height
        return random_crop(width, height, self.crop, self.crop_aspect, rng)

    def mix(
        self, x: NDArray[np.float32], labels: NDArray[np.int64], classes: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a batch of images (N, C, H, W) mixed in pairs, and its targets, float32 (N, classes)."""
        targets = one_hot(labels, classes)
        if self.mixup and (not self.cutmix or rng.random() < 0.5):
            return mixup(x, targets, self.mixup, rng)
        return cutmix(x, targets, self.cutmix, rng)

    def _affine(self, rng: np.random.Generator) -> Affine:
        mirror = self.horizontal_flip and rng.random() < 0.5
        shift = rng.uniform(-self.translate, self.translate, 2)
        scale = rng.uniform(*self.scale, 2)
        angle = float(rng.uniform(-self.rotate, self.rotate)) if self.rotate else 0.0
        return Affine(mirror, (float(shift[0]), float(shift[1])), (float(scale[0]), float(scale[1])), angle)
