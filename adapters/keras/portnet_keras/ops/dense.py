"""Matrix products: Dense layers where the right factor is a weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet.graph.turned import turned_weight
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, Layout, Packing, identity
from portnet_keras.ops.broadcast import add
from portnet_keras.ops.registry import op

__all__ = ["feeds_only_dense"]

# what may stand between a Flatten and the dense layers that it feeds
_BETWEEN = {"Dropout", "Identity", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip"}


def feeds_only_dense(walk: Any, value: ir.Value) -> bool:
    """Whether only dense layers read a flattened map, so that their kernels can follow its order."""
    uses = list(value.uses())
    return bool(uses) and not value.is_graph_output() and all(_is_dense(walk, use.node, use.idx) for use in uses)


def _is_dense(walk: Any, node: ir.Node, index: int) -> bool:
    if index:
        return False
    if node.op_type in _BETWEEN:
        return len(node.outputs) == 1 and feeds_only_dense(walk, node.outputs[0])
    if node.op_type not in ("Gemm", "MatMul") or not walk.claimable(node.inputs[1]):
        return False
    transposed = node.attributes.get("transA")
    return len(node.inputs[1].shape) == 2 and not (transposed and transposed.value)


def _kernel_layout(shape: tuple[int, ...], transposed: bool, packing: Packing | None) -> Layout:
    """Layout of a (K, N) or (N, K) weight as a Dense kernel (K, N) whose rows follow the input's packing."""
    sizes, order = (packing.sizes, packing.order) if packing else ((shape[transposed],), (0,))
    outputs = shape[not transposed]
    if transposed:
        split, perm = (outputs, *sizes), (*(axis + 1 for axis in order), 0)
    else:
        split, perm = (*sizes, outputs), (*order, len(order))
    return Layout.of(shape, perm, split=split, native=(shape[transposed], outputs))


def _dense(
    walk: Any, node: NodeView, x: KValue, transposed: bool, bias: ir.Value | None, kernel: ir.Value | None = None
) -> Any:
    kernel = node.required(1) if kernel is None else kernel
    shape = tuple(int(n) for n in kernel.const_value.shape)  # type: ignore[union-attr]
    units = shape[not transposed]
    options = {"use_bias": bias is not None, "kernel_initializer": "zeros"}
    layer = walk.layer(node, keras.layers.Dense, units, reads=[kernel, bias], **options)
    weights = {"kernel": (kernel, _kernel_layout(shape, transposed, x.packing))}
    if bias is not None:
        weights["bias"] = bias, Layout.of(tuple(bias.const_value.shape), native=(units,))  # type: ignore[union-attr]
    return walk.filled(layer, walk.symbolic(x.data if x.packing else walk.ordered(x, identity(x.rank))), weights)


def _is_bias(walk: Any, value: ir.Value | None, units: int) -> bool:
    if not walk.claimable(value):
        return False
    shape = tuple(value.const_value.shape)  # type: ignore[union-attr]
    return shape[-1:] == (units,) and set(shape[:-1]) <= {1} and value.dtype in _LAYER_TYPES  # type: ignore[union-attr]


_LAYER_TYPES = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}


@op("Gemm")
def gemm(walk: Any, node: NodeView) -> Any:
    """alpha · A · B + beta · C."""
    x, kernel, bias = walk.value(node.required(0)), node.required(1), node.input(2)
    alpha, beta = node["alpha"], node["beta"]
    if node["transA"] or not walk.claimable(kernel) or kernel.dtype not in _LAYER_TYPES:
        return _gemm_function(walk, node)
    transposed = bool(node["transB"])
    units = int(kernel.const_value.shape[not transposed])  # type: ignore[union-attr]
    if alpha == beta == 1 and _is_bias(walk, bias, units):
        return _dense(walk, node, x, transposed, bias)
    return _plus(walk, _scaled(_dense(walk, node, x, transposed, None), alpha), bias, beta)


def _gemm_function(walk: Any, node: NodeView) -> Any:
    a, b = walk.plain(node.required(0)), walk.plain(node.required(1))
    a = ops.transpose(a) if node["transA"] else a
    b = ops.transpose(b) if node["transB"] else b
    return _plus(walk, _scaled(_product(a, b), node["alpha"]), node.input(2), node["beta"])


def _plus(walk: Any, y: Any, bias: ir.Value | None, beta: float) -> Any:
    return y if bias is None or beta == 0 else add(y, _as_row(_scaled(walk.plain(bias), beta)))


def _as_row(bias: Any) -> Any:
    """Drop leading axes of size 1: TensorFlow fuses product and sum on some CPUs, and then takes a vector alone."""
    while len(bias.shape) > 1 and bias.shape[0] == 1:
        bias = ops.squeeze(bias, axis=0)
    return bias


def _scaled(x: Any, factor: float) -> Any:
    return x if factor == 1 else ops.multiply(x, np.array(factor, keras.backend.standardize_dtype(x.dtype)))


@op("MatMul")
def matmul(walk: Any, node: NodeView) -> Any:
    """Matrix product, batched as numpy's; by a weight matrix it is a Dense layer."""
    x, kernel = walk.value(node.required(0)), node.required(1)
    turned = turned_weight(walk, kernel)
    if turned is not None:
        return _dense(walk, node, x, True, _bias_after(walk, node, x.rank, int(turned.const_value.shape[0])), turned)
    is_matrix = walk.claimable(kernel) and len(kernel.const_value.shape) == 2 and kernel.dtype in _LAYER_TYPES  # type: ignore[union-attr]
    if is_matrix and x.rank >= 2:
        units = int(kernel.const_value.shape[1])  # type: ignore[union-attr]
        return _dense(walk, node, x, False, _bias_after(walk, node, x.rank, units))
    return _product(walk.plain(node.required(0)), walk.plain(kernel))


def _bias_after(walk: Any, node: NodeView, rank: int, units: int) -> ir.Value | None:
    """Return the bias that the one reader of a product adds, now absorbed, or None where there is no such thing."""
    product = node.outputs[0]
    reader = list(product.uses())
    if not walk.is_exclusive(product) or reader[0].node.op_type != "Add" or reader[0].node.graph is not node.ir.graph:
        return None
    bias = reader[0].node.inputs[1 - reader[0].idx]
    if not _is_bias(walk, bias, units) or len(bias.const_value.shape) > rank:
        return None
    walk.absorbed.add(reader[0].node)
    return bias


def _product(a: Any, b: Any) -> Any:
    """Multiply matrices; halves are summed in float32, as the standard's reference does."""
    if keras.backend.standardize_dtype(a.dtype) != "float16":
        return ops.matmul(a, b)
    return ops.cast(ops.matmul(ops.cast(a, "float32"), ops.cast(b, "float32")), "float16")
