"""Reductions along axes, in whatever order the axes lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue
from portnet_keras.operation import operation
from portnet_keras.ops.elementwise import is_integer
from portnet_keras.ops.registry import op

__all__ = ["reduced"]

_SMALL = {"int8", "uint8", "int16", "uint16", "uint32", "bool"}


def reduced(x: KValue, data: Any, axes: list[int], keepdims: bool) -> KValue:
    """Return the result of reducing ``x`` over ONNX ``axes``, with the order that remains."""
    if keepdims:
        return KValue(data, x.order)
    rest = [axis for axis in x.order if axis not in axes]
    return KValue(data, tuple(sorted(rest).index(axis) for axis in rest))


def _axes(walk: Any, node: NodeView, x: KValue) -> list[int] | None:
    """ONNX axes to reduce, or None for no reduction at all."""
    found = [] if node.input(1) is None else walk.host_ints(node.input(1))
    if not found:
        return None if node.get("noop_with_empty_axes", 0) else list(range(x.rank))
    return [x.order[x.axis(axis)] for axis in found]


def _reduction(name: str, function: Callable[..., Any], before: Callable[[Any], Any] = lambda x: x) -> None:
    @op(name)
    def build(walk: Any, node: NodeView) -> KValue:
        x = walk.value(node.required(0))
        axes = _axes(walk, node, x)
        if axes is None:
            # the standard's no-op skips the reduction, not what surrounds it
            return replace(x, data=function(ops.expand_dims(before(x.data), 0), axis=(0,), keepdims=False))
        keepdims = bool(node["keepdims"])
        where = tuple(x.axis(axis) for axis in axes)
        return reduced(x, function(before(x.data), axis=where, keepdims=keepdims), axes, keepdims)


def _widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Reduce small integers in 64 bits; the walk casts back."""
    return lambda x, **keywords: function(ops.cast(x, "int64") if _name(x) in _SMALL else x, **keywords)


def _name(x: Any) -> str:
    return str(keras.backend.standardize_dtype(x.dtype))


def _extremum(function: Callable[..., Any], empty: bool) -> Callable[..., Any]:
    """Largest or smallest entry; for booleans any or all, which know what an empty set gives."""
    logical = ops.all if empty else ops.any
    return lambda x, **keywords: (logical if _name(x) == "bool" else _widened(function))(x, **keywords)


def _mean(x: Any, **keywords: Any) -> Any:
    if not is_integer(x):
        return ops.mean(x, **keywords)
    ones = ops.sum(ops.ones_like(x, dtype="int64"), **keywords)
    return ops.floor_divide(ops.sum(ops.cast(x, "int64"), **keywords), ones)


def _l2(x: Any, **keywords: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(x), **keywords))


def _logsumexp(x: Any, **keywords: Any) -> Any:
    return ops.logsumexp(ops.cast(x, "float64") if is_integer(x) else x, **keywords)


_reduction("ReduceSum", _widened(ops.sum))
_reduction("ReduceMean", _mean)
_reduction("ReduceProd", _widened(ops.prod))
_reduction("ReduceMax", _extremum(ops.max, False))
_reduction("ReduceMin", _extremum(ops.min, True))
_reduction("ReduceL1", _widened(ops.sum), ops.abs)
_reduction("ReduceSumSquare", _widened(ops.sum), ops.square)
_reduction("ReduceL2", _l2)
_reduction("ReduceLogSum", lambda x, **keywords: ops.log(ops.sum(x, **keywords)))
_reduction("ReduceLogSumExp", _logsumexp)


@operation
def unsigned_zeros(x: Any) -> Any:
    """Zeros of one sign: Keras takes -0 for less than 0 where it looks for the largest."""
    return ops.where(ops.equal(x, 0), ops.zeros_like(x), x)


def _arg(name: str, function: Callable[..., Any]) -> None:
    @op(name)
    def build(walk: Any, node: NodeView) -> KValue:
        x = walk.value(node.required(0))
        axis, keepdims = x.axis(node["axis"]), bool(node["keepdims"])
        is_float = "float" in keras.backend.standardize_dtype(x.data.dtype)
        data = walk.apply(unsigned_zeros, node, x.data) if is_float else x.data
        if node["select_last_index"]:
            turned = ops.cast(function(ops.flip(data, axis=axis), axis=axis, keepdims=keepdims), "int64")
            index = ops.subtract(data.shape[axis] - 1, turned)
        else:
            index = ops.cast(function(data, axis=axis, keepdims=keepdims), "int64")
        return reduced(x, index, [x.order[axis]], keepdims)


_arg("ArgMax", ops.argmax)
_arg("ArgMin", ops.argmin)


@op("CumSum")
def cumsum(walk: Any, node: NodeView) -> KValue:
    """Running sum along an axis, from either end, with or without the entry itself."""
    x = walk.value(node.required(0))
    axis = x.axis(int(walk.host(node.input(1)).item()))
    data = ops.flip(x.data, axis=axis) if node["reverse"] else x.data
    if node["exclusive"]:
        widths = [(0, 0)] * x.rank
        widths[axis] = (1, 0)
        keep = [slice(None)] * x.rank
        keep[axis] = slice(None, -1)
        data = ops.pad(data, widths)[tuple(keep)]
    data = ops.cumsum(data, axis=axis)
    return replace(x, data=ops.flip(data, axis=axis) if node["reverse"] else data)
