"""onnxruntime's QLinearSoftmax in standard ops, with its roundings.

onnxruntime takes exponentials of the distances to the largest number from a table of float32, adds them up one after
the other, and rounds 1 / scale down (onnxruntime/contrib_ops/cpu/quantization/qlinear_softmax.cc). The quotient is one
of float64, as in its releases.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import NEWEST, Site, constant_array, python_attribute, static_dims

__all__ = ["quantized_softmax"]

_FLOAT, _DOUBLE = ir.DataType.FLOAT, ir.DataType.DOUBLE
_RANGES = {ir.DataType.UINT8: (0, 255), ir.DataType.INT8: (-128, 127)}
# attribute ``opset`` from which one axis is normalised, not all from an axis on
_ONE_AXIS = 13
# what onnxruntime keeps free above the sum of all exponentials, as a logarithm
_RESERVE = 5


def quantized_softmax(site: Site, node: ir.Node) -> ir.Value | None:
    """Return the quantized softmax, or None where the number of its entries, or a scale, is not known."""
    x, x_scale, _, y_scale, zero = [*node.inputs, None][:5]
    dims, step, unit = static_dims(x), _scale(x_scale), _scale(y_scale)
    if x is None or x.dtype not in _RANGES or not dims or not step or not unit:
        return None
    axis = python_attribute(node, "axis", -1) % len(dims)
    is_flat = python_attribute(node, "opset", 0) < _ONE_AXIS and axis < len(dims) - 1
    entries = [size or 0 for size in (dims[axis:] if is_flat else dims[axis : axis + 1])]
    if 0 in entries:
        return None
    table = _table(step, math.prod(entries))
    if is_flat:
        shares = _negative_shares(site, site.op("Flatten", x, axis=axis), 1, 2, table)
        return site.op("Reshape", _quantized(site, x, shares, unit, zero), site.op("Shape", x), allowzero=1)
    return _quantized(site, x, _negative_shares(site, x, axis, len(dims), table), unit, zero)


def _scale(value: ir.Value | None) -> float:
    """Return a constant scale, or 0 for what is none."""
    array = constant_array(value)
    number = float(array.item()) if array is not None and array.size == 1 else 0.0
    return number if 0 < number < math.inf else 0.0


def _quantized(site: Site, x: ir.Value, shares: ir.Value, unit: float, zero: ir.Value | None) -> ir.Value:
    """Return negative shares, quantized to the element type of x."""
    assert x.dtype is not None
    times = site.constant(-np.floor(np.float32(1) / np.float32(unit)).astype(np.float64), "times")
    result = site.op("Round", site.op("Mul", shares, times))
    if zero is not None:
        result = site.op("Add", result, site.op("Cast", zero, to=int(_DOUBLE)))
    ends = (site.constant(np.float64(end), "end") for end in _RANGES[x.dtype])
    return site.op("Cast", site.op("Clip", result, *ends), to=int(x.dtype))


def _table(scale: float, count: int) -> np.ndarray:
    """Return exponentials of the distances from -255 to 0, float32, as large as a sum of ``count`` lets them be."""
    room = np.log(np.finfo(np.float32).max / np.float32(count))  # in float32 as well
    shift = max(0.0, float(room) - _RESERVE) / scale
    return np.exp((np.arange(256) - 255 + shift) * scale).astype(np.float32)


def _negative_shares(site: Site, x: ir.Value, axis: int, rank: int, table: np.ndarray) -> ir.Value:
    """Return what each exponential has in the sum of all along an axis, times -1, float64."""
    wide, axes = site.op("Cast", x, to=int(_FLOAT)), site.ints([axis], "axis")
    below = site.op("Sub", wide, site.op("ReduceMax", wide, axes, keepdims=1))
    places = site.op("Cast", site.op("Add", below, site.constant(np.float32(255), "last")), to=int(ir.DataType.INT64))
    found = site.op("Gather", site.constant(-table, "exponentials"), places, axis=0)
    nothing = site.op("Mul", site.op("ReduceMax", found, axes, keepdims=0), site.constant(np.float32(0), "nothing"))
    body = _subtraction(site, rank - 1)
    total = site.op("Scan", nothing, found, body=body, num_scan_inputs=1, scan_input_axes=[axis])
    return site.op("Div", *(site.op("Cast", v, to=int(_DOUBLE)) for v in (found, site.op("Unsqueeze", total, axes))))


def _subtraction(site: Site, rank: int) -> ir.Graph:
    """Return the graph that takes an entry from a sum, rounded to float32 at each step.

    Entries are negative: an engine may add up a chain of additions in another order.
    """
    total, entry = (
        ir.Value(
            name=site.editor.fresh(f"{site.name}/{name}"), type=ir.TensorType(_FLOAT), shape=ir.Shape([None] * rank)
        )
        for name in ("total", "entry")
    )
    node = ir.node("Sub", [total, entry], name=f"{site.name}/sum/Sub", version=NEWEST)
    node.outputs[0].name = site.editor.fresh(f"{site.name}/sum")
    return ir.Graph([total, entry], node.outputs, nodes=[node], name=site.editor.fresh(f"{site.name}/sums"))
