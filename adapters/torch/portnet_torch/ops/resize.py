"""Resize: torch's own interpolation where it means the same, else ours."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from portnet.graph.lowering import HostValueNeededError, NodeView
from portnet_torch.functional import resize
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import Walk, op

# (mode, coordinate transformation, nearest mode) -> what torch calls it
_TORCH_MODES = {
    ("nearest", "asymmetric", "floor"): {"mode": "nearest"},
    ("nearest", "half_pixel", "round_prefer_ceil"): {"mode": "nearest-exact"},
    ("linear", "half_pixel"): {"mode": "linear", "align_corners": False},
    ("linear", "pytorch_half_pixel"): {"mode": "linear", "align_corners": False},
    ("linear", "align_corners"): {"mode": "linear", "align_corners": True},
    ("cubic", "half_pixel"): {"mode": "bicubic", "align_corners": False},
    ("cubic", "pytorch_half_pixel"): {"mode": "bicubic", "align_corners": False},
    ("cubic", "align_corners"): {"mode": "bicubic", "align_corners": True},
}

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}


@op("Resize")
def _resize(walk: Walk, node: NodeView) -> Any:
    source = node.required(0)
    x, rank = walk.value(source), walk.rank(source)
    axes = [axis % rank for axis in node.get("axes") or range(rank)]
    scales = _floats(walk, node.input(2))
    sizes = None if node.input(3) is None else walk.ints(node.input(3))
    own = _torch_options(walk, node, rank, axes, scales, sizes)
    if own is not None:
        return walk.call(F.interpolate, x, **own)
    roi = _floats(walk, node.input(1)) if node["coordinate_transformation_mode"] == "tf_crop_and_resize" else None
    transform = node["coordinate_transformation_mode"], node["nearest_mode"], shortest(node["cubic_coeff_a"])
    options = bool(node["exclude_outside"]), shortest(node["extrapolation_value"]), bool(node["antialias"])
    policy = node["keep_aspect_ratio_policy"]
    return walk.call(resize.resize, x, axes, sizes, scales, node["mode"], *transform, *options, policy, roi)


def _floats(walk: Walk, value: Any) -> Any:
    """Return a float tensor as a list, None where it is left out or empty, or a list made while running."""
    if value is None:
        return None
    try:
        return [shortest(number) for number in walk.host(value).reshape(-1)] or None
    except HostValueNeededError:
        return walk.method("tolist", walk.value(value))


def _torch_options(
    walk: Walk, node: NodeView, rank: int, axes: list[int], scales: Any, sizes: Any
) -> dict[str, Any] | None:
    """Return the options of `F.interpolate`, or None where it means something else."""
    mode, coordinates = node["mode"], node["coordinate_transformation_mode"]
    key = (mode, coordinates, node["nearest_mode"]) if mode == "nearest" else (mode, coordinates)
    plain = not node["antialias"] and not node["exclude_outside"] and node["keep_aspect_ratio_policy"] == "stretch"
    known = isinstance(sizes, list) or (sizes is None and isinstance(scales, list))
    if key not in _TORCH_MODES or not plain or not known or rank not in _LINEAR:
        return None
    if not walk.dtype(node.required(0)).is_floating_point or (mode == "cubic" and rank != 4):
        return None
    if mode == "cubic" and shortest(node["cubic_coeff_a"]) != -0.75:
        return None
    target = _spatial(walk, node, rank, axes, scales, sizes)
    if target is None:
        return None
    options = dict(_TORCH_MODES[key])
    options["mode"] = _LINEAR[rank] if mode == "linear" else options["mode"]
    return {**target, **options}


def _spatial(walk: Walk, node: NodeView, rank: int, axes: list[int], scales: Any, sizes: Any) -> dict[str, Any] | None:
    """Return size or scale_factor of the spatial axes, or None where batch or channels are resized."""
    by_axis = dict(zip(axes, scales if sizes is None else sizes, strict=True))
    spatial = range(2, rank)
    if sizes is None:
        if by_axis.get(0, 1.0) != 1.0 or by_axis.get(1, 1.0) != 1.0 or node["mode"] == "cubic":
            return None
        return {"scale_factor": tuple(by_axis.get(axis, 1.0) for axis in spatial)}
    shape = node.required(0).shape
    if any(axis in by_axis and not _is_same(walk, node, axis, by_axis[axis], shape) for axis in (0, 1)):
        return None
    if not all(axis in by_axis for axis in spatial):
        return None
    return {"size": tuple(by_axis[axis] for axis in spatial)}


def _is_same(walk: Walk, node: NodeView, axis: int, size: Any, shape: Any) -> bool:
    dims = walk.host_dims(node.input(3))
    expected = shape[axis] if isinstance(shape[axis], int) else str(shape[axis].value)
    given = dims[(node.get("axes") or list(range(len(shape)))).index(axis)]
    return given == expected or str(given) == expected
