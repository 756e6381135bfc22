"""Resize of an axis whose size, or whose new size, is free: places and weights are computed while the network runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import counted
from portnet_gluon.ops.registry import Symbol, cast, numpy_op

__all__ = ["FreeAxis", "resized_free"]


@dataclass(frozen=True)
class FreeAxis:
    """How one axis is resized.

    Attributes:
        index: which axis.
        size: its size, a number or a symbol.
        target: its new size, likewise; None where it follows from ``scale``.
        scale: new size over old; None where it follows from ``target``.
    """

    index: int
    size: Any
    target: Any
    scale: float | None


# coordinate_transformation_mode -> place in the input of output cells, by cell, size and new size before it is rounded
_PLACES: dict[str, Callable[[Symbol, Symbol, Symbol], Symbol]] = {
    "half_pixel": lambda cell, size, length: _over((cell + 0.5), size, length) - 0.5,
    "pytorch_half_pixel": lambda cell, size, length: _over((cell + 0.5), size, length) - 0.5,
    "align_corners": lambda cell, size, length: _over(cell, size - 1, mx.sym.maximum(length - 1, 1e-9)),
    "asymmetric": lambda cell, size, length: _over(cell, size, length),
}


def _over(cell: Symbol, size: Symbol, length: Symbol) -> Symbol:
    return mx.sym.broadcast_div(mx.sym.broadcast_mul(cell, size), length)


def resized_free(walk: Any, node: NodeView, x: Symbol, rank: int, axis: FreeAxis) -> Symbol:
    """Return x resized along one axis.

    Raises:
        UnsupportedError: by a mode, or to a size, that needs numbers.
    """
    coordinates = node.get("coordinate_transformation_mode", "asymmetric")
    if coordinates not in _PLACES or node["mode"] == "cubic" or node.get("antialias", 0):
        raise walk.unsupported(f"axis {axis.index}: its size is free, and the mode is {node['mode']}, {coordinates}")
    size = cast(walk.size(axis.size, f"{node.name}.size"), "float64")
    target, length = _target(walk, node, axis, size)
    places = _PLACES[coordinates](counted(walk, target, dtype="float64"), size, length)
    if node["mode"] == "nearest":
        return _taken(x, _ROUNDINGS[node.get("nearest_mode", "floor")](places), axis.index)
    base = mx.sym.floor(places)
    share = cast(
        mx.sym.reshape(places - base, shape=[1] * axis.index + [-1] + [1] * (rank - axis.index - 1)), "float32"
    )
    before, after = _taken(x, base, axis.index), _taken(x, base + 1, axis.index)
    return mx.sym.broadcast_mul(before, 1 - share) + mx.sym.broadcast_mul(after, share)


_ROUNDINGS: dict[str, Callable[[Symbol], Symbol]] = {
    "round_prefer_floor": lambda x: mx.sym.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: mx.sym.floor(x + 0.5),
    "floor": mx.sym.floor,
    "ceil": mx.sym.ceil,
}


def _taken(x: Symbol, places: Symbol, axis: int) -> Symbol:
    return numpy_op("take", x, cast(places, "int64"), axis=axis, mode="clip")


def _target(walk: Any, node: NodeView, axis: FreeAxis, size: Symbol) -> tuple[Any, Symbol]:
    """Return the new size, and what it was before it was rounded down, as a tensor."""
    if axis.scale is None:
        return axis.target, cast(walk.size(axis.target, f"{node.name}.target"), "float64")
    share = Fraction(axis.scale).limit_denominator(1024)
    if abs(float(share) - axis.scale) > 1e-6:
        raise walk.unsupported(f"axis {axis.index}: its size is free, and the scale is {axis.scale}")
    return axis.size * share.numerator // share.denominator, size * axis.scale
