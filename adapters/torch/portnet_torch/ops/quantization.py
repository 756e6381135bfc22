"""Quantised arithmetic: computed on exact integers, or on floats between a dequantise and a quantise."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch

from portnet.graph.lowering import NodeView
from portnet_torch.functional import quantization
from portnet_torch.ops.casting import cast
from portnet_torch.ops.convolution import kernel_shape, padded, simplify, spatial
from portnet_torch.ops.registry import Walk, op

_D = ir.DataType

# smallest and largest number of each integer type
RANGES = {
    _D.INT8: (-128, 127),
    _D.UINT8: (0, 255),
    _D.INT16: (-32768, 32767),
    _D.UINT16: (0, 65535),
    _D.INT32: (-(2**31), 2**31 - 1),
    _D.INT4: (-8, 7),
    _D.UINT4: (0, 15),
    _D.INT2: (-2, 1),
    _D.UINT2: (0, 3),
}


@op("QuantizeLinear")
def _quantize(walk: Walk, node: NodeView) -> Any:
    source, scale, target = node.required(0), node.required(1), node.outputs[0].dtype
    layout = node["axis"], node.get("block_size", 0)
    x, factor = walk.value(source), walk.value(scale)
    precision = _precision(walk, node.get("precision") or scale.dtype)
    zero = walk.optional(node.input(2))
    if target in RANGES:
        return walk.call(
            quantization.quantize, x, factor, zero, *layout, *RANGES[target], walk.dtype(node.outputs[0]), precision
        )
    scaled = walk.call(quantization.divide, x, factor, *layout, precision)
    return cast(walk, scaled, _D.FLOAT, target, bool(node.get("saturate", 1)))


def _precision(walk: Walk, dtype: Any) -> Any:
    dtype = ir.DataType(dtype)
    if dtype == _D.FLOAT8E8M0:
        return torch.float32
    return {_D.FLOAT16: torch.float16, _D.BFLOAT16: torch.bfloat16}.get(dtype, torch.float32)


@op("DequantizeLinear")
def _dequantize(walk: Walk, node: NodeView) -> Any:
    x, scale, zero = walk.value(node.required(0)), walk.value(node.required(1)), walk.optional(node.input(2))
    target = walk.dtype(node.outputs[0])
    return walk.call(quantization.dequantize, x, scale, zero, node["axis"], node.get("block_size", 0), target)


@op("DynamicQuantizeLinear")
def _dynamic_quantize(walk: Walk, node: NodeView) -> Any:
    result = walk.call(quantization.dynamic_quantize, walk.value(node.required(0)))
    return [result[0], result[1], result[2]]


@op("MatMulInteger")
def _matmul_integer(walk: Walk, node: NodeView) -> Any:
    a, b = walk.value(node.required(0)), walk.value(node.required(1))
    zeros = walk.optional(node.input(2)), walk.optional(node.input(3))
    return walk.call(quantization.matmul_integer, a, b, *zeros)


@op("QLinearMatMul")
def _qlinear_matmul(walk: Walk, node: NodeView) -> Any:
    limits = RANGES[node.outputs[0].dtype]
    return walk.call(quantization.qlinear_matmul, *walk.inputs(node), *limits, walk.dtype(node.outputs[0]))


def _window(walk: Walk, node: NodeView, x: Any, weight_index: int) -> tuple[Any, tuple[Any, ...]]:
    kernel = kernel_shape(walk, node, weight_index)
    x, pads = padded(walk, node, x, kernel)
    dims = len(kernel)
    strides, dilations = spatial(node, "strides", dims), spatial(node, "dilations", dims)
    return x, (simplify(strides), simplify(pads), simplify(dilations), node["group"])


@op("ConvInteger")
def _conv_integer(walk: Walk, node: NodeView) -> Any:
    x = walk.call(quantization.centre, walk.value(node.required(0)), walk.optional(node.input(2)))
    x, window = _window(walk, node, x, 1)
    zero = walk.optional(node.input(3))
    weight = walk.call(quantization.centre, walk.value(node.required(1)), zero, 0)
    return walk.call(quantization.conv_integer, x, weight, *window)


@op("QLinearConv")
def _qlinear_conv(walk: Walk, node: NodeView) -> Any:
    x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero = (walk.value(v) for v in node.inputs[:8])
    centred, window = _window(walk, node, walk.call(quantization.centre, x, x_zero), 3)
    weight = walk.call(quantization.centre, weight, w_zero, 0)
    total = walk.call(quantization.conv_integer, centred, weight, *window)
    rest = x_scale, w_scale, y_scale, y_zero, walk.optional(node.input(8))
    limits = RANGES[node.outputs[0].dtype]
    return walk.call(quantization.requantize, total, *rest, *limits, walk.dtype(node.outputs[0]))
