"""Sequences as Python lists and optionals as values that may be None."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def construct(*tensors: Any) -> list[Any]:
    """Return a list of the tensors."""
    return list(tensors)


def at(items: list[Any], place: int) -> Any:
    """Return one item; a negative place counts from the end."""
    return items[place]


def length(items: list[Any]) -> Tensor:
    """Return the number of items as an int64 scalar."""
    return torch.tensor(len(items))


def insert(items: list[Any], item: Any, place: int | None = None) -> list[Any]:
    """Return a longer list, with ``item`` before ``place`` or at the end."""
    place = len(items) if place is None else place + len(items) if place < 0 else place
    return [*items[:place], item, *items[place:]]


def erase(items: list[Any], place: int) -> list[Any]:
    """Return a list without one item."""
    place = place + len(items) if place < 0 else place
    return [*items[:place], *items[place + 1 :]]


def concat(items: list[Tensor], axis: int, new_axis: bool) -> Tensor:
    """Concatenate along an axis, or stack along a new one."""
    return torch.stack(items, axis) if new_axis else torch.cat(items, axis)


def split(x: Tensor, sizes: int | list[int] | None, axis: int, keepdims: bool) -> list[Tensor]:
    """Split into parts of one size or of several; into single slices where ``sizes`` is None."""
    if sizes is None:
        return list(x.split(1, axis) if keepdims else x.unbind(axis))
    return list(x.split(sizes, axis))


def optional(value: Any = None) -> Any:
    """Return the value; None is the empty optional."""
    return value


def get_element(value: Any) -> Any:
    """Return what an optional holds.

    Raises:
        ValueError: it is empty.
    """
    if value is None:
        raise ValueError("OptionalGetElement: the optional is empty")
    return value


def has_element(value: Any = None) -> Tensor:
    """Return whether an optional holds something, as a bool scalar."""
    return torch.tensor(value is not None)
