"""Pooling, by Caffe's own rule for how many windows there are and what an average divides by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from portnet.formats.caffe.layers.convolution import spatial
from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe

__all__ = ["windows"]

_METHODS = {"MAX": "Max", "AVE": "Average"}


@caffe("Pooling")
def pooling(layer: Layer) -> ir.Value | Sequence[ir.Value]:
    """MaxPool or AveragePool; globally, GlobalMaxPool or GlobalAveragePool.

    A second top of a MAX pooling tells where the largest were; `Upsample` alone reads it, by ONNX's way to count.
    """
    options = layer.options("pooling_param")
    method = options.word("pool", "MAX", ("MAX", "AVE", "STOCHASTIC"))
    if method not in _METHODS or layer.tops not in (1, 1 + (method == "MAX")) or len(layer.sizes) != 4:
        raise NotExpressible(f"{method} to {layer.tops} tops over {len(layer.sizes) - 2} axes")
    is_ceil = options.word("round_mode", "CEIL", ("CEIL", "FLOOR")) == "CEIL" and options.flag("ceil_mode", True)
    stride, pad = spatial(options, "stride", 2, 1, least=1), spatial(options, "pad", 2, 0)
    if options.flag("global_pooling", False) and layer.tops == 1:
        return layer.node(f"Global{_METHODS[method]}Pool", [layer.x])
    return _pool(layer, method, spatial(options, "kernel", 2, None, least=1), stride, pad, is_ceil)


def _pool(
    layer: Layer, method: str, kernel: list[int], stride: list[int], pad: list[int], is_ceil: bool
) -> ir.Value | Sequence[ir.Value]:
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        raise NotExpressible(f"pad {pad} of a kernel of {kernel}")
    sizes = [layer.size(2), layer.size(3)]
    over = [_overhang(n, k, s, p, is_ceil, any(pad)) for n, k, s, p in zip(sizes, kernel, stride, pad, strict=True)]
    x = layer.x
    common: dict[str, Any] = {"kernel_shape": kernel, "strides": stride}
    if method == "MAX":
        if any(over) and all(n + 2 * p < k for n, k, p in zip(sizes, kernel, pad, strict=True)):
            common["pads"] = [*pad, *(p + o for p, o in zip(pad, over, strict=True))]
        else:
            common |= {"pads": pad * 2, "ceil_mode": int(any(over))}
        found = layer.graph.nodes("MaxPool", [x], layer.name, count=layer.tops, **common)
        return found if layer.tops > 1 else found[0]
    if any(pad) and any(over):
        # the average counts the padding, and not what a window reaches over beyond it
        ends = layer.ints([0, 0, *pad, 0, 0, *pad], "pads")
        x, pad = layer.node("Pad", [x, ends, layer.number(0, "zero")], "pad"), [0, 0]
    return layer.node(
        "AveragePool", [x], pads=pad * 2, ceil_mode=int(any(over)), count_include_pad=int(any(pad)), **common
    )


def windows(size: int, kernel: int, stride: int, pad: int, is_ceil: bool, is_clipped: bool) -> int:
    """Count the windows along an axis, as PoolingLayer::Reshape of Caffe's pooling_layer.cpp does.

    Args:
        size: of the axis.
        kernel: of the window.
        stride: from one window to the next.
        pad: at either end.
        is_ceil: whether a window counts that reaches over the padded end.
        is_clipped: whether one is left out that begins beyond the axis and its padding; so where any axis is padded.
    """
    room = size + 2 * pad - kernel
    count = (-(-room // stride) if is_ceil else room // stride) + 1
    return count - 1 if is_clipped and (count - 1) * stride >= size + pad else count


def _overhang(size: int, kernel: int, stride: int, pad: int, is_ceil: bool, is_clipped: bool) -> int:
    """Return by how much the last window reaches over the padded end."""
    count = windows(size, kernel, stride, pad, is_ceil, is_clipped)
    if count < 1 or (count - 1) * stride >= size + pad:
        raise NotExpressible(f"of {size} pixels by windows of {kernel}, stride {stride}")
    return max((count - 1) * stride + kernel - size - 2 * pad, 0)
