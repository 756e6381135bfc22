"""Dense layers and products of matrices."""

from __future__ import annotations

import math

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import ZEROS, Layer, Refused, op
from portnet.formats.mxnet.ops.convolution import fan_in


@op("FullyConnected")
def fully_connected(layer: Layer) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    width, rank = get.integer("num_hidden", least=1), layer.rank(x)
    flatten, no_bias = get.flag("flatten", True), get.flag("no_bias", False)
    if flatten or rank == 2:
        incoming = math.prod(layer.size(x, axis) for axis in range(1, rank))
        weight = layer.parameter(1, (width, incoming), fan_in())
        if rank != 2:
            x = layer.step("Flatten", [x], "flatten", axis=1)
        bias = [] if no_bias else [layer.parameter(2, (width,), ZEROS)]
        return layer.final("Gemm", [x, weight, *bias], transB=1)
    weight = layer.parameter(1, (width, layer.size(x, rank - 1)), fan_in())
    turned = layer.permuted(weight, [1, 0], "weight")
    if no_bias:
        return layer.final("MatMul", [x, turned])
    product = layer.step("MatMul", [x, turned], "product")
    return layer.final("Add", [product, layer.parameter(2, (width,), ZEROS)])


@op("Embedding")
def embedding(layer: Layer) -> ir.Value:
    get, indices = layer.attributes, layer.value(0)
    get.ignore("dtype")
    shape = (get.integer("input_dim", least=1), get.integer("output_dim", least=1))
    weight = layer.parameter(1, shape, fan_in())
    return layer.final("Gather", [weight, as_indices(layer, indices)], axis=0)


def as_indices(layer: Layer, value: ir.Value) -> ir.Value:
    """Return indices, which MXNet keeps as floats, as int64."""
    if value.dtype == ir.DataType.INT64:
        return value
    return layer.step("Cast", [value], "indices", to=ir.DataType.INT64.value)


@op("dot")
def dot(layer: Layer) -> ir.Value:
    """Sums over the last axis of the left and the first of the right."""
    get = layer.attributes
    get.ignore("forward_stype")
    left, right = layer.value(0), layer.value(1)
    ranks = layer.rank(left), layer.rank(right)
    turns = get.flag("transpose_a", False), get.flag("transpose_b", False)
    if ranks == (1, 1):
        product = layer.step("MatMul", [left, right], "product")
        return layer.final("Reshape", [product, layer.ints([1], "shape")])
    if ranks[1] > 2 or (turns[0] and ranks[0] > 2):
        raise Refused(f"tensors of {ranks[0]} and {ranks[1]} axes")
    if turns[0] and ranks[0] == 2:
        left = layer.permuted(left, [1, 0], "left")
    if turns[1] and ranks[1] == 2:
        right = layer.permuted(right, [1, 0], "right")
    return layer.final("MatMul", [left, right])


@op("batch_dot")
def batch_dot(layer: Layer) -> ir.Value:
    layer.attributes.ignore("forward_stype")
    sides = _turned(layer, [layer.value(0), layer.value(1)])
    return layer.final("MatMul", sides)


@op("_linalg_gemm2", "linalg_gemm2")
def gemm2(layer: Layer) -> ir.Value:
    if layer.attributes.integer("axis", -2) != -2:
        raise Refused("an axis of its own")
    alpha = layer.attributes.number("alpha", 1.0)
    sides = _turned(layer, [layer.value(0), layer.value(1)])
    if alpha == 1:
        return layer.final("MatMul", sides)
    product = layer.step("MatMul", sides, "product")
    return layer.final("Mul", [product, layer.scalar(alpha, product, "alpha")])


def _turned(layer: Layer, sides: list[ir.Value]) -> list[ir.Value]:
    for index, key in enumerate(("transpose_a", "transpose_b")):
        if layer.attributes.flag(key, False):
            rank = layer.rank(sides[index])
            if rank < 2:
                raise ModelError(f"layer {layer.name!r} ({layer.op}): {key} of a vector")
            order = [*range(rank - 2), rank - 1, rank - 2]
            sides[index] = layer.permuted(sides[index], order, "ab"[index])
    return sides
