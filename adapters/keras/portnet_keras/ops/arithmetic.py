"""Arithmetic beyond the element-by-element table: products of many axes, remainders, bits, series."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy

from portnet.graph.host import HostValue
from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue
from portnet_keras.operation import operation
from portnet_keras.ops.broadcast import align
from portnet_keras.ops.elementwise import is_integer
from portnet_keras.ops.registry import op

__all__: list[str] = []


@op("Einsum")
def einsum(walk: Any, node: NodeView) -> Any:
    """Sum of products by Einstein's notation."""
    return ops.einsum(_lower_case(node["equation"]), *(walk.plain(value) for value in node.inputs))


def _lower_case(equation: str) -> str:
    """Return an equation in a, b, c, ..., which Keras takes alone; the letters' order stays, since it may mean one."""
    letters = sorted({letter for letter in equation if letter.isalpha()})
    if len(letters) > 26 or equation.islower():
        return equation.replace(" ", "")
    names = {letter: chr(ord("a") + place) for place, letter in enumerate(letters)}
    return "".join(names.get(letter, letter) for letter in equation if letter != " ")


@op("Mod", transparent=True)
def mod(walk: Any, node: NodeView) -> KValue:
    """Remainder: with the divisor's sign, or with the dividend's where fmod=1."""
    (a, b), order = align(walk, [node.required(0), node.required(1)])
    if is_integer(a):
        a, b = ops.cast(a, "int64"), ops.cast(b, "int64")
    if not node["fmod"]:
        return KValue(ops.mod(a, b), order)
    return KValue(ops.multiply(ops.sign(a), ops.mod(ops.abs(a), ops.abs(b))), order)


@op("BitShift", transparent=True)
def bit_shift(walk: Any, node: NodeView) -> KValue:
    """Shift bits left or right."""
    (a, b), order = align(walk, [node.required(0), node.required(1)])
    shift = ops.left_shift if node["direction"] == "LEFT" else ops.right_shift
    dtype = keras.backend.standardize_dtype(a.dtype)
    width = int(dtype.removeprefix("u").removeprefix("int"))
    inside = ops.logical_and(ops.greater_equal(b, 0), ops.less(b, width))
    shifted = shift(a, ops.where(inside, b, ops.zeros_like(b)))
    # beyond the type's width every bit is shifted out
    emptied = ops.where(ops.less(a, 0), -1, 0) if _keeps_sign(node, dtype) else ops.zeros_like(shifted)
    return KValue(ops.where(inside, shifted, ops.cast(emptied, dtype)), order)


def _keeps_sign(node: NodeView, dtype: str) -> bool:
    return node["direction"] == "RIGHT" and not dtype.startswith("u")


@op("IsInf", transparent=True)
def is_inf(walk: Any, node: NodeView) -> KValue:
    """Whether entries are infinite, of the signs that are asked for."""
    x = walk.value(node.required(0))
    positive, negative = bool(node["detect_positive"]), bool(node["detect_negative"])
    found = ops.isinf(x.data)
    if positive != negative:
        found = ops.logical_and(found, (ops.greater if positive else ops.less)(x.data, 0))
    return KValue(found if positive or negative else ops.zeros_like(found), x.order)


@op("CumProd")
def cumprod(walk: Any, node: NodeView) -> KValue:
    """Running product along an axis."""
    x = walk.value(node.required(0))
    axis = x.axis(int(walk.host(node.input(1)).item()))
    data = ops.flip(x.data, axis=axis) if node["reverse"] else x.data
    if node["exclusive"]:
        widths = [(1, 0) if i == axis else (0, 0) for i in range(x.rank)]
        keep = [slice(None, -1) if i == axis else slice(None) for i in range(x.rank)]
        data = ops.pad(data, widths, constant_values=1)[tuple(keep)]
    data = ops.cumprod(data, axis=axis)
    return KValue(ops.flip(data, axis=axis) if node["reverse"] else data, x.order)


@op("Det")
def det(walk: Any, node: NodeView) -> Any:
    """Determinant of the last two axes."""
    return ops.det(walk.plain(node.required(0)))


@op("LpNormalization")
def lp_normalization(walk: Any, node: NodeView) -> KValue:
    """Divide by the 1- or 2-norm along an axis; what is zero stays zero."""
    x = walk.value(node.required(0))
    axis = x.axis(node["axis"])
    powers = ops.abs(x.data) if node["p"] == 1 else ops.square(x.data)
    norm = ops.sum(powers, axis=axis, keepdims=True)
    norm = norm if node["p"] == 1 else ops.sqrt(norm)
    return KValue(ops.divide_no_nan(x.data, norm), x.order)


@op("MeanVarianceNormalization", transparent=True)
def mean_variance_normalization(walk: Any, node: NodeView) -> KValue:
    """Subtract the mean over axes and divide by the standard deviation."""
    x = walk.value(node.required(0))
    axes = tuple(x.axis(axis) for axis in node["axes"])
    centred = ops.subtract(x.data, ops.mean(x.data, axis=axes, keepdims=True))
    deviation = ops.sqrt(ops.mean(ops.square(centred), axis=axes, keepdims=True))
    return KValue(ops.divide(centred, ops.add(deviation, 1e-9)), x.order)


@op("ConstantOfShape")
def constant_of_shape(walk: Any, node: NodeView) -> Any:
    """A tensor of one value; sizes may be free."""
    from portnet_keras.ops.shape import broadcast_to_dims

    value = node.get("value")
    fill = np.zeros(1, np.float32) if value is None else np.asarray(value).reshape(-1)
    dims = walk.try_host(node.required(0))
    if dims is None:
        return walk.apply(filled, node, fill[0], walk.value(node.required(0)).data)
    sizes = [sympy.sympify(n) for n in dims.array.reshape(-1)]
    if all(n.is_Integer for n in sizes):
        return np.full([int(n) for n in sizes], fill[0])
    return broadcast_to_dims(walk, node, walk.symbolic(fill.reshape((1,) * len(sizes))), sizes)


@operation
def filled(fill: Any, shape: Any) -> Any:
    """A tensor of one value and a computed shape."""
    return ops.broadcast_to(fill, shape)


@op("Range")
def range_(walk: Any, node: NodeView) -> Any:
    """Numbers in steps."""
    known = [walk.try_host(value) for value in node.inputs]
    if any(value is None or value.is_symbolic for value in known):
        ends = [ops.reshape(walk.plain(value), ()) for value in node.inputs]
        is_counting = known[2] is not None and not known[2].is_symbolic and known[2].array.item() == 1
        return walk.apply(counted, node, *ends[:2]) if is_counting else walk.apply(steps, node, *ends)
    start, limit, delta = (value.array.item() for value in known)  # type: ignore[union-attr]
    count = max(int(np.ceil((limit - start) / delta)), 0)
    return (start + np.arange(count) * delta).astype(known[0].array.dtype)  # type: ignore[union-attr]


@operation
def counted(start: Any, limit: Any) -> Any:
    """Numbers from start in steps of one below limit."""
    wide = _wide(start)
    first, last = ops.cast(start, wide), ops.cast(limit, wide)
    return ops.cast(first + _numbers(last - first, wide), keras.backend.standardize_dtype(start.dtype))


@operation
def steps(start: Any, limit: Any, delta: Any) -> Any:
    """Numbers from start in steps of delta below limit, of a computed count."""
    wide = _wide(start)
    first, last, step = (ops.cast(x, wide) for x in (start, limit, delta))
    count = -((first - last) // step) if "int" in wide else (last - first) / step
    return ops.cast(first + _numbers(count, wide) * step, keras.backend.standardize_dtype(start.dtype))


def _wide(x: Any) -> str:
    """Return the type to count in: whole numbers' own, else float32 at least."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    return dtype if "int" in dtype or dtype == "float64" else "float32"


def _numbers(count: Any, dtype: str) -> Any:
    """Return 0, 1, ... below a count, which may be a fraction."""
    whole = count if "int" in dtype else ops.ceil(count)
    return ops.cast(ops.arange(ops.cast(ops.maximum(whole, 0), "int32")), dtype)


@op("Size")
def size_(walk: Any, node: NodeView) -> Any:
    """Count of entries."""
    x = walk.value(node.required(0))
    if None in x.shape:
        return ops.cast(ops.size(x.data), "int64")
    return np.array(np.prod(x.shape), np.int64)


@op("MatMulInteger")
def matmul_integer(walk: Any, node: NodeView) -> Any:
    """Product of integer matrices, zero points taken off."""
    a, b = (ops.cast(walk.plain(node.required(i)), "int32") for i in range(2))
    a_zero, b_zero = (walk.optional_plain(node.input(i)) for i in (2, 3))
    if a_zero is not None:
        a_zero = ops.cast(a_zero, "int32")
        a = ops.subtract(a, ops.expand_dims(a_zero, -1) if len(a_zero.shape) == 1 and a_zero.shape[0] > 1 else a_zero)
    if b_zero is not None:
        b = ops.subtract(b, ops.cast(b_zero, "int32"))
    return ops.matmul(a, b)


@op("Shape")
def shape_(walk: Any, node: NodeView) -> Any:
    """Sizes, where the graph does not say them but the walk knows."""
    from portnet_keras.ops.shape import sizes_of

    source = node.required(0)
    sizes = sizes_of(walk, source, walk.value(source))[node.get("start", 0) : node.get("end")]
    if all(isinstance(n, int) for n in sizes):
        return np.array(sizes, np.int64)
    known = HostValue(np.array(sizes, object), np.dtype(np.int64))
    walk.host_values[node.outputs[0]] = known
    return walk.make_symbolic(node.outputs[0], known)
