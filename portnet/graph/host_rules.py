"""What each op of shape arithmetic does to known arrays and to symbolic ones.

A rule takes the node and its inputs as arrays (dtype object where sizes are symbolic) and returns an array, a list of
arrays, or None where the engine had better compute it. It raises `NotHostError` where a symbol met what needs a number.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import sympy

from portnet.graph.floors import floor_of
from portnet.graph.ranges import bounds, larger

if TYPE_CHECKING:
    from portnet.graph.lowering import NodeView

__all__ = ["DECIDING", "MAX_ELEMENTS", "RULES", "NotHostError"]

# larger results are data, not shape arithmetic, and are left to the engine
MAX_ELEMENTS = 4096


class NotHostError(Exception):
    """A symbolic value met an operation that needs a number."""


def _numbers(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise NotHostError
    if array.dtype == object:
        if any(isinstance(n, sympy.Expr) for n in array.flat):
            raise NotHostError
        return array.astype(np.int64)
    return array


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, a: np.asarray(np.frompyfunc(function, len(a), 1)(*a)) if a[0].dtype == object else None


def _binary(plain: Callable[..., Any], symbolic: Callable[..., Any]) -> Callable[..., Any]:
    def rule(node: NodeView, a: list[Any]) -> Any:
        if a[0].dtype == object or a[1].dtype == object:
            return np.asarray(np.frompyfunc(symbolic, 2, 1)(a[0], a[1]), dtype=object)
        return plain(a[0], a[1])

    return rule


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if np.issubdtype(a.dtype, np.integer):
        if not np.all(b):
            raise NotHostError
        # towards zero, and exact beyond what a float holds
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a / b


def _divide_symbolic(a: Any, b: Any) -> Any:
    quotient = sympy.sympify(a) / b
    if quotient.is_integer:
        return quotient
    return -floor_of(-quotient) if bounds(quotient)[1] <= 0 else floor_of(quotient)


def _div(node: NodeView, a: list[Any]) -> Any:
    source = node.inputs[0]
    is_float = source is not None and source.dtype is not None and source.dtype.is_floating_point()
    return _binary(_divide, lambda x, y: sympy.sympify(x) / y if is_float else _divide_symbolic(x, y))(node, a)


def _larger(a: Any, b: Any) -> Any:
    result = larger(a, b)
    if isinstance(result, sympy.Max) and not result.is_integer:
        # rounded by an engine, it would no longer be one of the two
        raise NotHostError
    return result


def _smaller(a: Any, b: Any) -> Any:
    return -_larger(-a, -b)


def _mod(node: NodeView, a: list[Any]) -> Any:
    plain = np.fmod if node.get("fmod", 0) else np.mod
    return _binary(plain, lambda x, y: sympy.sympify(x) - y * floor_of(sympy.sympify(x) / y))(node, a)


def _compare(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def rule(a: Any, b: Any) -> bool:
        least, most = bounds(sympy.sympify(a) - b)
        ends = {bool(function(end, 0)) for end in (least, most)}
        if len(ends) == 1 and function is not _equal:
            return ends.pop()
        answer = function(a, b)
        if isinstance(answer, bool):
            return answer
        if answer == sympy.true or answer == sympy.false:
            return bool(answer)
        raise NotHostError

    return rule


def _equal(a: Any, b: Any) -> Any:
    return sympy.Eq(a, b) if isinstance(a, sympy.Expr) or isinstance(b, sympy.Expr) else a == b


def _cast(node: NodeView, a: list[Any]) -> Any:
    if a[0].dtype != object:
        dtype = ir.DataType(node["to"]).numpy()
        if a[0].dtype.kind not in "iufb" or dtype.kind not in "iufb":
            raise NotHostError
        return a[0].astype(dtype)
    if ir.DataType(node["to"]).is_integer():
        return np.frompyfunc(lambda n: n if getattr(n, "is_integer", True) else floor_of(n), 1, 1)(a[0])
    return a[0]


def _squeeze(node: NodeView, a: list[Any]) -> Any:
    axes = None if len(a) < 2 or a[1] is None else tuple(int(n) for n in _numbers(a[1]))
    return np.squeeze(a[0], axes)


def _unsqueeze(node: NodeView, a: list[Any]) -> Any:
    axes = [int(n) for n in _numbers(a[1])]
    return np.expand_dims(a[0], tuple(axes))


def _slice(node: NodeView, a: list[Any]) -> Any:
    starts, ends = _numbers(a[1]), _numbers(a[2])
    axes = _numbers(a[3]) if len(a) > 3 and a[3] is not None else np.arange(len(starts))
    steps = _numbers(a[4]) if len(a) > 4 and a[4] is not None else np.ones(len(starts), np.int64)
    index: list[Any] = [slice(None)] * a[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -a[0].shape[axis] else int(end)
        index[int(axis)] = slice(int(start), stop, int(step))
    return a[0][tuple(index)]


def _reshape(node: NodeView, a: list[Any]) -> Any:
    shape = [int(n) for n in _numbers(a[1])]
    if not node.get("allowzero", 0):
        shape = [a[0].shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return a[0].reshape(shape)


def _constant(node: NodeView, a: list[Any]) -> Any:
    for name in ("value", "value_int", "value_float", "value_ints", "value_floats"):
        if name in node.attributes:
            dtype = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32}
            array = np.asarray(node[name], dtype=dtype.get(name, np.float32 if name == "value_floats" else None))
            return array
    return None


def _constant_of_shape(node: NodeView, a: list[Any]) -> Any:
    shape = [int(n) for n in _numbers(a[0])]
    if math.prod(shape) > MAX_ELEMENTS:
        return None
    fill = node.get("value")
    return np.full(shape, np.float32(0) if fill is None else fill.reshape(-1)[0])


def _range(node: NodeView, a: list[Any]) -> Any:
    start, limit, delta = (_numbers(v).item() for v in a)
    if delta == 0 or (limit - start) / delta > MAX_ELEMENTS:
        return None
    return np.arange(start, limit, delta, dtype=a[0].dtype if a[0].dtype != object else np.int64)


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    def rule(node: NodeView, a: list[Any]) -> Any:
        axes = None if len(a) < 2 or a[1] is None else tuple(int(n) for n in _numbers(a[1]))
        if axes == () or (axes is None and node.get("noop_with_empty_axes", 0)):
            return a[0]
        return np.asarray(function(a[0], axis=axes, keepdims=bool(node["keepdims"])))

    return rule


def _expand(node: NodeView, a: list[Any]) -> Any:
    shape = np.broadcast_shapes(a[0].shape, tuple(int(n) for n in _numbers(a[1])))
    if math.prod(shape) > MAX_ELEMENTS:
        return None
    return np.broadcast_to(a[0], shape)


def _split(node: NodeView, a: list[Any]) -> Any:
    axis, count = node["axis"], len(node.outputs)
    if len(a) > 1 and a[1] is not None:
        return np.split(a[0], np.cumsum(_numbers(a[1]))[:-1], axis)
    size = math.ceil(a[0].shape[axis] / count)
    return np.split(a[0], [size * i for i in range(1, count)], axis)


def _quantize(node: NodeView, a: list[Any]) -> Any:
    """Return one number quantized, as a Pad's or a Clip's; arrays are left to the engine."""
    zero = a[2] if len(a) > 2 and a[2] is not None else np.zeros((), np.uint8)
    given = node.get("output_dtype", 0) or node.get("precision", 0)
    if given or a[0].dtype != np.float32 or a[1].dtype != np.float32 or not _is_one_number(a) or zero.dtype.kind == "f":
        return None
    limits = np.iinfo(zero.dtype)
    whole = np.rint(a[0] / a[1].reshape(a[0].shape)) + zero.reshape(a[0].shape)
    return np.clip(whole, limits.min, limits.max).astype(zero.dtype)


def _dequantize(node: NodeView, a: list[Any]) -> Any:
    """Return the number that a quantized one stands for."""
    if node.get("output_dtype", 0) or a[0].dtype.kind not in "iu" or not _is_one_number(a):
        return None
    zero = a[2].reshape(a[0].shape) if len(a) > 2 and a[2] is not None else np.zeros((), np.int64)
    whole = a[0].astype(np.int64) - zero.astype(np.int64)
    return whole.astype(a[1].dtype) * a[1].reshape(a[0].shape)


def _is_one_number(a: list[Any]) -> bool:
    return all(v is None or (v.size == 1 and v.dtype.kind in "iuf") for v in a)


def _fold_minmax(plain: Any, symbolic: Any) -> Callable[..., Any]:
    def rule(node: NodeView, a: list[Any]) -> Any:
        return functools.reduce(lambda x, y: _binary(plain, symbolic)(node, [x, y]), a)

    return rule


RULES: dict[str, Callable[[NodeView, list[Any]], Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda node, a: a[0],
    "Cast": _cast,
    "Size": lambda node, a: np.array(a[0].size),
    "Gather": lambda node, a: np.take(a[0], _numbers(a[1]).astype(np.int64), axis=node["axis"]),
    "Concat": lambda node, a: np.concatenate(a, axis=node["axis"]),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": lambda node, a: np.transpose(a[0], node.get("perm")),
    "Expand": _expand,
    "Range": _range,
    "Split": _split,
    "Add": _binary(np.add, operator.add),
    "Sub": _binary(np.subtract, operator.sub),
    "Mul": _binary(np.multiply, operator.mul),
    "Div": _div,
    "Mod": _mod,
    "Neg": lambda node, a: -a[0],
    "Min": _fold_minmax(np.minimum, _smaller),
    "Max": _fold_minmax(np.maximum, _larger),
    "Floor": lambda node, a: _elementwise(floor_of)(node, a) if a[0].dtype == object else np.floor(a[0]),
    "Ceil": lambda node, a: _elementwise(lambda n: -floor_of(-n))(node, a) if a[0].dtype == object else np.ceil(a[0]),
    "Equal": _binary(np.equal, _compare(_equal)),
    "Less": _binary(np.less, _compare(operator.lt)),
    "Greater": _binary(np.greater, _compare(operator.gt)),
    "LessOrEqual": _binary(np.less_equal, _compare(operator.le)),
    "GreaterOrEqual": _binary(np.greater_equal, _compare(operator.ge)),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Not": lambda node, a: np.logical_not(_numbers(a[0])),
    "And": lambda node, a: np.logical_and(_numbers(a[0]), _numbers(a[1])),
    "Or": lambda node, a: np.logical_or(_numbers(a[0]), _numbers(a[1])),
    "Where": lambda node, a: np.where(_numbers(a[0]).astype(bool), a[1], a[2]),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}

# they ask between which numbers a size lies
DECIDING = frozenset({"Min", "Max", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"})
