"""Ops that pick, place, order or count elements by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.carriers import IntegerFormat
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import counted, size_of
from portnet_gluon.ops.registry import BOOL_AS_BYTES, Symbol, cast, numpy_op, op
from portnet_gluon.ops.shape import dropped
from portnet_gluon.ops.wrap import wrapped


@op("Gather")
def gather(walk: Any, node: NodeView) -> Symbol:
    """numpy's take; negative indices count from the end."""
    axis = walk.axis(node, walk.rank(node.required(0)))
    data, indices = walk.args(node)
    return numpy_op("take", data, indices, axis=axis, mode="wrap", name=node.name)


@op("GatherElements")
def gather_elements(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.gather_nd`` at coordinates that are a constant grid but on one axis."""
    return mx.sym.gather_nd(
        walk.value(node.required(0)), mx.sym.stack(*element_places(walk, node), axis=0), name=node.name
    )


@op("GatherND")
def gather_nd(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.gather_nd``; batch axes by a constant grid."""
    places = tuple_places(walk, node, node["batch_dims"])
    return mx.sym.gather_nd(walk.value(node.required(0)), mx.sym.stack(*places, axis=0), name=node.name)


def element_places(walk: Any, node: NodeView) -> list[Symbol]:
    """Return int64 places on each axis of the data, each of the indices' sizes: the own, but on ``axis`` the index."""
    data, indices = node.required(0), node.required(1)
    axis, rank, x = walk.axis(node, walk.rank(data)), walk.rank(indices), walk.value(indices)
    size = size_of(walk, data, axis)
    picked = _counted_from_front(cast(x, "int64"), size if isinstance(size, int) else walk.size(size, node.name))
    return [picked if i == axis else _own_place(walk, node, picked, i, rank) for i in range(rank)]


def _own_place(walk: Any, node: NodeView, like: Symbol, axis: int, rank: int) -> Symbol:
    """Return each element's own place along an axis of the indices' first ``rank``."""
    shape = walk.static_shape(node.required(1))[:rank]
    if None not in shape:
        return walk.constant(node, f"grid{axis}", np.indices(shape)[axis].astype(np.int64))
    size = size_of(walk, node.required(1), axis)
    fixed = isinstance(size, int)
    places = walk.constant(node, f"grid{axis}", np.arange(size)) if fixed else counted(walk, size)
    column = mx.sym.reshape(places, shape=[1] * axis + [-1] + [1] * (len(shape) - axis - 1))
    return mx.sym.broadcast_add(mx.sym.zeros_like(like), column)


def tuple_places(walk: Any, node: NodeView, batch_dims: int = 0) -> list[Symbol]:
    """Return int64 places on axes of the data, each of the indices' sizes but the last; batch axes come first."""
    data, indices = node.required(0), node.required(1)
    rank, count = walk.rank(indices), walk.static_shape(indices)[-1]
    if count is None:
        raise walk.unsupported(f"indices: got the shape {walk.static_shape(indices)}, expected a known last size")
    tuples = cast(walk.value(indices), "int64")
    columns = [dropped(mx.sym.slice_axis(tuples, axis=-1, begin=i, end=i + 1), (rank - 1,)) for i in range(count)]
    rows = [_own_place(walk, node, columns[0], axis, rank - 1) for axis in range(batch_dims)]
    bounds = [size_of(walk, data, batch_dims + i) for i in range(count)]
    bounds = [size if isinstance(size, int) else walk.size(size, node.name) for size in bounds]
    return rows + [_counted_from_front(column, size) for column, size in zip(columns, bounds, strict=True)]


def _counted_from_front(indices: Symbol, size: int | Symbol) -> Symbol:
    later = indices + size if isinstance(size, int) else mx.sym.broadcast_add(indices, size)
    return mx.sym.where(indices < 0, later, indices)


@op("ArgMax", "ArgMin")
def arg_extreme(walk: Any, node: NodeView) -> Symbol:
    """numpy's argmax or argmin; the last of several by counting from the back."""
    value = node.required(0)
    axis = walk.axis(node, walk.rank(value))
    x, last = walk.value(value), bool(node["select_last_index"])
    operator = "argmax" if node.op == "ArgMax" else "argmin"
    if not last:
        return numpy_op(operator, x, axis=axis, keepdims=bool(node["keepdims"]), name=node.name)
    found = numpy_op(operator, mx.sym.flip(x, axis=axis), axis=axis, keepdims=bool(node["keepdims"]))
    size = walk.static_shape(value)[axis]
    if size is None:
        raise walk.unsupported(f"select_last_index: got 1 on axis {axis}, whose size is free")
    return found * -1 + (size - 1)


@op("TopK", instead=BOOL_AS_BYTES)
def top_k(walk: Any, node: NodeView) -> list[Symbol]:
    """``mx.sym.topk``; the first of equal elements comes first."""
    k = walk.host_ints(node.required(1))[0]
    found = mx.sym.topk(
        walk.value(node.required(0)),
        axis=node["axis"],
        k=k,
        ret_typ="both",
        is_ascend=not node["largest"],
        dtype="int64",
        name=node.name,
    )
    return [found[0], found[1]]


@op("OneHot")
def one_hot(walk: Any, node: NodeView) -> Symbol:
    """off + (on − off) where the index, counted from the end when negative, is the place on the new axis."""
    indices, values = node.required(0), walk.value(node.required(2))
    depth = walk.host_ints(node.required(1))[0]
    rank = walk.rank(indices) + 1
    axis = node["axis"] % rank
    places = walk.constant(node, "places", np.arange(depth).reshape([-1] + [1] * (rank - 1 - axis)))
    index = _counted_from_front(cast(walk.value(indices), "int64"), depth)
    hit = numpy_op("equal", mx.sym.expand_dims(index, axis=axis), places)
    off, on = (mx.sym.slice_axis(values, axis=0, begin=i, end=i + 1) for i in (0, 1))
    return numpy_op("where", hit, on, off, name=node.name)


@op("Hardmax")
def hardmax(walk: Any, node: NodeView) -> Symbol:
    """One at the first maximum of the axis, zero elsewhere."""
    value = node.required(0)
    rank, shape = walk.rank(value), walk.static_shape(value)
    axis = walk.axis(node, rank)
    if shape[axis] is None:
        raise walk.unsupported(f"axis: got {axis}, whose size is free")
    places = walk.constant(node, "places", np.arange(shape[axis]).reshape([-1] + [1] * (rank - 1 - axis)))
    first = numpy_op("argmax", walk.value(value), axis=axis, keepdims=True)
    return cast(numpy_op("equal", first, places), walk.dtype(value))


@op("CumSum")
def cumulative_sum(walk: Any, node: NodeView) -> Symbol:
    """numpy's cumsum, of the flipped data for ``reverse``, moved by one for ``exclusive``."""
    return _cumulative(walk, node, lambda x, axis: mx.sym.np.cumsum(x.as_np_ndarray(), axis=axis).as_nd_ndarray(), 0)


@op("CumProd")
def cumulative_product(walk: Any, node: NodeView) -> Symbol:
    """Product after product."""
    sizes = walk.sizes(node.required(0))

    def product(x: Symbol, axis: int) -> Symbol:
        parts = [mx.sym.slice_axis(x, axis=axis, begin=i, end=i + 1) for i in range(sizes[axis])]
        return mx.sym.concat(*_accumulated(parts), dim=axis)

    return _cumulative(walk, node, product, 1)


def _accumulated(parts: list[Symbol]) -> list[Symbol]:
    results = parts[:1]
    for part in parts[1:]:
        results.append(mx.sym.elemwise_mul(results[-1], part))
    return results


def _cumulative(walk: Any, node: NodeView, function: Any, neutral: int) -> Symbol:
    axis = walk.host_ints(node.required(1))[0] % walk.rank(node.required(0))
    x = walk.value(node.required(0))
    if node["reverse"]:
        x = mx.sym.flip(x, axis=axis)
    if node["exclusive"]:
        first = mx.sym.ones_like(mx.sym.slice_axis(x, axis=axis, begin=0, end=1)) * neutral
        # MXNet cuts nothing off an axis of 1
        shape = node.required(0).shape
        if shape is not None and shape[axis] == 1:
            return first
        x = mx.sym.concat(first, mx.sym.slice_axis(x, axis=axis, begin=0, end=-1), dim=axis)
    y = function(x, axis)
    return mx.sym.flip(y, axis=axis) if node["reverse"] else y


@op("ReverseSequence", instead=BOOL_AS_BYTES)
def reverse_sequence(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.SequenceReverse``, which wants time first and the batch second."""
    x, lengths = walk.args(node)
    time, batch = node["time_axis"], node["batch_axis"]
    if (time, batch) == (1, 0):
        x = mx.sym.swapaxes(x, dim1=0, dim2=1)
    y = mx.sym.SequenceReverse(x, cast(lengths, "float32"), use_sequence_length=True, axis=0)
    return mx.sym.swapaxes(y, dim1=0, dim2=1) if (time, batch) == (1, 0) else y


@op("Compress", instead=BOOL_AS_BYTES)
def compress(walk: Any, node: NodeView) -> Symbol:
    """The elements that a constant condition selects."""
    chosen = np.flatnonzero(walk.host(node.required(1)))
    x, axis = walk.value(node.required(0)), node.get("axis")
    if axis is None:
        x, axis = mx.sym.reshape(x, shape=(-1,)), 0
    indices = walk.constant(node, "chosen", chosen.astype(np.int64))
    return numpy_op("take", x, indices, axis=axis % max(walk.rank(node.required(0)), 1), mode="clip", name=node.name)


@op("BitShift", instead=dict.fromkeys(("uint8", "int8", "int32"), "int64"))
def bit_shift(walk: Any, node: NodeView) -> Symbol:
    """Times, or floor-divided by, a power of two; what leaves the width is gone."""
    x, by = walk.args(node)
    dtype = walk.onnx_dtype(node.required(0))
    if dtype == "int64":
        raise walk.unsupported("X: got int64, whose powers of two leave MXNet's integers")
    bits = IntegerFormat.named(dtype).bits
    # a shift by a negative number is one out of the width
    by = mx.sym.where(by < 0, mx.sym.ones_like(by) * bits, mx.sym.minimum(by, bits))
    power = mx.sym.broadcast_power(mx.sym.ones_like(by) * 2, by)
    if node["direction"] == "LEFT":
        return wrapped(mx.sym.broadcast_mul(x, power), dtype)
    return mx.sym.broadcast_div(mx.sym.broadcast_sub(x, mx.sym.broadcast_mod(x, power)), power)
