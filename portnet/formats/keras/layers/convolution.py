"""Convolutions, plain, depthwise, separable and transposed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError, UnsupportedError
from portnet.formats.keras.held import Held
from portnet.formats.keras.layers.activation import activated
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk

__all__ = ["padding_of"]


@layer("Conv1D", "Conv2D", "Conv3D", "Convolution1D", "Convolution2D", "Convolution3D")
def convolution(walk: Walk, node: LayerNode) -> Held:
    """Kernel (window, channels / groups, filters)."""
    rank, options = _rank(node), node.options
    x = walk.spatial(node.input, node, rank)
    filters, groups = options.integer("filters"), options.integer("groups", 1)
    window, incoming = options.integers("kernel_size", rank), _channels(x, node)
    if incoming % groups or filters % groups:
        raise ModelError(f"layer {node.name!r}: {incoming} channels and {filters} filters do not make {groups} groups")
    bias = Slot("bias", (filters,), index=1) if options.flag("use_bias", True) else None
    arrays = walk.weights(node, Slot("kernel", (*window, incoming // groups, filters), "random"), bias)
    kernel = walk.parameter(node, "kernel", _outermost(arrays["kernel"]))
    return activated(walk, node, _windows(walk, node, x, kernel, arrays.get("bias"), window, groups))


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(walk: Walk, node: LayerNode) -> Held:
    """Kernel (window, channels, multiplier), each channel by itself."""
    rank, options = _rank(node), node.options
    x = walk.spatial(node.input, node, rank)
    window, incoming, multiplier = (
        options.integers("kernel_size", rank),
        _channels(x, node),
        options.integer("depth_multiplier", 1),
    )
    name = "depthwise_kernel" if walk.keras2 else "kernel"
    bias = Slot("bias", (incoming * multiplier,), index=1) if options.flag("use_bias", True) else None
    arrays = walk.weights(node, Slot(name, (*window, incoming, multiplier), "random"), bias)
    kernel = walk.parameter(node, name, _by_channel(arrays[name]))
    return activated(walk, node, _windows(walk, node, x, kernel, arrays.get("bias"), window, incoming))


@layer("SeparableConv1D", "SeparableConv2D", "SeparableConvolution1D", "SeparableConvolution2D")
def separable(walk: Walk, node: LayerNode) -> Held:
    """A depthwise convolution, then a pointwise one with the bias."""
    rank, options = _rank(node), node.options
    x = walk.spatial(node.input, node, rank)
    filters, multiplier = options.integer("filters"), options.integer("depth_multiplier", 1)
    window, incoming = options.integers("kernel_size", rank), _channels(x, node)
    inner = incoming * multiplier
    arrays = walk.weights(
        node,
        Slot("depthwise_kernel", (*window, incoming, multiplier), "random"),
        Slot("pointwise_kernel", (*[1] * rank, inner, filters), "random", index=1),
        Slot("bias", (filters,), index=2) if options.flag("use_bias", True) else None,
    )
    first = walk.parameter(node, "depthwise_kernel", _by_channel(arrays["depthwise_kernel"]))
    second = walk.parameter(node, "pointwise_kernel", _outermost(arrays["pointwise_kernel"]))
    spread = _windows(walk, node, x, first, None, window, incoming, "depthwise")
    inputs = [spread.value, second]
    if "bias" in arrays:
        inputs.append(walk.parameter(node, "bias", arrays["bias"]))
    return activated(walk, node, walk.emit("Conv", inputs, x.order, "pointwise", kernel_shape=[1] * rank))


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose", "Deconvolution2D", "Convolution2DTranspose")
def transposed(walk: Walk, node: LayerNode) -> Held:
    """Kernel (window, filters, channels); sizes as Keras's ``deconv_output_length`` has them."""
    rank, options = _rank(node), node.options
    x = walk.spatial(node.input, node, rank)
    filters, window = options.integer("filters"), options.integers("kernel_size", rank)
    strides, dilations = options.integers("strides", rank, 1), options.integers("dilation_rate", rank, 1)
    bias = Slot("bias", (filters,), index=1) if options.flag("use_bias", True) else None
    arrays = walk.weights(node, Slot("kernel", (*window, filters, _channels(x, node)), "random"), bias)
    axes = range(rank)
    kernel = walk.parameter(node, "kernel", arrays["kernel"].transpose(rank + 1, rank, *axes))
    begins, ends, extra = _transposed_padding(node, window, strides, dilations)
    inputs = [x.value, kernel]
    if "bias" in arrays:
        inputs.append(walk.parameter(node, "bias", arrays["bias"]))
    result = walk.emit(
        "ConvTranspose",
        inputs,
        x.order,
        "conv",
        kernel_shape=window,
        strides=strides,
        dilations=dilations,
        pads=begins + ends,
        output_padding=extra if any(extra) else None,
    )
    return activated(walk, node, result)


def _transposed_padding(
    node: LayerNode, window: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Return padding at the beginning and end of each axis, and what the output has more at its end."""
    rank = len(window)
    same = node.options.choice("padding", "valid", ("valid", "same")) == "same"
    given = node.options.integers("output_padding", rank, low=0) if "output_padding" in node.options else [None] * rank
    begins, ends, extra = [], [], []
    for k, stride, dilation, more in zip(window, strides, dilations, given, strict=True):
        reach = (k - 1) * dilation + 1
        # the output's size less (size − 1) · stride + reach
        if more is None:
            beyond = stride - reach if same or stride > reach else 0
        else:
            beyond = more - (2 * (reach // 2) if same else 0)
        begins.append(max(-beyond, 0) // 2)
        ends.append(max(-beyond, 0) - begins[-1])
        extra.append(max(beyond, 0))
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True) if e):
        raise UnsupportedError("an output padding as large as its stride")
    return begins, ends, extra


def _windows(
    walk: Walk,
    node: LayerNode,
    x: Held,
    kernel: ir.Value,
    bias: np.ndarray | None,
    window: list[int],
    groups: int,
    what: str = "conv",
) -> Held:
    rank = len(window)
    strides, dilations = node.options.integers("strides", rank, 1), node.options.integers("dilation_rate", rank, 1)
    inputs = [x.value, kernel]
    if bias is not None:
        inputs.append(walk.parameter(node, "bias", bias))
    return walk.emit(
        "Conv",
        inputs,
        x.order,
        what,
        kernel_shape=window,
        strides=strides,
        dilations=dilations if max(dilations) > 1 else None,
        group=groups,
        **padding_of(node, x, window, strides, dilations),
    )


def padding_of(
    node: LayerNode, x: Held, window: list[int], strides: list[int], dilations: list[int] | None = None
) -> dict[str, Any]:
    """Return ONNX's attributes for Keras's padding: explicit numbers unless a free size decides."""
    rank = len(window)
    kind = node.options.choice("padding", "valid", ("valid", "same", "causal"))
    reaches = [(k - 1) * d + 1 for k, d in zip(window, dilations or [1] * rank, strict=True)]
    if kind == "valid":
        return {"pads": [0] * 2 * rank}
    if kind == "causal":
        return {"pads": [reach - 1 for reach in reaches] + [0] * rank}
    begins, ends = [], []
    for axis, (reach, stride) in enumerate(zip(reaches, strides, strict=True)):
        size = x.shape[x.order[2 + axis]]
        if size is None and stride > 1:
            return {"auto_pad": "SAME_UPPER"}
        total = reach - 1 if size is None else max((-(-size // stride) - 1) * stride + reach - size, 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return {"pads": begins + ends}


def _rank(node: LayerNode) -> int:
    """Return the count of spatial axes that a kind's name tells."""
    found = re.search(r"([123])D", node.kind)
    assert found is not None
    return int(found[1])


def _channels(x: Held, node: LayerNode) -> int:
    return x.size(x.order[1], f"layer {node.name!r}")


def _outermost(kernel: np.ndarray) -> np.ndarray:
    """(window, in, out) to (out, in, window)."""
    rank = kernel.ndim - 2
    return kernel.transpose(rank + 1, rank, *range(rank))


def _by_channel(kernel: np.ndarray) -> np.ndarray:
    """(window, channels, multiplier) to (channels · multiplier, 1, window)."""
    rank = kernel.ndim - 2
    moved = kernel.transpose(rank, rank + 1, *range(rank))
    return moved.reshape(-1, 1, *kernel.shape[:rank])
