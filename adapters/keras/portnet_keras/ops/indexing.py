"""Gathering, scattering, sorting and choosing by index, in ONNX's order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import BACKEND, keras, ops
from portnet_keras.layout import KValue
from portnet_keras.operation import operation
from portnet_keras.ops.registry import op

__all__: list[str] = []


def _from_front(indices: Any, size: Any) -> Any:
    """Return indices with negative ones counted from the end of an axis."""
    return ops.where(ops.less(indices, 0), ops.add(indices, ops.cast(size, indices.dtype)), indices)


@operation
def gather_elements(x: Any, indices: Any, *, axis: int) -> Any:
    """Take one entry for each index along an axis; sizes of the other axes may be smaller than the data's."""
    shape, sizes = ops.shape(indices), ops.shape(x)
    own = [slice(None) if i == axis else slice(0, n) for i, n in enumerate(shape)]
    return ops.take_along_axis(x[tuple(own)], _from_front(indices, sizes[axis]), axis=axis)


@op("GatherElements")
def gather_elements_(walk: Any, node: NodeView) -> Any:
    """Gather one entry for each index."""
    x, indices = walk.plain(node.required(0)), walk.plain(node.required(1))
    return walk.apply(gather_elements, node, x, indices, axis=node["axis"] % len(x.shape))


@operation
def gather_nd(x: Any, indices: Any, *, batch: int) -> Any:
    """Gather slices by index tuples in the last axis of ``indices``, after ``batch`` leading axes."""
    depth, sizes = indices.shape[-1], ops.shape(x)
    shape = ops.shape(indices)
    if batch:
        grid = ops.meshgrid(*(ops.arange(n, dtype=indices.dtype) for n in shape[:-1]), indexing="ij")[:batch]
        indices = ops.concatenate([*(ops.expand_dims(g, -1) for g in grid), indices], axis=-1)
        depth += batch
    parts = tuple(_from_front(indices[..., i], sizes[i]) for i in range(depth))
    flat = ops.reshape(x, (-1, *sizes[depth:]))
    return ops.take(flat, _flat_index(parts, sizes), axis=0)


def _flat_index(parts: Any, sizes: Any) -> Any:
    flat = parts[0]
    for part, size in zip(parts[1:], sizes[1:], strict=False):
        flat = ops.add(ops.multiply(flat, ops.cast(size, flat.dtype)), part)
    return flat


@op("GatherND")
def gather_nd_(walk: Any, node: NodeView) -> Any:
    """Gather slices by index tuples."""
    x, indices = walk.plain(node.required(0)), walk.plain(node.required(1))
    return walk.apply(gather_nd, node, x, indices, batch=node["batch_dims"])


def _tensorflow(walk: Any) -> Any:
    if BACKEND != "tensorflow":
        raise walk.unsupported(f"needs TensorFlow's scatter, and the backend is {BACKEND}")


_REDUCE = {
    "none": "tensor_scatter_nd_update",
    "add": "tensor_scatter_nd_add",
    "max": "tensor_scatter_nd_max",
    "min": "tensor_scatter_nd_min",
}


def _scatter(x: Any, places: Any, updates: Any, reduction: str) -> Any:
    import tensorflow as tf

    if x.dtype == tf.bool and reduction != "none":  # of truths, a sum is the larger and a product the smaller
        larger = {"add": "max", "mul": "min"}.get(reduction, reduction)
        numbers = _scatter(tf.cast(x, tf.int32), places, tf.cast(updates, tf.int32), larger)
        return tf.cast(numbers, tf.bool)
    if reduction != "mul":
        return getattr(tf, _REDUCE[reduction])(x, places, updates)
    # TensorFlow has no scattered product: multiply update by update
    flat_places, flat = (
        tf.reshape(places, (-1, places.shape[-1])),
        tf.reshape(updates, (-1, *x.shape[places.shape[-1] :])),
    )
    for i in range(flat_places.shape[0]):
        old = tf.gather_nd(x, flat_places[i : i + 1])
        x = tf.tensor_scatter_nd_update(x, flat_places[i : i + 1], old * flat[i : i + 1])
    return x


@operation
def scatter_nd(x: Any, indices: Any, updates: Any, *, reduction: str) -> Any:
    """Write slices at index tuples."""
    sizes = ops.shape(x)
    parts = [_from_front(indices[..., i], sizes[i]) for i in range(indices.shape[-1])]
    return _scatter(x, ops.stack(parts, axis=-1), updates, reduction)


@op("ScatterND")
def scatter_nd_(walk: Any, node: NodeView) -> Any:
    """Write slices at index tuples."""
    _tensorflow(walk)
    tensors = [walk.plain(node.required(i)) for i in range(3)]
    return walk.apply(scatter_nd, node, *tensors, reduction=node["reduction"])


@operation
def scatter_elements(x: Any, indices: Any, updates: Any, *, axis: int, reduction: str) -> Any:
    """Write one entry for each index along an axis."""
    shape = ops.shape(indices)
    grid = ops.meshgrid(*(ops.arange(n, dtype=indices.dtype) for n in shape), indexing="ij")
    grid[axis] = _from_front(indices, ops.shape(x)[axis])
    return _scatter(x, ops.stack(grid, axis=-1), updates, reduction)


@op("ScatterElements", "Scatter")
def scatter_elements_(walk: Any, node: NodeView) -> Any:
    """Write one entry for each index."""
    _tensorflow(walk)
    tensors = [walk.plain(node.required(i)) for i in range(3)]
    axis = node["axis"] % len(tensors[0].shape)
    return walk.apply(scatter_elements, node, *tensors, axis=axis, reduction=node.get("reduction", "none"))


@op("OneHot")
def one_hot(walk: Any, node: NodeView) -> Any:
    """Indices to vectors of two values."""
    indices, depth = walk.plain(node.required(0)), int(walk.host(node.input(1)).item())
    values, rank = walk.plain(node.required(2)), len(indices.shape) + 1
    indices = ops.cast(indices, "int64")
    shape = [1] * rank
    shape[node["axis"] % rank] = depth
    classes = np.arange(depth).reshape(shape)
    hit = ops.equal(ops.expand_dims(_from_front(indices, depth), node["axis"] % rank), classes)
    return ops.where(hit, values[1], values[0])


@op("TopK")
def top_k(walk: Any, node: NodeView) -> Any:
    """Largest or smallest entries along an axis, in order; of equal ones the first."""
    x = walk.value(node.required(0))
    [k], axis = walk.host_dims(node.input(1)), x.axis(node["axis"])
    order = walk.apply(stable_order, node, x.data, axis=axis, descending=bool(node["largest"]))
    if isinstance(k, int):
        places = walk.apply(first_places, node, order, axis=axis, count=k)
    else:
        places = walk.apply(first_places, node, order, ops.cast(walk.size(k), "int32"), axis=axis, count=None)
    return [KValue(ops.take_along_axis(x.data, places, axis=axis), x.order), KValue(places, x.order)]


@operation
def first_places(order: Any, *size: Any, axis: int, count: int | None) -> Any:
    """Return the first entries along an axis: ``count``, or as many as a scalar tensor says."""
    end = size[0] if count is None else count
    return order[(*[slice(None)] * axis, slice(0, end))]


@operation
def stable_order(x: Any, *, axis: int, descending: bool) -> Any:
    """Return the places of the entries in order, equal ones as they stand."""
    x = _sortable(x)
    if not descending:
        return _argsort(x, axis)
    # from the back, so that turning round puts the first of equal ones first
    turned = _argsort(ops.flip(x, axis=axis), axis)
    return ops.flip(ops.subtract(ops.cast(ops.shape(x)[axis] - 1, turned.dtype), turned), axis=axis)


def _argsort(x: Any, axis: int) -> Any:
    if BACKEND != "tensorflow":
        return ops.cast(ops.argsort(x, axis=axis), "int64")
    import tensorflow as tf

    return tf.cast(tf.argsort(x, axis=axis, stable=True), tf.int64)


def _sortable(x: Any) -> Any:
    name = keras.backend.standardize_dtype(x.dtype)
    return ops.cast(x, "int64") if name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "bool") else x


@operation
def non_zero(x: Any) -> Any:
    """Places of what is not zero, one column each."""
    import tensorflow as tf

    return tf.transpose(tf.where(tf.not_equal(x, tf.zeros((), x.dtype))))


@op("NonZero")
def non_zero_(walk: Any, node: NodeView) -> Any:
    """Places of what is not zero."""
    _tensorflow(walk)
    return walk.apply(non_zero, node, walk.plain(node.required(0)))


@op("Compress")
def compress(walk: Any, node: NodeView) -> Any:
    """Keep what a known condition says along an axis, or of the flattened tensor."""
    x, condition = walk.plain(node.required(0)), walk.host(node.input(1))
    places = np.flatnonzero(condition)
    if node.get("axis") is None:
        return ops.take(ops.reshape(x, (-1,)), places, axis=0)
    return ops.take(x, places, axis=node["axis"] % len(x.shape))


@op("Trilu")
def trilu(walk: Any, node: NodeView) -> Any:
    """Upper or lower triangle of the last two axes."""
    x = walk.plain(node.required(0))
    k = 0 if node.input(1) is None else int(walk.host(node.input(1)).item())
    rows, columns = x.shape[-2:]
    if rows is None or columns is None:
        raise walk.unsupported("free sizes")
    ones = np.ones((rows, columns), bool)
    return ops.where(np.triu(ones, k) if node["upper"] else np.tril(ones, k), x, ops.zeros_like(x))


@op("EyeLike")
def eye_like(walk: Any, node: NodeView) -> Any:
    """Identity matrix of the input's size."""
    x = walk.value(node.required(0))
    if None in x.shape:
        raise walk.unsupported("free sizes")
    return np.eye(*x.shape, k=node["k"], dtype=np.float32)


@op("ReverseSequence")
def reverse_sequence(walk: Any, node: NodeView) -> Any:
    """Turn round the first entries of each sequence."""
    x, lengths = walk.plain(node.required(0)), ops.cast(walk.plain(node.required(1)), "int64")
    return walk.apply(reverse_starts, node, x, lengths, time=node["time_axis"], batch=node["batch_axis"])


@operation
def reverse_starts(x: Any, lengths: Any, *, time: int, batch: int) -> Any:
    """Turn round the first entries along ``time``, as many as ``lengths`` says for each entry along ``batch``."""
    rank, steps = len(x.shape), ops.shape(x)[time]
    lengths = ops.reshape(lengths, [-1 if axis == batch else 1 for axis in range(rank)])
    times = ops.reshape(ops.arange(steps, dtype="int64"), [-1 if axis == time else 1 for axis in range(rank)])
    places = ops.where(times < lengths, lengths - 1 - times, times)
    return ops.take_along_axis(x, ops.broadcast_to(places, ops.shape(x)), axis=time)


@op("Unique")
def unique(walk: Any, node: NodeView) -> Any:
    """Distinct entries, or slices along an axis: how many is found when it runs."""
    _tensorflow(walk)
    x = walk.plain(node.required(0))
    axis = node.get("axis")
    return walk.apply(
        distinct, node, x, axis=axis if axis is None else axis % len(x.shape), ordered=bool(node["sorted"])
    )


@operation
def distinct(x: Any, *, axis: int | None, ordered: bool) -> Any:
    """Return distinct slices, where each is first, which one each slice is, and how many there are of each."""
    import tensorflow as tf

    x, axis = (tf.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    values, inverse, counts = tf.raw_ops.UniqueWithCountsV2(x=x, axis=[axis], out_idx=tf.int64)
    count = tf.shape(values)[axis]
    first = tf.math.unsorted_segment_min(tf.range(tf.shape(x, tf.int64)[axis]), inverse, count)
    if ordered:
        rows = tf.reshape(tf.experimental.numpy.moveaxis(values, axis, 0), (count, -1))
        order = _lexical_order(rows, math.prod(n for i, n in enumerate(x.shape) if i != axis))
        values, first, counts = tf.gather(values, order, axis=axis), tf.gather(first, order), tf.gather(counts, order)
        inverse = tf.gather(tf.cast(tf.math.invert_permutation(order), tf.int64), inverse)
    return values, first, inverse, counts


def _lexical_order(rows: Any, columns: int) -> Any:
    """Return the order of rows by their first columns, then the next."""
    import tensorflow as tf

    order = tf.range(tf.shape(rows)[0])
    for column in reversed(range(columns)):
        order = tf.gather(order, tf.argsort(tf.gather(rows[:, column], order), stable=True))
    return order


@op("TensorScatter")
def tensor_scatter(walk: Any, node: NodeView) -> Any:
    """Write an update into a cache at known places along an axis."""
    past, update = walk.plain(node.required(0)), walk.plain(node.required(1))
    axis, batch = node["axis"] % len(past.shape), past.shape[0]
    size, steps = past.shape[axis], update.shape[axis]
    starts = [0] * (batch or 0) if node.input(2) is None else walk.host_ints(node.input(2))
    if None in (batch, size, steps):
        raise walk.unsupported("free sizes")
    rows = [_written(past[b], update[b], axis - 1, start, node["mode"] == "circular") for b, start in enumerate(starts)]
    return ops.stack(rows)


def _written(past: Any, update: Any, axis: int, start: int, circular: bool) -> Any:
    size, steps = past.shape[axis], update.shape[axis]
    places = np.arange(start, start + steps) % size if circular else np.arange(start, start + steps)
    source = np.full(size, -1)
    source[places] = np.arange(steps)
    shape = [size if a == axis else 1 for a in range(len(past.shape))]
    moved = ops.take(update, np.maximum(source, 0), axis=axis)
    return ops.where(source.reshape(shape) >= 0, moved, past)
