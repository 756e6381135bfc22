"""Matrix products."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from portnet.graph.lowering import NodeView
from portnet_torch.binding import PLAIN, TRANSPOSED, Layout
from portnet_torch.functional import linear
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import Walk, op


@op("Gemm")
def _gemm(walk: Walk, node: NodeView) -> Any:
    a, weight, bias = node.required(0), node.required(1), node.input(2)
    alpha, beta = shortest(node["alpha"]), shortest(node["beta"])
    x = walk.value(a)
    x = walk.method("t", x) if node["transA"] else x
    shape = walk.static_shape(weight)
    if (alpha, beta) == (1.0, 1.0) and walk.adoptable(weight, bias) and _is_row(walk, bias, shape, node["transB"]):
        outs, ins = shape if node["transB"] else reversed(shape)
        layer = nn.Linear(ins, outs, bias=bias is not None, device="meta")
        rows = Layout(lambda b: [b.reshape(-1)], lambda t: t[0].reshape(walk.static_shape(bias)))
        weights = {"weight": (weight, PLAIN if node["transB"] else TRANSPOSED), "bias": (bias, rows)}
        return walk.adopt(layer, node, weights, x)
    matrix, addend = walk.value(weight), walk.optional(bias)
    return walk.call(linear.gemm, x, walk.method("t", matrix) if node["transB"] else matrix, addend, alpha, beta)


def _is_row(walk: Walk, bias: ir.Value | None, shape: Any, transposed: bool) -> bool:
    if bias is None:
        return True
    sizes = walk.static_shape(bias)
    outs = shape[0] if transposed else shape[1]
    return sizes is not None and len(sizes) >= 1 and sizes[-1] == outs and set(sizes[:-1]) <= {1}


@op("MatMul")
def _matmul(walk: Walk, node: NodeView) -> Any:
    a, b = node.required(0), node.required(1)
    shape = walk.static_shape(b)
    if shape is not None and len(shape) == 2 and a.shape is not None and len(a.shape) >= 1 and walk.adoptable(b):
        layer = nn.Linear(*shape, bias=False, device="meta")
        return walk.adopt(layer, node, {"weight": (b, TRANSPOSED)}, walk.value(a))
    return walk.call(linear.matmul, walk.value(a), walk.value(b))


@op("Einsum")
def _einsum(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.einsum, node["equation"].replace(" ", ""), *walk.inputs(node))
