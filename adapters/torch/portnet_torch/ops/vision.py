"""Sampling, detection and patches of images."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from portnet.graph.lowering import NodeView
from portnet_torch.functional import vision
from portnet_torch.naming import shortest
from portnet_torch.ops.convolution import kernel_shape, spatial
from portnet_torch.ops.registry import Walk, op

_SAMPLE_MODES = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}


@op("GridSample")
def _grid_sample(walk: Walk, node: NodeView) -> Any:
    x, grid = walk.value(node.required(0)), walk.value(node.required(1))
    rank, mode = walk.rank(node.required(0)), node["mode"]
    padding, aligned = node["padding_mode"], bool(node["align_corners"])
    if rank in (4, 5) and not (mode == "cubic" and (rank == 5 or padding != "zeros")):
        return walk.call(F.grid_sample, x, grid, _SAMPLE_MODES[mode], padding, aligned)
    return walk.call(vision.grid_sample, x, grid, mode, padding, aligned)


@op("AffineGrid")
def _affine_grid(walk: Walk, node: NodeView) -> Any:
    size = walk.ints(node.required(1))
    return walk.call(F.affine_grid, walk.value(node.required(0)), size, bool(node["align_corners"]))


@op("NonMaxSuppression")
def _non_max_suppression(walk: Walk, node: NodeView) -> Any:
    limits = [None if node.input(i) is None else walk.value(node.input(i)) for i in (2, 3, 4)]
    boxes, scores = walk.value(node.required(0)), walk.value(node.required(1))
    return walk.call(vision.non_max_suppression, boxes, scores, *limits, bool(node["center_point_box"]))


@op("RoiAlign")
def _roi_align(walk: Walk, node: NodeView) -> Any:
    size = node["output_height"], node["output_width"], node["sampling_ratio"], shortest(node["spatial_scale"])
    half_pixel = node["coordinate_transformation_mode"] == "half_pixel"
    return walk.call(vision.roi_align, *walk.inputs(node), *size, half_pixel, node["mode"] == "max")


@op("MaxRoiPool")
def _max_roi_pool(walk: Walk, node: NodeView) -> Any:
    size = list(node["pooled_shape"]), shortest(node["spatial_scale"])
    return walk.call(vision.max_roi_pool, *walk.inputs(node), *size)


@op("Col2Im")
def _col2im(walk: Walk, node: NodeView) -> Any:
    image, block = walk.ints(node.required(1)), walk.host_ints(node.required(2))
    dims = len(block)
    pads = list(node.get("pads") or [0] * 2 * dims)
    window = spatial(node, "strides", dims), spatial(node, "dilations", dims), pads
    return walk.call(vision.col2im, walk.value(node.required(0)), image, block, *window)


@op("DeformConv")
def _deform_conv(walk: Walk, node: NodeView) -> Any:
    kernel = kernel_shape(walk, node)
    if len(kernel) != 2:
        raise walk.unsupported(f"a deformable convolution over {len(kernel)} axes; there is one for two")
    window = spatial(node, "strides", 2), list(node.get("pads") or [0] * 4), spatial(node, "dilations", 2)
    values = [walk.optional(node.input(i)) for i in range(5)]
    return walk.call(vision.deform_conv, *values, *window, node["group"], node["offset_group"])


@op("Upsample")
def _upsample(walk: Walk, node: NodeView) -> Any:
    scales = tuple(shortest(number) for number in walk.host(node.required(1)).reshape(-1))
    if scales[:2] != (1.0, 1.0) or node["mode"] != "nearest":
        raise walk.unsupported(f"mode {node['mode']!r} with scales {scales}")
    return walk.call(F.interpolate, walk.value(node.required(0)), scale_factor=scales[2:], mode="nearest")
