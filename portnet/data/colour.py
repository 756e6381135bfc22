"""Random changes of colour, with the definitions of Pillow's ``ImageEnhance`` and torchvision's ``ColorJitter``.

With L the BT.601 grey of a pixel and f a factor, 1 for no change: brightness f·x; contrast m + f·(x − m) about the
mean m of L over the image, rounded; saturation L + f·(x − L); hue: H of HSV, a byte, shifted by ⌊255·s⌋ and wrapped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

__all__ = ["STEPS", "jitter"]


def _hue(image: Image.Image, shift: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int32) + int(shift * 255)) % 256
    channels = (Image.fromarray(turned.astype(np.uint8)), saturation, value)
    return Image.merge("HSV", channels).convert("RGB")


STEPS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "hue": _hue,
}
"""Each takes an RGB image and a factor (hue: a shift in turns)."""


def jitter(image: Image.Image, strengths: dict[str, float], rng: np.random.Generator) -> Image.Image:
    """Change an RGB image by steps in random order, each by a factor from max(0, 1 − s) to 1 + s, hue by −s to s.

    Args:
        image: RGB.
        strengths: s of each of `STEPS`; 0 leaves a step out.
        rng: where numbers come from.
    """
    names = list(STEPS)
    for place in rng.permutation(len(names)):
        name = names[place]
        strength = strengths[name]
        if strength:
            centre = 0.0 if name == "hue" else 1.0
            lowest = -strength if name == "hue" else max(0.0, centre - strength)
            image = STEPS[name](image, float(rng.uniform(lowest, centre + strength)))
    return image
