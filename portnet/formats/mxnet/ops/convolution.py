"""Convolutions and their transposes."""

from __future__ import annotations

import math

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.mxnet.layer import ZEROS, Layer, Refused, op
from portnet.weights.init import Init

__all__ = ["channels_first", "windows"]

_LAYOUTS = frozenset({"NCW", "NCHW", "NCDHW", "None"})
_WINDOW_LIMIT = 1 << 20


def channels_first(layer: Layer) -> None:
    """Make sure that a layer works on channels first.

    Raises:
        Refused: it says otherwise.
    """
    layout = layer.attributes.text("layout", "None")
    if layout not in _LAYOUTS:
        raise Refused(f"layout {layout}")


def windows(layer: Layer, key: str, axes: int, default: int, least: int) -> list[int]:
    """Return a number for each of the window's ``axes``.

    Raises:
        ModelError: too many, too few, too small or too large.
    """
    numbers = layer.attributes.integers(key, (default,) * axes, least=least) or (default,) * axes
    if len(numbers) != axes or max(numbers) > _WINDOW_LIMIT:
        raise ModelError(
            f"layer {layer.name!r} ({layer.op}): {key} got {numbers}, "
            f"expected {axes} numbers of at most {_WINDOW_LIMIT}"
        )
    return list(numbers)


def fan_in() -> Init:
    """Normal with variance 2 / fan_in (He et al. 2015, §2.2, forward case)."""
    return Init("normal", lambda shape: math.sqrt(2 / max(math.prod(shape[1:]), 1)))


@op("Convolution", "Convolution_v1")
def convolution(layer: Layer) -> ir.Value:
    channels_first(layer)
    x = layer.value(0)
    axes = _axes(layer, x)
    kernel = windows(layer, "kernel", axes, 1, 1)
    groups = layer.attributes.integer("num_group", 1, least=1)
    filters = layer.attributes.integer("num_filter", least=1)
    channels = layer.size(x, 1)
    if channels % groups or filters % groups:
        raise ModelError(f"layer {layer.name!r}: {channels} channels to {filters} do not go into {groups} groups")
    weight = layer.parameter(1, (filters, channels // groups, *kernel), fan_in())
    bias = None if layer.attributes.flag("no_bias", False) else layer.parameter(2, (filters,), ZEROS)
    return layer.final(
        "Conv",
        [x, weight] if bias is None else [x, weight, bias],
        kernel_shape=kernel,
        strides=windows(layer, "stride", axes, 1, 1),
        dilations=windows(layer, "dilate", axes, 1, 1),
        pads=windows(layer, "pad", axes, 0, 0) * 2,
        group=groups,
    )


@op("Deconvolution")
def deconvolution(layer: Layer) -> ir.Value:
    """``out = stride · (in − 1) + dilate · (kernel − 1) + 1 − 2 · pad + adj`` (deconvolution-inl.h, InferPad)."""
    channels_first(layer)
    x = layer.value(0)
    axes = _axes(layer, x)
    kernel = windows(layer, "kernel", axes, 1, 1)
    stride = windows(layer, "stride", axes, 1, 1)
    dilate = windows(layer, "dilate", axes, 1, 1)
    pad, adjust = windows(layer, "pad", axes, 0, 0), windows(layer, "adj", axes, 0, 0)
    target = layer.attributes.integers("target_shape", least=0)
    if target and any(target):
        total = [
            s * (layer.size(x, 2 + i) - 1) + d * (k - 1) + 1 - wanted
            for i, (s, d, k, wanted) in enumerate(zip(stride, dilate, kernel, target, strict=True))
        ]
        if min(total) < 0:
            raise ModelError(f"layer {layer.name!r}: target_shape {target} is larger than its windows reach")
        adjust, pad = [n % 2 for n in total], [(n + 1) // 2 for n in total]
    groups = layer.attributes.integer("num_group", 1, least=1)
    filters = layer.attributes.integer("num_filter", least=1)
    if filters % groups:
        raise ModelError(f"layer {layer.name!r}: {filters} filters do not go into {groups} groups")
    weight = layer.parameter(1, (layer.size(x, 1), filters // groups, *kernel), fan_in())
    bias = None if layer.attributes.flag("no_bias", True) else layer.parameter(2, (filters,), ZEROS)
    return layer.final(
        "ConvTranspose",
        [x, weight] if bias is None else [x, weight, bias],
        kernel_shape=kernel,
        strides=stride,
        dilations=dilate,
        pads=pad * 2,
        output_padding=adjust if any(adjust) else None,
        group=groups,
    )


def _axes(layer: Layer, x: ir.Value) -> int:
    axes = layer.rank(x) - 2
    if not 1 <= axes <= 3:
        raise ModelError(f"layer {layer.name!r} ({layer.op}): got a tensor of {axes + 2} axes, expected 3 to 5")
    return axes
