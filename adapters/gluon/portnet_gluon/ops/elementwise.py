"""Elementwise arithmetic, comparison and logic."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_gluon.arrays import DTYPES
from portnet_gluon.carriers import FLOATS, carried
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Builder, Symbol, numpy_op, op
from portnet_gluon.ops.wrap import half_even, rounded

# op -> operator of one argument, of the same shape and dtype
_UNARY = {
    "Identity": mx.sym.identity,
    "Abs": mx.sym.abs,
    "Neg": mx.sym.negative,
    "Exp": mx.sym.exp,
    "Log": mx.sym.log,
    "Sqrt": mx.sym.sqrt,
    "Reciprocal": mx.sym.reciprocal,
    "Floor": mx.sym.floor,
    "Ceil": mx.sym.ceil,
    "Sign": mx.sym.sign,
    "Erf": mx.sym.erf,
    "Sin": mx.sym.sin,
    "Cos": mx.sym.cos,
    "Tan": mx.sym.tan,
    "Asin": mx.sym.arcsin,
    "Acos": mx.sym.arccos,
    "Atan": mx.sym.arctan,
    "Sinh": mx.sym.sinh,
    "Cosh": mx.sym.cosh,
    "Asinh": mx.sym.arcsinh,
    "Acosh": mx.sym.arccosh,
    "Atanh": mx.sym.arctanh,
}

# op -> operator of two tensors of the same shape or None, and of two that broadcast
_ARITHMETIC = {
    "Add": (mx.sym.elemwise_add, mx.sym.broadcast_add),
    "Sub": (mx.sym.elemwise_sub, mx.sym.broadcast_sub),
    "Mul": (mx.sym.elemwise_mul, mx.sym.broadcast_mul),
}

# op -> operator of numpy's family, whose result is bool
_COMPARISONS = {
    "Equal": "equal",
    "Greater": "greater",
    "Less": "less",
    "GreaterOrEqual": "greater_equal",
    "LessOrEqual": "less_equal",
    "And": "multiply",
    "Or": "add",
    "Xor": "not_equal",
    "BitwiseAnd": "bitwise_and",
    "BitwiseOr": "bitwise_or",
    "BitwiseXor": "bitwise_xor",
    "Not": "logical_not",
    "BitwiseNot": "bitwise_not",
    "IsNaN": "isnan",
    "Where": "where",
}

_VARIADIC = {"Max": mx.sym.broadcast_maximum, "Min": mx.sym.broadcast_minimum, "Sum": mx.sym.broadcast_add}


def _unary(function: Callable[..., Symbol]) -> Builder:
    return lambda walk, node: function(walk.value(node.required(0)), name=node.name)


def _arithmetic(same: Callable[..., Symbol], broadcast: Callable[..., Symbol]) -> Builder:
    def builder(walk: Any, node: NodeView) -> Symbol:
        a, b = node.required(0), node.required(1)
        operands = walk.value(a), walk.value(b)
        function = same if _same_shape(a, b) and not any(map(_is_variable, operands)) else broadcast
        return function(*operands, name=node.name)

    return builder


def _is_variable(symbol: Symbol) -> bool:
    """Whether a symbol is an input or a parameter.

    A hybridized elemwise_add of one that wants no gradient gives its other operand a wrong one: the two gradients share
    memory. broadcast_add is right.
    """
    return symbol.get_children() is None


def _same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Whether both shapes are known and equal, free sizes by their names."""
    if a.shape is None or b.shape is None or any(getattr(dim, "value", dim) is None for dim in a.shape):
        return False
    return tuple(a.shape) == tuple(b.shape)


def _numpy(name: str) -> Builder:
    return lambda walk, node: numpy_op(name, *walk.args(node), name=node.name)


def _variadic(function: Callable[..., Symbol]) -> Builder:
    return lambda walk, node: functools.reduce(function, walk.args(node))


for _name, _function in _UNARY.items():
    op(_name)(_unary(_function))
for _name, _functions in _ARITHMETIC.items():
    op(_name)(_arithmetic(*_functions))
for _name, _operator in _COMPARISONS.items():
    op(_name)(_numpy(_operator))
for _name, _function in _VARIADIC.items():
    op(_name)(_variadic(_function))


@op("Mean")
def mean(walk: Any, node: NodeView) -> Symbol:
    """Mean of all inputs, broadcast."""
    return functools.reduce(mx.sym.broadcast_add, walk.args(node)) / len(node.inputs)


@op("Div")
def divide(walk: Any, node: NodeView) -> Symbol:
    """Division; of integers toward zero."""
    a, b = walk.args(node)
    if _is_float(walk, node):
        return mx.sym.broadcast_div(a, b, name=node.name)
    return _integer_divide(a, b)


def _is_float(walk: Any, node: NodeView) -> bool:
    return np.dtype(walk.dtype(node.required(1))).kind == "f"


def _integer_divide(a: Symbol, b: Symbol) -> Symbol:
    """Divide toward zero, by 0 and −1 without the processor's trap, which would end the process."""
    plain = mx.sym.broadcast_div(a, _untrapped(b))
    sign = mx.sym.where(b == -1, mx.sym.ones_like(b) * -1, mx.sym.ones_like(b))
    return mx.sym.broadcast_mul(plain, sign)


def _untrapped(b: Symbol) -> Symbol:
    return mx.sym.where(mx.sym.abs(b) > 1, b, mx.sym.ones_like(b))


@op("Mod")
def mod(walk: Any, node: NodeView) -> Symbol:
    """Remainder with the divisor's sign, or with ``fmod`` the dividend's."""
    a, b = walk.args(node)
    if _is_float(walk, node):
        return _float_mod(a, b) if node["fmod"] else _floored(a, b)
    if not node["fmod"]:
        return mx.sym.broadcast_mod(a, _untrapped(b), name=node.name)
    return mx.sym.broadcast_sub(a, mx.sym.broadcast_mul(_integer_divide(a, b), b))


def _float_mod(a: Symbol, b: Symbol) -> Symbol:
    """Return the remainder of the magnitudes with a's sign, a zero's too; NaN for a zero divisor."""
    magnitude = mx.sym.broadcast_mod(mx.sym.abs(a), mx.sym.abs(b))
    nan = mx.sym.where(b == 0, mx.sym.zeros_like(b) / 0, mx.sym.zeros_like(b))
    return mx.sym.broadcast_add(numpy_op("copysign", magnitude, a), nan)


def _floored(a: Symbol, b: Symbol) -> Symbol:
    """Move the remainder to the divisor's sign, a zero's too."""
    rest = _float_mod(a, b)
    moved = mx.sym.where(
        mx.sym.broadcast_mul(mx.sym.sign(rest), mx.sym.sign(b)) < 0, mx.sym.broadcast_add(rest, b), rest
    )
    return mx.sym.where(rest == 0, numpy_op("copysign", rest, b), moved)


@op("Pow")
def power(walk: Any, node: NodeView) -> Symbol:
    """Power, in the base's dtype; of two dtypes computed in float64."""
    a, b = walk.args(node)
    base, exponent = (walk.dtype(value) for value in node.inputs)
    known = walk.try_number(node.required(1))
    if base == "float32" and known is not None and walk.static_shape(node.required(1)) == ():
        return a ** float(known)
    if base == exponent:
        return mx.sym.broadcast_power(a, b, name=node.name)
    wide = mx.sym.broadcast_power(mx.sym.cast(a, dtype="float64"), mx.sym.cast(b, dtype="float64"))
    return mx.sym.cast(wide, dtype=base, name=node.name)


@op("Round")
def round_half_even(walk: Any, node: NodeView) -> Symbol:
    """Nearest integer, halves to the even one."""
    return half_even(walk.value(node.required(0)))


@op("IsInf")
def is_inf(walk: Any, node: NodeView) -> Symbol:
    """Infinite, of the signs asked for."""
    name = {(1, 1): "isinf", (1, 0): "isposinf", (0, 1): "isneginf"}.get(
        (node["detect_positive"], node["detect_negative"])
    )
    if name is None:
        raise walk.unsupported("detect_positive, detect_negative: got 0 and 0")
    return numpy_op(name, walk.value(node.required(0)), name=node.name)


@op("Cast")
def cast(walk: Any, node: NodeView) -> Symbol:
    """Conversion between the element types that MXNet has or that it can carry."""
    target = ir.DataType(node["to"])
    return _converted(walk, node, "string" if target == ir.DataType.STRING else str(target.numpy()))


@op("CastLike")
def cast_like(walk: Any, node: NodeView) -> Symbol:
    """Conversion to another tensor's element type."""
    return _converted(walk, node, walk.onnx_dtype(node.required(1)))


def _converted(walk: Any, node: NodeView, target: str) -> Symbol:
    if carried(target) not in DTYPES:
        raise walk.unsupported(f"to: got {target}, which MXNet has no arrays of")
    x = mx.sym.cast(walk.value(node.required(0)), dtype=carried(target), name=node.name)
    return rounded(x, target, saturate=bool(node["saturate"])) if target in FLOATS else x
