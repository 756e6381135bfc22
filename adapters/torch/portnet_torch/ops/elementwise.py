"""Unary and binary arithmetic, comparison, logic and bits."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from portnet.graph.lowering import NodeView
from portnet_torch.dtypes import MASKS
from portnet_torch.functional import arithmetic
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import TABLE, Walk, op

# functions of one tensor that mean the same in ONNX and torch
UNARY: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Det": torch.det,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": arithmetic.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

# functions of two tensors whose results never leave the range of their type
BINARY: dict[str, Callable[..., Any]] = {
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}

# arithmetic that Python's operators write best; integers wrap around
ARITHMETIC: dict[str, Callable[..., Any]] = {"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul}

# comparisons and divisions, for which the upper half of uint64 is not what int64 makes of it
ORDERED: dict[str, Callable[..., Any]] = {
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
}

# functions of any number of tensors
VARIADIC: dict[str, Callable[..., Any]] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": operator.add}


def _unary(walk: Walk, node: NodeView) -> Any:
    return walk.call(UNARY[node.op], walk.value(node.required(0)))


def _binary(walk: Walk, node: NodeView) -> Any:
    return walk.call(BINARY[node.op], *walk.inputs(node))


def _arithmetic(walk: Walk, node: NodeView) -> Any:
    if node.ir in walk.absorbed:
        return next(walk.value(value) for value in node.inputs if value in walk.values)
    left, right = (_operand(walk, node, index) for index in (0, 1))
    return wrap(walk, node, walk.call(ARITHMETIC[node.op], left, right))


def _ordered(walk: Walk, node: NodeView) -> Any:
    left, right = (signed_order(walk, value) for value in node.inputs)
    return walk.call(ORDERED[node.op], left, right)


def _variadic(walk: Walk, node: NodeView) -> Any:
    values = [signed_order(walk, value) for value in node.inputs]
    result = reduce(lambda a, b: walk.call(VARIADIC[node.op], a, b), values)
    return signed_order(walk, node.outputs[0], result)


TABLE.update(dict.fromkeys(UNARY, _unary))
TABLE.update(dict.fromkeys(BINARY, _binary))
TABLE.update(dict.fromkeys(ARITHMETIC, _arithmetic))
TABLE.update(dict.fromkeys(ORDERED, _ordered))
TABLE.update(dict.fromkeys(VARIADIC, _variadic))


def wrap(walk: Walk, node: NodeView, result: Any) -> Any:
    """Bring an integer result back into the unsigned type that its tensor carries."""
    mask = MASKS.get(node.outputs[0].dtype)
    return result if mask is None else walk.call(operator.and_, result, mask)


def signed_order(walk: Walk, value: ir.Value, tensor: Any = None) -> Any:
    """Return a tensor whose order as int64 is that of the value's type: uint64 has its top bit flipped."""
    tensor = walk.value(value) if tensor is None else tensor
    return walk.call(arithmetic.flip_top_bit, tensor) if value.dtype == ir.DataType.UINT64 else tensor


def _operand(walk: Walk, node: NodeView, index: int) -> Any:
    """Return an operand: a plain number where it is a constant scalar that cannot widen the other's shape."""
    value, other = node.inputs[index], node.inputs[1 - index]
    known = walk.try_host(value)
    inline = (
        known is not None
        and known.array.size == 1
        and other.shape is not None
        and len(known.array.shape) <= len(other.shape)
        and walk.try_host(other) is None
        and value.dtype in (ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32)
        and value.dtype == other.dtype
        and known.is_whole
    )
    if not inline:
        return walk.value(value)
    number = known.array.reshape(-1)[0]
    is_number = value.dtype == ir.DataType.FLOAT and not known.is_symbolic
    return shortest(number) if is_number else walk.size(number)


@op("Div")
def _div(walk: Walk, node: NodeView) -> Any:
    if walk.dtype(node.required(0)).is_floating_point or walk.dtype(node.required(0)).is_complex:
        return walk.call(operator.truediv, *(_operand(walk, node, index) for index in (0, 1)))
    if node.required(0).dtype == ir.DataType.UINT64:
        return walk.call(arithmetic.unsigned_divide, *walk.inputs(node))
    return walk.call(torch.div, *walk.inputs(node), rounding_mode="trunc")


@op("Mod")
def _mod(walk: Walk, node: NodeView) -> Any:
    if node.required(0).dtype == ir.DataType.UINT64:
        return walk.call(arithmetic.unsigned_remainder, *walk.inputs(node))
    return walk.call(torch.fmod if node["fmod"] else torch.remainder, *walk.inputs(node))


@op("Pow")
def _pow(walk: Walk, node: NodeView) -> Any:
    base, exponent = node.required(0), node.required(1)
    known = walk.try_number(exponent)
    fits = exponent.shape is not None and len(exponent.shape) <= len(base.shape or ())
    if known is not None and fits and walk.dtype(base).is_floating_point:
        return walk.call(operator.pow, walk.value(base), shortest(known))
    return wrap(walk, node, walk.call(arithmetic.power, walk.value(base), walk.value(exponent)))


@op("Equal")
def _equal(walk: Walk, node: NodeView) -> Any:
    strings = node.required(0).dtype in (ir.DataType.STRING, None)
    return walk.call(arithmetic.equal if strings else operator.eq, *walk.inputs(node))


@op("Neg")
def _neg(walk: Walk, node: NodeView) -> Any:
    return walk.call(operator.neg, walk.value(node.required(0)))


@op("Mean")
def _mean(walk: Walk, node: NodeView) -> Any:
    total = reduce(lambda a, b: walk.call(operator.add, a, b), walk.inputs(node))
    return walk.call(operator.truediv, total, len(node.inputs))


@op("BitwiseNot")
def _bitwise_not(walk: Walk, node: NodeView) -> Any:
    return wrap(walk, node, walk.call(torch.bitwise_not, walk.value(node.required(0))))


@op("BitShift")
def _bit_shift(walk: Walk, node: NodeView) -> Any:
    left = node["direction"] == "LEFT"
    unsigned64 = node.required(0).dtype == ir.DataType.UINT64
    function = torch.bitwise_left_shift if left else torch.bitwise_right_shift
    if unsigned64 and not left:
        function = arithmetic.unsigned_right_shift
    return wrap(walk, node, walk.call(function, *walk.inputs(node)))


@op("IsInf")
def _is_inf(walk: Walk, node: NodeView) -> Any:
    signs = {(1, 1): torch.isinf, (1, 0): torch.isneginf, (0, 1): torch.isposinf}
    function = signs.get((node["detect_negative"], node["detect_positive"]), arithmetic.nowhere)
    return walk.call(function, walk.value(node.required(0)))


@op("Where")
def _where(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.where, *walk.inputs(node))
