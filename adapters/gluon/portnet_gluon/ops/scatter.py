"""Ops that put updates at places of a tensor."""

from __future__ import annotations

import functools
import math
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import size_of
from portnet_gluon.ops.index import element_places, tuple_places
from portnet_gluon.ops.registry import Symbol, numpy_op, op

# scattering has no kernel for these
_BYTES_AS_INTEGERS = {"bool": "int32", "uint8": "int32", "int8": "int32"}

# most updates that are put in one after the other
_MAX_STEPS = 256


@op("ScatterElements", "Scatter", instead=_BYTES_AS_INTEGERS)
def scatter_elements(walk: Any, node: NodeView) -> Symbol:
    """Data with some elements replaced, or reduced with updates."""
    return _scatter(walk, node, element_places(walk, node), walk.static_shape(node.required(1)))


@op("ScatterND", instead=_BYTES_AS_INTEGERS)
def scatter_nd(walk: Any, node: NodeView) -> Symbol:
    """Data with some slices replaced, or reduced with updates."""
    return _scatter(walk, node, tuple_places(walk, node), walk.static_shape(node.required(1))[:-1])


# reduction -> function of what is there and what comes
_REDUCTIONS = {
    "add": mx.sym.broadcast_add,
    "mul": mx.sym.broadcast_mul,
    "max": mx.sym.broadcast_maximum,
    "min": mx.sym.broadcast_minimum,
}


def _scatter(walk: Any, node: NodeView, places: list[Symbol], counts: tuple[int | None, ...]) -> Symbol:
    """Scatter at places on the first axes of the data, of which each has the sizes ``counts``."""
    data, shape = walk.value(node.required(0)), walk.static_shape(node.required(0))
    new, reduction = walk.value(node.required(2)), node.get("reduction", "none")
    places = [_inside(walk, node, place, axis) for axis, place in enumerate(places)]
    if reduction == "add" and None not in shape:
        # the gradient of gather_nd adds up what falls on one place
        coordinates = mx.sym.stack(*places, axis=0)
        return mx.sym.elemwise_add(data, mx.sym._internal._backward_gather_nd(new, coordinates, shape=shape))
    rows, at = _joined(data, len(places)), _joined(_row(walk, node, places), len(counts))
    updates = _joined(new, len(counts))
    if reduction == "none":
        return mx.sym.reshape_like(mx.sym.contrib.index_copy(rows, at, updates), data)
    if None in counts or math.prod(counts) > _MAX_STEPS:  # type: ignore[arg-type]
        raise walk.unsupported(f"reduction: got {reduction} of {counts} updates, expected at most {_MAX_STEPS}")
    for i in range(math.prod(counts)):  # type: ignore[arg-type]
        # several may fall on one place
        one, update = (mx.sym.slice_axis(x, axis=0, begin=i, end=i + 1) for x in (at, updates))
        there = numpy_op("take", rows, one, axis=0, mode="clip")
        rows = mx.sym.contrib.index_copy(rows, one, _REDUCTIONS[reduction](there, update))
    return mx.sym.reshape_like(rows, data)


def _inside(walk: Any, node: NodeView, place: Symbol, axis: int) -> Symbol:
    """Clip places to an axis: MXNet would write beyond the array."""
    size = size_of(walk, node.required(0), axis)
    if isinstance(size, int):
        return mx.sym.maximum(mx.sym.minimum(place, size - 1), 0)
    return mx.sym.maximum(mx.sym.broadcast_minimum(place, walk.size(size - 1, f"{node.name}_last{axis}")), 0)


def _joined(x: Symbol, count: int) -> Symbol:
    """Return x with its first ``count`` axes in one."""
    if count == 0:
        return mx.sym.expand_dims(x, axis=0)
    return functools.reduce(lambda joined, _: mx.sym.reshape(joined, shape=(-3, -2)), range(count - 1), x)


def _row(walk: Any, node: NodeView, places: list[Symbol]) -> Symbol:
    """Return the place on all the first axes of the data in one."""
    row = places[0]
    for axis, place in enumerate(places[1:], start=1):
        size = size_of(walk, node.required(0), axis)
        steps = (
            row * size if isinstance(size, int) else mx.sym.broadcast_mul(row, walk.size(size, f"{node.name}_{axis}"))
        )
        row = mx.sym.elemwise_add(steps, place)
    return row
