"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import BOOL_AS_BYTES, Builder, Symbol, numpy_op, op

_REDUCTIONS = {
    "ReduceSum": mx.sym.sum,
    "ReduceMean": mx.sym.mean,
    "ReduceMax": mx.sym.max,
    "ReduceMin": mx.sym.min,
    "ReduceProd": mx.sym.prod,
}


def _reduction(function: Callable[..., Symbol]) -> Builder:
    def builder(walk: Any, node: NodeView) -> Symbol:
        axes: list[int] = [] if node.input(1) is None else walk.host_ints(node.required(1))
        if not axes and node.get("noop_with_empty_axes", 0):
            return mx.sym.identity(walk.value(node.required(0)), name=node.name)
        x, keep = walk.value(node.required(0)), bool(node["keepdims"])
        if 0 in (walk.static_shape(node.required(0)) or ()):
            return walk.constant(node, "neutral", _of_nothing(walk, node))
        if keep or (axes and len(axes) < walk.rank(node.required(0))):
            return function(x, axis=tuple(axes), keepdims=keep, name=node.name)
        # the classic reductions know no 0-D result
        return numpy_op("reshape", function(x), newshape=(), name=node.name)

    return builder


for _name, _function in _REDUCTIONS.items():
    op(_name, instead=BOOL_AS_BYTES)(_reduction(_function))


def _of_nothing(walk: Any, node: NodeView) -> np.ndarray:
    """Return the reduction of no elements at all."""
    dtype = np.dtype(walk.dtype(node.outputs[0]))
    return np.full(walk.sizes(node.outputs[0]), _NEUTRAL[node.op](dtype), dtype)


def _end(dtype: np.dtype, side: int) -> Any:
    if dtype.kind == "f":
        return side * np.inf
    if dtype.kind == "b":
        return side > 0
    return np.iinfo(dtype).max if side > 0 else np.iinfo(dtype).min


_NEUTRAL: dict[str, Callable[[np.dtype], Any]] = {
    "ReduceSum": lambda dtype: 0,
    "ReduceProd": lambda dtype: 1,
    "ReduceMean": lambda dtype: np.nan,
    "ReduceMax": lambda dtype: _end(dtype, -1),
    "ReduceMin": lambda dtype: _end(dtype, 1),
}
