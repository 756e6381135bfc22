"""Padding and cutting of an axis by widths that are computed while the network runs."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import counted
from portnet_gluon.ops.registry import Symbol, numpy_op

__all__ = ["placed"]


def placed(
    walk: Any,
    node: NodeView,
    x: Symbol,
    *,
    rank: int,
    axis: int,
    sizes: tuple[Any, Any, Any],
    mode: str = "constant",
    fill: Any = 0.0,
) -> Symbol:
    """Return an axis of another length, on which what is there begins at a place.

    Args:
        walk: the walk.
        node: the node that pads.
        x: data of ``rank`` axes, not of truths.
        rank: number of axes.
        axis: which one.
        sizes: the axis's own size, the place (negative where what comes before is cut off) and the new size; numbers
            or symbolic.
        mode: ONNX's name of what stands outside.
        fill: of the mode "constant", what stands outside.

    Raises:
        UnsupportedError: the new size is computed in a way that lengths do not follow.
    """
    own, begin, length = sizes
    size, first = (walk.size(n, f"{node.name}_{role}{axis}") for n, role in ((own, "size"), (begin, "begin")))
    places = mx.sym.broadcast_sub(counted(walk, length), first)
    taken = numpy_op("take", x, _PLACES[mode](places, size), axis=axis, mode="clip")
    if mode != "constant":
        return taken
    inside = mx.sym.elemwise_mul(places >= 0, mx.sym.broadcast_lesser(places, size))
    column = mx.sym.reshape(inside, shape=[1] * axis + [-1] + [1] * (rank - axis - 1))
    return numpy_op("where", column, taken, _number_like(taken, rank, fill))


def _number_like(x: Symbol, rank: int, number: Any) -> Symbol:
    """Return a number of the element type of x, of as many axes."""
    for axis in range(rank):
        x = mx.sym.slice_axis(x, axis=axis, begin=0, end=1)
    return mx.sym.zeros_like(x) + number


def _mirrored(places: Symbol, size: Symbol) -> Symbol:
    period = mx.sym.maximum((size - 1) * 2, 1)
    turn = mx.sym.broadcast_mod(places, period)
    return mx.sym.minimum(turn, mx.sym.broadcast_sub(period, turn))


# mode -> which places of the data stand at places, of which some lie outside; those that do are clipped
_PLACES = {
    "constant": lambda places, size: places,
    "edge": lambda places, size: places,
    "reflect": _mirrored,
    "wrap": mx.sym.broadcast_mod,
}
