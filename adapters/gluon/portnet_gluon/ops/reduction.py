"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Builder, Symbol, op

_REDUCTIONS = {
    "ReduceSum": mx.sym.sum,
    "ReduceMean": mx.sym.mean,
    "ReduceMax": mx.sym.max,
    "ReduceMin": mx.sym.min,
    "ReduceProd": mx.sym.prod,
}


def _reduction(function: Callable[..., Symbol]) -> Builder:
    def builder(walk: Any, node: NodeView) -> Symbol:
        axes = [] if node.input(1) is None else walk.host_ints(node.required(1))
        if not axes and node.get("noop_with_empty_axes", 0):
            return mx.sym.identity(walk.value(node.required(0)), name=node.name)
        return function(walk.value(node.required(0)), axis=tuple(axes), keepdims=bool(node["keepdims"]), name=node.name)

    return builder


for _name, _function in _REDUCTIONS.items():
    op(_name)(_reduction(_function))
