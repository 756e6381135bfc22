"""Layers without the numbers that they would begin with: a lowered network has its own for each of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["bare"]

Layer = TypeVar("Layer", bound=nn.Module)


def bare(kind: Callable[..., Layer], *args: Any, **options: Any) -> Layer:
    """Return a layer on the meta device; its tensors are to be replaced.

    On that device, too, a layer draws its numbers: through Python, which takes longer than to make the layer.
    """
    layer: Layer = _undrawn(kind)(*args, device="meta", **options)
    layer.__class__ = kind  # type: ignore[assignment]
    return layer


@functools.cache
def _undrawn(kind: type[nn.Module]) -> Callable[..., Any]:
    return type(kind.__name__, (kind,), {"reset_parameters": lambda self: None, "__setattr__": _set_attribute})


def _set_attribute(module: nn.Module, name: str, value: Any) -> None:
    """Set what is neither tensor nor layer at once: whether it is one takes `nn.Module` longer than all the rest."""
    if isinstance(value, (nn.Module, torch.Tensor)):
        nn.Module.__setattr__(module, name, value)
    else:
        object.__setattr__(module, name, value)
