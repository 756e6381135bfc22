"""Pooling by MXNet's conventions (``src/operator/nn/pooling-inl.h``, ``nn/pool.h``).

``full`` rounds the count of windows up, also where ONNX's ceil_mode would not: a last window may begin in the padding.
A mean counts padding unless told otherwise, but never what lies beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import Layer, Refused, op
from portnet.formats.mxnet.ops.convolution import channels_first, windows

_GLOBAL = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool", "lp": "GlobalLpPool"}


@dataclass
class _Window:
    """How windows lie: sizes by axis; ``beyond`` is how far the last one reaches over the padded edge."""

    kernel: list[int]
    stride: list[int]
    pad: list[int]
    beyond: list[int]
    ceil: bool = False

    @property
    def attributes(self) -> dict[str, object]:
        ends = [pad + more for pad, more in zip(self.pad, self.beyond, strict=True)]
        return {
            "kernel_shape": self.kernel,
            "strides": self.stride,
            "pads": [*self.pad, *ends],
            "ceil_mode": int(self.ceil) or None,
        }


@op("Pooling")
def pooling(layer: Layer) -> ir.Value:
    channels_first(layer)
    return _pooling(layer, v1=False)


@op("Pooling_v1")
def pooling_v1(layer: Layer) -> ir.Value:
    """A mean divides by the kernel's area, wherever the window lies (``pooling_v1-inl.h``)."""
    return _pooling(layer, v1=True)


def _pooling(layer: Layer, *, v1: bool) -> ir.Value:
    kind = layer.attributes.text("pool_type", "max")
    if kind not in ("max", "avg", "sum", "lp"):
        raise Refused(f"pool_type={kind}")
    x = layer.value(0)
    axes = layer.rank(x) - 2
    if not 1 <= axes <= 3:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got a tensor of {axes + 2} axes, expected 3 to 5")
    power = layer.attributes.maybe_integer("p_value") or 2
    counts_padding = layer.attributes.flag("count_include_pad", True)
    if layer.attributes.flag("global_pool", False):
        layer.attributes.ignore("kernel", "stride", "pad", "pooling_convention")
        return _global(layer, x, kind, power, axes)
    window = _window(layer, x, axes)
    if kind == "max":
        return layer.final("MaxPool", [x], **window.attributes)
    if kind == "avg":
        return _mean(layer, x, window, counts_padding, v1=v1)
    if kind == "lp":
        return layer.final("LpPool", [x], p=power, **window.attributes)
    x, window = _padded(layer, x, window, beyond=True)
    mean = layer.step("AveragePool", [x], "mean", **window.attributes)
    return layer.final("Mul", [mean, layer.scalar(math.prod(window.kernel), mean, "area")])


def _global(layer: Layer, x: ir.Value, kind: str, power: int, axes: int) -> ir.Value:
    if kind == "sum":
        return layer.final("ReduceSum", [x, layer.ints(range(2, 2 + axes), "axes")], keepdims=1)
    return layer.final(_GLOBAL[kind], [x], p=power if kind == "lp" else None)


def _window(layer: Layer, x: ir.Value, axes: int) -> _Window:
    convention = layer.attributes.text("pooling_convention", "valid")
    kernel, stride = windows(layer, "kernel", axes, 1, 1), windows(layer, "stride", axes, 1, 1)
    pad = windows(layer, "pad", axes, 0, 0)
    if convention == "valid":
        return _Window(kernel, stride, pad, [0] * axes)
    if convention != "full":
        raise Refused(f"pooling_convention={convention}")
    if not any(pad) and all(k >= s for k, s in zip(kernel, stride, strict=True)):
        # no padding to begin in, so this is ONNX's rule too, at any size
        return _Window(kernel, stride, pad, pad, ceil=True)
    beyond = []
    for axis in range(axes):
        size, k, s = layer.size(x, axis + 2) + 2 * pad[axis], kernel[axis], stride[axis]
        count = -(-(size - k) // s) + 1
        if (count - 1) * s >= size:
            raise Refused("pooling_convention=full with a window outside of its input")
        beyond.append(max((count - 1) * s + k - size, 0))
    return _Window(kernel, stride, pad, beyond)


def _mean(layer: Layer, x: ir.Value, window: _Window, counts_padding: bool, *, v1: bool) -> ir.Value:
    if v1:
        x, window = _padded(layer, x, window, beyond=True)
    elif any(window.beyond) and any(window.pad) and counts_padding:
        x, window = _padded(layer, x, window, beyond=False)
    counts = counts_padding and any(window.pad) and not any(window.beyond)
    return layer.final("AveragePool", [x], count_include_pad=int(counts) or None, **window.attributes)


def _padded(layer: Layer, x: ir.Value, window: _Window, *, beyond: bool) -> tuple[ir.Value, _Window]:
    """Make padding zeros of the tensor itself, and what lies beyond too where that counts."""
    if beyond and window.ceil:
        window = _spelled_out(layer, x, window)
    none = [0] * len(window.pad)
    more = window.beyond if beyond else none
    if not any(window.pad) and not any(more):
        return x, window
    ends = [pad + extra for pad, extra in zip(window.pad, more, strict=True)]
    pads = layer.ints([0, 0, *window.pad, 0, 0, *ends], "pads")
    zero = layer.writer.constant(0, f"{layer.name}/zero", np.float32 if x.dtype is None else x.dtype.numpy())
    padded = layer.step("Pad", [x, pads, zero], "pad", mode="constant")
    return padded, _Window(window.kernel, window.stride, none, none if beyond else window.beyond)


def _spelled_out(layer: Layer, x: ir.Value, window: _Window) -> _Window:
    beyond = []
    for axis, (k, s) in enumerate(zip(window.kernel, window.stride, strict=True)):
        size = layer.size(x, axis + 2)
        beyond.append(max(-(-(size - k) // s) * s + k - size, 0))
    return _Window(window.kernel, window.stride, window.pad, beyond)
