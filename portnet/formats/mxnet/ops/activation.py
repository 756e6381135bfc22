"""Activations and softmax."""

from __future__ import annotations

import onnx_ir as ir

from portnet.formats.mxnet.layer import Layer, Refused, op
from portnet.weights.init import constant

_ACTIVATIONS = {
    **{"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"},
    "mish": "Mish",
}


@op("Activation")
def activation(layer: Layer) -> ir.Value:
    kind = layer.attributes.text("act_type")
    if kind == "log_sigmoid":
        return _log_sigmoid(layer)
    if kind not in _ACTIVATIONS:
        raise Refused(f"act_type={kind}")
    return layer.final(_ACTIVATIONS[kind], [layer.value(0)])


@op("log_sigmoid")
def log_sigmoid(layer: Layer) -> ir.Value:
    return _log_sigmoid(layer)


def _log_sigmoid(layer: Layer) -> ir.Value:
    negative = layer.step("Neg", [layer.value(0)], "negative")
    return layer.final("Neg", [layer.step("Softplus", [negative], "softplus")])


@op("LeakyReLU")
def leaky_relu(layer: Layer) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    kind, slope = get.text("act_type", "leaky"), get.number("slope", 0.25)
    low, high = get.number("lower_bound", 0.125), get.number("upper_bound", 0.334)
    match kind:
        case "leaky":
            return layer.final("LeakyRelu", [x], alpha=slope)
        case "elu":
            return layer.final("Elu", [x], alpha=slope)
        case "selu":
            return layer.final("Selu", [x])
        case "gelu":
            return layer.final("Gelu", [x])
        case "prelu":
            return layer.final("PRelu", [x, _slopes(layer, x)])
        case "rrelu":
            layer.note("the random slope of rrelu is its mean, in training too")
            return layer.final("LeakyRelu", [x], alpha=(low + high) / 2)
    raise Refused(f"act_type={kind}")


def _slopes(layer: Layer, x: ir.Value) -> ir.Value:
    """Return a slope for each channel, or one for all, as it broadcasts along axis 1."""
    given = layer.array(1)
    width = 1 if given is not None and given.size == 1 else layer.size(x, 1)
    after = (1,) * (layer.rank(x) - 2)
    return layer.parameter(1, (width,), constant(0.25), arrange=lambda array: array.reshape(-1, *after))


@op("softmax", "softmin")
def softmax(layer: Layer) -> ir.Value:
    return _softmax(layer, "Softmax")


@op("log_softmax")
def log_softmax(layer: Layer) -> ir.Value:
    return _softmax(layer, "LogSoftmax")


def _softmax(layer: Layer, kind: str) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    if get.flag("use_length", False) or get.text("dtype", "None") not in ("None", "float32"):
        raise Refused("a length or an element type of its own")
    axis = layer.axis(get.integer("axis", -1), layer.rank(x))
    temperature = get.maybe_number("temperature")
    if layer.op == "softmin":
        x = layer.step("Neg", [x], "negative")
    if temperature not in (None, 1.0):
        x = layer.step("Div", [x, layer.scalar(temperature, x, "temperature")], "scaled")
    return layer.final(kind, [x], axis=axis)


@op("SoftmaxActivation")
def softmax_activation(layer: Layer) -> ir.Value:
    x, mode = layer.value(0), layer.attributes.text("mode", "instance")
    if mode == "channel":
        return layer.final("Softmax", [x], axis=1)
    if mode != "instance":
        raise Refused(f"mode={mode}")
    return softmax_of_examples(layer, x)


def softmax_of_examples(layer: Layer, x: ir.Value) -> ir.Value:
    """Write a softmax over all numbers of an example."""
    if layer.rank(x) == 2:
        return layer.final("Softmax", [x], axis=1)
    flat = layer.step("Flatten", [x], "flat", axis=1)
    soft = layer.step("Softmax", [flat], "softmax", axis=1)
    whole = [layer.size(x, axis) for axis in range(1, layer.rank(x))]
    return layer.final("Reshape", [soft, layer.ints([0, *whole], "shape")])


@op("hard_sigmoid")
def hard_sigmoid(layer: Layer) -> ir.Value:
    get = layer.attributes
    return layer.final("HardSigmoid", [layer.value(0)], alpha=get.number("alpha", 0.2), beta=get.number("beta", 0.5))


@op("Dropout")
def dropout(layer: Layer) -> ir.Value:
    get, x = layer.attributes, layer.value(0)
    if get.text("mode", "training") != "training":
        raise Refused("mode=always")
    if get.integers("axes"):
        layer.note("Dropout that drops whole axes drops single numbers, in training")
    ratio = layer.writer.constant(get.number("p", 0.5), f"{layer.name}/ratio", "float32")
    return layer.final("Dropout", [x, ratio])
