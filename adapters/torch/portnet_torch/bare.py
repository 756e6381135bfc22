"""Layers without the numbers that they would begin with: a lowered network has its own for each of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

__all__ = ["bare", "put"]

Layer = TypeVar("Layer", bound=nn.Module)

_CONTAINERS = (dict, list, set)


def bare(kind: type[Layer], *args: Any, **options: Any) -> Layer:
    """Return a layer on the meta device; its tensors are to be replaced, see `put`."""
    if kind.__setattr__ is not nn.Module.__setattr__:  # it keeps more than is in its dictionary
        return _make(kind, *args, **options)
    like = vars(_made(kind, args, tuple(options.items())))
    layer = kind.__new__(kind)
    vars(layer).update(like)
    vars(layer).update({name: value.copy() for name, value in like.items() if isinstance(value, _CONTAINERS)})
    return layer


def put(layer: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Let a layer of `bare` have a tensor, a parameter or a buffer, in place of its own."""
    if type(layer).__setattr__ is not nn.Module.__setattr__:
        setattr(layer, name, tensor)
    else:
        (layer._buffers if name in layer._buffers else layer._parameters)[name] = tensor  # type: ignore[index, assignment]


@functools.lru_cache(256)
def _made(kind: type[Layer], args: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Layer:
    """Return the layer that those like it are copied from: making one takes three times as long."""
    return _make(kind, *args, **dict(options))


def _make(kind: type[Layer], *args: Any, **options: Any) -> Layer:
    # on the meta device, too, a layer draws its numbers: through Python, which takes longer than to make the layer
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
