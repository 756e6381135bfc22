"""Matrix products."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from portnet.graph.lowering import NodeView
from portnet.graph.turned import turned_weight
from portnet_torch.bare import bare
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
        layer = bare(nn.Linear, ins, outs, bias=bias is not None)
        weights = {"weight": (weight, PLAIN if node["transB"] else TRANSPOSED), "bias": (bias, _rows(walk, bias))}
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
    shape, turned = walk.static_shape(b), turned_weight(walk, b)
    if turned is not None:
        rows, columns = turned.const_value.shape.numpy()  # type: ignore[union-attr]
        shape = columns, rows
    elif shape is None or len(shape) != 2 or not a.shape or not walk.adoptable(b):
        return walk.call(torch.matmul, walk.value(a), walk.value(b))
    bias = _bias_after(walk, node, len(a.shape or ()), shape)
    layer = bare(nn.Linear, shape[0], shape[1], bias=bias is not None)
    weight = (b, TRANSPOSED) if turned is None else (turned, PLAIN)
    return walk.adopt(layer, node, {"weight": weight, "bias": (bias, _rows(walk, bias))}, walk.value(a))


def _bias_after(walk: Walk, node: NodeView, rank: int, shape: Any) -> ir.Value | None:
    """Return the bias that the one reader of a MatMul adds, now absorbed, or None where there is no such thing."""
    product = node.outputs[0]
    if not walk.is_exclusive(product) or not walk.is_exclusive(node.required(1)):
        return None
    [(add, place)] = product.uses()
    if add.op_type != "Add" or add.graph is not node.ir.graph:
        return None
    bias = add.inputs[1 - place]
    if bias is None or not walk.is_exclusive(bias) or not walk.adoptable(bias) or not _is_row(walk, bias, shape, False):
        return None
    if len(walk.static_shape(bias) or ()) > rank or not walk.roles[bias.name or ""].trainable:
        return None
    walk.absorbed.add(add)
    return bias


def _rows(walk: Walk, bias: ir.Value | None) -> Layout:
    """Return the layout of a bias that may have leading axes of size 1."""
    return Layout(lambda array: [array.reshape(-1)], lambda tensors: tensors[0].reshape(walk.static_shape(bias)))


@op("Einsum")
def _einsum(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.einsum, node["equation"].replace(" ", ""), *walk.inputs(node))
