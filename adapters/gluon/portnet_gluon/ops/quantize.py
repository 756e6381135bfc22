"""Quantized ops, computed exactly in float64 and rounded as ONNX says."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.carriers import FLOATS, IntegerFormat
from portnet_gluon.compat import mx
from portnet_gluon.ops.convolution import convolve
from portnet_gluon.ops.registry import Symbol, cast, numpy_op, op
from portnet_gluon.ops.wrap import half_even, rounded


@op("QuantizeLinear")
def quantize_linear(walk: Any, node: NodeView) -> Symbol:
    """round(x / scale) + zero point, halves to even, within the range of the zero point's type."""
    x, scale = walk.value(node.required(0)), _spread(walk, node, node.required(1))
    dtype = walk.onnx_dtype(node.outputs[0])
    zero = None if node.input(2) is None else _spread(walk, node, node.required(2))
    quotient = mx.sym.broadcast_div(cast(x, "float32"), cast(scale, "float32"))
    if dtype in FLOATS:
        return rounded(quotient, dtype, saturate=bool(node["saturate"]))
    return _saturated(half_even(quotient), zero, dtype)


def _saturated(whole: Symbol, zero: Symbol | None, dtype: str) -> Symbol:
    form = IntegerFormat.named(dtype)
    wide = cast(whole, "float64")
    moved = wide if zero is None else mx.sym.broadcast_add(wide, cast(zero, "float64"))
    return cast(mx.sym.maximum(mx.sym.minimum(moved, form.highest), form.lowest), form.carrier)


@op("DequantizeLinear")
def dequantize_linear(walk: Any, node: NodeView) -> Symbol:
    """(x − zero point) · scale."""
    dtype = walk.dtype(node.outputs[0])
    x, scale = cast(walk.value(node.required(0)), "float32"), _spread(walk, node, node.required(1))
    if node.input(2) is not None:
        x = mx.sym.broadcast_sub(x, cast(_spread(walk, node, node.required(2)), "float32"))
    return cast(mx.sym.broadcast_mul(x, cast(scale, "float32")), dtype)


def _spread(walk: Any, node: NodeView, value: Any) -> Symbol:
    """Return a scale or zero point as it broadcasts on x: of one number, one an axis's place, or one a block."""
    x, array = node.required(0), walk.value(value)
    rank, own = walk.rank(x), walk.rank(value)
    if own == 0:
        return array
    axis = node["axis"] % rank
    if own == 1 and not node.get("block_size", 0):
        return mx.sym.reshape(array, shape=[-1] + [1] * (rank - 1 - axis))
    size = walk.sizes(x)[axis]
    repeated = numpy_op("take", array, _blocks(walk, node, value, size), axis=axis, mode="clip")
    return repeated


def _blocks(walk: Any, node: NodeView, value: Any, size: int) -> Symbol:
    return walk.constant(node, f"blocks_of_{value.name}", np.arange(size, dtype=np.int64) // node["block_size"])


@op("MatMulInteger")
def matmul_integer(walk: Any, node: NodeView) -> Symbol:
    """(A − a₀)(B − b₀) in int32."""
    a, b = _shifted(walk, node, 0, 2, -1), _shifted(walk, node, 1, 3, -2)
    return cast(numpy_op("matmul", a, b), "int32")


@op("QLinearMatMul")
def qlinear_matmul(walk: Any, node: NodeView) -> Symbol:
    """The product of dequantized matrices, quantized."""
    a, b = _shifted(walk, node, 0, 2, -1), _shifted(walk, node, 3, 5, -2)
    scale = _ratio(walk, node, (1, 4), 6)
    y = mx.sym.broadcast_mul(numpy_op("matmul", a, b), scale)
    return _saturated(half_even(y), walk.value(node.required(7)), walk.onnx_dtype(node.outputs[0]))


def _shifted(walk: Any, node: NodeView, index: int, zero: int, along: int) -> Symbol:
    """Return an input minus its zero point, float64; one zero point a row (``along`` −1) or column (−2)."""
    x = cast(walk.value(node.required(index)), "float64")
    point = node.input(zero)
    if point is None:
        return x
    shift = cast(walk.value(point), "float64")
    if walk.rank(point) == 1 and along == -1:
        shift = mx.sym.expand_dims(shift, axis=1)
    return mx.sym.broadcast_sub(x, shift)


def _ratio(walk: Any, node: NodeView, factors: tuple[int, int], divisor: int) -> Symbol:
    first, second, last = (cast(walk.value(node.required(i)), "float64") for i in (*factors, divisor))
    return mx.sym.broadcast_div(mx.sym.broadcast_mul(first, second), last)


@op("ConvInteger")
def conv_integer(walk: Any, node: NodeView) -> Symbol:
    """(x − x₀) convolved with (w − w₀), in int32."""
    x, weight = _centred(walk, node, 0, 2), _centred(walk, node, 1, 3)
    return cast(convolve(walk, node, x, weight, None, node.required(1)), "int32")


@op("QLinearConv")
def qlinear_conv(walk: Any, node: NodeView) -> Symbol:
    """The convolution of dequantized arrays, quantized; the bias is in the product's scale."""
    x, weight = _centred(walk, node, 0, 2), _centred(walk, node, 3, 5)
    bias = None if node.input(8) is None else cast(walk.value(node.required(8)), "float64")
    scale = mx.sym.reshape(_ratio(walk, node, (1, 4), 6), shape=(1, -1, 1, 1))
    y = mx.sym.broadcast_mul(convolve(walk, node, x, weight, bias, node.required(3)), scale)
    return _saturated(half_even(y), walk.value(node.required(7)), walk.onnx_dtype(node.outputs[0]))


def _centred(walk: Any, node: NodeView, index: int, zero: int) -> Symbol:
    """Return an input minus its zero point, which is one number or one for each output channel, float64."""
    x, point = cast(walk.value(node.required(index)), "float64"), node.input(zero)
    if point is None:
        return x
    shape = (-1, *[1] * (walk.rank(node.required(index)) - 1))
    return mx.sym.broadcast_sub(x, mx.sym.reshape(cast(walk.value(point), "float64"), shape=shape))
