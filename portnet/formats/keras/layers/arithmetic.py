"""Further operators of ``keras.ops``, which layers of the user's own are made of."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, identity
from portnet.formats.keras.layers.convolution import padding_of
from portnet.formats.keras.layers.operands import dropped, operator, reordered
from portnet.formats.keras.layers.shape import cut, joined
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.walk import Walk

__all__: list[str] = []

_END = (1 << 63) - 1


def _plain(walk: Walk, x: Held) -> Held:
    """Return a tensor whose last axis is in Keras's order, wherever its axes lie."""
    return x if x.packing is None else walk.plain(x)


# ---- products


@operator("Einsum")
def einsum(walk: Walk, node: LayerNode) -> Held:
    """Sums of products over named axes."""
    terms, arrow, result = str(node.options.get("subscripts", "")).replace(" ", "").partition("->")
    tensors = [walk.plain(x) for x in node.inputs]
    read = terms.split(",")
    if not arrow or [len(term) for term in read] != [x.rank for x in tensors] or not re.fullmatch("[a-zA-Z,]+", terms):
        raise UnsupportedError(f"subscripts {terms}{arrow}{result}"[:80])
    return walk.emit("Einsum", [x.value for x in tensors], identity(len(result)), equation=f"{terms}->{result}")


@operator("Conv")
def conv(walk: Walk, node: LayerNode) -> Held:
    """Convolution by a kernel (window, channels / groups, filters) that is itself computed."""
    kernel, rank = walk.plain(node.argument(1, "kernel")), node.argument(0, "inputs").rank - 2
    x = walk.spatial(node.argument(0, "inputs"), node, rank)
    sizes = kernel.shape
    channels, window = x.size(x.order[1], node.name), [kernel.size(axis, node.name) for axis in range(rank)]
    inner = kernel.size(rank, node.name)
    if channels % inner:
        raise UnsupportedError(f"a kernel {sizes} for {channels} channels")
    strides = node.options.integers("strides", rank, 1)
    dilations = node.options.integers("dilation_rate", rank, 1)
    weight = walk.arranged(kernel, (rank + 1, rank, *range(rank)))
    return walk.emit(
        "Conv",
        [x.value, weight.value],
        x.order,
        kernel_shape=window,
        strides=strides,
        dilations=dilations,
        group=channels // inner,
        **padding_of(node, x, window, strides, dilations),
    )


# ---- spread


def _spread(is_root: bool) -> Callable[[Walk, LayerNode], Held]:
    def build(walk: Walk, node: LayerNode) -> Held:
        x = _plain(walk, node.inputs[0])
        given = node.options.get("axis")
        axes = given if isinstance(given, (list, tuple)) else [given]
        if given is None:
            raise UnsupportedError("axis=None, which runs over the batch")
        places = walk.ints(sorted(x.axis(axis) for axis in axes), "axes")
        mean = walk.emit("ReduceMean", [x.value, places], x.order, keepdims=1)
        apart = walk.same("Sub", x, mean.value)
        square = walk.same("Mul", apart, apart.value, what="square")
        result = walk.emit("ReduceMean", [square.value, places], x.order, "variance", keepdims=1)
        result = walk.same("Sqrt", result) if is_root else result
        return result if node.options.flag("keepdims") else dropped(walk, result, [x.positive(axis) for axis in axes])

    return build


operator("Var", "math.reduce_variance")(_spread(False))
operator("Std", "math.reduce_std")(_spread(True))


@operator("Normalize")
def normalize(walk: Walk, node: LayerNode) -> Held:
    """Length 1 along one axis, as Keras divides: by no less than ε."""
    x = _plain(walk, node.inputs[0])
    axis = node.options.get("axis", -1)
    if not isinstance(axis, int) or node.options.get("order", 2) != 2:
        raise UnsupportedError(f"axis={axis!r}, order={node.options.get('order')!r}"[:80])
    square = walk.same("Mul", x, x.value, what="square")
    total = walk.emit("ReduceSum", [square.value, walk.ints([x.axis(axis)], "axes")], x.order, keepdims=1)
    smallest = node.options.number("epsilon", 1e-7) ** 2
    length = walk.same("Sqrt", walk.same("Max", total, walk.number(smallest, "smallest")))
    return walk.same("Div", x, length.value)


# ---- moved and repeated


@operator("Moveaxis")
def move_axis(walk: Walk, node: LayerNode) -> Held:
    """Some axes to other places: nothing is moved until somebody needs it so."""
    x = _plain(walk, node.inputs[0])
    sources, targets = ([x.positive(a) for a in node.options.axes(key, 0)] for key in ("source", "destination"))
    perm = [axis for axis in range(x.rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        perm.insert(target, source)
    return reordered(x, perm)


@operator("Flip", "reverse")
def flip(walk: Walk, node: LayerNode) -> Held:
    """Some axes backwards."""
    x = _plain(walk, node.inputs[0])
    axes = [x.positive(axis) for axis in node.options.axes("axis", 0)]
    return cut(walk, x, dict.fromkeys(axes, (-1, -_END, -1)))


@operator("Roll", "roll")
def roll(walk: Walk, node: LayerNode) -> Held:
    """What leaves an axis at its end comes in at its beginning."""
    x = _plain(walk, node.inputs[0])
    shifts, axes = node.options.axes("shift", 0), node.options.axes("axis", 0)
    if node.options.get("axis") is None or len(shifts) != len(axes):
        raise UnsupportedError("axis=None")
    for shift, axis in zip(shifts, axes, strict=True):
        place = x.positive(axis)
        count = x.size(place, node.name)
        if shift % count:
            at = count - shift % count
            x = joined(walk, [cut(walk, x, {place: (at, _END, 1)}), cut(walk, x, {place: (0, at, 1)})], place)
    return x


@operator("Tile", "tile")
def tile(walk: Walk, node: LayerNode) -> Held:
    """Repeated along its axes."""
    x, repeats = _plain(walk, node.inputs[0]), node.options.axes("repeats", 1)
    if len(repeats) != x.rank:
        raise UnsupportedError(f"repeats={repeats} of {x.rank} axes")
    return walk.same("Tile", x, walk.ints(x.laid(repeats), "repeats"))


@operator("Repeat")
def repeat(walk: Walk, node: LayerNode) -> Held:
    """Every entry of one axis several times."""
    x, count, axis = walk.plain(node.inputs[0]), node.options.get("repeats"), node.options.get("axis")
    if type(count) is not int or type(axis) is not int or not 0 < count <= 1024 or not x.positive(axis):
        raise UnsupportedError(f"repeats={count!r}, axis={axis!r}"[:80])
    place = x.positive(axis)
    longer = walk.emit("Unsqueeze", [x.value, walk.ints([place + 1], "axes")])
    ones = [1] * longer.rank
    ones[place + 1] = count
    wide = walk.emit("Tile", [longer.value, walk.ints(ones, "repeats")])
    shape = [0, *(size * count if a == place else size for a, size in enumerate(_sizes(x)) if a)]
    return walk.emit("Reshape", [wide.value, walk.ints(shape, "shape")], identity(x.rank))


def _sizes(x: Held) -> list[int]:
    if None in x.shape[1:]:
        raise UnsupportedError("free sizes")
    return [0, *(size or 0 for size in x.shape[1:])]


# ---- decisions


@operator("Where", "where")
def where(walk: Walk, node: LayerNode) -> Held:
    """One or the other."""
    given = [node.argument(i, name) for i, name in enumerate(("condition", "x1", "x2"))]
    tensors = [x for x in given if isinstance(x, Held)]
    if not isinstance(given[0], Held) or any(x is None for x in given):
        raise UnsupportedError("a condition that is no tensor")
    if len({x.rank for x in tensors}) > 1:
        raise UnsupportedError("arguments of several numbers of axes")
    lined = iter(walk.aligned([_plain(walk, x) for x in tensors]))
    values = [next(lined) if isinstance(x, Held) else x for x in given]
    order = values[0].order
    dtype = next((x.value.dtype.numpy() for x in values[1:] if isinstance(x, Held) and x.value.dtype), np.float32)
    inputs = [x.value if isinstance(x, Held) else walk.constant(x, "number", dtype) for x in values]
    return walk.emit("Where", inputs, order)


@operator("LogicalNot", "math.logical_not")
def logical_not(walk: Walk, node: LayerNode) -> Held:
    """The other truth value."""
    return walk.same("Not", node.inputs[0])


@operator("Argmax", "argmax", "math.argmax")
def argmax(walk: Walk, node: LayerNode) -> Held:
    """The place of the largest along one axis, int32 as in Keras."""
    x, axis = walk.plain(node.inputs[0]), node.argument(1, "axis")
    if type(axis) is not int:
        raise UnsupportedError(f"axis={axis!r}"[:80])
    keeps = node.options.flag("keepdims")
    rank = x.rank if keeps else x.rank - 1
    found = walk.emit("ArgMax", [x.value], identity(rank), axis=x.positive(axis), keepdims=int(keeps))
    return walk.same("Cast", found, to=6)


@operator("Unstack", "unstack")
def unstack(walk: Walk, node: LayerNode) -> list[Held]:
    """The parts of one axis, without it."""
    x = _plain(walk, node.inputs[0])
    axis = x.positive(node.options.get("axis", 0))
    count = x.size(axis, node.name)
    if count > 1024:
        raise UnsupportedError(f"{count} parts")
    values = walk.writer.nodes(
        "Split", [x.value], f"{node.name}/split", count=count, axis=x.axis(axis), num_outputs=count
    )
    return [dropped(walk, Held(value, x.order), [axis]) for value in values]
