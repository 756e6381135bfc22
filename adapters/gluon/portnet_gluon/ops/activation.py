"""Activations: MXNet's own where one has the same formula."""

from __future__ import annotations

import math
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import INTEGERS_AS_DOUBLE, Builder, Symbol, op
from portnet_gluon.ops.windows import lowest

# op -> act_type of mx.sym.Activation
_ACTIVATIONS = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Softsign": "softsign"}


def _activation(kind: str) -> Builder:
    def builder(walk: Any, node: NodeView) -> Symbol:
        return mx.sym.Activation(walk.value(node.required(0)), act_type=kind, name=node.name)

    return builder


for _name, _kind in _ACTIVATIONS.items():
    op(_name)(_activation(_kind))


@op("Relu", instead=INTEGERS_AS_DOUBLE)
def relu(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.Activation``; the plain operator where NaN must stay NaN."""
    x = walk.value(node.required(0))
    return (
        mx.sym.relu(x, name=node.name)
        if walk.variant.nan_safe
        else mx.sym.Activation(x, act_type="relu", name=node.name)
    )


@op("Softplus")
def softplus(walk: Any, node: NodeView) -> Symbol:
    """max(x, 0) + log(1 + e^−|x|), which does not overflow as MXNet's softrelu does."""
    x = walk.value(node.required(0))
    return mx.sym.elemwise_add(mx.sym.relu(x), mx.sym.log1p(mx.sym.exp(-mx.sym.abs(x))), name=node.name)


@op("LeakyRelu")
def leaky_relu(walk: Any, node: NodeView) -> Symbol:
    """x, or alpha · x below zero."""
    return mx.sym.LeakyReLU(walk.value(node.required(0)), act_type="leaky", slope=node["alpha"], name=node.name)


@op("Elu")
def elu(walk: Any, node: NodeView) -> Symbol:
    """x, or alpha · (eˣ − 1) below zero."""
    return _elu(walk.value(node.required(0)), node["alpha"], node.name)


def _elu(x: Symbol, alpha: float, name: str | None = None) -> Symbol:
    return mx.sym.LeakyReLU(x, act_type="elu", slope=alpha, name=name)


@op("Selu")
def selu(walk: Any, node: NodeView) -> Symbol:
    """gamma · elu(x, alpha)."""
    return _elu(walk.value(node.required(0)), node["alpha"]) * node["gamma"]


@op("Celu")
def celu(walk: Any, node: NodeView) -> Symbol:
    """alpha · elu(x / alpha, 1)."""
    return _elu(walk.value(node.required(0)) / node["alpha"], 1.0) * node["alpha"]


@op("PRelu")
def prelu(walk: Any, node: NodeView) -> Symbol:
    """x, or slope · x below zero, the slope broadcast as ONNX says."""
    x, slope = walk.args(node)
    below = mx.sym.broadcast_mul(mx.sym.minimum(x, 0), slope)
    return mx.sym.broadcast_add(mx.sym.maximum(x, 0), below, name=node.name)


@op("HardSigmoid")
def hard_sigmoid(walk: Any, node: NodeView) -> Symbol:
    """max(0, min(1, alpha · x + beta))."""
    return mx.sym.hard_sigmoid(walk.value(node.required(0)), alpha=node["alpha"], beta=node["beta"], name=node.name)


@op("Softmax", "LogSoftmax")
def softmax(walk: Any, node: NodeView) -> Symbol:
    """Softmax or its logarithm over one axis."""
    function = mx.sym.softmax if node.op == "Softmax" else mx.sym.log_softmax
    x, value = walk.value(node.required(0)), node.required(0)
    if walk.rank(value) <= _MOST_AXES:
        return function(x, axis=node["axis"], name=node.name)
    sizes, axis = walk.sizes(value), walk.axis(node, walk.rank(value))
    folded = mx.sym.reshape(x, shape=(math.prod(sizes[:axis]), sizes[axis], -1))
    return mx.sym.reshape(function(folded, axis=1), shape=sizes, name=node.name)


# of oneDNN's softmax
_MOST_AXES = 5


@op("Clip")
def clip(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.clip`` between numbers; computed bounds by minimum and maximum."""
    x, dtype = walk.value(node.required(0)), walk.dtype(node.required(0))
    low, high = node.input(1), node.input(2)
    bounds = [_bound(walk, value, default) for value, default in zip((low, high), _ENDS, strict=True)]
    if dtype == "float32" and None not in bounds and bounds[0] <= bounds[1]:
        return mx.sym.clip(x, a_min=bounds[0], a_max=bounds[1], name=node.name)
    if low is not None:
        x = mx.sym.broadcast_maximum(x, walk.value(low))
    return x if high is None else mx.sym.broadcast_minimum(x, walk.value(high))


_ENDS = (lowest("float32"), -lowest("float32"))


def _bound(walk: Any, value: Any, default: float) -> float | None:
    """Return a bound that is known, the end of the range where it is left out, or None when it is computed."""
    if value is None:
        return default
    known = walk.try_number(value)
    return None if known is None else float(known)
