"""Functions of one number."""

from __future__ import annotations

import math

import onnx_ir as ir

from portnet.formats.caffe.layers.layer import Layer
from portnet.formats.caffe.layers.registry import NotExpressible, caffe

_PLAIN = {"TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus", "Sigmoid": "Sigmoid"}


@caffe(*_PLAIN)
def plain(layer: Layer) -> ir.Value:
    """Functions without options; BNLL is log(1 + eˣ)."""
    layer.options(f"{layer.kind.lower()}_param")
    return layer.node(_PLAIN[layer.kind], [layer.x])


@caffe("ReLU")
def relu(layer: Layer) -> ir.Value:
    """max(x, 0), or slope · x below 0."""
    slope = layer.options("relu_param").number("negative_slope", 0)
    return layer.node("LeakyRelu", [layer.x], alpha=slope) if slope else layer.node("Relu", [layer.x])


@caffe("ReLU6")
def relu6(layer: Layer) -> ir.Value:
    """min(max(x, 0), 6)."""
    return layer.node("Clip", [layer.x, layer.number(0, "min"), layer.number(6, "max")])


@caffe("Clip")
def clip(layer: Layer) -> ir.Value:
    """min(max(x, min), max)."""
    options = layer.options("clip_param")
    low, high = options.number("min", 0), options.number("max", 0)
    return layer.node("Clip", [layer.x, layer.number(low, "min"), layer.number(high, "max")])


@caffe("PReLU")
def prelu(layer: Layer) -> ir.Value:
    """A learned slope below 0, one a channel or one for all."""
    options = layer.options("prelu_param")
    channels = 1 if options.flag("channel_shared", False) else layer.size(1)
    shape = () if options.flag("channel_shared", False) else (channels,)
    to = (channels, *[1] * (len(layer.sizes) - 2))
    slope = layer.weight("weight", 0, shape, to=to, filler=options.message("filler"), constant=0.25)
    return layer.node("PRelu", [layer.x, slope])


@caffe("ELU")
def elu(layer: Layer) -> ir.Value:
    """Alpha · (eˣ − 1) below 0."""
    return layer.node("Elu", [layer.x], alpha=layer.options("elu_param").number("alpha", 1))


@caffe("SELU", "SeLu")
def selu(layer: Layer) -> ir.Value:
    """Lambda · x above 0, lambda · alpha · (eˣ − 1) below."""
    options = layer.options("selu_param")
    alpha, rate = options.number("alpha", 1.6732632423543772), options.number("lambda", 1.0507009873554805)
    return layer.node("Selu", [layer.x], alpha=alpha, gamma=rate)


@caffe("Swish")
def swish(layer: Layer) -> ir.Value:
    """x · sigmoid(beta · x)."""
    beta = layer.options("swish_param").number("beta", 1)
    x = layer.x if beta == 1 else layer.node("Mul", [layer.x, layer.number(beta, "beta")], "scaled")
    return layer.node("Mul", [layer.x, layer.node("Sigmoid", [x], "sigmoid")])


@caffe("Power")
def power(layer: Layer) -> ir.Value:
    """(shift + scale · x) ^ power."""
    options = layer.options("power_param")
    exponent = options.number("power", 1)
    steps = _affine_steps(options.number("scale", 1), options.number("shift", 0))
    if exponent != 1 or not steps:
        steps.append(("Pow", exponent) if exponent != 1 else ("Mul", 1.0))
    x = layer.x
    for place, (op, number) in enumerate(steps):
        what = op.lower()
        x = layer.node(op, [x, layer.number(number, f"{what}.number")], "" if place == len(steps) - 1 else what)
    return x


@caffe("Exp")
def exponential(layer: Layer) -> ir.Value:
    """Base ^ (shift + scale · x); a base of −1 stands for e."""
    options = layer.options("exp_param")
    base = options.number("base", -1)
    if base <= 0 and base != -1:
        raise NotExpressible(f"of base {base}")
    rate = 1.0 if base == -1 else math.log(base)
    return layer.node("Exp", [_affine(layer, rate * options.number("scale", 1), rate * options.number("shift", 0))])


@caffe("Log")
def logarithm(layer: Layer) -> ir.Value:
    """Logarithm of shift + scale · x; a base of −1 stands for e."""
    options = layer.options("log_param")
    base = options.number("base", -1)
    if base != -1 and (base <= 0 or base == 1):
        raise NotExpressible(f"of base {base}")
    x = _affine(layer, options.number("scale", 1), options.number("shift", 0))
    if base == -1:
        return layer.node("Log", [x])
    return layer.node("Mul", [layer.node("Log", [x], "log"), layer.number(1 / math.log(base), "rate")])


@caffe("Threshold")
def threshold(layer: Layer) -> ir.Value:
    """1 above the threshold, else 0."""
    bound = layer.options("threshold_param").number("threshold", 0)
    above = layer.node("Greater", [layer.x, layer.number(bound, "threshold")], "above")
    return layer.node("Cast", [above], to=ir.DataType.FLOAT.value)


@caffe("Dropout")
def dropout(layer: Layer) -> ir.Value:
    """Nothing in inference; in training, numbers are dropped with probability ``dropout_ratio``."""
    options = layer.options("dropout_param")
    ratio = options.number("dropout_ratio", 0.5)
    options.flag("scale_train", True)
    if options.flag("sample_weights_test", False):
        layer.notes.append(f"Dropout {layer.name!r} says sample_weights_test: here it drops nothing in inference.")
    if not 0 <= ratio < 1:
        raise NotExpressible(f"with probability {ratio}")
    return layer.node("Dropout", [layer.x, layer.number(ratio, "ratio")])


def _affine(layer: Layer, scale: float, shift: float) -> ir.Value:
    x = layer.x
    for op, number in _affine_steps(scale, shift):
        x = layer.node(op, [x, layer.number(number, f"{op.lower()}.number")], op.lower())
    return x


def _affine_steps(scale: float, shift: float) -> list[tuple[str, float]]:
    """Return shift + scale · x as steps; those without effect are left out."""
    steps = [("Mul", scale)] if scale != 1 else []
    return steps + ([("Add", shift)] if shift else [])
