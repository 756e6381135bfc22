"""Operators of MXNet's numpy family, which networks of ``mxnet.np`` and those that PortNet lowered are made of."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from portnet.formats.mxnet.layer import TABLE, Layer, Refused, op
from portnet.graph.parameters import FLOATS

__all__: list[str] = []

_MAX_ELEMENTS = 1 << 20
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,->. ")


@op("_npi_matmul")
def matmul(layer: Layer) -> ir.Value:
    return layer.final("MatMul", layer.values())


@op("_npi_einsum")
def einsum(layer: Layer) -> ir.Value:
    layer.attributes.ignore("num_args", "optimize")
    equation = layer.attributes.text("subscripts")
    if set(equation) - _LETTERS:
        raise Refused(f"subscripts={equation[:40]}")
    return layer.final("Einsum", layer.values(), equation=equation)


@op("_npi_broadcast_to")
def broadcast_to(layer: Layer) -> ir.Value:
    """To sizes that are all told: −2, the input's own, has no counterpart."""
    shape = layer.attributes.integers("shape")
    if any(size <= 0 for size in shape):
        raise Refused(f"shape={shape}")
    return layer.final("Expand", [layer.value(0), layer.ints(list(shape), "shape")])


@op("_npi_true_divide")
def true_divide(layer: Layer) -> ir.Value:
    return layer.final("Div", [_real(layer, 0), _real(layer, 1)])


@op("_npi_true_divide_scalar")
def true_divide_by_number(layer: Layer) -> ir.Value:
    x = _real(layer, 0)
    return layer.final("Div", [x, layer.scalar(layer.attributes.number("scalar"), x)])


def _real(layer: Layer, index: int) -> ir.Value:
    """Return an input as floating-point numbers: what numpy divides is never whole."""
    x = layer.value(index)
    if x.dtype is None or x.dtype in FLOATS:
        return x
    return layer.step("Cast", [x], f"real{index}", to=ir.DataType.FLOAT.value)


@op("_npi_where")
def where(layer: Layer) -> ir.Value:
    condition, *sides = layer.values()
    if condition.dtype is not ir.DataType.BOOL:
        condition = layer.step("Cast", [condition], "condition", to=ir.DataType.BOOL.value)
    return layer.final("Where", [condition, *sides])


@op("_npi_equal")
def equal(layer: Layer) -> ir.Value:
    return layer.final("Equal", layer.values())


@op("_npi_logical_not")
def logical_not(layer: Layer) -> ir.Value:
    x = layer.value(0)
    if x.dtype is not ir.DataType.BOOL:
        x = layer.step("Cast", [x], "truth", to=ir.DataType.BOOL.value)
    return layer.final("Not", [x])


@op("_npi_isinf")
def isinf(layer: Layer) -> ir.Value:
    return layer.final("IsInf", [layer.value(0)])


@op("_npx_reshape")
def reshape(layer: Layer) -> ir.Value:
    """Sizes above 0 and −1 mean the same as in ONNX's; −2 copies an axis; the others have no counterpart."""
    shape = list(layer.attributes.integers("newshape"))
    layer.attributes.ignore("order")
    if any(size < -2 or size == 0 for size in shape) or layer.attributes.flag("reverse", False):
        raise Refused(f"newshape={shape}")
    sizes = [0 if size == -2 else size for size in shape]
    return layer.final("Reshape", [layer.value(0), layer.ints(sizes, "shape")])


@op("_npi_argmax")
def argmax(layer: Layer) -> ir.Value:
    axis = layer.attributes.integer("axis")
    return layer.final("ArgMax", [layer.value(0)], axis=axis, keepdims=int(layer.attributes.flag("keepdims", False)))


@op("_npi_zeros")
def zeros(layer: Layer) -> ir.Value:
    layer.attributes.ignore("ctx")
    shape, dtype = layer.attributes.integers("shape"), layer.dtype(layer.attributes.text("dtype", "float32"))
    if any(size <= 0 for size in shape) or math.prod(shape) > _MAX_ELEMENTS:
        raise Refused(f"shape={shape}")
    return layer.writer.constant(np.zeros(shape, dtype), layer.name)


# what has the same attributes as the classic operator
_CLASSIC = {
    **{"add": "broadcast_add", "subtract": "broadcast_sub", "multiply": "broadcast_mul"},
    **{"add_scalar": "_plus_scalar", "subtract_scalar": "_minus_scalar", "rsubtract_scalar": "_rminus_scalar"},
    **{"multiply_scalar": "_mul_scalar", "power_scalar": "_power_scalar"},
    **{name: name for name in ("exp", "log", "sqrt", "square", "sin", "cos", "tanh", "negative", "reciprocal")},
}
for _numpy, _classic in _CLASSIC.items():
    op(f"_npi_{_numpy}")(TABLE[_classic])
for _same in ("relu", "sigmoid"):
    op(f"_npx_{_same}")(TABLE[_same])
