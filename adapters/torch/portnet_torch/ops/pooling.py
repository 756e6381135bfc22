"""Pooling over windows and over all spatial axes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from portnet.graph.lowering import NodeView
from portnet_torch.functional import pooling
from portnet_torch.ops.convolution import simplify, spatial
from portnet_torch.ops.registry import Walk, op

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _fits(node: NodeView, kernel: list[int], pads: list[int], dtype: Any) -> bool:
    """Whether torch's own pooling takes these pads: symmetric, at most half a kernel."""
    dims = len(kernel)
    symmetric = pads[:dims] == pads[dims:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    return dims in _MAX and symmetric and dtype.is_floating_point and node.get("auto_pad", "NOTSET") == "NOTSET"


def _pads(node: NodeView, dims: int) -> list[int]:
    return list(node.get("pads") or [0] * 2 * dims)


@op("MaxPool")
def _max_pool(walk: Walk, node: NodeView) -> Any:
    kernel = list(node["kernel_shape"])
    dims = len(kernel)
    source = node.required(0)
    strides, dilations = spatial(node, "strides", dims), spatial(node, "dilations", dims)
    pads, x = _pads(node, dims), walk.value(source)
    if len(node.outputs) > 1 and node.outputs[1].name:
        result = walk.call(pooling.max_pool_with_indices, *_general(node, x, kernel), bool(node["storage_order"]))
        return [result[0], result[1]]
    if _fits(node, kernel, pads, walk.dtype(source)):
        window = (simplify(kernel), simplify(strides), simplify(pads[:dims]))
        options = {"dilation": simplify(dilations)} if simplify(dilations) != 1 else {}
        return walk.call(_MAX[dims], x, *window, **options, **_ceil(node))
    return walk.call(pooling.max_pool, *_general(node, x, kernel))


@op("AveragePool")
def _average_pool(walk: Walk, node: NodeView) -> Any:
    kernel = list(node["kernel_shape"])
    dims = len(kernel)
    source = node.required(0)
    pads, x = _pads(node, dims), walk.value(source)
    counts = bool(node["count_include_pad"])
    plain = simplify(spatial(node, "dilations", dims)) == 1
    if plain and _fits(node, kernel, pads, walk.dtype(source)):
        window = (simplify(kernel), simplify(spatial(node, "strides", dims)), simplify(pads[:dims]))
        options = {"count_include_pad": counts} if any(pads) else {}
        return walk.call(_AVERAGE[dims], x, *window, **options, **_ceil(node))
    return walk.call(pooling.average_pool, *_general(node, x, kernel), counts)


@op("LpPool")
def _lp_pool(walk: Walk, node: NodeView) -> Any:
    return walk.call(
        pooling.lp_pool, *_general(node, walk.value(node.required(0)), list(node["kernel_shape"])), node["p"]
    )


def _ceil(node: NodeView) -> dict[str, bool]:
    return {"ceil_mode": True} if node["ceil_mode"] else {}


def _general(node: NodeView, x: Any, kernel: list[int]) -> Any:
    """Return the arguments that the window functions of `portnet_torch.functional.pooling` share."""
    dims = len(kernel)
    auto = node.get("auto_pad", "NOTSET")
    pads = "same_upper" if auto == "SAME_UPPER" else "same_lower" if auto == "SAME_LOWER" else _pads(node, dims)
    pads = [0] * 2 * dims if auto == "VALID" else pads
    return x, kernel, spatial(node, "strides", dims), spatial(node, "dilations", dims), pads, bool(node["ceil_mode"])


@op("GlobalAveragePool")
def _global_average_pool(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.mean, walk.value(node.required(0)), _spatial_axes(walk, node), keepdim=True)


@op("GlobalMaxPool")
def _global_max_pool(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.amax, walk.value(node.required(0)), _spatial_axes(walk, node), keepdim=True)


@op("GlobalLpPool")
def _global_lp_pool(walk: Walk, node: NodeView) -> Any:
    axes = _spatial_axes(walk, node)
    return walk.call(torch.linalg.vector_norm, walk.value(node.required(0)), node["p"], axes, keepdim=True)


def _spatial_axes(walk: Walk, node: NodeView) -> Any:
    return list(range(2, walk.rank(node.required(0))))


@op("MaxUnpool")
def _max_unpool(walk: Walk, node: NodeView) -> Any:
    shape = None if node.input(2) is None else walk.ints(node.input(2))
    dims = len(node["kernel_shape"])
    window = list(node["kernel_shape"]), spatial(node, "strides", dims), _pads(node, dims)
    return walk.call(pooling.max_unpool, walk.value(node.required(0)), walk.value(node.required(1)), *window, shape)
