"""Resize of an axis whose size, or whose new size, is free: the weights are computed while the network runs."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_keras.framework import keras, ops
from portnet_keras.operation import operation

__all__ = ["resized_free"]

_PLAIN = ("asymmetric", "align_corners", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")


def resized_free(walk: Any, node: NodeView, data: Any, axis: int, scale: float | None, target: Any) -> Any:
    """Return data resized along one axis.

    Args:
        walk: the lowering.
        node: the Resize.
        data: tensor.
        axis: which axis of it, as it lies.
        scale: how much larger; None where it is what ``target`` makes it.
        target: new size, an int or a symbol; None where it follows from ``scale``.
    """
    mode, coordinates = node["mode"], node["coordinate_transformation_mode"]
    for name, known in (("antialias", (0,)), ("exclude_outside", (0,)), ("coordinate_transformation_mode", _PLAIN)):
        if node[name] not in known:
            raise walk.unsupported(f"{name} {node[name]!r} for a free size")
    free = [] if target is None or isinstance(target, int) else [ops.cast(walk.size(target), "int32")]
    return walk.apply(
        resize_free,
        node,
        data,
        *free,
        axis=axis,
        scale=scale,
        count=target if isinstance(target, int) else None,
        mode=mode if mode != "nearest" else node["nearest_mode"],
        coordinates=coordinates,
        cubic_a=node["cubic_coeff_a"],
    )


@operation
def resize_free(
    x: Any, *target: Any, axis: int, scale: float | None, count: int | None, mode: str, coordinates: str, cubic_a: float
) -> Any:
    """Resize one axis to ``count``, to a scalar tensor, or by ``scale``; ``mode`` is linear, cubic or a rounding."""
    size = ops.convert_to_tensor(ops.shape(x)[axis], dtype="int32")
    width = ops.cast(size, "float64")
    if scale is not None:
        length = width * scale
        count = ops.cast(ops.floor(length), "int32")
    else:
        count = target[0] if target else count
        length = ops.cast(count, "float64")
    out = ops.cast(ops.arange(count, dtype="int32"), "float64")
    places = _places(out, width, length, coordinates)
    dtype = keras.backend.standardize_dtype(x.dtype)
    total: Any = None
    for cells, weights in _taps(places, mode, cubic_a):
        taken = ops.take(x, ops.clip(ops.cast(cells, "int32"), 0, size - 1), axis=axis)
        if weights is None:
            return taken
        shape = [-1 if i == axis else 1 for i in range(len(x.shape))]
        part = ops.cast(taken, "float64" if dtype == "float64" else "float32")
        part = part * ops.reshape(ops.cast(weights, part.dtype), shape)
        total = part if total is None else total + part
    return ops.cast(ops.round(total) if "int" in dtype else total, dtype)


def _places(out: Any, size: Any, length: Any, coordinates: str) -> Any:
    """Return the place in the input of each output cell, as the standard's formulas say."""
    if coordinates == "asymmetric":
        return out * size / length
    if coordinates == "align_corners":
        return out * (size - 1) / ops.maximum(length - 1, 1e-9)
    places = (out + 0.5) * size / length - 0.5
    if coordinates == "half_pixel_symmetric":
        return places + size / 2 * (1 - ops.floor(length) / length)
    return places


def _taps(places: Any, mode: str, cubic_a: float) -> list[tuple[Any, Any]]:
    """Return which input cells the output cells read, and by what weights; None for a single one."""
    base = ops.floor(places)
    if mode == "linear":
        share = places - base
        return [(base, 1 - share), (base + 1, share)]
    if mode == "cubic":
        return [(base + i, _cubic(ops.abs(places - base - i), cubic_a)) for i in range(-1, 3)]
    rounded = {
        "floor": base,
        "ceil": ops.ceil(places),
        "round_prefer_floor": ops.ceil(places - 0.5),
        "round_prefer_ceil": ops.floor(places + 0.5),
    }
    return [(rounded[mode], None)]


def _cubic(d: Any, a: float) -> Any:
    """Keys's kernel (1981) of the distance d ≥ 0, within its reach of 2."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return ops.where(d <= 1, near, far)
