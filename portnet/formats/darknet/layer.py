"""What a builder sees of its section, and the activations that sections end in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.formats.darknet.arrays import Arrays
from portnet.formats.darknet.config import Section
from portnet.formats.writer import GraphWriter, sizes_of

__all__ = ["Builder", "Layer", "NotExpressible"]

MAX_WINDOW = 1 << 16
# Darknet's own code divides by √variance + 1e-6 on a CPU and by √(variance + 1e-5) on a GPU
EPSILON = 1e-6


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


def _ramp(layer: Layer, x: ir.Value, name: str) -> ir.Value:
    tenth = layer.graph.node("Mul", [x, layer.number(0.1, f"{name}/tenth")], f"{name}/line")
    return layer.graph.node("Add", [layer.graph.node("Relu", [x], f"{name}/relu"), tenth], name)


def _loggy(layer: Layer, x: ir.Value, name: str) -> ir.Value:
    """2 / (1 + e⁻ˣ) − 1, which is tanh(x / 2)."""
    half = layer.graph.node("Mul", [x, layer.number(0.5, f"{name}/half")], f"{name}/halved")
    return layer.graph.node("Tanh", [half], name)


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
    "ramp": _ramp,
    "loggy": _loggy,
    "relu6": _clip(0, 6),
    "hardtan": _clip(-1, 1),
}
_DEFAULT_ACTIVATION = {"convolutional": "logistic", "conv": "logistic", "connected": "logistic", "conn": "logistic"}


Builder = Callable[[Layer], ir.Value]
