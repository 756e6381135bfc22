"""Ops that join, cut, pad and pick along axes, in whatever order the axes lie."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, Layout, identity
from portnet_keras.operation import operation
from portnet_keras.ops.registry import op
from portnet_keras.ops.window import pad_axes, padded

__all__: list[str] = []

# exporters write "to the very end" as the largest integer of 32 or 64 bits
_FAR = 2**31 - 1


@op("Concat", transparent=True)
def concat(walk: Any, node: NodeView) -> KValue:
    """Join along an axis."""
    values = [walk.value(value) for value in node.inputs]
    rank = values[0].rank
    order = next((v.order for v in values if not v.is_constant and v.order != identity(rank)), identity(rank))
    tensors = [walk.ordered(value, order) for value in values]
    if len(tensors) == 1:
        return KValue(tensors[0], order)
    axis = order.index(node["axis"] % rank)
    if any(isinstance(tensor, np.ndarray) for tensor in tensors):
        return KValue(ops.concatenate(tensors, axis=axis), order)
    return KValue(walk.layer(node, keras.layers.Concatenate, axis=axis)(tensors), order)


@op("Split", transparent=True)
def split(walk: Any, node: NodeView) -> list[KValue]:
    """Split along an axis."""
    x = walk.value(node.required(0))
    axis, count = x.axis(node["axis"]), len(node.outputs)
    size = x.data.shape[axis]
    if node.input(1) is not None:
        sizes = walk.host_ints(node.input(1))
    elif size is None:
        raise walk.unsupported("splitting a free size into equal parts")
    else:
        part = math.ceil(size / count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
    starts = list(itertools.accumulate(sizes, initial=0))
    return [replace(x, data=_cut(x.data, axis, a, b)) for a, b in itertools.pairwise(starts)]


def _cut(data: Any, axis: int, start: int, stop: int, step: int = 1) -> Any:
    return data[(*[slice(None)] * axis, slice(start, stop, step))]


@op("Slice", transparent=True)
def slice_(walk: Any, node: NodeView) -> KValue:
    """Cut out a strided box; its bounds may be free sizes."""
    x = walk.value(node.required(0))
    starts, ends = walk.host_dims(node.input(1)), walk.host_dims(node.input(2))
    axes = walk.host_ints(node.input(3)) if node.input(3) is not None else list(range(len(starts)))
    steps = walk.host_ints(node.input(4)) if node.input(4) is not None else [1] * len(starts)
    data = x.data
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cut = _sliced if isinstance(start, int) and isinstance(end, int) else _sliced_between
        data = cut(walk, node, data, x.axis(axis), start, end, step)
    return replace(x, data=data)


def _sliced(walk: Any, node: NodeView, data: Any, axis: int, start: int, end: int, step: int) -> Any:
    size = data.shape[axis]
    if size is None:
        return _sliced_free(walk, data, axis, start, end, step)
    places = range(size)[start:end:step]
    if not places:
        return _cut(data, axis, 0, 0)
    if step > 0:
        return _cut(data, axis, places.start, places.stop, step)
    return ops.flip(_cut(data, axis, places[-1], places[0] + 1, -step), axis=axis)


def _sliced_free(walk: Any, data: Any, axis: int, start: int, end: int, step: int) -> Any:
    if step > 0:
        return _cut(data, axis, start, None if end >= _FAR else end, step)
    first = end <= -_FAR
    if start < 0 and (first or end < start):
        return _cut(ops.flip(data, axis=axis), axis, -1 - start, None if first else -1 - end, -step)
    if start >= 0 and (first or 0 <= end < start):
        part = _cut(data, axis, 0 if first else end + 1, None if start >= _FAR else start + 1)
        return _cut(ops.flip(part, axis=axis), axis, 0, None, -step)
    raise walk.unsupported(f"a step of {step} from {start} to {end} of a free size")


def _sliced_between(walk: Any, node: NodeView, data: Any, axis: int, start: Any, end: Any, step: int) -> Any:
    if step < 0:
        raise walk.unsupported("a negative step between free sizes")
    bounds = [ops.cast(walk.size(n), "int32") if not isinstance(n, int) else min(n, _FAR) for n in (start, end)]
    known = [n if isinstance(n, int) else None for n in bounds]
    return walk.apply(
        slice_between, node, data, *(n for n in bounds if not isinstance(n, int)), axis=axis, bounds=known, step=step
    )


@operation
def slice_between(x: Any, *sizes: Any, axis: int, bounds: Any, step: int) -> Any:
    """Cut along an axis between ``bounds``, whose None are filled by scalar tensors in turn."""
    filled = iter(sizes)
    start, end = (next(filled) if n is None else n for n in bounds)
    return ops.convert_to_tensor(x)[(*[slice(None)] * axis, slice(start, end, step))]


@op("Pad", transparent=True)
def pad(walk: Any, node: NodeView) -> KValue:
    """Pad every axis, or some; widths may be computed from free sizes."""
    x = walk.value(node.required(0))
    pads = walk.host_dims(node.input(1))
    axes = walk.host_ints(node.input(3)) if node.input(3) is not None else list(range(x.rank))
    widths = [[0, 0] for _ in range(x.rank)]
    fill = 0 if node.input(2) is None else walk.host(node.input(2)).item()
    for i, axis in enumerate(axes):
        ends = [pads[i], pads[i + len(axes)]]
        if all(isinstance(n, int) for n in ends):
            widths[x.axis(axis)] = ends
        else:
            x = replace(x, data=_pad_computed(walk, node, x.data, x.axis(axis), ends, fill))
    if node["mode"] == "constant" and fill == 0 and _is_image_pad(x, widths):
        return replace(x, data=padded(walk, node, x.data, tuple(map(tuple, widths[1:-1]))))
    return replace(x, data=_pad_any(walk, node, x.data, widths, fill))


def _is_image_pad(x: KValue, widths: list[list[int]]) -> bool:
    spatial = x.rank in (3, 4, 5) and not any(widths[0]) and not any(widths[-1])
    return spatial and not x.is_constant and str(x.data.dtype) == "float32" and min(map(min, widths)) >= 0


def _pad_any(walk: Any, node: NodeView, x: Any, widths: list[list[int]], fill: Any) -> Any:
    mode = node["mode"]
    if mode == "constant":
        return pad_axes(x, [(before, after) for before, after in widths], fill)
    for axis, (before, after) in enumerate(widths):
        if before or after:
            if x.shape[axis] is None:
                x = walk.apply(pad_free, node, x, axis=axis, before=before, after=after, mode=mode)
            else:
                x = ops.take(x, _mirrored(x.shape[axis], before, after, mode), axis=axis)
    return x


def _pad_computed(walk: Any, node: NodeView, x: Any, axis: int, ends: list[Any], fill: Any) -> Any:
    known = [n if isinstance(n, int) else None for n in ends]
    free = [ops.cast(walk.size(n), "int32") for n in ends if not isinstance(n, int)]
    return walk.apply(pad_between, node, x, *free, axis=axis, widths=known, mode=node["mode"], fill=fill)


@operation
def pad_between(x: Any, *sizes: Any, axis: int, widths: Any, mode: str, fill: Any) -> Any:
    """Pad one axis by ``widths``, whose None are filled by scalar tensors in turn; negative widths cut off."""
    filled, x = iter(sizes), ops.convert_to_tensor(x)
    before, after = (next(filled) if n is None else n for n in widths)
    if mode != "constant":
        return _repeated(x, axis, before, after, mode)
    size = ops.shape(x)[axis]
    places = ops.arange(-before, size + after, dtype="int32")
    is_inside = ops.reshape((places >= 0) & (places < size), [-1, *[1] * (len(x.shape) - 1 - axis)])
    return ops.where(is_inside, ops.take(x, ops.clip(places, 0, size - 1), axis=axis), ops.cast(fill, x.dtype))


@operation
def pad_free(x: Any, *, axis: int, before: int, after: int, mode: str) -> Any:
    """Pad one axis of a free size by a mode that repeats what is there; negative widths cut off."""
    return _repeated(x, axis, before, after, mode)


def _repeated(x: Any, axis: int, before: Any, after: Any, mode: str) -> Any:
    size = ops.shape(x)[axis]
    places = ops.arange(-before, size + after, dtype="int32")
    if mode == "reflect":
        period = ops.maximum(2 * (size - 1), 1)
        places = ops.mod(places, period)
        places = ops.minimum(places, period - places)
    elif mode == "wrap":
        places = ops.mod(places, size)
    return ops.take(x, ops.clip(places, 0, size - 1), axis=axis)


def _mirrored(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Return the places that padding by a mode reads; negative widths cut off."""
    places = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
    return np.pad(places, (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]


@op("Tile")
def tile(walk: Any, node: NodeView) -> KValue:
    """Repeat along every axis."""
    x = walk.value(node.required(0))
    repeats = walk.host_dims(node.input(1))
    ordered = [repeats[axis] for axis in x.order]
    if all(isinstance(n, int) for n in ordered):
        return replace(x, data=ops.tile(x.data, ordered))
    known = [n if isinstance(n, int) else None for n in ordered]
    free = [ops.cast(walk.size(n), "int32") for n in ordered if not isinstance(n, int)]
    return replace(x, data=walk.apply(tile_free, node, x.data, *free, repeats=known))


@operation
def tile_free(x: Any, *counts: Any, repeats: Any) -> Any:
    """Repeat along every axis; the None of ``repeats`` are filled by scalar tensors in turn."""
    filled = iter(counts)
    for axis, known in enumerate(repeats):
        count, sizes = next(filled) if known is None else known, ops.shape(x)
        copies = ops.broadcast_to(ops.expand_dims(x, axis), (*sizes[:axis], count, *sizes[axis:]))
        x = ops.reshape(copies, (*sizes[:axis], count * sizes[axis], *sizes[axis + 1 :]))
    return x


@op("Gather")
def gather(walk: Any, node: NodeView) -> KValue:
    """Take entries along an axis; from a weight matrix it is an Embedding."""
    table, indices = node.required(0), walk.plain(node.required(1))
    if _is_embedding(walk, table, node) and isinstance(indices, keras.KerasTensor):
        return _embedding(walk, node, indices)
    x = walk.value(table)
    rank = len(indices.shape)
    if rank > 1:
        x = KValue(walk.plain(table), identity(x.rank))
    axis = x.axis(node["axis"])
    data = walk.apply(take, node, x.data, indices, axis=axis)
    if rank == 0:
        rest = [a for a in x.order if a != x.order[axis]]
        return KValue(data, tuple(sorted(rest).index(a) for a in rest))
    return KValue(data, x.order if rank == 1 else identity(x.rank + rank - 1))


@operation
def take(x: Any, indices: Any, *, axis: int) -> Any:
    """Take entries along an axis; negative indices count from the end."""
    return ops.take(
        x, ops.where(indices < 0, indices + ops.cast(ops.shape(x)[axis], indices.dtype), indices), axis=axis
    )


def _is_embedding(walk: Any, table: Any, node: NodeView) -> bool:
    if not walk.claimable(table) or node["axis"] != 0 or len(table.const_value.shape) != 2:
        return False
    return walk.roles[table.name].trainable


def _embedding(walk: Any, node: NodeView, indices: Any) -> KValue:
    table = node.required(0)
    shape = tuple(int(n) for n in table.const_value.shape)  # type: ignore[union-attr]
    layer = walk.layer(node, keras.layers.Embedding, *shape, embeddings_initializer="zeros")
    data = walk.filled(layer, indices, {"embeddings": (table, Layout.of(shape))})
    return KValue(data, identity(len(indices.shape) + 1))
