"""Resize in all its modes, as a product with one small matrix an axis; and the ops that trade depth for space.

An axis of n cells becomes one of m cells by out = M · in, where row i of M holds the weights of output cell i. The
weights are those of the standard's reference, computed on the host. Nearest by whole factors is Keras's UpSampling.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.layout import KValue, channels_last
from portnet_keras.ops.registry import op
from portnet_keras.ops.resize_free import resized_free
from portnet_keras.ops.shape import sizes_of

__all__ = ["axis_weights"]


@op("Resize", spatial=True)
def resize(walk: Any, node: NodeView) -> KValue:
    """Resize along some axes."""
    x = walk.value(node.required(0))
    axes = [axis % x.rank for axis in node.get("axes") or range(x.rank)]
    own = sizes_of(walk, node.required(0), x)
    sizes = [own[axis] for axis in axes]
    scales, targets = _scales_and_targets(walk, node, sizes)
    upsampled = _upsampling(walk, node, x, axes, scales)
    if upsampled is not None:
        return upsampled
    roi = _roi(walk, node, len(axes))
    data = x.data
    for i, axis in enumerate(axes):
        if scales[i] == 1 and targets[i] == sizes[i]:
            continue
        if not (isinstance(sizes[i], int) and isinstance(targets[i], int)):
            data = resized_free(walk, node, data, x.axis(axis), scales[i], targets[i])
            continue
        weights, outside = axis_weights(node, sizes[i], targets[i], scales[i], (roi[i], roi[i + len(axes)]))
        data = _applied(data, weights, x.axis(axis))
        if outside.any():
            shape = [-1 if a == axis else 1 for a in x.order]
            data = ops.where(outside.reshape(shape), ops.cast(node["extrapolation_value"], data.dtype), data)
    return KValue(data, x.order)


def _applied(data: Any, weights: np.ndarray, axis: int) -> Any:
    places = weights.argmax(axis=1)
    if np.array_equal(weights, np.eye(weights.shape[1])[places]):
        return ops.take(data, places, axis=axis)
    dtype = keras.backend.standardize_dtype(data.dtype)
    working = dtype if "float" in dtype else "float32"
    moved = ops.moveaxis(ops.cast(data, working), axis, -1)
    mixed = ops.matmul(moved, weights.T.astype(np.float32).astype(working))
    mixed = ops.round(mixed) if working != dtype else mixed
    return ops.cast(ops.moveaxis(mixed, -1, axis), dtype)


def _roi(walk: Any, node: NodeView, count: int) -> list[float]:
    if node["coordinate_transformation_mode"] != "tf_crop_and_resize":
        return [0.0] * count + [1.0] * count
    return [float(n) for n in walk.host(node.input(1)).reshape(-1)]


def _scales_and_targets(walk: Any, node: NodeView, sizes: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the scale of each axis, None where it follows from free sizes, and its new size.

    A new size is an int, a symbol, or None where it follows from the scale and a free size.
    """
    if node.input(3) is None:
        scales = [float(n) for n in walk.host(node.input(2)).reshape(-1)]
        return scales, [_scaled(n, scale) for n, scale in zip(sizes, scales, strict=True)]
    wanted = walk.host_dims(node.input(3))
    policy = node["keep_aspect_ratio_policy"]
    if policy == "stretch":
        return [_scale(n, want) for n, want in zip(sizes, wanted, strict=True)], wanted
    if not all(isinstance(n, int) for n in (*sizes, *wanted)):
        raise walk.unsupported(f"keep_aspect_ratio_policy {policy!r} for a free size")
    scales = [want / n for want, n in zip(wanted, sizes, strict=True)]
    scale = min(scales) if policy == "not_larger" else max(scales)
    return [scale] * len(scales), [math.floor(scale * n + 0.5) for n in sizes]


def _scaled(size: Any, scale: float) -> Any:
    if scale == 1:
        return size
    return math.floor(size * scale) if isinstance(size, int) else None


def _scale(size: Any, target: Any) -> float | None:
    if size == target:
        return 1.0
    return target / size if isinstance(size, int) and isinstance(target, int) else None


def _upsampling(walk: Any, node: NodeView, x: KValue, axes: list[int], scales: list[Any]) -> KValue | None:
    """Return nearest by whole factors as Keras's layer, or None where it is something else."""
    factors = [1] * x.rank
    for axis, scale in zip(axes, scales, strict=True):
        factors[axis] = int(scale) if scale is not None and scale == int(scale) else 0
    whole = x.rank in (3, 4, 5) and min(factors) >= 1 and max(factors) > 1 and factors[0] == factors[1] == 1
    mode = (node["coordinate_transformation_mode"], node["nearest_mode"])
    repeats = mode in (
        ("asymmetric", "floor"),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
    )
    if node["mode"] != "nearest" or not whole or not repeats or x.is_constant:
        return None
    cls = (keras.layers.UpSampling1D, keras.layers.UpSampling2D, keras.layers.UpSampling3D)[x.rank - 3]
    layer = walk.layer(node, cls, tuple(factors[2:]) if x.rank > 3 else factors[2])
    return KValue(layer(walk.ordered(x, channels_last(x.rank))), channels_last(x.rank))


def axis_weights(
    node: NodeView, size: int, target: int, scale: float, roi: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix (target, size) of one axis, and which output cells lie outside the input."""
    places = _source(node["coordinate_transformation_mode"], size, target, scale, roi)
    outside = np.zeros(target, bool)
    if node["coordinate_transformation_mode"] == "tf_crop_and_resize":
        outside = (places < 0) | (places > size - 1)
    weights = np.zeros((target, size))
    for row, place in enumerate(places):
        cells, values = _taps(node, place, scale)
        if node["mode"] == "cubic" and node["exclude_outside"]:
            values = np.where((cells >= 0) & (cells < size), values, 0)
            values = values / values.sum()
        np.add.at(weights[row], np.clip(cells, 0, size - 1), values)
    return weights, outside


def _source(mode: str, size: int, target: int, scale: float, roi: tuple[float, float]) -> np.ndarray:
    """Return the place in the input of each output cell."""
    out = np.arange(target, dtype=np.float64)
    if mode == "align_corners":
        return out * (size - 1) / (scale * size - 1) if scale * size != 1 else out * 0
    if mode == "asymmetric":
        return out / scale
    if mode == "tf_crop_and_resize":
        start, end = roi
        if target == 1:
            return np.array([(end - start) * (size - 1) / 2])
        return start * (size - 1) + out * (end - start) * (size - 1) / (target - 1)
    if mode == "pytorch_half_pixel" and scale * size == 1:
        return np.array([-0.5])
    shifted = (out + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = target / (scale * size)
        return size / 2 * (1 - adjustment) + shifted
    return shifted


def _taps(node: NodeView, place: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the input cells that one output cell reads, and their weights."""
    if node["mode"] == "nearest":
        return np.array([_nearest(node["nearest_mode"], place)]), np.ones(1)
    stretch = min(scale, 1.0) if node["antialias"] else 1.0
    reach = (1 if node["mode"] == "linear" else 2) / stretch
    first = math.floor(place - reach) + 1
    cells = np.arange(first, math.ceil(place + reach) + (1 if node["antialias"] else 0))
    if not node["antialias"]:
        base = math.floor(place)
        cells = np.arange(base, base + 2) if node["mode"] == "linear" else np.arange(base - 1, base + 3)
    distance = np.abs(cells - place) * stretch
    values = np.maximum(1 - distance, 0) if node["mode"] == "linear" else _cubic(distance, node["cubic_coeff_a"])
    return cells, values / values.sum() if node["antialias"] else values


def _cubic(d: np.ndarray, a: float) -> np.ndarray:
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _nearest(mode: str, place: float) -> int:
    if mode == "floor":
        return math.floor(place)
    if mode == "ceil":
        return math.ceil(place)
    return math.ceil(place - 0.5) if mode == "round_prefer_floor" else math.floor(place + 0.5)


@op("DepthToSpace", spatial=True)
def depth_to_space(walk: Any, node: NodeView) -> KValue:
    """Move depth into blocks of space."""
    x = walk.last(node.required(0))
    block = node["blocksize"]
    batch, height, width, channels = _known(walk, x)
    shape = (block, block, channels // block**2) if node["mode"] == "DCR" else (channels // block**2, block, block)
    split = ops.reshape(x, (batch, height, width, *shape))
    perm = (0, 1, 3, 2, 4, 5) if node["mode"] == "DCR" else (0, 1, 4, 2, 5, 3)
    y = ops.reshape(ops.transpose(split, perm), (batch, height * block, width * block, channels // block**2))
    return KValue(y, channels_last(4))


@op("SpaceToDepth", spatial=True)
def space_to_depth(walk: Any, node: NodeView) -> KValue:
    """Move blocks of space into depth."""
    x = walk.last(node.required(0))
    block = node["blocksize"]
    batch, height, width, channels = _known(walk, x)
    split = ops.reshape(x, (batch, height // block, block, width // block, block, channels))
    y = ops.transpose(split, (0, 1, 3, 5, 2, 4) if node.get("mode", "DCR") == "CRD" else (0, 1, 3, 2, 4, 5))
    return KValue(ops.reshape(y, (batch, height // block, width // block, block**2 * channels)), channels_last(4))


def _known(walk: Any, x: Any) -> tuple[int, int, int, int]:
    if None in x.shape[1:]:
        raise walk.unsupported("free height, width or channels")
    batch, height, width, channels = x.shape
    return (-1 if batch is None else batch), height, width, channels
