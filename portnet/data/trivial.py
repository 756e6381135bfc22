"""TrivialAugment (Müller & Hutter 2021), wide: one random step of random strength, and nothing to tune.

Steps, ranges and the 31 strengths are those of the paper's "wide" space as torchvision publishes it; images are
resampled to the nearest pixel, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["STEPS", "trivial_augment"]

RGB: TypeAlias = tuple[int, int, int]
BINS = 31


class Step(NamedTuple):
    """A step: what it does to (image, strength, fill), how strong it may be, and whether either way."""

    apply: Callable[[Image.Image, float, RGB], Image.Image]
    strengths: Sequence[float] = (0.0,)
    signed: bool = False


def _range(start: float, end: float) -> list[float]:
    # torchvision's are float32, and its strengths are these numbers
    return np.linspace(start, end, BINS, dtype=np.float32).tolist()


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: RGB) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=fill)


STEPS: dict[str, Step] = {
    "Identity": Step(lambda image, _, fill: image),
    "ShearX": Step(lambda image, s, fill: _affine(image, (1, s, 0, 0, 1, 0), fill), _range(0, 0.99), True),
    "ShearY": Step(lambda image, s, fill: _affine(image, (1, 0, 0, s, 1, 0), fill), _range(0, 0.99), True),
    "TranslateX": Step(lambda image, s, fill: _affine(image, (1, 0, -int(s), 0, 1, 0), fill), _range(0, 32), True),
    "TranslateY": Step(lambda image, s, fill: _affine(image, (1, 0, 0, 0, 1, -int(s)), fill), _range(0, 32), True),
    "Rotate": Step(lambda image, s, fill: image.rotate(s, fillcolor=fill), _range(0, 135), True),
    "Brightness": Step(lambda image, s, _: ImageEnhance.Brightness(image).enhance(1 + s), _range(0, 0.99), True),
    "Color": Step(lambda image, s, _: ImageEnhance.Color(image).enhance(1 + s), _range(0, 0.99), True),
    "Contrast": Step(lambda image, s, _: ImageEnhance.Contrast(image).enhance(1 + s), _range(0, 0.99), True),
    "Sharpness": Step(lambda image, s, _: ImageEnhance.Sharpness(image).enhance(1 + s), _range(0, 0.99), True),
    "Posterize": Step(
        lambda image, s, _: ImageOps.posterize(image, int(s)), [8.0 - round(i / ((BINS - 1) / 6)) for i in range(BINS)]
    ),
    "Solarize": Step(lambda image, s, _: ImageOps.solarize(image, s), _range(255, 0)),  # type: ignore[arg-type]
    "AutoContrast": Step(lambda image, *_: ImageOps.autocontrast(image)),
    "Equalize": Step(lambda image, *_: ImageOps.equalize(image)),
}


def trivial_augment(image: Image.Image, fill: RGB, rng: np.random.Generator) -> Image.Image:
    """Return a copy of an RGB image changed by one of `STEPS`, ``fill`` where nothing was."""
    step = list(STEPS.values())[rng.integers(len(STEPS))]
    strength = step.strengths[rng.integers(len(step.strengths))]
    if step.signed and rng.random() < 0.5:
        strength = -strength
    return step.apply(image, strength, fill)
