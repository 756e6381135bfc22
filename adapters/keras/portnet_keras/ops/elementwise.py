"""Arithmetic, comparison and logic, element by element, with broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue
from portnet_keras.ops.broadcast import add, align
from portnet_keras.ops.registry import op

__all__ = ["is_float", "is_integer", "unary", "wide_maximum", "wide_minimum"]

Function = Callable[..., Any]


def _dtype(x: Any) -> str:
    return str(keras.backend.standardize_dtype(x.dtype))


def is_integer(x: Any) -> bool:
    """Whether a tensor's element type is an integer."""
    return "int" in _dtype(x)


def is_float(x: Any) -> bool:
    """Whether a tensor's element type is floating point."""
    return "float" in _dtype(x)


def via(function: Function, narrow: dict[str, str]) -> Function:
    """Return ``function`` computed in a wider type for the types that the backend has no kernel for."""

    @functools.wraps(function)
    def widened(*tensors: Any) -> Any:
        dtype = _dtype(tensors[0])
        if dtype not in narrow:
            return function(*tensors)
        return ops.cast(function(*(ops.cast(x, narrow[dtype]) for x in tensors)), dtype)

    return widened


def unary(name: str, function: Function) -> None:
    """Register an op that maps one tensor to another, element by element."""

    @op(name, transparent=True)
    def build(walk: Any, node: NodeView) -> KValue:
        x = walk.value(node.required(0))
        return replace(x, data=function(x.data))


def _binary(name: str, function: Function) -> None:
    @op(name, transparent=True)
    def build(walk: Any, node: NodeView) -> KValue:
        (a, b), order = align(walk, [node.required(0), node.required(1)])
        return KValue(function(a, b), order)


def _variadic(name: str, function: Function) -> None:
    @op(name, transparent=True)
    def build(walk: Any, node: NodeView) -> KValue:
        tensors, order = align(walk, [value for value in node.inputs if value is not None])
        return KValue(functools.reduce(function, tensors), order)


def _divide(a: Any, b: Any) -> Any:
    if not is_integer(a):
        return ops.divide(a, b)
    # ONNX truncates towards zero, Keras divides integers as floats
    a, b = ops.cast(a, "int64"), ops.cast(b, "int64")
    quotient = ops.floor_divide(ops.abs(a), ops.abs(b))
    return quotient * ops.sign(a) * ops.sign(b)


def _power(a: Any, b: Any) -> Any:
    if not is_integer(a):
        return ops.power(a, ops.cast(b, a.dtype))
    return ops.cast(ops.round(ops.power(ops.cast(a, "float64"), ops.cast(b, "float64"))), a.dtype)


# TensorFlow has no minimum and maximum of these
_BYTES = {"int8": "int32", "int16": "int32", "uint8": "int32", "uint16": "int32", "uint32": "int64"}

wide_minimum, wide_maximum = via(ops.minimum, _BYTES), via(ops.maximum, _BYTES)

_binary("Add", add)
_binary("Sub", ops.subtract)
_binary("Mul", ops.multiply)
_binary("Div", _divide)
_binary("Pow", _power)
_binary("Equal", ops.equal)
_binary("Less", ops.less)
_binary("Greater", ops.greater)
_binary("LessOrEqual", ops.less_equal)
_binary("GreaterOrEqual", ops.greater_equal)
_binary("And", ops.logical_and)
_binary("Or", ops.logical_or)
_binary("Xor", ops.logical_xor)
_binary("BitwiseAnd", ops.bitwise_and)
_binary("BitwiseOr", ops.bitwise_or)
_binary("BitwiseXor", ops.bitwise_xor)
_variadic("Sum", add)
_variadic("Min", wide_minimum)
_variadic("Max", wide_maximum)

unary("Neg", ops.negative)
unary("Abs", ops.abs)
unary("Sign", ops.sign)
unary("Exp", ops.exp)
unary("Log", ops.log)
unary("Sqrt", ops.sqrt)
unary("Reciprocal", lambda x: ops.divide(1.0, x))
unary("Erf", ops.erf)
unary("Floor", ops.floor)
unary("Ceil", ops.ceil)
unary("Round", ops.round)
unary("Sin", ops.sin)
unary("Cos", ops.cos)
unary("Tan", ops.tan)
unary("Asin", ops.arcsin)
unary("Acos", ops.arccos)
unary("Atan", ops.arctan)
unary("Sinh", ops.sinh)
unary("Cosh", ops.cosh)
unary("Asinh", ops.arcsinh)
unary("Acosh", ops.arccosh)
unary("Atanh", ops.arctanh)
unary("Not", ops.logical_not)
unary("BitwiseNot", ops.bitwise_not)
unary("IsNaN", ops.isnan)
unary("Identity", lambda x: x)


@op("Mean", transparent=True)
def mean(walk: Any, node: NodeView) -> KValue:
    """Mean of tensors, element by element."""
    tensors, order = align(walk, [value for value in node.inputs if value is not None])
    return KValue(ops.divide(functools.reduce(add, tensors), float(len(tensors))), order)


@op("Where", transparent=True)
def where(walk: Any, node: NodeView) -> KValue:
    """Choose between two tensors."""
    (condition, a, b), order = align(walk, [node.required(i) for i in range(3)])
    return KValue(ops.where(condition, a, b), order)
