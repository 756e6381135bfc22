"""Convolution and its transpose, in one to three dimensions."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn

from portnet.graph.lowering import NodeView
from portnet_torch.bare import bare
from portnet_torch.binding import PLAIN
from portnet_torch.functional import convolution, padding
from portnet_torch.ops.registry import Walk, op

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_CONV_FUNCTION = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_TRANSPOSE_FUNCTION = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def kernel_shape(walk: Walk, node: NodeView, weight_index: int = 1) -> list[int]:
    """Return the kernel's spatial sizes, from the attribute or from the weight's inferred shape."""
    if node.get("kernel_shape"):
        return list(node["kernel_shape"])
    shape = walk.static_shape(node.required(weight_index))
    if shape is None or None in shape[2:]:
        raise walk.unsupported("kernel_shape is neither given nor known from the weight")
    return list(shape[2:])


def spatial(node: NodeView, name: str, dims: int) -> list[int]:
    """Return a per-axis attribute, or ones."""
    return list(node.get(name) or [1] * dims)


def padded(walk: Walk, node: NodeView, x: Any, kernel: list[int], value: Any = 0.0) -> tuple[Any, list[int]]:
    """Return x and the symmetric padding that the op itself takes; other padding becomes a pad before it."""
    dims = len(kernel)
    strides, dilations = spatial(node, "strides", dims), spatial(node, "dilations", dims)
    if node.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        upper = node["auto_pad"] == "SAME_UPPER"
        return walk.call(padding.pad_same, x, kernel, strides, dilations, upper, value), [0] * dims
    pads = list(node.get("pads") or [0] * 2 * dims)
    pads = [0] * 2 * dims if node.get("auto_pad") == "VALID" else pads
    if pads[:dims] == pads[dims:] and min(pads) >= 0:
        return x, pads[:dims]
    return walk.call(F.pad, x, torch_pads(pads), value=value), [0] * dims


def torch_pads(pads: list[int]) -> list[int]:
    """Return ONNX pads (all starts, all ends) as torch has them: pairs from the last axis to the first."""
    dims = len(pads) // 2
    return [pads[axis + side * dims] for axis in reversed(range(dims)) for side in (0, 1)]


def simplify(sizes: Any) -> Any:
    """Return one number where all are the same: 3 for [3, 3]."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


@op("Conv")
def _conv(walk: Walk, node: NodeView) -> Any:
    kernel = kernel_shape(walk, node)
    dims = len(kernel)
    if dims not in _CONV:
        raise walk.unsupported(f"a convolution over {dims} axes; torch has one to three")
    x, pads = padded(walk, node, walk.value(node.required(0)), kernel)
    strides, dilations, groups = spatial(node, "strides", dims), spatial(node, "dilations", dims), node["group"]
    weight, bias = node.required(1), node.input(2)
    if not walk.adoptable(weight, bias):
        weights = walk.value(weight), walk.optional(bias)
        return walk.call(
            _CONV_FUNCTION[dims], x, *weights, simplify(strides), simplify(pads), simplify(dilations), groups
        )
    outs, ins = walk.static_shape(weight)[:2]
    layer = bare(
        _CONV[dims], ins * groups, outs, simplify(kernel), simplify(strides), simplify(pads), simplify(dilations),
        groups, bias=bias is not None,
    )  # fmt: skip
    return walk.adopt(layer, node, {"weight": (weight, PLAIN), "bias": (bias, PLAIN)}, x)


@op("ConvTranspose")
def _conv_transpose(walk: Walk, node: NodeView) -> Any:
    kernel = kernel_shape(walk, node)
    dims = len(kernel)
    if dims not in _TRANSPOSE:
        raise walk.unsupported(f"a transposed convolution over {dims} axes; torch has one to three")
    strides, dilations = spatial(node, "strides", dims), spatial(node, "dilations", dims)
    extra = list(node.get("output_padding") or [0] * dims)
    x, weight, bias, groups = walk.value(node.required(0)), node.required(1), node.input(2), node["group"]
    crop = _transpose_crop(walk, node, kernel, strides, dilations, extra)
    symmetric = isinstance(crop, list) and crop[:dims] == crop[dims:] and min(crop) >= 0
    fits = symmetric and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True))
    if fits and walk.adoptable(weight, bias):
        ins, outs = walk.static_shape(weight)[:2]
        layer = bare(
            _TRANSPOSE[dims], ins, outs * groups, simplify(kernel), simplify(strides), simplify(crop[:dims]),
            simplify(extra), groups, bias is not None, simplify(dilations),
        )  # fmt: skip
        return walk.adopt(layer, node, {"weight": (weight, PLAIN), "bias": (bias, PLAIN)}, x)
    weights = walk.value(weight), walk.optional(bias)
    if fits:
        return walk.call(_TRANSPOSE_FUNCTION[dims], x, *weights, strides, crop[:dims], extra, groups, dilations)
    return walk.call(convolution.conv_transpose, x, *weights, strides, dilations, groups, crop, extra)


def _transpose_crop(
    walk: Walk, node: NodeView, kernel: list[int], strides: list[int], dilations: list[int], extra: list[int]
) -> list[int]:
    """Return what is cut off each side: ``pads``, or what ``output_shape`` and ``auto_pad`` make of them."""
    dims = len(kernel)
    shape = node.required(0).shape
    full = [None] * dims
    if shape is not None and all(isinstance(n, int) for n in shape[2:]):
        sizes = zip(shape[2:], strides, kernel, dilations, extra, strict=True)
        full = [s * (n - 1) + e + (k - 1) * d + 1 for n, s, k, d, e in sizes]
    auto = node.get("auto_pad", "NOTSET")
    wanted = node.get("output_shape")
    if not wanted and auto in ("NOTSET", "VALID"):
        return [0] * 2 * dims if auto == "VALID" else list(node.get("pads") or [0] * 2 * dims)
    if None in full and wanted:
        raise walk.unsupported("output_shape where the input's size is not known")
    if None in full:
        totals = [(k - 1) * d + 1 + e - s for k, d, e, s in zip(kernel, dilations, extra, strides, strict=True)]
    elif wanted:
        totals = [f - w for f, w in zip(full, wanted[-dims:], strict=True)]
    else:
        totals = [f - n * s for f, n, s in zip(full, shape[2:], strides, strict=True)]
    # what is missing is added at the end
    begin = [(max(total, 0) + (auto != "SAME_UPPER")) // 2 for total in totals]
    return begin + [total - first for total, first in zip(totals, begin, strict=True)]
