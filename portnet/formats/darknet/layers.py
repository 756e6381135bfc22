"""Darknet's sections as ONNX nodes. Conventions are those of Darknet's own C code (src/*_layer.c)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.darknet.arrays import Arrays
from portnet.formats.darknet.config import Section
from portnet.formats.writer import GraphWriter, sizes_of

__all__ = ["HEADS", "TABLE", "Layer", "NotExpressible"]

MAX_WINDOW = 1 << 16
# Darknet's own code divides by √variance + 1e-6 on a CPU and by √(variance + 1e-5) on a GPU
EPSILON = 1e-6
# sections that decode boxes from what they read, which is an output of the captured network
HEADS = frozenset({"yolo", "region", "detection"})


class NotExpressible(Exception):  # noqa: N818 - the reason, on its way to the list of what is missing
    """A section that is known, with an option that has no translation; the message says which."""


@dataclass
class Layer:
    """A section as it is written onto a graph.

    Attributes:
        section: its options.
        index: its place among the sections behind [net].
        x: what it reads if it does not say.
        outputs: what the sections before it yielded.
        graph: the graph.
        arrays: what gives arrays in order.
    """

    section: Section
    index: int
    x: ir.Value
    outputs: list[ir.Value]
    graph: GraphWriter
    arrays: Arrays
    notes: list[str] = field(default_factory=list)

    def label(self, what: str) -> str:
        """Return ``what_index``, e.g. ``conv_0``."""
        return f"{what}_{self.index}"

    def image(self) -> tuple[int, int, int]:
        """Return channels, height and width of what it reads.

        Raises:
            NotExpressible: it reads a vector.
        """
        sizes = sizes_of(self.x)[1:]
        if len(sizes) != 3:
            raise NotExpressible("of a vector")
        channels, height, width = (int(n or 0) for n in sizes)
        return channels, height, width

    def before(self, number: int) -> ir.Value:
        """Return the output of a section by its place; negative ones count backwards.

        Raises:
            ModelError: there is none such before this one.
        """
        place = self.index + number if number < 0 else number
        if not 0 <= place < len(self.outputs):
            raise ModelError(f"{self.section.place}: got layer {number}, expected one of the {self.index} before it")
        return self.outputs[place]

    def number(self, value: float, what: str) -> ir.Value:
        """Return a constant of float32."""
        return self.graph.constant(value, what, np.float32)

    def positive(self, name: str, default: int) -> int:
        """Return an option that must be a positive integer.

        Raises:
            NotExpressible: it is not.
        """
        number = self.section.integer(name, default)
        if not 0 < number <= MAX_WINDOW:
            raise NotExpressible(f"{name}={number}")
        return number

    def activated(self, x: ir.Value) -> ir.Value:
        """Apply the section's activation."""
        name = self.section.word("activation", _DEFAULT_ACTIVATION.get(self.section.kind, "linear"))
        if name == "linear":
            return x
        if name not in _ACTIVATIONS:
            raise NotExpressible(f"activation={name}")
        return _ACTIVATIONS[name](self, x, self.label(name))

    def flat(self) -> ir.Value:
        """Return what it reads as (N, features)."""
        if len(sizes_of(self.x)) == 2:
            return self.x
        return self.graph.node("Flatten", [self.x], self.label("flatten"), axis=1)

    def normalised(self, x: ir.Value, channels: int, arrays: list[np.ndarray]) -> ir.Value:
        """Apply BatchNormalization with scale, shift, mean and variance."""
        name = self.label("bn")
        keys = ("weight", "bias", "running_mean", "running_var")
        values = [self.graph.weight(f"{name}.{key}", array) for key, array in zip(keys, arrays, strict=True)]
        return self.graph.node("BatchNormalization", [x, *values], name, epsilon=EPSILON, momentum=0.99)


# ---- activations


def _plain(op: str, **attributes: Any) -> Callable[[Layer, ir.Value, str], ir.Value]:
    return lambda layer, x, name: layer.graph.node(op, [x], name, **attributes)


def _swish(layer: Layer, x: ir.Value, name: str) -> ir.Value:
    return layer.graph.node("Mul", [x, layer.graph.node("Sigmoid", [x], f"{name}/sigmoid")], name)


def _clip(low: float, high: float) -> Callable[[Layer, ir.Value, str], ir.Value]:
    def build(layer: Layer, x: ir.Value, name: str) -> ir.Value:
        bounds = [layer.number(low, f"{name}/min"), layer.number(high, f"{name}/max")]
        return layer.graph.node("Clip", [x, *bounds], name)

    return build


_ACTIVATIONS = {
    "leaky": _plain("LeakyRelu", alpha=0.1),
    "relie": _plain("LeakyRelu", alpha=0.01),
    "relu": _plain("Relu"),
    "logistic": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "mish": _plain("Mish"),
    "elu": _plain("Elu", alpha=1.0),
    "selu": _plain("Selu", alpha=1.6732, gamma=1.0507),
    "swish": _swish,
    "relu6": _clip(0, 6),
    "hardtan": _clip(-1, 1),
}
_DEFAULT_ACTIVATION = {"convolutional": "logistic", "conv": "logistic", "connected": "logistic", "conn": "logistic"}


# ---- sections


def convolutional(layer: Layer) -> ir.Value:
    """Conv without a bias and BatchNormalization, or Conv with one; and an activation.

    In the file: biases, with ``batch_normalize`` scales, means and variances, then kernels (filters,
    channels / groups, size, size).
    """
    section = layer.section
    channels, _, _ = layer.image()
    filters, size, groups = layer.positive("filters", 1), layer.positive("size", 1), layer.positive("groups", 1)
    strides = [layer.positive(f"stride_{axis}", layer.positive("stride", 1)) for axis in "yx"]
    dilation = layer.positive("dilation", 1) if size > 1 else 1
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
    return vectors + (_statistics(layer, width, name) if is_normalised else [])


def _statistics(layer: Layer, width: int, name: str) -> list[np.ndarray]:
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
        scales, *statistics = _statistics(layer, output, name)
        y = layer.normalised(y, output, [scales, bias, *statistics])
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


def route(layer: Layer) -> ir.Value:
    """The outputs of other sections, or part ``group_id`` of ``groups`` of each, joined along the channels."""
    groups, part = layer.positive("groups", 1), layer.section.integer("group_id", 0)
    found = [layer.before(number) for number in layer.section.integers("layers")]
    if not found or not 0 <= part < groups or len({sizes_of(x)[2:] for x in found}) > 1:
        raise NotExpressible(f"part {part} of {groups} of {len(found)} layers of several sizes")
    name = layer.label("route")
    if groups > 1:
        found = [_part(layer, x, groups, part, f"{name}/part{place}") for place, x in enumerate(found)]
    return found[0] if len(found) == 1 else layer.graph.node("Concat", found, name, axis=1)


def _part(layer: Layer, x: ir.Value, groups: int, part: int, name: str) -> ir.Value:
    channels = int(sizes_of(x)[1] or 0)
    if channels % groups:
        raise NotExpressible(f"{groups} groups of {channels} channels")
    width = channels // groups
    bounds = [
        layer.graph.ints([n], f"{name}/{what}")
        for n, what in ((part * width, "start"), (part * width + width, "end"), (1, "axis"))
    ]
    return layer.graph.node("Slice", [x, *bounds], name)


def shortcut(layer: Layer) -> ir.Value:
    """The sum of what it reads and of other sections' outputs; and an activation."""
    result = layer.x
    others = [layer.before(number) for number in layer.section.integers("from")]
    if not others:
        raise NotExpressible("of nothing")
    if layer.section.number("alpha", 1) != 1 or layer.section.number("beta", 1) != 1:
        raise NotExpressible("alpha or beta other than 1")
    name = layer.label("shortcut")
    for place, x in enumerate(others, start=1):
        x = _fitted(layer, x, f"{name}/from{place}")
        result = layer.graph.node("Add", [result, x], name if place == len(others) else f"{name}/partial{place}")
    return layer.activated(result)


def _fitted(layer: Layer, x: ir.Value, name: str) -> ir.Value:
    """Return ``x`` with every so many pixels and as many channels as the section reads (shortcut_cpu of blas.c)."""
    wanted, got = sizes_of(layer.x), sizes_of(x)
    if got == wanted:
        return x
    (channels, height, width), (own, *spatial) = layer.image(), [int(n or 0) for n in got[1:]]
    step = spatial[0] // height if len(spatial) == 2 else 0
    if step < 1 or [n // step for n in spatial] != [height, width]:
        raise NotExpressible(f"of {wanted} and {got}")
    ends = [min(channels, own), (height - 1) * step + 1, (width - 1) * step + 1]
    rows = (("starts", [0, 0, 0]), ("ends", ends), ("axes", [1, 2, 3]), ("steps", [1, step, step]))
    bounds = [layer.graph.ints(row, f"{name}/{what}") for what, row in rows]
    x = layer.graph.node("Slice", [x, *bounds], f"{name}/slice")
    if own >= channels:
        return x
    pads = layer.graph.ints([0, 0, 0, 0, 0, channels - own, 0, 0], f"{name}/pads")
    return layer.graph.node("Pad", [x, pads, layer.number(0, f"{name}/zero")], f"{name}/pad")


def upsample(layer: Layer) -> ir.Value:
    """Each pixel ``stride`` times."""
    layer.image()
    stride, name = layer.positive("stride", 2), layer.label("upsample")
    if layer.section.number("scale", 1) != 1:
        raise NotExpressible("a scale other than 1")
    scales = layer.graph.constant([1, 1, stride, stride], f"{name}/scales", np.float32)
    return layer.graph.node(
        "Resize",
        [layer.x, None, scales],
        name,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def reorg(layer: Layer) -> ir.Value:
    """Pixels to channels, in Darknet's order: reorg_cpu of blas.c, which reads its input as (c / s², h · s, w · s)."""
    channels, height, width = layer.image()
    s, name = layer.positive("stride", 1), layer.label("reorg")
    if channels % (s * s) or height % s or width % s or any(layer.section.integer(n, 0) for n in ("reverse", "extra")):
        raise NotExpressible(f"of {channels}×{height}×{width} by {s}")
    depth = channels // (s * s)
    blocks = layer.graph.ints([0, depth, height, s, width, s], f"{name}/blocks")
    split = layer.graph.node("Reshape", [layer.x, blocks], f"{name}/split")
    moved = layer.graph.node("Transpose", [split], f"{name}/moved", perm=[0, 3, 5, 1, 2, 4])
    sizes = layer.graph.ints([0, channels * s * s, height // s, width // s], f"{name}/sizes")
    return layer.graph.node("Reshape", [moved, sizes], name)


def cost(layer: Layer) -> ir.Value:
    """Nothing: it is for training."""
    layer.section.asked.update(layer.section.options)
    return layer.x


TABLE: dict[str, Callable[[Layer], ir.Value]] = {
    **dict.fromkeys(("convolutional", "conv"), convolutional),
    **dict.fromkeys(("connected", "conn"), connected),
    **dict.fromkeys(("maxpool", "max"), maxpool),
    **dict.fromkeys(("avgpool", "avg"), avgpool),
    **dict.fromkeys(("softmax", "soft"), softmax),
    **{"dropout": dropout, "route": route, "shortcut": shortcut, "upsample": upsample, "reorg": reorg, "cost": cost},
}
