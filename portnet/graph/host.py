"""Shape arithmetic on the host, with symbolic sizes.

Exporters write ``Shape → Gather → Mul → Concat → Reshape``. Evaluated here while the graph is walked, it never
becomes part of the engine's network, and a free batch stays free: an unknown size is a sympy symbol and moves
through the arithmetic as an expression. A symbol stands for one axis of one tensor
(``Lowering.symbols``); axes that shape inference gave the same name share a symbol.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import sympy

if TYPE_CHECKING:
    from portnet.graph.lowering import Lowering, NodeView
    from portnet.graph.passes.sizes import SizeWalk

__all__ = [
    "MADE",
    "SIZES",
    "HostValue",
    "axis_size",
    "evaluate",
    "evaluate_size",
    "named_size",
    "register_sizes",
    "shape_of",
]

# key of a graph's ``meta``: what the names of sizes stand for that follow from others, by name
SIZES = "portnet.sizes"
# how the names of such sizes begin; no symbol of a file may be taken for one
MADE = "= "
MAX_NAME = 200

# larger results are data, not shape arithmetic, and are left to the engine
MAX_ELEMENTS = 4096
# powers of two up to here: scales such as 0.5 and 1.25
MAX_DENOMINATOR = 1 << 10


@dataclass(frozen=True)
class HostValue:
    """An array known while the network is built.

    Attributes:
        array: numbers, or dtype object with ints and sympy expressions where sizes are symbolic.
        dtype: element type that the tensor has in the graph.
    """

    array: np.ndarray
    dtype: np.dtype | None = None

    @property
    def is_symbolic(self) -> bool:
        """Whether any entry is an expression, not a number."""
        return self.array.dtype == object and any(isinstance(n, sympy.Expr) for n in self.array.flat)


def shape_of(walk: Lowering[Any] | SizeWalk, node: NodeView, source: ir.Value) -> HostValue:
    """Evaluate ``Shape`` or ``Size``: known sizes as ints, the others as symbols recorded in ``walk.symbols``."""
    host = walk.host_values.get(source)
    if host is not None:
        sizes: list[Any] = list(host.array.shape)
    else:
        assert source.shape is not None
        sizes = [axis_size(walk, source, axis, dim) for axis, dim in enumerate(source.shape)]
    if node.op == "Size":
        return _pack(np.array(functools.reduce(operator.mul, sizes, 1), dtype=object), np.dtype(np.int64))
    start, end = node.get("start", 0), node.get("end")
    return _pack(np.array(sizes[start:end], dtype=object), np.dtype(np.int64))


def axis_size(walk: Lowering[Any] | SizeWalk, source: ir.Value, axis: int, dim: Any) -> Any:
    """Return the size ``dim`` of an axis of ``source``: a number, a symbol, or a sum or product of known symbols."""
    if isinstance(dim, int):
        return dim
    name = dim.value or f"{source.name}.{axis}"
    meaning = walk.named_sizes.get(name)
    if meaning is not None and all(symbol in walk.symbols for symbol in meaning.free_symbols):
        return meaning
    symbol = sympy.Symbol(name, integer=True, positive=True)
    walk.symbols.setdefault(symbol, (source, axis))
    return symbol


def register_sizes(walk: Lowering[Any] | SizeWalk, value: ir.Value) -> None:
    """Remember that the free sizes of a tensor can be read from it."""
    if isinstance(value.type, (ir.SequenceType, ir.OptionalType)):
        return
    for axis, dim in enumerate(value.shape or ()):
        if not isinstance(dim, int) and dim.value not in walk.named_sizes:
            axis_size(walk, value, axis, dim)


def named_size(walk: SizeWalk, size: Any) -> int | str | None:
    """Return a number, or the name of an expression; ``walk.named_sizes`` keeps what it stands for.

    A name that would be too long is None: names contain each other.
    """
    if size is None:
        return None
    if not isinstance(size, sympy.Basic) or size.is_Integer:
        return int(size)
    if isinstance(size, sympy.Symbol):
        return str(size.name) if len(size.name) <= MAX_NAME else None
    name = MADE + str(size).replace(MADE, "")
    if len(name) > MAX_NAME:
        return None
    if _is_sum_of_products(size):
        walk.named_sizes[name] = size
    return name


def _is_sum_of_products(size: Any) -> bool:
    if size.is_Integer or size.is_Symbol:
        return True
    is_power = size.is_Pow and size.exp.is_Integer and size.exp > 0
    return (size.is_Add or size.is_Mul or is_power) and all(map(_is_sum_of_products, size.args))


def evaluate_size(size: Any, leaf: Callable[[sympy.Symbol], Any]) -> Any:
    """Compute a symbolic size with an engine's own integers.

    Args:
        size: an int or an expression from a `HostValue`.
        leaf: gives the engine's integer (anything with + - * //) for a symbol.
    """
    if not isinstance(size, sympy.Basic):
        return int(size)
    if size.is_Integer:
        return int(size)
    if isinstance(size, sympy.Symbol):
        return leaf(size)
    if isinstance(size, sympy.floor):
        return _floor(size.args[0], leaf)
    if isinstance(size, sympy.ceiling):
        return -_floor(-size.args[0], leaf)
    if isinstance(size, sympy.Mul) and any(arg.is_Rational and not arg.is_Integer for arg in size.args):
        return _floor(size, leaf)
    parts = [evaluate_size(arg, leaf) for arg in size.args]
    if isinstance(size, sympy.Add):
        return functools.reduce(operator.add, parts)
    if isinstance(size, sympy.Mul):
        return functools.reduce(operator.mul, parts)
    if isinstance(size, sympy.Pow) and size.exp.is_Integer and size.exp > 0:
        return functools.reduce(operator.mul, [parts[0]] * int(size.exp))
    raise NotImplementedError(f"a size computed as {size}")


def _floor(expression: sympy.Expr, leaf: Callable[[sympy.Symbol], Any]) -> Any:
    numerator, denominator = sympy.fraction(sympy.together(expression))
    return evaluate_size(numerator, leaf) // evaluate_size(denominator, leaf)


def evaluate(node: NodeView, inputs: list[HostValue | None]) -> list[HostValue] | None:
    """Evaluate a node of shape arithmetic whose inputs are all known, or return None when it is none."""
    rule = _RULES.get(node.op)
    if rule is None or sum(0 if v is None else v.array.size for v in inputs) > MAX_ELEMENTS:
        return None
    symbolic = any(v is not None and v.is_symbolic for v in inputs)
    try:
        arrays = [None if v is None else _symbolic(v.array) if symbolic else v.array for v in inputs]
        result = rule(node, arrays)
    except (_NotHostError, TypeError):
        return None
    if result is None:
        return None
    results = result if isinstance(result, list) else [result]
    if any(np.size(r) > MAX_ELEMENTS for r in results):
        return None
    dtype = _result_dtype(node, inputs)
    return [_pack(np.asarray(r), dtype) for r in results]


def _symbolic(array: np.ndarray) -> np.ndarray:
    """Return an array of ints, fractions and expressions."""
    return np.asarray(np.frompyfunc(_exact, 1, 1)(array.astype(object)), dtype=object)


def _exact(entry: Any) -> Any:
    """Return a float as a fraction, where arithmetic with it is exact: 0.5 and 2.0 are, 0.1 is not."""
    if not isinstance(entry, float):
        return entry
    numerator, denominator = entry.as_integer_ratio() if math.isfinite(entry) else (0, math.inf)
    if denominator > MAX_DENOMINATOR:
        raise _NotHostError
    return sympy.Rational(numerator, denominator)


class _NotHostError(Exception):
    """A symbolic value met an operation that needs a number."""


def _pack(array: np.ndarray, dtype: np.dtype | None) -> HostValue:
    if array.dtype == object:
        array = np.frompyfunc(_simplify, 1, 1)(array) if array.size else array
        array = np.asarray(array, dtype=object)
        if not any(isinstance(n, sympy.Expr) for n in array.flat):
            array = array.astype(dtype or np.int64)
    elif dtype is not None and array.dtype != dtype:
        array = array.astype(dtype)
    return HostValue(array, dtype or array.dtype)


def _simplify(entry: Any) -> Any:
    if isinstance(entry, sympy.Basic):
        if entry.is_Integer:
            return int(entry)
        if entry.is_number:
            return float(entry)
    return entry


def _result_dtype(node: NodeView, inputs: list[HostValue | None]) -> np.dtype | None:
    if node.op == "Cast":
        return ir.DataType(node["to"]).numpy()
    if node.op in ("Size", "Shape"):
        return np.dtype(np.int64)
    if node.op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Not", "And", "Or"):
        return np.dtype(bool)
    if node.op in ("Constant", "ConstantOfShape"):
        return None
    value = inputs[1] if node.op == "Where" else inputs[0]
    return None if value is None else (value.dtype or value.array.dtype)


def _numbers(array: np.ndarray | None) -> np.ndarray:
    if array is None:
        raise _NotHostError
    if array.dtype == object:
        if any(isinstance(n, sympy.Expr) for n in array.flat):
            raise _NotHostError
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
            raise _NotHostError
        # towards zero, and exact beyond what a float holds
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a / b


def _divide_symbolic(a: Any, b: Any) -> Any:
    quotient = sympy.sympify(a) / b
    if quotient.is_integer:
        return quotient
    return sympy.ceiling(quotient) if quotient.is_nonpositive else sympy.floor(quotient)


def _div(node: NodeView, a: list[Any]) -> Any:
    source = node.inputs[0]
    is_float = source is not None and source.dtype is not None and source.dtype.is_floating_point()
    return _binary(_divide, lambda x, y: sympy.sympify(x) / y if is_float else _divide_symbolic(x, y))(node, a)


def _decided(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return Min or Max, which no engine's integers have, where symbols do not keep it from being decided."""

    def rule(a: Any, b: Any) -> Any:
        result = function(a, b)
        if isinstance(result, function):  # type: ignore[arg-type]
            raise _NotHostError
        return result

    return rule


def _mod(node: NodeView, a: list[Any]) -> Any:
    plain = np.fmod if node.get("fmod", 0) else np.mod
    return _binary(plain, lambda x, y: sympy.sympify(x) - y * sympy.floor(sympy.sympify(x) / y))(node, a)


def _compare(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def rule(a: Any, b: Any) -> bool:
        answer = function(a, b)
        if isinstance(answer, bool):
            return answer
        if answer == sympy.true or answer == sympy.false:
            return bool(answer)
        raise _NotHostError

    return rule


def _equal(a: Any, b: Any) -> Any:
    return sympy.Eq(a, b) if isinstance(a, sympy.Expr) or isinstance(b, sympy.Expr) else a == b


def _cast(node: NodeView, a: list[Any]) -> Any:
    if a[0].dtype != object:
        dtype = ir.DataType(node["to"]).numpy()
        if a[0].dtype.kind not in "iufb" or dtype.kind not in "iufb":
            raise _NotHostError
        return a[0].astype(dtype)
    if ir.DataType(node["to"]).is_integer():
        return np.frompyfunc(lambda n: n if getattr(n, "is_integer", True) else sympy.floor(n), 1, 1)(a[0])
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


def _fold_minmax(plain: Any, symbolic: Any) -> Callable[..., Any]:
    def rule(node: NodeView, a: list[Any]) -> Any:
        return functools.reduce(lambda x, y: _binary(plain, symbolic)(node, [x, y]), a)

    return rule


_RULES: dict[str, Callable[[NodeView, list[Any]], Any]] = {
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
    "Min": _fold_minmax(np.minimum, _decided(sympy.Min)),
    "Max": _fold_minmax(np.maximum, _decided(sympy.Max)),
    "Floor": lambda node, a: _elementwise(sympy.floor)(node, a) if a[0].dtype == object else np.floor(a[0]),
    "Ceil": lambda node, a: _elementwise(sympy.ceiling)(node, a) if a[0].dtype == object else np.ceil(a[0]),
    "Equal": _binary(np.equal, _compare(_equal)),
    "Less": _binary(np.less, _compare(operator.lt)),
    "Greater": _binary(np.greater, _compare(operator.gt)),
    "LessOrEqual": _binary(np.less_equal, _compare(operator.le)),
    "GreaterOrEqual": _binary(np.greater_equal, _compare(operator.ge)),
    "Not": lambda node, a: np.logical_not(_numbers(a[0])),
    "And": lambda node, a: np.logical_and(_numbers(a[0]), _numbers(a[1])),
    "Or": lambda node, a: np.logical_or(_numbers(a[0]), _numbers(a[1])),
    "Where": lambda node, a: np.where(_numbers(a[0]).astype(bool), a[1], a[2]),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}
