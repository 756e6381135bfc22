"""Ops that pick elements by index."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Symbol, numpy_op, op


@op("Gather")
def gather(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.take``; negative indices count from the end."""
    axis = walk.axis(node, walk.rank(node.required(0)))
    data, indices = walk.args(node)
    return numpy_op("take", data, indices, axis=axis, mode="wrap", name=node.name)
