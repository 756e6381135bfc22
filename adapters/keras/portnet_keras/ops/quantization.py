"""Linear quantisation, by scale and zero point of a tensor, an axis or a block."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, channels_last
from portnet_keras.ops.registry import op

__all__: list[str] = []

_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1)}


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


def _parameters(walk: Any, node: NodeView, x: Any) -> tuple[Any, Any]:
    axis, block = node.get("axis", 1), node.get("block_size", 0)
    axis = axis % len(x.shape) if x.shape else 0
    scale = _spread(walk, walk.plain(node.required(1)), x, axis, block)
    zero = walk.optional_plain(node.input(2))
    return scale, None if zero is None else _spread(walk, zero, x, axis, block)


@op("QuantizeLinear")
def quantize(walk: Any, node: NodeView) -> Any:
    """Divide by the scale, round half to even, add the zero point, saturate."""
    x = walk.plain(node.required(0))
    scale, zero = _parameters(walk, node, x)
    target = str(node.outputs[0].dtype.numpy()) if node.outputs[0].dtype is not None else "uint8"
    return _quantized(walk, x, scale, zero, target)


def _quantized(walk: Any, x: Any, scale: Any, zero: Any, target: str) -> Any:
    x = x if _is_float(x) else ops.cast(x, "float32")
    if target not in _RANGES:
        if "float8" not in target:
            raise walk.unsupported(f"quantisation to {target}")
        return _to_float8(ops.divide(x, ops.cast(scale, x.dtype)), target)
    steps = ops.round(ops.divide(x, ops.cast(scale, x.dtype)))
    steps = ops.cast(steps, "float32")
    steps = steps if zero is None else ops.add(steps, ops.cast(zero, "float32"))
    return ops.cast(ops.clip(steps, *_RANGES[target]), target)


def _to_float8(x: Any, target: str) -> Any:
    limit = 448.0 if target == "float8_e4m3fn" else 57344.0
    return ops.cast(ops.clip(x, -limit, limit), target)


def _is_float(x: Any) -> bool:
    return "float" in str(keras.backend.standardize_dtype(x.dtype))


@op("DequantizeLinear")
def dequantize(walk: Any, node: NodeView) -> Any:
    """Subtract the zero point and multiply by the scale."""
    x = walk.plain(node.required(0))
    scale, zero = _parameters(walk, node, x)
    return _dequantized(x, scale, zero)


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
    return _quantized(walk, real, scale, zero, str(keras.backend.standardize_dtype(zero.dtype)))


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
    target = str(keras.backend.standardize_dtype(zero.dtype))
    return KValue(_quantized(walk, real, scale, zero, target), channels_last(len(x.shape)))
