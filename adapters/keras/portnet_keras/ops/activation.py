"""Activations, as Keras layers where it has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, Layout
from portnet_keras.ops.broadcast import align
from portnet_keras.ops.elementwise import wide_maximum, wide_minimum
from portnet_keras.ops.registry import op

__all__: list[str] = []


def _layer(name: str, make: Any) -> None:
    """Register an activation that a Keras layer computes; ``make(walk, node)`` returns the layer."""

    @op(name, transparent=True)
    def build(walk: Any, node: NodeView) -> KValue:
        x = walk.value(node.required(0))
        return replace(x, data=make(walk, node)(x.data))


def _activation(name: str, function: str) -> None:
    _layer(name, lambda walk, node: walk.layer(node, keras.layers.Activation, function))


_activation("Sigmoid", "sigmoid")
_activation("Tanh", "tanh")
_activation("Softplus", "softplus")
_activation("Softsign", "softsign")
_layer("LeakyRelu", lambda walk, node: walk.layer(node, keras.layers.LeakyReLU, negative_slope=node["alpha"]))


@op("Relu", transparent=True)
def relu(walk: Any, node: NodeView) -> KValue:
    """Keras's layer, which takes floats; the larger of zero and an integer."""
    x = walk.value(node.required(0))
    if "float" in keras.backend.standardize_dtype(x.data.dtype):
        return replace(x, data=walk.layer(node, keras.layers.ReLU)(x.data))
    return replace(x, data=wide_maximum(x.data, ops.zeros_like(x.data)))


def _formula(name: str, function: Any) -> None:
    """Register an activation by its formula ``function(x, node)``."""

    @op(name, transparent=True)
    def build(walk: Any, node: NodeView) -> KValue:
        x = walk.value(node.required(0))
        return replace(x, data=function(x.data, node))


def _elu(x: Any, node: NodeView) -> Any:
    return ops.where(x > 0, x, node["alpha"] * (ops.exp(ops.minimum(x, 0)) - 1))


def _selu(x: Any, node: NodeView) -> Any:
    return node["gamma"] * _elu(x, node)


def _celu(x: Any, node: NodeView) -> Any:
    alpha, zero = node["alpha"], 0
    return ops.maximum(x, zero) + ops.minimum(zero, alpha * (ops.exp(x / alpha) - 1))


def _gelu(x: Any, node: NodeView) -> Any:
    return ops.gelu(x, approximate=node["approximate"] == "tanh")


def _hard_sigmoid(x: Any, node: NodeView) -> Any:
    return ops.clip(node["alpha"] * x + node["beta"], 0, 1)


def _hard_swish(x: Any, node: NodeView) -> Any:
    return ops.hard_swish(x)


def _mish(x: Any, node: NodeView) -> Any:
    return x * ops.tanh(ops.softplus(x))


def _swish(x: Any, node: NodeView) -> Any:
    return x * ops.sigmoid(node["alpha"] * x)


def _thresholded(x: Any, node: NodeView) -> Any:
    return ops.where(x > node["alpha"], x, 0)


def _shrink(x: Any, node: NodeView) -> Any:
    bias, lambd, zero = node["bias"], node["lambd"], 0
    return ops.where(x < -lambd, x + bias, ops.where(x > lambd, x - bias, zero))


_formula("Elu", _elu)
_formula("Selu", _selu)
_formula("Celu", _celu)
_formula("Gelu", _gelu)
_formula("HardSigmoid", _hard_sigmoid)
_formula("HardSwish", _hard_swish)
_formula("Mish", _mish)
_formula("Swish", _swish)
_formula("ThresholdedRelu", _thresholded)
_formula("Shrink", _shrink)


@op("Clip", transparent=True)
def clip(walk: Any, node: NodeView) -> KValue:
    """Clip; bounds (0, 6) and (0, ∞) are Keras's ReLU."""
    x = walk.value(node.required(0))
    low, high = (None if value is None else walk.try_number(value) for value in (node.input(1), node.input(2)))
    is_float = "float" in keras.backend.standardize_dtype(x.data.dtype)
    if is_float and low == 0 and (node.input(2) is None or high is not None):
        return replace(x, data=walk.layer(node, keras.layers.ReLU, max_value=high)(x.data))
    data = x.data
    if node.input(1) is not None:
        data = wide_maximum(data, walk.plain(node.input(1)))
    if node.input(2) is not None:
        data = wide_minimum(data, walk.plain(node.input(2)))
    return replace(x, data=data)


@op("PRelu", transparent=True)
def prelu(walk: Any, node: NodeView) -> KValue:
    """Leaky ReLU whose slope is a parameter: Keras's PReLU where the slope is one a channel."""
    x, slope = walk.value(node.required(0)), node.required(1)
    layout = _slope_layout(walk, x, slope)
    if layout is None:
        (data, factor), order = align(walk, [node.required(0), slope])
        return KValue(ops.where(data < 0, factor * data, data), order)
    shared = [axis for axis in range(1, x.rank) if layout.native[axis - 1] == 1]
    layer = walk.layer(node, keras.layers.PReLU, shared_axes=shared or None)
    return replace(x, data=walk.filled(layer, x.data, {"alpha": (slope, layout)}))


def _slope_layout(walk: Any, x: KValue, slope: Any) -> Layout | None:
    if not walk.claimable(slope) or x.rank < 2 or x.order[0] != 0 or x.is_constant:
        return None
    shape = tuple(int(n) for n in slope.const_value.shape)
    split = (1,) * (x.rank - len(shape)) + shape
    native = tuple(split[axis] for axis in x.order)
    fits = all(n in (1, size) for n, size in zip(native, x.data.shape, strict=True))
    if len(split) != x.rank or native[0] != 1 or not fits:
        return None
    return Layout.of(shape, x.order, split=split, native=native[1:])


@op("Softmax")
def softmax(walk: Any, node: NodeView) -> KValue:
    """Softmax along one axis; halves are rounded step by step, as the standard's reference does."""
    x = walk.value(node.required(0))
    if keras.backend.standardize_dtype(x.data.dtype) == "float16":
        axis = x.axis(node["axis"])
        powers = ops.exp(ops.subtract(x.data, ops.max(x.data, axis=axis, keepdims=True)))
        total = ops.cast(ops.sum(ops.cast(powers, "float32"), axis=axis, keepdims=True), "float16")
        return replace(x, data=ops.divide(powers, total))
    return replace(x, data=walk.layer(node, keras.layers.Softmax, axis=x.axis(node["axis"]))(x.data))


@op("LogSoftmax")
def log_softmax(walk: Any, node: NodeView) -> KValue:
    """Logarithm of softmax along one axis."""
    x = walk.value(node.required(0))
    return replace(x, data=ops.log_softmax(x.data, axis=x.axis(node["axis"])))


@op("Hardmax")
def hardmax(walk: Any, node: NodeView) -> KValue:
    """1 at the first largest entry along one axis, 0 elsewhere."""
    x = walk.value(node.required(0))
    axis = x.axis(node["axis"])
    size = x.data.shape[axis]
    if size is None:
        raise walk.unsupported("a free size along the axis")
    shape = [size if i == axis else 1 for i in range(x.rank)]
    first = ops.argmax(x.data, axis=axis, keepdims=True)
    return replace(x, data=ops.cast(ops.equal(ops.cast(first, "int64"), np.arange(size).reshape(shape)), x.data.dtype))


@op("Dropout", transparent=True)
def dropout(walk: Any, node: NodeView) -> list[KValue]:
    """Dropout: live when the network trains, identity in inference."""
    x = walk.value(node.required(0))
    ratio = 0.5 if node.input(1) is None else float(walk.host(node.input(1)).item())
    training = node.input(2) is not None and bool(walk.host(node.input(2)).item())
    if training and ratio > 0 and len(node.outputs) > 1:
        raise walk.unsupported("training_mode with a mask output")
    data = x.data if x.is_constant else walk.layer(node, keras.layers.Dropout, rate=ratio)(x.data)
    results = [replace(x, data=data), replace(x, data=ops.ones_like(x.data, dtype="bool"))]
    return results[: len(node.outputs)]
