"""Augmentation in one word of a command line: names parted by commas, numbers after colons.

    default                    flip,translate:30,scale:0.9-1.1
    flip                       mirror left to right
    translate:30               largest shift, in pixels of the input
    scale:0.9-1.1              factors about the centre
    rotate:10                  largest angle, in degrees
    resized-crop:0.08-1        random crop of so much of the area, stretched to the input
    jitter:0.4                 brightness, contrast, saturation by so much, hue by a quarter of it
    brightness:0.4, contrast:0.4, saturation:0.4, hue:0.1
    trivial                    TrivialAugment, wide
    mixup:0.2, cutmix:1        α of the Beta distribution

A number that is left out is the one shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portnet.data.augment import Augment
from portnet.errors import InputError, UnknownNameError

__all__ = ["CHANGES", "is_augmentation", "parse"]

Change = Callable[[str], dict[str, Any]]


def _flag(**fields: Any) -> Change:
    def change(text: str) -> dict[str, Any]:
        if text:
            raise ValueError
        return fields

    return change


def _number(name: str, usual: float) -> Change:
    return lambda text: {name: float(text or usual)}


def _range(name: str, low: float, high: float) -> Change:
    def change(text: str) -> dict[str, Any]:
        if not text:
            return {name: (low, high)}
        first, _, last = text.partition("-")
        return {name: (float(first), float(last or high))}

    return change


def _jitter(text: str) -> dict[str, Any]:
    strength = float(text or 0.4)
    return {"brightness": strength, "contrast": strength, "saturation": strength, "hue": min(strength / 4, 0.5)}


CHANGES: dict[str, Change] = {
    "default": _flag(horizontal_flip=True, translate=30.0, scale=(0.9, 1.1)),
    "flip": _flag(horizontal_flip=True),
    "translate": _number("translate", 30.0),
    "scale": _range("scale", 0.9, 1.1),
    "rotate": _number("rotate", 10.0),
    "resized-crop": _range("crop", 0.08, 1.0),
    "jitter": _jitter,
    "brightness": _number("brightness", 0.4),
    "contrast": _number("contrast", 0.4),
    "saturation": _number("saturation", 0.4),
    "hue": _number("hue", 0.1),
    "trivial": _flag(trivial=True),
    "mixup": _number("mixup", 0.2),
    "cutmix": _number("cutmix", 1.0),
}
"""What each name changes of an `Augment` that does nothing, given the text after the colon."""


def parse(text: str) -> Augment:
    """Return the `Augment` that ``text`` describes.

    Raises:
        InputError: an unknown name, or a number that its change cannot take.
    """
    fields: dict[str, Any] = {}
    for part in text.split(","):
        name, _, numbers = part.strip().partition(":")
        if name not in CHANGES:
            raise UnknownNameError("augmentation", name, tuple(CHANGES))
        try:
            fields |= CHANGES[name](numbers)
        except ValueError:
            raise InputError(f"augment: got {part.strip()!r}, expected numbers as in {_EXAMPLE}.") from None
    return Augment.only(**fields)


def is_augmentation(text: str) -> bool:
    """Whether every name in ``text`` is one of `CHANGES`."""
    return all(part.strip().partition(":")[0] in CHANGES for part in text.split(","))


_EXAMPLE = "flip,rotate:10,scale:0.9-1.1,resized-crop:0.08-1,jitter:0.4,mixup:0.2"
