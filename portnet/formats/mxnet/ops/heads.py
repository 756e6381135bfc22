"""Heads for training, as they compute in inference; what becomes of labels is in `portnet.formats.mxnet.heads`."""

from __future__ import annotations

import onnx_ir as ir

from portnet.formats.mxnet.layer import Layer, op
from portnet.formats.mxnet.ops.activation import softmax_of_examples

_ONLY_TRAINING = (
    *("grad_scale", "ignore_label", "use_ignore", "normalization", "out_grad", "smooth_alpha"),
    *("margin", "regularization_coefficient", "use_linear"),
)


@op("SoftmaxOutput", "Softmax")
def softmax_output(layer: Layer) -> ir.Value:
    layer.attributes.ignore(*_ONLY_TRAINING)
    x = layer.value(0)
    channels, kept = layer.attributes.flag("multi_output", False), layer.attributes.flag("preserve_shape", False)
    if channels:
        return layer.final("Softmax", [x], axis=1)
    if kept:
        return layer.final("Softmax", [x], axis=layer.rank(x) - 1)
    return softmax_of_examples(layer, x)


@op("WarpCTC")
def warp_ctc(layer: Layer) -> ir.Value:
    layer.attributes.ignore("label_length", "input_length")
    return layer.final("Softmax", [layer.value(0)], axis=1)


@op("LogisticRegressionOutput")
def logistic(layer: Layer) -> ir.Value:
    layer.attributes.ignore(*_ONLY_TRAINING)
    return layer.final("Sigmoid", [layer.value(0)])


@op("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput")
def regression(layer: Layer) -> ir.Value:
    layer.attributes.ignore(*_ONLY_TRAINING)
    return layer.value(0)
