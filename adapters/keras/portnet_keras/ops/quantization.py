"""Linear quantisation, by scale and zero point of a tensor, an axis or a block."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, channels_last, identity
from portnet_keras.narrow import FLOATS, narrowed
from portnet_keras.ops.registry import op

__all__: list[str] = []

_RANGES = {
    "INT8": (-128, 127),
    "UINT8": (0, 255),
    "INT16": (-(2**15), 2**15 - 1),
    "UINT16": (0, 2**16 - 1),
    "INT4": (-8, 7),
    "UINT4": (0, 15),
    "INT2": (-2, 1),
    "UINT2": (0, 3),
}


def _spread(walk: Any, parameter: Any, x: Any, axis: int, block: int) -> Any:
    """Return a scale or zero point so that it broadcasts against the data."""
    rank = len(parameter.shape)
    if block:
        repeated = ops.repeat(parameter, block, axis=axis)
        return repeated[tuple(slice(0, n) for n in x.shape)]
    if rank == 0 or parameter.shape == (1,):
        return ops.reshape(parameter, ())
    if rank != 1:
        return parameter
    shape = [1] * len(x.shape)
    shape[axis] = parameter.shape[0]
    return ops.reshape(parameter, shape)


def _parameters(walk: Any, node: NodeView) -> tuple[KValue, Any, Any]:
    """Return the data, and scale and zero point so that they broadcast against it. Only blocks want ONNX's order."""
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    scale, zero = walk.plain(node.required(1)), walk.optional_plain(node.input(2))
    x = walk.value(node.required(0))
    if block or len(scale.shape) > 1 or x.packing is not None:
        x = KValue(walk.ordered(x, identity(x.rank)), identity(x.rank))
    place = x.axis(axis % x.rank) if x.rank else 0
    return x, *(None if p is None else _spread(walk, p, x.data, place, block) for p in (scale, zero))


@op("QuantizeLinear", transparent=True)
def quantize(walk: Any, node: NodeView) -> KValue:
    """Divide by the scale, round half to even, add the zero point, saturate."""
    x, scale, zero = _parameters(walk, node)
    return KValue(_quantized(walk, x.data, scale, zero, node.outputs[0].dtype or ir.DataType.UINT8), x.order)


def _quantized(walk: Any, x: Any, scale: Any, zero: Any, target: ir.DataType) -> Any:
    x = x if _is_float(x) else ops.cast(x, "float32")
    ratio = ops.divide(x, ops.cast(scale, x.dtype))
    if target.name in FLOATS:
        return narrowed(ratio, target)
    if target.name not in _RANGES:
        raise walk.unsupported(f"quantisation to {target.name.lower()}")
    steps = ops.cast(ops.round(ratio), "float32")
    steps = steps if zero is None else ops.add(steps, ops.cast(zero, "float32"))
    return ops.cast(ops.clip(steps, *_RANGES[target.name]), walk.dtype_name(target))


def _is_float(x: Any) -> bool:
    return "float" in str(keras.backend.standardize_dtype(x.dtype))


@op("DequantizeLinear", transparent=True)
def dequantize(walk: Any, node: NodeView) -> KValue:
    """Subtract the zero point and multiply by the scale."""
    x, scale, zero = _parameters(walk, node)
    return KValue(_dequantized(x.data, scale, zero), x.order)


def _dequantized(x: Any, scale: Any, zero: Any) -> Any:
    wide = "float32" if _is_float(x) else "int32"
    centred = ops.cast(x, wide)
    if zero is not None:
        centred = ops.subtract(centred, ops.cast(zero, wide))
    return ops.multiply(ops.cast(centred, scale.dtype), scale)


@op("QLinearMatMul")
def qlinear_matmul(walk: Any, node: NodeView) -> Any:
    """Product of quantised matrices, quantised again."""
    a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = (walk.plain(node.required(i)) for i in range(8))
    product = ops.matmul(_centred(a, a_zero, -2), _centred(b, b_zero, -1))
    rate = ops.multiply(_along(a_scale, a, -2), _along(b_scale, b, -1))
    real = ops.multiply(ops.cast(product, "float32"), ops.cast(rate, "float32"))
    return _quantized(walk, real, scale, zero, _zero_type(node))


def _zero_type(node: NodeView) -> ir.DataType:
    return node.required(7).dtype or node.outputs[0].dtype or ir.DataType.UINT8


def _along(parameter: Any, x: Any, axis: int) -> Any:
    if len(parameter.shape) != 1 or parameter.shape[0] == 1:
        return ops.reshape(parameter, ()) if len(parameter.shape) == 1 else parameter
    shape = [1] * len(x.shape)
    shape[axis] = parameter.shape[0]
    return ops.reshape(parameter, shape)


def _centred(x: Any, zero: Any, axis: int) -> Any:
    return ops.subtract(ops.cast(x, "int32"), ops.cast(_along(zero, x, axis), "int32"))


@op("ConvInteger", spatial=True)
def conv_integer(walk: Any, node: NodeView) -> KValue:
    """Convolution of integers, zero points taken off, exact in float64."""
    x, zero = walk.last(node.required(0)), walk.optional_plain(node.input(2))
    x = ops.cast(x, "float64") if zero is None else ops.subtract(ops.cast(x, "float64"), ops.cast(zero, "float64"))
    kernel = ops.cast(walk.plain(node.required(1)), "float64")
    kernel_zero = walk.optional_plain(node.input(3))
    if kernel_zero is not None:
        kernel = ops.subtract(kernel, ops.cast(_along(kernel_zero, kernel, 0), "float64"))
    return KValue(ops.cast(ops.round(_convolved(walk, node, x, kernel)), "int32"), channels_last(len(x.shape)))


def _convolved(walk: Any, node: NodeView, x: Any, kernel: Any) -> Any:
    from portnet_keras.ops.convolution import convolved

    order = (*range(2, len(x.shape)), 1, 0)
    kernel = np.transpose(kernel, order) if isinstance(kernel, np.ndarray) else ops.transpose(kernel, order)
    return convolved(walk, node, x, kernel)


@op("QLinearConv", spatial=True)
def qlinear_conv(walk: Any, node: NodeView) -> KValue:
    """Convolution of quantised tensors, quantised again."""
    x = ops.cast(walk.last(node.required(0)), "float64")
    x_scale, x_zero, w, w_scale, w_zero, scale, zero = (walk.plain(node.required(i)) for i in range(1, 8))
    x = ops.subtract(x, ops.cast(x_zero, "float64"))
    kernel = ops.subtract(ops.cast(w, "float64"), ops.cast(_along(w_zero, w, 0), "float64"))
    total = _convolved(walk, node, x, kernel)
    bias = walk.optional_plain(node.input(8))
    total = total if bias is None else ops.add(total, ops.cast(bias, "float64"))
    rate = ops.multiply(ops.cast(x_scale, "float64"), ops.cast(_along(w_scale, total, -1), "float64"))
    real = ops.cast(ops.multiply(total, rate), "float32")
    return KValue(_quantized(walk, real, scale, zero, _zero_type(node)), channels_last(len(x.shape)))
