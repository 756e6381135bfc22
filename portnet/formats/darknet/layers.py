"""Darknet's sections that compute on their own: convolutions, dense layers, pools, softmax, dropout.

Conventions are those of Darknet's own C code (src/*_layer.c).
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from portnet.formats.darknet.layer import MAX_WINDOW, Layer, NotExpressible
from portnet.formats.writer import sizes_of

__all__ = ["avgpool", "connected", "convolutional", "cost", "dropout", "maxpool", "softmax", "statistics"]


def convolutional(layer: Layer) -> ir.Value:
    """Conv without a bias and BatchNormalization, or Conv with one; and an activation.

    In the file: biases, with ``batch_normalize`` scales, means and variances, then kernels (filters,
    channels / groups, size, size).
    """
    section = layer.section
    channels, _, _ = layer.image()
    filters, size, groups = layer.positive("filters", 1), layer.positive("size", 1), layer.positive("groups", 1)
    strides = [layer.positive(f"stride_{axis}", layer.positive("stride", 1)) for axis in "yx"]
    dilation = layer.positive("dilation", 1)
    dilation = dilation if size > 1 else 1
    padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
    if channels % groups or filters % groups or not 0 <= padding <= MAX_WINDOW:
        raise NotExpressible(f"of {channels} channels to {filters} in {groups} groups, padding {padding}")
    if any(section.integer(name, 0) for name in ("binary", "xnor", "flipped")):
        raise NotExpressible("binary, xnor or flipped")
    is_normalised = section.integer("batch_normalize", 0) != 0
    name, shape = layer.label("conv"), (filters, channels // groups, size, size)
    vectors = _vectors(layer, filters, is_normalised, name)
    kernel = layer.arrays.take(f"{name}.weight", shape, math.sqrt(2 / math.prod(shape[1:])))
    inputs = [layer.x, layer.graph.weight(f"{name}.weight", kernel)]
    if not is_normalised:
        inputs.append(layer.graph.weight(f"{name}.bias", vectors[0]))
    y = layer.graph.node(
        "Conv",
        inputs,
        name,
        kernel_shape=[size, size],
        strides=strides,
        pads=[padding * dilation] * 4,
        dilations=[dilation] * 2,
        group=groups,
    )
    if is_normalised:
        y = layer.normalised(y, filters, [vectors[1], vectors[0], *vectors[2:]])
    return layer.activated(y)


def _vectors(layer: Layer, width: int, is_normalised: bool, name: str) -> list[np.ndarray]:
    """Return biases, and with ``is_normalised`` scales, means and variances."""
    vectors = [layer.arrays.take(f"{name}.bias", (width,))]
    return vectors + (statistics(layer, width, name) if is_normalised else [])


def statistics(layer: Layer, width: int, name: str) -> list[np.ndarray]:
    """Return the next scales, means and variances of a file."""
    fills = {"scales": 1.0, "means": 0.0, "variances": 1.0}
    return [layer.arrays.take(f"{name}.{what}", (width,), constant=fill) for what, fill in fills.items()]


def connected(layer: Layer) -> ir.Value:
    """Gemm and an activation. In the file: biases, weights (output, inputs), then what normalises."""
    output, x = layer.positive("output", 1), layer.flat()
    inputs = int(sizes_of(x)[1] or 0)
    is_normalised = layer.section.integer("batch_normalize", 0) != 0
    name = layer.label("fc")
    bias = layer.arrays.take(f"{name}.bias", (output,))
    if layer.arrays.is_transposed:
        weight = layer.arrays.take(f"{name}.weight", (inputs, output)).T
    else:
        weight = layer.arrays.take(f"{name}.weight", (output, inputs), math.sqrt(2 / inputs / 3))
    values = [x, layer.graph.weight(f"{name}.weight", np.ascontiguousarray(weight))]
    if not is_normalised:
        values.append(layer.graph.weight(f"{name}.bias", bias))
    y = layer.graph.node("Gemm", values, name, transB=1)
    if is_normalised:
        scales, mean, variance = statistics(layer, output, name)
        y = layer.normalised(y, output, [scales, bias, mean, variance])
    return layer.activated(y)


def maxpool(layer: Layer) -> ir.Value:
    """MaxPool; ``padding`` (size − 1 by default) counts both ends together, and the smaller half comes first."""
    _, *spatial = layer.image()
    stride = layer.positive("stride", 1)
    size = layer.positive("size", stride)
    padding = layer.section.integer("padding", size - 1)
    counts = [(n + padding - size) // stride + 1 for n in spatial]
    begin = padding // 2
    ends = [(count - 1) * stride + size - n - begin for count, n in zip(counts, spatial, strict=True)]
    if not 0 <= begin < size or any(end >= size for end in ends) or min(counts) < 1:
        raise NotExpressible(f"of {spatial} pixels by windows of {size}, stride {stride}, padding {padding}")
    pads = [begin, begin, *(max(end, 0) for end in ends)]
    return layer.graph.node(
        "MaxPool", [layer.x], layer.label("pool"), kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads
    )


def avgpool(layer: Layer) -> ir.Value:
    """GlobalAveragePool."""
    layer.image()
    return layer.graph.node("GlobalAveragePool", [layer.x], layer.label("avgpool"))


def softmax(layer: Layer) -> ir.Value:
    """Softmax over all features, or over each of ``groups`` parts of them, of (N, features)."""
    groups, name, x = layer.positive("groups", 1), layer.label("softmax"), layer.flat()
    features, temperature = int(sizes_of(x)[1] or 0), layer.section.number("temperature", 1)
    if features % groups or temperature <= 0:
        raise NotExpressible(f"of {features} features in {groups} groups, temperature {temperature}")
    if temperature != 1:
        x = layer.graph.node("Div", [x, layer.number(temperature, f"{name}/temperature")], f"{name}/scaled")
    if groups == 1:
        return layer.graph.node("Softmax", [x], name, axis=1)
    parts = layer.graph.ints([0, groups, features // groups], f"{name}/groups")
    y = layer.graph.node("Softmax", [layer.graph.node("Reshape", [x, parts], f"{name}/parts")], f"{name}/each", axis=2)
    return layer.graph.node("Reshape", [y, layer.graph.ints([0, features], f"{name}/features")], name)


def dropout(layer: Layer) -> ir.Value:
    """Dropout."""
    ratio = layer.section.number("probability", 0.5)
    if not 0 <= ratio < 1:
        raise NotExpressible(f"probability={ratio}")
    name = layer.label("dropout")
    return layer.graph.node("Dropout", [layer.x, layer.number(ratio, f"{name}/ratio")], name)


def cost(layer: Layer) -> ir.Value:
    """Nothing: it is for training."""
    layer.section.asked.update(layer.section.options)
    return layer.x
