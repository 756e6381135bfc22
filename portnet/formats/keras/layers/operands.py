"""Operands of operators: tensors and numbers, two of them in one order, axes that come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held, channels_first, identity
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.walk import Walk

__all__ = ["added", "array_of", "binary", "dropped", "fewer", "operator", "reordered", "tensor_of"]


def operator(keras3: str, *tensorflow: str) -> Callable[[Callable], Callable]:
    """Register an operator under its class in ``keras.ops`` and its names in ``tf``."""
    return layer(f"ops.{keras3}", *(f"tf.{name}" for name in tensorflow))


def tensor_of(walk: Walk, value: Any) -> Held:
    """Return an argument that is a tensor, its axes unpacked."""
    if not isinstance(value, Held):
        raise UnsupportedError("an argument that is no tensor")
    return value if value.packing is None else walk.plain(value)


def array_of(value: Any) -> np.ndarray:
    """Return numbers of the configuration: plain, nested, or as Keras 3 wraps arrays."""
    if isinstance(value, Mapping):
        value = (value.get("config") or {}).get("value") if "class_name" in value else None
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UnsupportedError("an argument that is neither tensor nor numbers") from error
    if array.dtype.kind not in "ifub":
        raise UnsupportedError("an argument that is neither tensor nor numbers")
    return array


_BINARY = {
    "Add": ("Add", "math.add", "add", "__operators__.add"),
    "Subtract": ("Sub", "math.subtract", "subtract"),
    "Multiply": ("Mul", "math.multiply", "multiply"),
    "Divide": ("Div", "math.divide", "divide", "math.truediv", "truediv"),
    "TrueDivide": ("Div", "__operators__.truediv"),
    "Maximum": ("Max", "math.maximum", "maximum"),
    "Minimum": ("Min", "math.minimum", "minimum"),
    "Power": ("Pow", "math.pow", "pow"),
}


def binary(op: str) -> Callable[[Walk, LayerNode], Held]:
    """Return the builder of an op of two operands, one of which may be numbers."""

    def build(walk: Walk, node: LayerNode) -> Held:
        first, second = node.argument(0, "x1", "x"), node.argument(1, "x2", "y")
        if isinstance(first, Held) and isinstance(second, Held):
            return _of_tensors(walk, op, first, second)
        x = first if isinstance(first, Held) else second
        if isinstance(x, Held) and x.packing is not None and array_of(second if x is first else first).ndim:
            x = walk.plain(x)
        if not isinstance(x, Held):
            raise UnsupportedError("no tensor among its arguments")
        numbers = _laid(walk, x, second if x is first or isinstance(first, Held) else first)
        if isinstance(first, Held):
            return walk.same(op, x, numbers)
        return Held(walk.emit(op, [numbers, x.value], x.order).value, x.order, x.packing)

    return build


_COMPARED = {
    "Greater": ("Greater", "math.greater"),
    "GreaterEqual": ("GreaterOrEqual", "math.greater_equal"),
    "Less": ("Less", "math.less"),
    "LessEqual": ("LessOrEqual", "math.less_equal"),
    "Equal": ("Equal", "math.equal"),
    "LogicalAnd": ("And", "math.logical_and"),
    "LogicalOr": ("Or", "math.logical_or"),
}


for _keras, (_op, *_names) in (_BINARY | _COMPARED).items():
    operator(_keras, *_names)(binary(_op))


def _of_tensors(walk: Walk, op: str, first: Held, second: Held) -> Held:
    """Return the op of two tensors; a learned array that nothing else reads is laid out for the other one."""
    for x, other, is_first in ((first, second, True), (second, first, False)):
        if x.value in walk.loose and other.value not in walk.loose and x.rank <= other.rank:
            other = other if other.packing is None else walk.plain(other)
            walk.lay(x.value, other.order)
            inputs = [x.value, other.value] if is_first else [other.value, x.value]
            return Held(walk.emit(op, inputs, other.order).value, other.order)
    a, b = _one_rank(walk, first, second)
    return walk.same(op, a, b.value)


def _laid(walk: Walk, x: Held, value: Any) -> ir.Value:
    """Return numbers as a constant that broadcasts against a tensor as they do in Keras."""
    array = array_of(value)
    dtype = x.value.dtype.numpy() if x.value.dtype is not None else np.float32
    if array.ndim > x.rank:
        raise UnsupportedError("numbers of more axes than the tensor")
    if array.ndim:
        array = array.reshape([1] * (x.rank - array.ndim) + list(array.shape)).transpose(x.order)
    return walk.constant(array, "number", dtype)


def _one_rank(walk: Walk, first: Held, second: Held) -> list[Held]:
    """Return two tensors in one order; one of fewer axes gets new ones in front, as numpy gives them."""
    if first.rank == second.rank:
        return walk.aligned([first, second])
    first, second = (x if x.packing is None else walk.plain(x) for x in (first, second))
    rank = max(first.rank, second.rank)
    longer = [added(walk, x, range(rank - x.rank)) if x.rank < rank else x for x in (first, second)]
    return walk.aligned(longer)


def fewer(order: tuple[int, ...], axes: Iterable[int]) -> tuple[int, ...]:
    """Return the order without some of Keras's axes."""
    gone = set(axes)
    kept = [axis for axis in order if axis not in gone]
    return tuple(sorted(kept).index(axis) for axis in kept)


def reordered(x: Held, perm: Sequence[int] | None) -> Held:
    """Return a tensor whose axis i is ``perm[i]`` of another: it says so, and nothing is moved."""
    perm = list(range(x.rank))[::-1] if perm is None else [x.positive(axis) for axis in perm]
    if sorted(perm) != list(range(x.rank)):
        raise UnsupportedError(f"axes {perm}")
    return Held(x.value, tuple(perm.index(axis) for axis in x.order))


def dropped(walk: Walk, x: Held, axes: Iterable[int]) -> Held:
    """Return a tensor without some of Keras's axes, which have size 1."""
    gone = sorted(set(axes))
    places = sorted(x.axis(axis) for axis in gone)
    value = walk.emit("Squeeze", [x.value, walk.ints(places, "axes")], fewer(x.order, gone)).value
    return Held(value, fewer(x.order, gone))


def added(walk: Walk, x: Held, axes: Iterable[int]) -> Held:
    """Return a tensor with new axes of size 1 at Keras's places ``axes`` of the result."""
    new = sorted(set(axes))
    rank = x.rank + len(new)
    old = [axis for axis in range(rank) if axis not in new]
    moved = [old[axis] for axis in x.order]
    if x.order != identity(x.rank) and x.order == channels_first(x.rank) and rank - 1 not in new:
        # what lies channels first stays so
        order = channels_first(rank)
    else:
        x = walk.plain(x)
        order, moved = identity(rank), old
    places = [place for place, axis in enumerate(order) if axis not in moved]
    return walk.emit("Unsqueeze", [x.value, walk.ints(places, "axes")], order)
