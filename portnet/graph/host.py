"""Shape arithmetic on the host, with symbolic sizes.

Exporters write ``Shape → Gather → Mul → Concat → Reshape``. Evaluated here while the graph is walked, it never
becomes part of the engine's network, and a free batch stays free: an unknown size is a sympy symbol
(`portnet.graph.sizes`) and moves through the arithmetic (`portnet.graph.host_rules`) as an expression.
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

from portnet.graph.host_rules import DECIDING, MAX_ELEMENTS, RULES, NotHostError
from portnet.graph.sizes import axis_size

if TYPE_CHECKING:
    from portnet.graph.floors import Floors
    from portnet.graph.lowering import Lowering, NodeView
    from portnet.graph.passes.sizes import SizeWalk

__all__ = ["HostValue", "evaluate", "shape_of"]

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

    @property
    def is_whole(self) -> bool:
        """Whether every symbolic entry is a whole number whatever the sizes are: n + 1 is, n / 2 and 1 / n are not."""
        return all(n.is_integer for n in self.array.flat if isinstance(n, sympy.Expr))


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


def evaluate(node: NodeView, inputs: list[HostValue | None], floors: Floors) -> list[HostValue] | None:
    """Evaluate a node of shape arithmetic whose inputs are all known, or return None when it is none."""
    rule = RULES.get(node.op)
    if rule is None or sum(0 if v is None else v.array.size for v in inputs) > MAX_ELEMENTS:
        return None
    symbolic = any(v is not None and v.is_symbolic for v in inputs)
    try:
        arrays = [None if v is None else _symbolic(v.array) if symbolic else v.array for v in inputs]
        if symbolic and node.op in DECIDING:
            arrays = [None if a is None else _each(floors.expanded, a) for a in arrays]
        result = rule(node, arrays)
    except (NotHostError, TypeError):
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
    return _each(_exact, array.astype(object))


def _each(function: Callable[[Any], Any], array: np.ndarray) -> np.ndarray:
    return np.asarray(np.frompyfunc(function, 1, 1)(array), dtype=object)


def _exact(entry: Any) -> Any:
    """Return a float as a fraction, where arithmetic with it is exact: 0.5 and 2.0 are, 0.1 is not."""
    if not isinstance(entry, float):
        return entry
    numerator, denominator = entry.as_integer_ratio() if math.isfinite(entry) else (0, math.inf)
    if denominator > MAX_DENOMINATOR:
        raise NotHostError
    return sympy.Rational(numerator, denominator)


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
    if node.op in ("Constant", "ConstantOfShape", "QuantizeLinear"):
        return None
    value = inputs[1] if node.op in ("Where", "DequantizeLinear") else inputs[0]
    return None if value is None else (value.dtype or value.array.dtype)
