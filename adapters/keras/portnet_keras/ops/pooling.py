"""Pooling: Keras's layers where they say it, windows of strided slices where they do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, channels_last
from portnet_keras.operation import operation
from portnet_keras.ops.registry import op
from portnet_keras.ops.window import Window, pad_axes, padded, settled

__all__: list[str] = []

_LAYERS = keras.layers
_MAX = (_LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D, _LAYERS.MaxPooling3D)
_AVERAGE = (_LAYERS.AveragePooling1D, _LAYERS.AveragePooling2D, _LAYERS.AveragePooling3D)
_GLOBAL_MAX = (_LAYERS.GlobalMaxPooling1D, _LAYERS.GlobalMaxPooling2D, _LAYERS.GlobalMaxPooling3D)
_GLOBAL_AVERAGE = (_LAYERS.GlobalAveragePooling1D, _LAYERS.GlobalAveragePooling2D, _LAYERS.GlobalAveragePooling3D)


def _sizes(x: Any) -> tuple[int | None, ...]:
    return tuple(x.shape[1:-1])


def _is_float32(x: Any) -> bool:
    return str(x.dtype) == "float32"


def _pool_layer(walk: Any, node: NodeView, classes: Any, x: Any, window: Window, padding: str) -> Any:
    rank = len(window.kernel)
    size, strides = (window.kernel, window.strides) if rank > 1 else (window.kernel[0], window.strides[0])
    return walk.layer(node, classes[rank - 1], pool_size=size, strides=strides, padding=padding)(x)


def _result(x: Any, data: Any) -> KValue:
    return KValue(data, channels_last(len(x.shape)))


@op("MaxPool", spatial=True)
def max_pool(walk: Any, node: NodeView) -> Any:
    """Largest entry of each window; the second output is its place in the flattened input."""
    x = walk.last(node.required(0))
    window = Window.of(walk, node, node["kernel_shape"], _sizes(x))
    if len(node.outputs) > 1 and node.outputs[1].name:
        return _max_with_indices(walk, node, x, window)
    rank, same = len(window.kernel), window.is_same(_sizes(x))
    if rank > 3 or max(window.dilations) > 1 or not _is_float32(x):
        x, window = settled(walk, node, x, window, -math.inf)
        return _result(x, walk.apply(pool_windows, node, x, reduce="max", **_attributes(window)))
    if not same:
        x, window = settled(walk, node, x, window, -math.inf)
        x = padded(walk, node, x, window.all_pads or (), 0.0 if _is_non_negative(node.required(0)) else -math.inf)
    return _result(x, _pool_layer(walk, node, _MAX, x, window, "same" if same else "valid"))


def _is_non_negative(value: ir.Value) -> bool:
    """Whether padding with zeros is as good as with -∞."""
    producer = value.producer()
    return producer is not None and producer.op_type in ("Relu", "Sigmoid", "Softplus", "Softmax", "HardSigmoid")


def _attributes(window: Window) -> dict[str, Any]:
    return {
        "kernel": list(window.kernel),
        "strides": list(window.strides),
        "dilations": list(window.dilations),
        "pads": [list(pair) for pair in window.all_pads or ()],
    }


def _lowest(dtype: Any) -> float:
    dtype = np.dtype(dtype)
    return -math.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def _taps(x: Any, axis: int, kernel: int, stride: int, dilation: int) -> Any:
    """Return the cells that each tap of the kernel meets along one axis, stacked in front."""
    count = (ops.shape(x)[axis] - (kernel - 1) * dilation - 1) // stride + 1
    lead = (slice(None),) * axis
    starts = range(0, kernel * dilation, dilation)
    return ops.stack([x[(*lead, slice(start, start + (count - 1) * stride + 1, stride))] for start in starts])


def _padded(x: Any, pads: Any, fill: float) -> Any:
    return ops.pad(x, [(0, 0), *map(tuple, pads), (0, 0)], constant_values=ops.cast(fill, x.dtype))


@operation
def pool_windows(x: Any, *, reduce: str, kernel: Any, strides: Any, dilations: Any, pads: Any, p: float = 2) -> Any:
    """Pool (N, ..., C) of any rank and dilation, one axis after the other: "max", "sum", or "lp" with its p."""
    x = _padded(x, pads, _lowest(keras.backend.standardize_dtype(x.dtype)) if reduce == "max" else 0)
    x = ops.power(ops.abs(x), p) if reduce == "lp" else x
    join = ops.max if reduce == "max" else ops.sum
    for axis, window in enumerate(zip(kernel, strides, dilations, strict=True), start=1):
        x = join(_taps(x, axis, *window), axis=0)
    return ops.power(x, 1 / p) if reduce == "lp" else x


@operation
def max_places(x: Any, places: Any, *, kernel: Any, strides: Any, dilations: Any, pads: Any) -> Any:
    """Return largest entries and, by ``places`` of the same shape, where they were; of equal ones the first.

    The last axis goes first, so that "first" is in the order of rows.
    """
    x, places = _padded(x, pads, _lowest(keras.backend.standardize_dtype(x.dtype))), _padded(places, pads, 0)
    for axis, *window in reversed(list(zip(range(1, len(kernel) + 1), kernel, strides, dilations, strict=True))):
        taps, where = _taps(x, axis, *window), _taps(places, axis, *window)
        best = ops.argmax(taps, axis=0, keepdims=True)
        x, places = ops.max(taps, axis=0), ops.squeeze(ops.take_along_axis(where, best, axis=0), 0)
    return x, places


def _max_with_indices(walk: Any, node: NodeView, x: Any, window: Window) -> list[KValue]:
    if None in x.shape:
        raise walk.unsupported("the Indices output with free sizes")
    batch, *sizes, channels = x.shape
    places = np.arange(math.prod(x.shape)).reshape(
        batch, channels, *(reversed(sizes) if node["storage_order"] else sizes)
    )
    if node["storage_order"]:
        places = places.transpose(0, 1, *reversed(range(2, places.ndim)))
    places = np.ascontiguousarray(places.transpose(channels_last(len(x.shape))))
    values, found = walk.apply(max_places, node, x, places, **_attributes(window))
    return [_result(x, values), _result(x, found)]


@op("AveragePool", spatial=True)
def average_pool(walk: Any, node: NodeView) -> KValue:
    """Mean of each window; what padding counts is decided by count_include_pad."""
    x = walk.last(node.required(0))
    window = Window.of(walk, node, node["kernel_shape"], _sizes(x))
    native = len(window.kernel) <= 3 and max(window.dilations) == 1 and _is_float32(x)
    include = bool(node["count_include_pad"])
    if native and not include and window.is_same(_sizes(x)):
        return _result(x, _pool_layer(walk, node, _AVERAGE, x, window, "same"))
    bare, auto = x, window
    x, window = settled(walk, node, x, window)
    pads = window.pads or ()
    if native and not any(window.extra) and (include or (auto.pads is not None and not any(map(any, pads)))):
        return _result(x, _pool_layer(walk, node, _AVERAGE, padded(walk, node, x, pads), window, "valid"))
    counted = _counted(walk, node, x if include else bare, window if include else auto, include)
    counts = walk.apply(pool_windows, node, counted, reduce="sum", **{**_attributes(window), "pads": _none(window)})
    total = walk.apply(pool_windows, node, x, reduce="sum", **_attributes(window))
    return _result(x, ops.divide(total, ops.cast(counts, x.dtype)))


def _counted(walk: Any, node: NodeView, x: Any, window: Window, include: bool) -> Any:
    """Return ones where a cell counts, over the padded input: (1, ..., 1)."""
    if None in _sizes(x):
        ones, settled_window = settled(walk, node, ops.ones_like(x[:1, ..., :1]), window)
        ones = pad_axes(ones, [(0, 0), *(settled_window.pads or ()), (0, 0)], float(include))
        return pad_axes(ones, [(0, 0), *((0, extra) for extra in window.extra), (0, 0)])
    counts = np.zeros([n + b + e for n, (b, e) in zip(_sizes(x), window.all_pads or (), strict=True)], np.float32)
    inside = [
        slice(0, n + b + e) if include else slice(b, b + n)
        for n, (b, e) in zip(_sizes(x), window.pads or (), strict=True)
    ]
    counts[tuple(inside)] = 1
    return counts[None, ..., None]


def _none(window: Window) -> list[list[int]]:
    return [[0, 0] for _ in window.kernel]


@op("LpPool", spatial=True)
def lp_pool(walk: Any, node: NodeView) -> KValue:
    """p-norm of each window."""
    x = walk.last(node.required(0))
    window = Window.of(walk, node, node["kernel_shape"], _sizes(x))
    x, window = settled(walk, node, x, window)
    return _result(x, walk.apply(pool_windows, node, x, reduce="lp", p=node["p"], **_attributes(window)))


@op("GlobalAveragePool", spatial=True)
def global_average_pool(walk: Any, node: NodeView) -> KValue:
    """Mean over all spatial axes."""
    return _global(walk, node, _GLOBAL_AVERAGE, ops.mean)


@op("GlobalMaxPool", spatial=True)
def global_max_pool(walk: Any, node: NodeView) -> KValue:
    """Largest entry over all spatial axes."""
    return _global(walk, node, _GLOBAL_MAX, ops.max)


def _global(walk: Any, node: NodeView, classes: Any, reduce: Any) -> KValue:
    x = walk.last(node.required(0))
    rank = len(x.shape) - 2
    if 1 <= rank <= 3:
        return _result(x, walk.layer(node, classes[rank - 1], keepdims=True)(x))
    return _result(x, reduce(x, axis=tuple(range(1, rank + 1)), keepdims=True))


@op("GlobalLpPool", spatial=True)
def global_lp_pool(walk: Any, node: NodeView) -> KValue:
    """p-norm over all spatial axes."""
    x = walk.last(node.required(0))
    axes = tuple(range(1, len(x.shape) - 1))
    return _result(x, ops.power(ops.sum(ops.power(ops.abs(x), node["p"]), axis=axes, keepdims=True), 1 / node["p"]))
