"""Sums, means and extremes over axes. Where every axis goes, MXNet's result has the shape (1,)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, Refused, op

_REDUCTIONS = {
    **dict.fromkeys(("sum", "sum_axis"), "ReduceSum"),
    **dict.fromkeys(("max", "max_axis"), "ReduceMax"),
    **dict.fromkeys(("min", "min_axis"), "ReduceMin"),
    **{"mean": "ReduceMean", "prod": "ReduceProd"},
}


@cache
def _reduction(target: str) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        return _reduced(layer, target)

    return build


for _name, _target in _REDUCTIONS.items():
    op(_name)(_reduction(_target))


@op("norm")
def norm(layer: Layer) -> ir.Value:
    layer.attributes.ignore("out_dtype")
    order = layer.attributes.integer("ord", 2)
    if order not in (1, 2):
        raise Refused(f"ord={order}")
    return _reduced(layer, f"ReduceL{order}")


def _reduced(layer: Layer, target: str) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    rank, keep = layer.rank(x), get.flag("keepdims", False)
    axes = _axes(layer, rank)
    if len(axes) == rank and not keep:
        total = layer.step(target, [x, layer.ints(axes, "axes")], "all", keepdims=1)
        return layer.final("Reshape", [total, layer.ints([1], "shape")])
    return layer.final(target, [x, layer.ints(axes, "axes")], keepdims=int(keep))


def _axes(layer: Layer, rank: int) -> list[int]:
    given = layer.attributes.integers("axis")
    named = {layer.axis(axis, rank) for axis in given}
    if len(named) != len(given):
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got axes {given}, one of them twice")
    if layer.attributes.flag("exclude", False):
        return [axis for axis in range(rank) if axis not in named] if given else list(range(rank))
    return sorted(named) or list(range(rank))


@cache
def _extreme_place(target: str) -> Callable[[Layer], ir.Value]:
    def build(layer: Layer) -> ir.Value:
        """The place of the first extreme, as a float."""
        x = layer.value(0)
        rank, keep = layer.rank(x), layer.attributes.flag("keepdims", False)
        axis = layer.attributes.maybe_integer("axis")
        if layer.op == "argmax_channel":
            axis = 1
        if axis is None:
            x, axis, keep = layer.step("Reshape", [x, layer.ints([-1], "flat")], "whole"), 0, True
            rank = 1
        place = layer.step(target, [x], "place", axis=layer.axis(axis, rank), keepdims=int(keep))
        dtype = x.dtype or ir.DataType.FLOAT
        return layer.final("Cast", [place], to=dtype.value)

    return build


op("argmax", "argmax_channel")(_extreme_place("ArgMax"))
op("argmin")(_extreme_place("ArgMin"))
