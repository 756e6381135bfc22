"""Resize and Upsample: each axis is one gather or one small matrix, computed here from the standard's formulas.

Coordinates, kernels and rounding are those of ONNX's operator Resize; half-way cases of nearest follow its names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.free import size_of
from portnet_gluon.ops.registry import Symbol, numpy_op, op
from portnet_gluon.ops.resize_free import FreeAxis, resized_free


@dataclass(frozen=True)
class Axis:
    """How one axis is resized.

    Attributes:
        index: which axis.
        size: its size.
        target: its new size.
        scale: new size over old, as given or computed.
        roi: start and end of the region, in shares of the axis.
    """

    index: int
    size: int
    target: int
    scale: float
    roi: tuple[float, float] = (0.0, 1.0)

    @property
    def length(self) -> float:
        """The new size before it is rounded down, which the standard's formulas take."""
        return self.scale * self.size

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self.size == self.target and self.scale == 1 and self.roi == (0.0, 1.0)


# coordinate_transformation_mode -> coordinate in the input of each new place
_COORDINATES: dict[str, Callable[[Axis, np.ndarray], np.ndarray]] = {
    "half_pixel": lambda a, x: (x + 0.5) / a.scale - 0.5,
    "half_pixel_symmetric": lambda a, x: a.size / 2 * (1 - a.target / a.length) + (x + 0.5) / a.scale - 0.5,
    "pytorch_half_pixel": lambda a, x: (x + 0.5) / a.scale - 0.5 if a.length > 1 else 0 * x,
    "align_corners": lambda a, x: x * (a.size - 1) / (a.length - 1) if a.length != 1 else 0 * x,
    "asymmetric": lambda a, x: x / a.scale,
    "tf_crop_and_resize": lambda a, x: (
        a.roi[0] * (a.size - 1) + x * (a.roi[1] - a.roi[0]) * (a.size - 1) / (a.length - 1)
        if a.length > 1
        else 0 * x + 0.5 * sum(a.roi) * (a.size - 1)
    ),
}

_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@op("Resize", "Upsample")
def resize(walk: Any, node: NodeView) -> Symbol:
    """Nearest, linear or cubic, axis by axis."""
    every, x = _axes(walk, node), walk.value(node.required(0))
    for free in every:
        if isinstance(free, FreeAxis):
            x = resized_free(walk, node, x, walk.rank(node.required(0)), free)
    axes = [axis for axis in every if isinstance(axis, Axis) and not axis.is_identity]
    for axis in axes:
        x = _nearest(walk, node, x, axis) if node["mode"] == "nearest" else _weighted(walk, node, x, axis)
    if node.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        x = _extrapolated(walk, node, x, axes)
    return mx.sym.identity(x, name=node.name)


def _axes(walk: Any, node: NodeView) -> list[Axis | FreeAxis]:
    value = node.required(0)
    shape, rank = walk.static_shape(value), walk.rank(value)
    chosen = [axis % rank for axis in node.get("axes") or range(rank)]
    roi, scales, sizes = _requests(walk, node, len(chosen))
    if sizes and node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        sizes, scales = _within_aspect(walk, node, sizes, [shape[i] for i in chosen])
    result: list[Axis | FreeAxis] = []
    for i, index in enumerate(chosen):
        size, region = size_of(walk, value, index), (roi[i], roi[i + len(chosen)])
        scale = scales[i] if scales else None
        if scale == 1 or (scale is None and sizes[i] == size):
            scale, target = 1.0, size
        else:
            target = sizes[i] if sizes else math.floor(size * scale) if isinstance(size, int) else None
        if isinstance(size, int) and isinstance(target, int):
            result.append(Axis(index, size, target, target / size if scale is None else scale, region))
        elif target is not size:
            result.append(FreeAxis(index, size, target, scale))
    return result


def _requests(walk: Any, node: NodeView, count: int) -> tuple[list[float], list[float], list[Any]]:
    """Return roi, scales and sizes; one of the latter two is empty."""
    if node.op == "Upsample":
        return [0.0] * count + [1.0] * count, [float(n) for n in walk.host(node.required(1))], []
    roi = [0.0] * count + [1.0] * count
    if node["coordinate_transformation_mode"] == "tf_crop_and_resize":
        roi = [float(n) for n in walk.host(node.required(1))]
    scales = [] if node.input(2) is None else [float(n) for n in walk.host(node.required(2))]
    sizes = [] if scales else walk.host_dims(node.required(3))
    return roi, scales, sizes


def _within_aspect(walk: Any, node: NodeView, sizes: list[Any], old: list[Any]) -> tuple[list[int], list[float]]:
    """Return the new sizes and the one scale of all axes, which is not always new size over old: sizes are rounded."""
    policy = node["keep_aspect_ratio_policy"]
    if not all(isinstance(size, int) for size in (*sizes, *old)):
        raise walk.unsupported(f"keep_aspect_ratio_policy {policy!r} for a free size")
    pick = min if policy == "not_larger" else max
    scale = pick(new / size for new, size in zip(sizes, old, strict=True))
    return [math.floor(scale * size + 0.5) for size in old], [scale] * len(old)


def _places(node: NodeView, axis: Axis) -> np.ndarray:
    mode = node.get("coordinate_transformation_mode", "asymmetric")
    return np.asarray(_COORDINATES[mode](axis, np.arange(axis.target, dtype=np.float64)))


def _nearest(walk: Any, node: NodeView, x: Symbol, axis: Axis) -> Symbol:
    rounded = _ROUNDINGS[node.get("nearest_mode", "floor")](_places(node, axis))
    indices = walk.constant(node, f"indices{axis.index}", np.clip(rounded, 0, axis.size - 1).astype(np.int64))
    return numpy_op("take", x, indices, axis=axis.index, mode="clip")


def _weighted(walk: Any, node: NodeView, x: Symbol, axis: Axis) -> Symbol:
    matrix = _matrix(node, axis).T.astype(walk.dtype(node.required(0)))
    weights = walk.constant(node, f"weights{axis.index}", matrix)
    last = walk.rank(node.required(0)) - 1
    if axis.index == last:
        return mx.sym.dot(x, weights)
    return mx.sym.swapaxes(mx.sym.dot(mx.sym.swapaxes(x, dim1=axis.index, dim2=last), weights), axis.index, last)


def _matrix(node: NodeView, axis: Axis) -> np.ndarray:
    """Return the interpolation as a matrix (target, size)."""
    is_cubic, antialias = node["mode"] == "cubic", bool(node.get("antialias", 0))
    stretch = min(axis.scale, 1.0) if antialias else 1.0
    reach = math.ceil((2 if is_cubic else 1) / stretch) + 1
    outside, matrix = bool(node.get("exclude_outside", 0)), np.zeros((axis.target, axis.size))
    for row, place in zip(matrix, _places(node, axis), strict=True):
        taps = math.floor(place) + np.arange(-reach, reach + 1)
        distance = np.abs(taps - place) * stretch
        weights = _cubic(distance, node.get("cubic_coeff_a", -0.75)) if is_cubic else np.maximum(1 - distance, 0)
        if outside:
            weights = np.where((taps >= 0) & (taps < axis.size), weights, 0)
        if outside or antialias:
            weights = weights / weights.sum()
        np.add.at(row, np.clip(taps, 0, axis.size - 1), weights)
    return matrix


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """Keys's kernel (1981) of the distance t ≥ 0."""
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _extrapolated(walk: Any, node: NodeView, x: Symbol, axes: list[Axis]) -> Symbol:
    """Put the extrapolation value where a coordinate lies outside the input."""
    rank = walk.rank(node.required(0))
    for axis in axes:
        places = _places(node, axis)
        inside = ((places >= 0) & (places <= axis.size - 1)).reshape([-1] + [1] * (rank - 1 - axis.index))
        mask = walk.constant(node, f"inside{axis.index}", inside)
        x = numpy_op("where", mask, x, mx.sym.ones_like(x) * node["extrapolation_value"])
    return x
