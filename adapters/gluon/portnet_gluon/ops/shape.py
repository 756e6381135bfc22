"""Ops that move data without changing it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnet.graph import ranges
from portnet.graph.host import HostValue
from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import counted, cut_like, ruler, size_of
from portnet_gluon.ops.registry import BOOL_AS_BYTES, Symbol, cast, numpy_op, op
from portnet_gluon.ops.windows import sliced

# exporters write "to the very end" as the largest integer of 32 or 64 bits
_FAR = 2**31 - 1

# axes that MXNet's slice has kernels for
_MAX_SLICED = 5


@op("Transpose", instead=BOOL_AS_BYTES)
def transpose(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.transpose``."""
    axes = node.get("perm") or list(range(walk.rank(node.required(0))))[::-1]
    return mx.sym.transpose(walk.value(node.required(0)), axes=axes, name=node.name)


@op("Squeeze")
def squeeze(walk: Any, node: NodeView) -> Symbol:
    """Drop axes of size 1."""
    axes = None if node.input(1) is None else tuple(walk.host_ints(node.required(1)))
    return dropped(walk.value(node.required(0)), axes, node.name)


def dropped(x: Symbol, axes: tuple[int, ...] | None, name: str | None = None) -> Symbol:
    """Return x without axes of size 1; the classic operator would keep the last one of them."""
    return mx.sym.np.squeeze(x.as_np_ndarray(), axis=axes, name=name).as_nd_ndarray()


@op("Unsqueeze")
def unsqueeze(walk: Any, node: NodeView) -> Symbol:
    """Insert axes of size 1 at places of the result."""
    axes = walk.host_ints(node.required(1))
    rank = walk.rank(node.required(0)) + len(axes)
    x = walk.value(node.required(0))
    for axis in sorted(axis % rank for axis in axes):
        x = mx.sym.expand_dims(x, axis=axis)
    return x


@op("Concat", instead=BOOL_AS_BYTES)
def concat(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.concat``."""
    return mx.sym.concat(*walk.args(node), dim=walk.axis(node, walk.rank(node.required(0))), name=node.name)


@op("Split", instead=BOOL_AS_BYTES)
def split(walk: Any, node: NodeView) -> list[Symbol]:
    """Slices along one axis; sizes given, or equal with a smaller last one."""
    value = node.required(0)
    axis = walk.axis(node, walk.rank(value))
    sizes = _equal_parts(walk, node, axis) if node.input(1) is None else walk.host_ints(node.required(1))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    x = walk.value(value)
    return [
        mx.sym.slice_axis(x, axis=axis, begin=end - size, end=end) if size else _nothing(walk, value, axis)
        for end, size in zip(ends, sizes, strict=True)
    ]


def _equal_parts(walk: Any, node: NodeView, axis: int) -> list[int]:
    total, count = walk.static_shape(node.required(0))[axis], len(node.outputs)
    if total is None:
        raise walk.unsupported(f"axis: got {axis}, whose size is free")
    chunk = -(-total // count)
    return [min(chunk, total - chunk * i) for i in range(count)]


def _nothing(walk: Any, value: Any, axis: int) -> Symbol:
    """Return no elements of ``value`` along an axis."""
    sizes = walk.sizes(value)
    return numpy_op("zeros", shape=[*sizes[:axis], 0, *sizes[axis + 1 :]], dtype=walk.dtype(value))


@op("Slice", instead=BOOL_AS_BYTES)
def slice_(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.slice``; where a bound is a free size, a gather, or a cut to a length."""
    source = node.required(0)
    starts, ends = walk.host_dims(node.required(1)), walk.host_dims(node.required(2))
    rank, shape = walk.rank(source), walk.static_shape(source)
    axes = walk.host_ints(node.required(3)) if node.input(3) is not None else list(range(len(starts)))
    steps = walk.host_ints(node.required(4)) if node.input(4) is not None else [1] * len(starts)
    x, (begin, end, step) = walk.value(source), ([None] * rank for _ in range(3))
    for axis, start, stop, stride in zip((a % rank for a in axes), starts, ends, steps, strict=True):
        if isinstance(start, int) and isinstance(stop, int) and stride == -1 and shape[axis] is None:
            x = _backwards(walk, x, axis, start, stop)
        elif isinstance(start, int) and isinstance(stop, int):
            begin[axis], end[axis], step[axis] = _bounds(walk, shape[axis], start, stop, stride)
        else:
            x = _between(walk, x, source, axis, (start, stop, stride))
    if all(bound is None for bound in (*begin, *end)):
        return mx.sym.identity(x, name=node.name)
    if rank > _MAX_SLICED:
        return _picked(walk, node, x, [slice(*cut) for cut in zip(begin, end, step, strict=True)])
    return sliced(x, begin, end, step, name=node.name)


def _backwards(walk: Any, x: Symbol, axis: int, start: int, stop: int) -> Symbol:
    """Cut an axis of free size from a place down to, and without, another; both counted from the same end."""
    first = stop < -_FAR
    if start < 0 and (first or stop < start):
        turned = mx.sym.reverse(x, axis=axis)
        return mx.sym.slice_axis(turned, axis=axis, begin=-1 - start, end=None if first else -1 - stop)
    if start >= 0 and (first or 0 <= stop < start):
        end = None if start >= _FAR else start + 1
        return mx.sym.reverse(mx.sym.slice_axis(x, axis=axis, begin=0 if first else stop + 1, end=end), axis=axis)
    raise walk.unsupported(f"steps: got -1 from {start} to {stop} on an axis whose size is free")


def _picked(walk: Any, node: NodeView, x: Symbol, cuts: list[slice]) -> Symbol:
    """Cut axis by axis by the places that remain; MXNet's slice knows few axes."""
    for axis, cut in enumerate(cuts):
        if cut != slice(None):
            places = np.arange(walk.static_shape(node.required(0))[axis])[cut]
            x = numpy_op("take", x, walk.constant(node, f"places{axis}", places), axis=axis, mode="clip")
    return mx.sym.identity(x, name=node.name)


def _between(walk: Any, x: Symbol, source: Any, axis: int, bounds: tuple[Any, Any, int]) -> Symbol:
    """Cut an axis between bounds of which one is a free size; each lies within the axis, or the last one never does."""
    start, stop, step = bounds
    own = size_of(walk, source, axis)
    if step != 1:
        raise walk.unsupported(f"steps: got {step} between free sizes")
    if isinstance(stop, int):
        stop = own if stop >= _FAR else own + stop if stop < 0 else stop
    if isinstance(start, int) and start >= 0:
        if stop == own or ranges.bounds(walk.floors.expanded(own - stop))[1] <= 0:
            return mx.sym.slice_axis(x, axis=axis, begin=start, end=None)
        x = cut_like(walk, x, walk.rank(source), axis, stop)
        return mx.sym.slice_axis(x, axis=axis, begin=start, end=None) if start else x
    start = own + start if isinstance(start, int) else start
    first = walk.size(start, "start")
    places = mx.sym.broadcast_add(counted(walk, stop - start), first)
    return numpy_op("take", x, places, axis=axis, mode="clip")


def _bounds(walk: Any, size: int | None, start: int, stop: int, step: int) -> tuple[Any, Any, int]:
    """Return the bounds as MXNet takes them: within the axis, None for an open end."""
    if size is not None:
        start, stop, step = slice(start, stop, step).indices(size)
        return start, (None if stop < 0 else stop), step
    if step < 0:
        raise walk.unsupported("steps: got a negative one on an axis whose size is free")
    return start, (None if stop >= _FAR else stop), step


@op("Expand", instead=BOOL_AS_BYTES)
def expand(walk: Any, node: NodeView) -> Symbol:
    """numpy's broadcast_to; axis by axis where a size is free."""
    x, own = walk.value(node.required(0)), list(_shape(walk, node.required(0)))
    sizes = walk.static_shape(node.outputs[0])
    wanted = list(sizes) if sizes is not None and None not in sizes else walk.host_dims(node.required(1))
    for _ in range(len(wanted) - len(own)):
        x, own = mx.sym.expand_dims(x, axis=0), [1, *own]
    if all(isinstance(size, int) for size in (*own, *wanted)):
        shape = np.broadcast_shapes(tuple(own), tuple(wanted))
        return numpy_op("broadcast_to", x, shape=shape, name=node.name)
    return broadcast_free(walk, x, own, [1] * (len(own) - len(wanted)) + wanted)


def _shape(walk: Any, value: Any) -> tuple[int | None, ...]:
    """Return a shape of known rank."""
    walk.rank(value)
    return tuple(walk.static_shape(value))


def broadcast_free(walk: Any, x: Symbol, own: list[int | None], wanted: list[Any]) -> Symbol:
    """Broadcast x axis by axis: to a number, or like the tensor that a free size was read from."""
    for axis, (have, want) in enumerate(zip(own, wanted, strict=True)):
        if have != 1 or want == 1:
            continue
        if isinstance(want, int):
            x = mx.sym.broadcast_axis(x, axis=axis, size=want)
        elif want in walk.symbols:
            source, source_axis = walk.symbols[want]
            x = mx.sym.broadcast_like(x, walk.value(source), lhs_axes=(axis,), rhs_axes=(source_axis,))
        else:
            x = mx.sym.broadcast_like(x, ruler(walk, want), lhs_axes=(axis,), rhs_axes=(0,))
    return x


@op("Tile")
def tile(walk: Any, node: NodeView) -> Symbol:
    """numpy's tile, one axis after the other: its kernel takes few axes at once."""
    reps, x = walk.host_dims(node.required(1)), walk.value(node.required(0))
    for axis, count in enumerate(reps):
        if not isinstance(count, int):
            # on an axis of its own, which is merged with the one it repeats
            wanted = [1] * axis + [count] + [1] * (len(reps) - axis)
            x = broadcast_free(walk, mx.sym.expand_dims(x, axis=axis), [1] * len(wanted), wanted)
            x = mx.sym.reshape(x, shape=[0] * axis + [-3] + [0] * (len(reps) - axis - 1))
        elif count != 1:
            x = numpy_op("tile", x, reps=[1] * axis + [count] + [1] * (len(reps) - axis - 1))
    return mx.sym.identity(x, name=node.name)


@op("ConstantOfShape")
def constant_of_shape(walk: Any, node: NodeView) -> Symbol:
    """A constant; free sizes are broadcast like the tensors they were read from."""
    dims = walk.host_dims(node.required(0))
    fill = node.get("value", np.zeros(1, np.float32))
    known = [size if isinstance(size, int) else 1 for size in dims]
    x = walk.constant(node, "value", np.full(known, fill.reshape(-1)[0]))
    return broadcast_free(walk, x, known, dims) if known != dims else mx.sym.identity(x, name=node.name)


@op("Shape")
def shape(walk: Any, node: NodeView) -> Symbol:
    """The sizes of a tensor whose shape ONNX's inference does not know, but MXNet's may."""
    value, part = node.required(0), slice(node["start"], node.get("end"))
    known = walk.static_shape(value)
    if known is None or None in known:
        sizes = mx.sym.shape_array(walk.value(value))
        return mx.sym.slice_axis(sizes, axis=0, begin=part.start, end=part.stop)
    host = walk.host_values[node.outputs[0]] = HostValue(np.array(known[part], np.int64))
    return walk.constant(node, "sizes", host.array)


@op("Size")
def size(walk: Any, node: NodeView) -> Symbol:
    """The product of all sizes, free ones as they are when the network runs."""
    value = node.required(0)
    product = math.prod(size_of(walk, value, axis) for axis in range(walk.rank(value)))
    return walk.make_symbolic(node.outputs[0], HostValue(np.array(product, object), np.dtype(np.int64)))


@op("Range")
def range_(walk: Any, node: NodeView) -> Symbol:
    """A constant; or counted along the tensor that a free limit was read from."""
    (start,), (limit,), (delta,) = (walk.host_dims(value) for value in node.inputs)
    dtype = walk.dtype(node.required(0))
    if all(isinstance(n, (int, float)) for n in (start, limit, delta)):
        return walk.constant(node, "value", np.arange(start, limit, delta, dtype=dtype))
    if delta != 1:
        raise walk.unsupported(f"delta: got {delta} up to the free size {limit}, expected 1")
    if not all(getattr(n, "is_integer", True) for n in (start, limit)):
        raise walk.unsupported(f"got {start} up to {limit}, expected whole numbers")
    if isinstance(start, int):
        return counted(walk, limit - start, start, dtype=dtype)
    places = mx.sym.broadcast_add(counted(walk, limit - start), walk.size(start, f"{node.name}.start"))
    return cast(places, dtype)


@op("EyeLike")
def eye_like(walk: Any, node: NodeView) -> Symbol:
    """A constant of the input's fixed sizes."""
    rows, columns = walk.sizes(node.required(0))
    dtype = walk.dtype(node.outputs[0])
    return walk.constant(node, "value", np.eye(rows, columns, node["k"], dtype=dtype))


@op("Trilu", instead=BOOL_AS_BYTES)
def trilu(walk: Any, node: NodeView) -> Symbol:
    """The upper or lower triangle of each matrix, by a constant mask."""
    k = 0 if node.input(1) is None else int(walk.host(node.required(1)).item())
    sizes = walk.sizes(node.required(0))[-2:]
    mask = np.tri(*sizes, k - 1) == 0 if node["upper"] else np.tri(*sizes, k) == 1
    x = walk.value(node.required(0))
    return numpy_op("where", walk.constant(node, "mask", mask), x, mx.sym.zeros_like(x), name=node.name)
