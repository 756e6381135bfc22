"""Operators that pick and reshape: slices, Reshape, Transpose."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.operands import added, dropped, operator, reordered
from portnet.formats.keras.layers.shape import cut, reshaped
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

_END = (1 << 63) - 1


@operator("GetItem", "__operators__.getitem")
def get_item(walk: Walk, node: LayerNode) -> Held:
    """numpy's slices, whole numbers, new axes and the ellipsis."""
    x = node.inputs[0] if node.inputs[0].packing is None else walk.plain(node.inputs[0])
    key = node.argument(1, "key", "slice_spec")
    items = _spelled_out(list(key) if isinstance(key, (list, tuple)) else [key], x.rank)
    axis = 0
    new: list[int] = []
    parts: dict[int, tuple[int, int, int]] = {}
    gone: list[int] = []
    for item in items:
        if item is None:
            new.append(axis - len(gone) + len(new))
            continue
        if isinstance(item, int) and not isinstance(item, bool):
            parts[axis] = (item, item + 1 or _END, 1)
            gone.append(axis)
        elif isinstance(item, slice):
            bounds = _bounds(item)
            if bounds != (0, _END, 1):
                parts[axis] = bounds
        else:
            raise UnsupportedError("an index that is no number and no slice")
        axis += 1
    if x.order[0] in parts or 0 in new:
        raise UnsupportedError("an index into the batch")
    x = cut(walk, x, parts)
    x = dropped(walk, x, gone) if gone else x
    return added(walk, x, new) if new else x


def _spelled_out(items: list[Any], rank: int) -> list[Any]:
    """Return the index with a slice for every axis that the ellipsis stands for."""
    items = [_plain(item) for item in items]
    if Ellipsis not in items:
        return items
    at = next(i for i, item in enumerate(items) if item is Ellipsis)
    count = rank - sum(item is not None and item is not Ellipsis for item in items)
    return [*items[:at], *[slice(None)] * max(count, 0), *items[at + 1 :]]


def _plain(item: Any) -> Any:
    if isinstance(item, Mapping):
        return Ellipsis if "ellipsis" in str(item.get("class_name", "")).lower() else item
    return Ellipsis if item in ("...", "Ellipsis") else item


def _bounds(item: slice) -> tuple[int, int, int]:
    step = 1 if item.step is None else item.step
    if not all(n is None or type(n) is int for n in (item.start, item.stop, item.step)) or not step:
        raise UnsupportedError("a slice between tensors")
    if step > 0:
        return item.start or 0, _END if item.stop is None else item.stop, step
    return -1 if item.start is None else item.start, -_END if item.stop is None else item.stop, step


@operator("Reshape", "reshape")
def reshape(walk: Walk, node: LayerNode) -> Held:
    """Another shape; the batch is left as it is, or becomes a part of the first axis."""
    x, shape = node.inputs[0], node.argument(1, "newshape", "shape")
    if not isinstance(shape, (list, tuple)) or not shape or not all(n is None or type(n) is int for n in shape):
        raise UnsupportedError("a shape that is computed")
    target = [-1 if n is None else n for n in shape[1:]]
    sizes = x.shape[1:]
    known = x.order[0] == 0 and None not in sizes
    if known and -1 not in target and math.prod(target) == math.prod(n or 0 for n in sizes):
        return reshaped(walk, x, target)
    if known and -1 in target and shape[0] in (-1, None, x.shape[0]) and target.count(-1) == 1:
        return reshaped(walk, x, target)
    return _merged(walk, x, shape)


def _merged(walk: Walk, x: Held, shape: Sequence[int | None]) -> Held:
    """Return a shape in which the batch is one factor of the axis that is left to be found."""
    x = walk.plain(x)
    sizes = [0 if n is None and i < x.rank and x.shape[i] is None else n for i, n in enumerate(shape)]
    numbers = [-1 if n is None else n for n in sizes]
    if numbers.count(-1) > 1 or (-1 not in numbers and 0 not in numbers and None in x.shape):
        raise UnsupportedError(f"shape {list(shape)}, which changes the batch")
    return walk.emit("Reshape", [x.value, walk.ints(numbers, "shape")], identity(len(numbers)))


@operator("Transpose", "transpose", "compat.v1.transpose")
def transpose(walk: Walk, node: LayerNode) -> Held:
    """Another order of axes: nothing is moved until somebody needs it so."""
    x = node.inputs[0] if node.inputs[0].packing is None else walk.plain(node.inputs[0])
    return reordered(x, node.argument(1, "axes", "perm"))


@operator("Swapaxes")
def swap_axes(walk: Walk, node: LayerNode) -> Held:
    """Two axes exchanged."""
    x = node.inputs[0] if node.inputs[0].packing is None else walk.plain(node.inputs[0])
    a, b = x.positive(node.argument(1, "axis1")), x.positive(node.argument(2, "axis2"))
    perm = list(identity(x.rank))
    perm[a], perm[b] = b, a
    return reordered(x, perm)
