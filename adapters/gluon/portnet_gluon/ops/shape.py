"""Ops that move data without changing it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy

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


@op("Flatten")
def flatten(walk: Any, node: NodeView) -> Symbol:
    """A matrix: the axes before ``axis``, and the rest; the batch stays free."""
    rank = walk.rank(node.required(0))
    axis = node["axis"] + rank * (node["axis"] < 0)
    x = walk.value(node.required(0))
    if axis == 1:
        return mx.sym.Flatten(x, name=node.name) if rank > 1 else mx.sym.reshape(x, shape=(-1, 1), name=node.name)
    sizes = [size_of(walk, node.required(0), i) for i in range(rank)]
    known = [size if isinstance(size, int) else None for size in (math.prod(sizes[:axis]), math.prod(sizes[axis:]))]
    if known == [None, None]:
        for _ in range(axis - 1):
            x = mx.sym.reshape(x, shape=(-3, -2))  # joins the first two axes
        return mx.sym.reshape(x, shape=(0, -1), name=node.name)
    return mx.sym.reshape(x, shape=reshape_codes(walk, known), name=node.name)


@op("Reshape")
def reshape(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.reshape`` with at most one size left to it; equal leading free sizes are copied by its code 0.

    Where more are free, axes are copied, merged and split in their order, or the shape is that of a tensor.
    """
    dims = walk.host_dims(node.required(1))
    source = node.required(0)
    if not node["allowzero"]:
        dims = [size_of(walk, source, axis) if size == 0 else size for axis, size in enumerate(dims)]
    sizes = [size if isinstance(size, int) and size >= 0 else None for size in dims]
    inferred = walk.static_shape(node.outputs[0]) or [None] * len(sizes)
    sizes = [known if size is None else size for size, known in zip(sizes, inferred, strict=True)]
    copied = [_is_same_size(walk, source, axis, size) for axis, size in enumerate(dims)]
    dims = [size if known is None else known for size, known in zip(dims, sizes, strict=True)]
    if 0 in sizes:
        return numpy_op("reshape", walk.value(source), newshape=sizes, name=node.name)
    if _open(sizes, copied) > 1:
        own = [size_of(walk, source, axis) for axis in range(walk.rank(source))]
        dims = _with_rest(own, dims)
        codes = _step_codes(own, dims)
        if codes is not None:
            return mx.sym.reshape(walk.value(source), shape=codes, name=node.name)
    if _open(sizes, copied) > 1 and -1 not in dims:
        known = [1 if size is None else size for size in sizes]
        like = broadcast_free(walk, walk.constant(node, "like", np.zeros(known, np.float32)), known, dims)
        return mx.sym.reshape_like(walk.value(source), like, name=node.name)
    return mx.sym.reshape(walk.value(source), shape=reshape_codes(walk, sizes, copied), name=node.name)


def _with_rest(own: list[Any], dims: list[Any]) -> list[Any]:
    """Return the sizes with what -1 stands for, where it follows."""
    if -1 not in dims:
        return dims
    rest = sympy.cancel(sympy.sympify(math.prod(own)) / math.prod(size for size in dims if size != -1))
    return [rest if size == -1 and sympy.denom(rest) == 1 else size for size in dims]


def _step_codes(own: list[Any], dims: list[Any]) -> list[int] | None:
    """Return MXNet's shape that copies (0), merges (-3) and splits (-4) axes one after the other, or None."""
    codes, at, i = [], 0, 0
    while i < len(dims) and at < len(own):
        pair = sympy.expand(math.prod(dims[i : i + 2]))
        if sympy.expand(own[at] - dims[i]) == 0:
            codes, at, i = [*codes, 0], at + 1, i + 1
        elif sympy.expand(math.prod(own[at : at + 2]) - dims[i]) == 0:
            codes, at, i = [*codes, -3], at + 2, i + 1
        elif sympy.expand(own[at] - pair) == 0 and any(isinstance(size, int) for size in dims[i : i + 2]):
            parts = [size if isinstance(size, int) else -1 for size in dims[i : i + 2]]
            codes, at, i = [*codes, -4, *parts], at + 1, i + 2
        else:
            return None
    return codes if (at, i) == (len(own), len(dims)) else None


def _open(sizes: list[int | None], copied: list[bool]) -> int:
    """Count the sizes that MXNet would have to find itself."""
    return sum(size is None and not copy for size, copy in zip(sizes, copied, strict=True))


def _is_same_size(walk: Any, source: Any, axis: int, size: Any) -> bool:
    shape = source.shape
    return not isinstance(size, int) and shape is not None and axis < len(shape) and size_of(walk, source, axis) == size


def reshape_codes(walk: Any, sizes: list[int | None], copied: list[bool] | None = None) -> list[int]:
    """Return MXNet's shape of ``sizes``: 0 copies the axis (where ``copied``), −1 is inferred.

    Raises:
        UnsupportedError: more than one size is neither known nor copied.
    """
    copied = copied or [False] * len(sizes)
    free = [axis for axis, size in enumerate(sizes) if size is None]
    keep = [axis for axis in free if copied[axis]] if len(free) > 1 else []
    if len(free) - len(keep) > 1:
        raise walk.unsupported(f"shape: got {sizes}, expected at most one size that is free")
    return [0 if axis in keep else -1 if size is None else size for axis, size in enumerate(sizes)]


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


@op("Split")
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


@op("Slice")
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


@op("Pad")
def pad(walk: Any, node: NodeView) -> Symbol:
    """numpy's pad; negative widths crop."""
    rank = walk.rank(node.required(0))
    axes = list(range(rank)) if node.input(3) is None else [a % rank for a in walk.host_ints(node.required(3))]
    given = walk.host_ints(node.required(1))
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = given[i], given[i + len(axes)]
    x = walk.value(node.required(0))
    for axis in range(rank):
        if before[axis] < 0 or after[axis] < 0:
            x = mx.sym.slice_axis(x, axis=axis, begin=max(-before[axis], 0), end=min(after[axis], 0) or None)
    width = tuple((max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True))
    return _padded(walk, node, x, width)


def _padded(walk: Any, node: NodeView, x: Symbol, width: tuple[tuple[int, int], ...]) -> Symbol:
    mode = node["mode"]
    if mode == "constant":
        fill = 0.0 if node.input(2) is None else float(walk.host(node.required(2)).item())
        return numpy_op("pad", x, pad_width=width, mode="constant", constant_value=fill, name=node.name)
    if mode == "wrap":
        return _wrapped_around(walk, node, x, width)
    for axis, (before, after) in enumerate(width):
        x = _continued(x, axis, before, after, _SIDES[mode])
    return mx.sym.identity(x, name=node.name)


def _mirrored(x: Symbol, axis: int, width: int, front: bool) -> Symbol:
    begin, end = (1, width + 1) if front else (-width - 1, -1)
    return mx.sym.reverse(mx.sym.slice_axis(x, axis=axis, begin=begin, end=end), axis=axis)


def _repeated(x: Symbol, axis: int, width: int, front: bool) -> Symbol:
    begin, end = (0, 1) if front else (-1, None)
    return mx.sym.repeat(mx.sym.slice_axis(x, axis=axis, begin=begin, end=end), repeats=width, axis=axis)


_SIDES = {"reflect": _mirrored, "edge": _repeated}


def _continued(x: Symbol, axis: int, before: int, after: int, side: Callable[..., Symbol]) -> Symbol:
    """Join what ``side`` makes of both ends to x: numpy's pad in MXNet has no gradient for these modes."""
    front = [side(x, axis, before, True)] if before else []
    back = [side(x, axis, after, False)] if after else []
    return mx.sym.concat(*front, x, *back, dim=axis) if front or back else x


def _wrapped_around(walk: Any, node: NodeView, x: Symbol, width: tuple[tuple[int, int], ...]) -> Symbol:
    """Continue the data from its other end, by a gather along each axis that is padded."""
    for axis, (before, after) in enumerate(width):
        if before or after:
            size = walk.sizes(node.outputs[0])[axis] - before - after
            places = np.arange(-before, size + after, dtype=np.int64) % size
            x = numpy_op("take", x, walk.constant(node, f"places{axis}", places), axis=axis, mode="clip")
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
