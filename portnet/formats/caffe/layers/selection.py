"""Softmax and ArgMax."""

from __future__ import annotations

import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe


@caffe("Softmax")
def softmax(layer: Layer) -> ir.Value:
    """Softmax along ``axis``, by default the channels."""
    return layer.node("Softmax", [layer.x], axis=layer.axis(layer.options("softmax_param").integer("axis", 1)))


@caffe("ArgMax")
def argmax(layer: Layer) -> ir.Value:
    """Indices, as floats, of the ``top_k`` largest along ``axis``, or their values; without an axis, over all."""
    options = layer.options("argmax_param")
    wants_values, count = options.flag("out_max_val", False), options.integer("top_k", 1)
    if "axis" not in options:
        return _over_all(layer, count, wants_values)
    axis = layer.axis(options.integer("axis", 1))
    if not 1 <= count <= layer.size(axis):
        raise NotExpressible(f"of {count} along axis {axis}")
    if wants_values:
        return _top(layer, layer.x, count, axis)[0]
    if count == 1:
        indices = layer.node("ArgMax", [layer.x], "indices", axis=axis, keepdims=1)
    else:
        indices = _top(layer, layer.x, count, axis, "top")[1]
    return layer.node("Cast", [indices], to=ir.DataType.FLOAT.value)


def _over_all(layer: Layer, count: int, wants_values: bool) -> ir.Value:
    """Return (N, 1, top_k) of indices, or (N, 2, top_k) of indices and values."""
    flat = layer.node("Flatten", [layer.x], "flatten", axis=1)
    values, indices = _top(layer, flat, count, 1, "top")
    rows = layer.node("Cast", [indices], "indices", to=ir.DataType.FLOAT.value)
    axis = layer.ints([1], "axis")
    if not wants_values:
        return layer.node("Unsqueeze", [rows, axis])
    pair = [layer.node("Unsqueeze", [x, axis], what) for x, what in ((rows, "rows"), (values, "values"))]
    return layer.node("Concat", pair, axis=1)


def _top(layer: Layer, x: ir.Value, count: int, axis: int, what: str = "") -> tuple[ir.Value, ir.Value]:
    name = f"{layer.name}/{what}" if what else layer.name
    values, indices = layer.graph.nodes("TopK", [x, layer.ints([count], "k")], name, count=2, axis=axis)
    return values, indices
