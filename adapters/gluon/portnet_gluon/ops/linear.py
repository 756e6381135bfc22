"""Matrix products; weights stay in ONNX's layout."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import INTEGERS_AS_DOUBLE, Symbol, numpy_op, op


@op("Gemm", instead=INTEGERS_AS_DOUBLE)
def gemm(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.FullyConnected`` for a dense layer (transB, no scaling, bias of a row), else products and sums."""
    a, b, c = node.required(0), node.required(1), node.input(2)
    if _is_dense(walk, node):
        bias = [] if c is None else [walk.value(c)]
        units = walk.sizes(b)[0]
        return mx.sym.FullyConnected(
            walk.value(a), walk.value(b), *bias, num_hidden=units, no_bias=c is None, name=node.name
        )
    product = mx.sym.dot(
        walk.value(a), walk.value(b), transpose_a=bool(node["transA"]), transpose_b=bool(node["transB"])
    )
    scaled = product if node["alpha"] == 1 else product * node["alpha"]
    if c is None or node["beta"] == 0:
        return scaled
    addend = walk.value(c) if node["beta"] == 1 else walk.value(c) * node["beta"]
    return mx.sym.broadcast_add(scaled, addend, name=node.name)


def _is_dense(walk: Any, node: NodeView) -> bool:
    c = node.input(2)
    row = c is None or (c.shape is not None and len(c.shape) == 1 and walk.static_shape(c)[0] == _units(walk, node))
    return bool(node["transB"]) and not node["transA"] and node["alpha"] == 1 and node["beta"] == 1 and row


def _units(walk: Any, node: NodeView) -> int | None:
    shape = walk.static_shape(node.required(1))
    return None if shape is None else shape[0]


@op("MatMul", instead=INTEGERS_AS_DOUBLE)
def matmul(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.dot`` by a matrix, numpy's matmul elsewhere."""
    a, b = walk.args(node)
    if walk.rank(node.required(1)) == 2 and walk.rank(node.required(0)) >= 2:
        return mx.sym.dot(a, b, name=node.name)
    return numpy_op("matmul", a, b, name=node.name)


@op("Einsum", instead=INTEGERS_AS_DOUBLE)
def einsum(walk: Any, node: NodeView) -> Symbol:
    """numpy's einsum."""
    return numpy_op("einsum", *walk.args(node), subscripts=node["equation"].replace(" ", ""), optimize=0)


@op("Det")
def determinant(walk: Any, node: NodeView) -> Symbol:
    """numpy's determinant."""
    return numpy_op("det", walk.value(node.required(0)), name=node.name)
