"""Activations with parameters of their own, and those over an axis."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import nn

from portnet.graph.lowering import NodeView
from portnet_torch.bare import bare
from portnet_torch.binding import Layout
from portnet_torch.functional import activations, arithmetic
from portnet_torch.naming import shortest
from portnet_torch.ops.elementwise import signed_order
from portnet_torch.ops.registry import Walk, op

# ops whose output nothing but the activation needs, not even their own backward
_OVERWRITABLE = {"Conv", "BatchNormalization", "Add", "Gemm", "ConvTranspose", "MatMul"}


def overwrite(walk: Walk, value: ir.Value) -> dict[str, bool]:
    """Return the option to work in place, where nobody else reads the value; it saves memory and its traffic."""
    producer = value.producer()
    inplace = producer is not None and producer.op_type in _OVERWRITABLE and walk.is_exclusive(value)
    return {"inplace": True} if inplace else {}


@op("Relu")
def _relu(walk: Walk, node: NodeView) -> Any:
    source = node.required(0)
    return walk.call(F.relu, walk.value(source), **overwrite(walk, source))


@op("Clip")
def _clip(walk: Walk, node: NodeView) -> Any:
    source, low, high = node.required(0), _bound(walk, node.input(1)), _bound(walk, node.input(2))
    if isinstance(low, float) and isinstance(high, float) and (low, high) == (0.0, 6.0):
        return walk.call(F.relu6, walk.value(source), **overwrite(walk, source))
    result = walk.call(arithmetic.clip, signed_order(walk, source), low, high)
    return signed_order(walk, node.outputs[0], result)


def _bound(walk: Walk, value: ir.Value | None) -> Any:
    """Return a bound as a plain float32 number where it is known, else as a tensor."""
    if value is None:
        return None
    known = walk.try_number(value)
    if known is None or value.dtype != ir.DataType.FLOAT:
        return signed_order(walk, value)
    return shortest(known)


@op("LeakyRelu")
def _leaky_relu(walk: Walk, node: NodeView) -> Any:
    return walk.call(F.leaky_relu, walk.value(node.required(0)), shortest(node["alpha"]))


@op("Elu")
def _elu(walk: Walk, node: NodeView) -> Any:
    return walk.call(F.elu, walk.value(node.required(0)), shortest(node["alpha"]))


@op("Celu")
def _celu(walk: Walk, node: NodeView) -> Any:
    return walk.call(F.celu, walk.value(node.required(0)), shortest(node["alpha"]))


@op("Selu")
def _selu(walk: Walk, node: NodeView) -> Any:
    return walk.call(activations.selu, walk.value(node.required(0)), node["alpha"], node["gamma"])


@op("HardSigmoid")
def _hard_sigmoid(walk: Walk, node: NodeView) -> Any:
    return walk.call(
        activations.hard_sigmoid, walk.value(node.required(0)), shortest(node["alpha"]), shortest(node["beta"])
    )


@op("ThresholdedRelu")
def _thresholded_relu(walk: Walk, node: NodeView) -> Any:
    return walk.call(F.threshold, walk.value(node.required(0)), shortest(node["alpha"]), 0.0)


@op("Shrink")
def _shrink(walk: Walk, node: NodeView) -> Any:
    return walk.call(activations.shrink, walk.value(node.required(0)), shortest(node["lambd"]), shortest(node["bias"]))


@op("Gelu")
def _gelu(walk: Walk, node: NodeView) -> Any:
    return walk.call(F.gelu, walk.value(node.required(0)), approximate=node["approximate"])


@op("Swish")
def _swish(walk: Walk, node: NodeView) -> Any:
    alpha = shortest(node["alpha"])
    if alpha == 1.0:
        return walk.call(F.silu, walk.value(node.required(0)))
    return walk.call(activations.swish, walk.value(node.required(0)), alpha)


@op("PRelu")
def _prelu(walk: Walk, node: NodeView) -> Any:
    slope = node.required(1)
    shape, rank = walk.static_shape(slope), walk.rank(node.required(0))
    per_channel = shape is not None and rank >= 2 and len(shape) == rank - 1 and set(shape[1:]) <= {1}
    if per_channel and walk.adoptable(slope):
        layer = bare(nn.PReLU, shape[0])
        return walk.adopt(layer, node, {"weight": (slope, _channels(shape))}, walk.value(node.required(0)))
    return walk.call(activations.prelu, walk.value(node.required(0)), walk.value(slope))


def _channels(shape: Any) -> Layout:
    return Layout(lambda array: [array.reshape(-1)], lambda tensors: tensors[0].reshape(shape))


@op("Softmax")
def _softmax(walk: Walk, node: NodeView) -> Any:
    half = node.required(0).dtype == ir.DataType.FLOAT16
    return walk.call(
        activations.softmax_in_steps if half else torch.softmax, walk.value(node.required(0)), node["axis"]
    )


@op("LogSoftmax")
def _log_softmax(walk: Walk, node: NodeView) -> Any:
    return walk.call(torch.log_softmax, walk.value(node.required(0)), node["axis"])


@op("Hardmax")
def _hardmax(walk: Walk, node: NodeView) -> Any:
    return walk.call(activations.hardmax, walk.value(node.required(0)), node["axis"])


@op("Dropout")
def _dropout(walk: Walk, node: NodeView) -> Any:
    """Live while the native network trains; a training mode that is an input of the graph is obeyed as it comes."""
    x, mode = walk.value(node.required(0)), node.input(2)
    if mode is not None and walk.try_host(mode) is None:
        ratio = 0.5 if node.input(1) is None else walk.item(node.input(1))
        result = walk.call(activations.dropout, x, ratio, walk.value(mode))
        return [result[0], result[1]]
    ratio = 0.5 if node.input(1) is None else shortest(walk.host(node.input(1)).item())
    result = walk.layer(nn.Dropout(ratio), node.name, x)
    return [result, walk.call(torch.ones_like, x, dtype=torch.bool)] if len(node.outputs) > 1 else result
