"""Normalisation layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, Layout, channels_last
from portnet_keras.ops.broadcast import add
from portnet_keras.ops.registry import op

__all__: list[str] = []


@op("BatchNormalization", spatial=True)
def batch_normalization(walk: Any, node: NodeView) -> Any:
    """Normalise each channel by running statistics, or by the batch's where the network trains."""
    arrays = [node.required(i) for i in range(1, 5)]
    measured = bool(node.get("training_mode", 0))
    if measured or not all(walk.claimable(value) for value in arrays):
        return _by_function(walk, node, measured)
    x = walk.value(node.required(0))
    axis = x.axis(1) if x.rank > 1 else 0
    layer = walk.layer(
        node, keras.layers.BatchNormalization, axis=axis, momentum=node["momentum"], epsilon=node["epsilon"]
    )
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {name: (value, _layout(value)) for name, value in zip(names, arrays, strict=True)}
    return replace(x, data=walk.filled(layer, walk.symbolic(x.data), weights))


def _layout(value: ir.Value) -> Layout:
    return Layout.of(tuple(value.const_value.shape))  # type: ignore[union-attr]


def _by_function(walk: Any, node: NodeView, measured: bool) -> list[KValue]:
    x = walk.last(node.required(0))
    scale, bias, mean, variance = (walk.plain(node.required(i)) for i in range(1, 5))
    running = []
    if measured:
        axes = tuple(range(len(x.shape) - 1))
        batch = ops.mean(x, axis=axes), ops.var(x, axis=axes)
        keep = node["momentum"]
        running = [old * keep + new * (1 - keep) for old, new in zip((mean, variance), batch, strict=True)]
        mean, variance = batch
    y = _normalised(x, mean, variance, node["epsilon"]) * scale + bias
    return [KValue(ops.cast(y, x.dtype), channels_last(len(x.shape))), *(KValue(r, (0,)) for r in running)]


def _normalised(x: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    return ops.divide(ops.subtract(x, mean), ops.sqrt(variance + epsilon))


def _affine(walk: Any, node: NodeView) -> bool:
    """Whether scale and bias are weights that a layer can hold, in the same type as the data."""
    arrays = [node.input(1), node.input(2)]
    return all(walk.claimable(value) for value in arrays) and arrays[0].dtype == node.outputs[0].dtype


def _by_layer(walk: Any, node: NodeView, x: Any, groups: int) -> Any:
    """Return what Keras's layer makes of x, channels last, or None where it cannot hold scale and bias."""
    if _is_plain(walk, node):
        options = {"groups": groups, "epsilon": node["epsilon"], "scale": False, "center": False}
        return walk.layer(node, keras.layers.GroupNormalization, **options)(walk.symbolic(x))
    if not _affine(walk, node):
        return None
    layer = walk.layer(node, keras.layers.GroupNormalization, groups=groups, epsilon=node["epsilon"])
    return _with_affine(walk, node, layer, x)


def _is_plain(walk: Any, node: NodeView) -> bool:
    """Whether scale and bias are constants that change nothing."""
    known = [walk.try_host(node.required(i)) for i in (1, 2)]
    return None not in known and bool((known[0].array == 1).all() and (known[1].array == 0).all())


def _with_affine(walk: Any, node: NodeView, layer: Any, x: Any) -> Any:
    weights = {name: (node.required(i), _layout(node.required(i))) for i, name in ((1, "gamma"), (2, "beta"))}
    return walk.filled(layer, walk.symbolic(x), weights)


@op("InstanceNormalization", spatial=True)
def instance_normalization(walk: Any, node: NodeView) -> KValue:
    """Normalise each channel of each sample over its spatial axes."""
    x = walk.last(node.required(0))
    order, axes = channels_last(len(x.shape)), tuple(range(1, len(x.shape) - 1))
    by_layer = _by_layer(walk, node, x, -1)
    if by_layer is not None:
        return KValue(by_layer, order)
    mean, variance = ops.mean(x, axis=axes, keepdims=True), ops.var(x, axis=axes, keepdims=True)
    scale, bias = walk.plain(node.required(1)), walk.plain(node.required(2))
    return KValue(_normalised(x, mean, variance, node["epsilon"]) * scale + bias, order)


@op("LayerNormalization")
def layer_normalization(walk: Any, node: NodeView) -> list[Any]:
    """Normalise over the last axes, from ``axis`` on."""
    x = walk.plain(node.required(0))
    axes = tuple(range(node["axis"] % len(x.shape), len(x.shape)))
    if _affine(walk, node) and len(node.outputs) == 1 and None not in [x.shape[axis] for axis in axes]:
        layer = walk.layer(node, keras.layers.LayerNormalization, axis=list(axes), epsilon=node["epsilon"])
        return [_with_affine(walk, node, layer, x)]
    wide = ops.cast(x, "float32") if node["stash_type"] == 1 else x
    mean = ops.mean(wide, axis=axes, keepdims=True)
    centred = ops.subtract(wide, mean)
    inverse = ops.divide(1.0, ops.sqrt(ops.mean(ops.square(centred), axis=axes, keepdims=True) + node["epsilon"]))
    scaled = ops.multiply(ops.cast(ops.multiply(centred, inverse), x.dtype), walk.plain(node.required(1)))
    bias = walk.optional_plain(node.input(2))
    return [scaled if bias is None else add(scaled, bias), mean, inverse]


@op("GroupNormalization", spatial=True)
def group_normalization(walk: Any, node: NodeView) -> KValue:
    """Normalise groups of channels over their channels and space."""
    x = walk.last(node.required(0))
    order, groups = channels_last(len(x.shape)), node["num_groups"]
    by_layer = _by_layer(walk, node, x, groups)
    if by_layer is not None:
        return KValue(by_layer, order)
    if x.shape.count(None) > 1:
        raise walk.unsupported("free sizes, and a scale that is computed")
    shape = [-1 if n is None else n for n in x.shape]
    split = ops.reshape(x, [*shape[:-1], groups, shape[-1] // groups])
    axes = (*range(1, len(shape) - 1), len(shape))
    mean, variance = ops.mean(split, axis=axes, keepdims=True), ops.var(split, axis=axes, keepdims=True)
    y = ops.reshape(_normalised(split, mean, variance, node["epsilon"]), shape)
    scale, bias = walk.plain(node.required(1)), walk.plain(node.required(2))
    return KValue(add(ops.multiply(y, scale), bias), order)


@op("LRN", spatial=True)
def local_response_normalization(walk: Any, node: NodeView) -> KValue:
    """Divide by a power of the sum of squares over neighbouring channels."""
    x = walk.last(node.required(0))
    size, channels = node["size"], x.shape[-1]
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    squares = ops.pad(ops.square(x), [(0, 0)] * (len(x.shape) - 1) + [(before, after)])
    total = sum(squares[..., i : i + channels] for i in range(size))
    scaled = total * (node["alpha"] / size) + node["bias"]
    return KValue(ops.divide(x, ops.power(scaled, node["beta"])), channels_last(len(x.shape)))
