"""InnerProduct and Embed."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe


@caffe("InnerProduct")
def inner_product(layer: Layer) -> ir.Value:
    """Gemm on what is flattened from ``axis`` on; arrays (num_output, features), or transposed, and (num_output)."""
    options = layer.options("inner_product_param")
    axis, outputs = layer.axis(options.integer("axis", 1)), options.integer("num_output", 0)
    is_transposed = options.flag("transpose", False)
    if axis == 0 or outputs < 1 or layer.tops != 1:
        raise NotExpressible(f"from axis {axis} on to {outputs}")
    before, features = layer.sizes[:axis], math.prod(layer.size(a) for a in range(axis, len(layer.sizes)))
    shape = (features, outputs) if is_transposed else (outputs, features)
    inputs = [_rows(layer, axis, features), layer.weight("weight", 0, shape, filler=options.message("weight_filler"))]
    if options.flag("bias_term", True):
        inputs.append(layer.weight("bias", 1, (outputs,), filler=options.message("bias_filler")))
    transposed = None if is_transposed else 1
    if axis == 1:
        return layer.node("Gemm", inputs, transB=transposed)
    y = layer.node("Gemm", inputs, "rows", transB=transposed)
    return layer.reshape(y, [-1, *(layer.size(a) for a in range(1, len(before))), outputs])


def _rows(layer: Layer, axis: int, features: int) -> ir.Value:
    if axis == 1:
        return layer.x if len(layer.sizes) == 2 else layer.node("Flatten", [layer.x], "flatten", axis=1)
    return layer.reshape(layer.x, [-1, features], "flatten")


@caffe("Embed")
def embed(layer: Layer) -> ir.Value:
    """Gather of rows of (input_dim, num_output), by indices that Caffe keeps as floats; and a bias."""
    options = layer.options("embed_param")
    rows, outputs = options.integer("input_dim", 0), options.integer("num_output", 0)
    table = layer.weight("weight", 0, (rows, outputs), filler=options.message("weight_filler"))
    indices = layer.node("Cast", [layer.x], "indices", to=ir.DataType.from_numpy(np.dtype(np.int64)).value)
    if not options.flag("bias_term", True):
        return layer.node("Gather", [table, indices])
    found = layer.node("Gather", [table, indices], "gather")
    return layer.node("Add", [found, layer.weight("bias", 1, (outputs,), filler=options.message("bias_filler"))])
