"""Example inputs for a network that came without: what its collection says, or what its first layer takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from portnet.errors import InputError
from portnet_torch.capturing.facts import facts_of

__all__ = ["examples_for"]

PIXELS = 224


def examples_for(native: nn.Module) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Return arguments of a batch of 2, and notes that say what was assumed.

    Raises:
        InputError: neither says what the network takes.
    """
    shape = facts_of(native).shape or _configured(native)
    if shape is not None:
        return (_noise(shape),), ()
    guess = _first_layer(native)
    if guess is None:
        raise InputError(
            f"capture: {type(native).__name__} does not say what it takes. "
            "Pass example inputs, or their shape on the command line."
        )
    sizes = "×".join(map(str, guess[1:]))
    return (_noise(guess),), (f"example input of {sizes} was assumed from the first layer; pass examples to choose",)


def _noise(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn((2, *shape[1:]), generator=torch.Generator().manual_seed(0))


def _configured(native: nn.Module) -> tuple[int, ...] | None:
    """Return the input that a network of timm says it wants."""
    config = getattr(native, "pretrained_cfg", None)
    size = config.get("input_size") if isinstance(config, dict) else None
    return (1, *size) if size and all(isinstance(n, int) for n in size) else None


def _first_layer(native: nn.Module) -> tuple[int, ...] | None:
    for module in native.modules():
        if isinstance(module, nn.Conv2d):
            return (1, module.in_channels, PIXELS, PIXELS)
        if isinstance(module, nn.Linear):
            return (1, module.in_features)
        if next(module.children(), None) is None and next(module.parameters(), None) is not None:
            return None
    return None
