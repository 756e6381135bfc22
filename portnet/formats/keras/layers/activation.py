"""Activations: as layers, and as words in the configuration of other layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.formats.keras.held import Held
from portnet.formats.keras.masks import pass_on
from portnet.formats.keras.node import LayerNode
from portnet.formats.keras.options import Options
from portnet.formats.keras.registry import layer
from portnet.formats.keras.supply import Slot
from portnet.formats.keras.walk import Walk

__all__ = ["ACTIVATIONS", "activate", "activated", "activation_name"]


def activated(walk: Walk, node: LayerNode, x: Held) -> Held:
    """Return a layer's result behind the activation that its configuration names."""
    return activate(walk, node, x, node.options.values.get("activation"))


def activate(walk: Walk, node: LayerNode, x: Held, spec: Any) -> Held:
    """Return the activation that ``spec`` means: a word, a function or a layer in a configuration, or None."""
    if isinstance(spec, Mapping) and spec.get("class_name") in _LAYERS and isinstance(spec.get("config"), Mapping):
        return _LAYERS[spec["class_name"]](walk, x, Options(spec["config"], node.name))
    name = activation_name(spec)
    if name not in ACTIVATIONS:
        raise UnsupportedError(f"activation {name!r}")
    return ACTIVATIONS[name](walk, x)


def activation_name(spec: Any) -> str:
    """Return the word for an activation, however Keras wrote it."""
    if isinstance(spec, Mapping):
        registered, config = spec.get("registered_name"), spec.get("config")
        spec = config if spec.get("class_name") == "function" else spec.get("class_name")
        if isinstance(spec, Mapping):  # Keras 3 writes classes and functions alike
            spec = spec.get("name", registered)
        if spec is None:  # Keras writes a lambda as its code
            return "a function of its own"
    if spec is None:
        return "linear"
    return spec.rsplit(">", 1)[-1] if isinstance(spec, str) else repr(spec)[:60]


def _op(op: str, **attributes: Any) -> Callable[[Walk, Held], Held]:
    return lambda walk, x: walk.same(op, x, **attributes)


def _clip(walk: Walk, x: Held, low: float, high: float) -> Held:
    return walk.same("Clip", x, walk.number(low, "min"), walk.number(high, "max"))


def _swish(walk: Walk, x: Held) -> Held:
    return walk.same("Mul", x, walk.same("Sigmoid", x).value)


def _hard_sigmoid(walk: Walk, x: Held) -> Held:
    """relu6(x + 3) / 6 in Keras 3, clip(0.2 x + 0.5) in Keras 2."""
    return walk.same("HardSigmoid", x, alpha=0.2 if walk.keras2 else 1 / 6, beta=0.5)


def _log_sigmoid(walk: Walk, x: Held) -> Held:
    return walk.same("Neg", walk.same("Softplus", walk.same("Neg", x, what="negative")))


def _tanh_shrink(walk: Walk, x: Held) -> Held:
    return walk.same("Sub", x, walk.same("Tanh", x).value)


def softmax(walk: Walk, x: Held, axis: int = -1, op: str = "Softmax") -> Held:
    """Softmax over one of Keras's axes."""
    if x.packing is not None:
        return walk.same(op, x, axis=1)
    return walk.same(op, x, axis=x.axis(axis))


def _glu(walk: Walk, x: Held) -> Held:
    """Half of the last axis, gated by the other."""
    x = walk.plain(x)
    half, gate = walk.writer.nodes("Split", [x.value], f"{walk.here}/halves", count=2, axis=x.rank - 1, num_outputs=2)
    return Held(walk.emit("Mul", [half, walk.emit("Sigmoid", [gate]).value]).value, x.order)


def _squareplus(walk: Walk, x: Held) -> Held:
    """(x + √(x² + 4)) / 2 (Barron 2021)."""
    square = walk.same("Mul", x, x.value)
    root = walk.same("Sqrt", walk.same("Add", square, walk.number(4, "four")))
    return walk.same("Mul", walk.same("Add", x, root.value, what="sum"), walk.number(0.5, "half"))


ACTIVATIONS: dict[str, Callable[[Walk, Held], Held]] = {
    "linear": lambda walk, x: x,
    "relu": _op("Relu"),
    "relu6": lambda walk, x: _clip(walk, x, 0, 6),
    "elu": _op("Elu"),
    "selu": _op("Selu"),
    "celu": _op("Celu"),
    "softplus": _op("Softplus"),
    "softsign": _op("Softsign"),
    "sigmoid": _op("Sigmoid"),
    "tanh": _op("Tanh"),
    "exponential": _op("Exp"),
    "silu": _swish,
    "swish": _swish,
    "gelu": _op("Gelu"),
    "mish": _op("Mish"),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _op("HardSwish"),
    "hard_swish": _op("HardSwish"),
    "hard_tanh": lambda walk, x: _clip(walk, x, -1, 1),
    "leaky_relu": _op("LeakyRelu", alpha=0.2),
    "log_sigmoid": _log_sigmoid,
    "log_softmax": lambda walk, x: softmax(walk, x, op="LogSoftmax"),
    "softmax": softmax,
    "soft_shrink": _op("Shrink", lambd=0.5, bias=0.5),
    "hard_shrink": _op("Shrink", lambd=0.5, bias=0.0),
    "tanh_shrink": _tanh_shrink,
    "glu": _glu,
    "squareplus": _squareplus,
}


@layer("Activation")
def activation(walk: Walk, node: LayerNode) -> Held:
    """An activation as a layer."""
    return activated(walk, node, node.input)


def _relu(walk: Walk, x: Held, options: Options) -> Held:
    """Slope below the threshold, identity above, a ceiling: see Keras's ReLU layer."""
    slope = options.number("negative_slope", 0) if "negative_slope" in options else options.number("alpha", 0)
    threshold = options.number("threshold", 0)
    ceiling = options.number("max_value") if "max_value" in options else None
    if ceiling is not None and not slope and not threshold:
        return _clip(walk, x, 0, ceiling)
    if threshold and slope:
        bound = walk.number(threshold, "threshold")
        below = walk.same("Mul", walk.same("Sub", x, bound), walk.number(slope, "slope"))
        above = walk.same("GreaterOrEqual", x, bound)
        result = walk.same("Where", above, x.value, below.value)
    elif threshold:
        # ONNX's op is 0 at the threshold itself, where Keras has the threshold
        result = walk.same("ThresholdedRelu", x, alpha=float(np.nextafter(np.float32(threshold), np.float32(-np.inf))))
    else:
        result = walk.same("LeakyRelu", x, alpha=slope) if slope else walk.same("Relu", x)
    return result if ceiling is None else walk.same("Min", result, walk.number(ceiling, "max_value"))


def _leaky_relu(walk: Walk, x: Held, options: Options) -> Held:
    slope = options.number("negative_slope", 0.3) if "negative_slope" in options else options.number("alpha", 0.3)
    return walk.same("LeakyRelu", x, alpha=slope)


def _elu(walk: Walk, x: Held, options: Options) -> Held:
    return walk.same("Elu", x, alpha=options.number("alpha", 1))


def _thresholded(walk: Walk, x: Held, options: Options) -> Held:
    return walk.same("ThresholdedRelu", x, alpha=options.number("theta", 1))


def _softmax(walk: Walk, x: Held, options: Options) -> Held:
    axes = options.axes("axis", -1)
    if len(axes) > 1:
        raise UnsupportedError(f"axis={axes}")
    if x.packing is None:
        x.positive(axes[0])
    return softmax(walk, x, axes[0])


_LAYERS: dict[str, Callable[[Walk, Held, Options], Held]] = {
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "ThresholdedReLU": _thresholded,
    "Softmax": _softmax,
}


@layer(*_LAYERS)
def activation_layer(walk: Walk, node: LayerNode) -> Held:
    """An activation that is a layer of its own kind."""
    mask = node.args[1] if node.kind == "Softmax" and len(node.args) > 1 else node.mask
    if isinstance(mask, Held):
        return _masked_softmax(walk, replace(node, args=node.args[:1]), mask)
    if mask is not None:
        raise UnsupportedError("a mask of numbers")
    return _LAYERS[node.kind](walk, node.input, node.options)


def _masked_softmax(walk: Walk, node: LayerNode, mask: Held) -> Held:
    """Softmax of what a mask, of the last axes, lets stand; 0 elsewhere, as in Keras 3.15 even where that is all."""
    x = walk.plain(node.input)
    mask = walk.plain(mask)
    if mask.rank > x.rank:
        raise UnsupportedError("a mask of more axes than its input")
    if mask.value.dtype is not ir.DataType.BOOL:
        mask = walk.same("Greater", walk.same("Cast", mask, to=ir.DataType.FLOAT.value), walk.number(0.5, "half"))
    kept = walk.emit("Where", [mask.value, x.value, walk.number(-1e9, "low")], x.order, "kept")
    result = _softmax(walk, kept, node.options)
    return pass_on(walk, node, walk.emit("Where", [mask.value, result.value, walk.number(0, "zero")], x.order))


@layer("PReLU")
def prelu(walk: Walk, node: LayerNode) -> Held:
    """A learned slope, alpha, of the input's shape or shared along some axes."""
    x = node.input if node.input.packing is None else walk.plain(node.input)
    shared = (
        {x.positive(axis) for axis in node.options.axes("shared_axes", 0)} if "shared_axes" in node.options else set()
    )
    sizes = [1 if axis in shared else x.size(axis, f"layer {node.name!r}") for axis in range(1, x.rank)]
    if node.shared:
        x = walk.plain(x)
    alpha = walk.weights(node, Slot("alpha", tuple(sizes)))["alpha"]
    laid = alpha[None].transpose(x.order)[0] if x.order[0] == 0 else alpha[None].transpose(x.order)
    return walk.same("PRelu", x, walk.parameter(node, "alpha", laid))
