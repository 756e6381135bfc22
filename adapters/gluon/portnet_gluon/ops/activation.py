"""Activations: MXNet's own where one has the same formula."""

from __future__ import annotations

from typing import Any

from portnet.graph.lowering import NodeView
from portnet_gluon.compat import mx
from portnet_gluon.ops.registry import Builder, Symbol, op
from portnet_gluon.ops.windows import lowest

# op -> act_type of mx.sym.Activation
_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softrelu", "Softsign": "softsign"}


def _activation(kind: str) -> Builder:
    def builder(walk: Any, node: NodeView) -> Symbol:
        return mx.sym.Activation(walk.value(node.required(0)), act_type=kind, name=node.name)

    return builder


for _name, _kind in _ACTIVATIONS.items():
    op(_name)(_activation(_kind))


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
    return function(walk.value(node.required(0)), axis=node["axis"], name=node.name)


@op("Clip")
def clip(walk: Any, node: NodeView) -> Symbol:
    """``mx.sym.clip`` between numbers; computed bounds by minimum and maximum."""
    x, dtype = walk.value(node.required(0)), walk.dtype(node.required(0))
    low, high = node.input(1), node.input(2)
    known = [None if bound is None else walk.try_host(bound) for bound in (low, high)]
    if dtype == "float32" and all(b is None or k is not None for b, k in zip((low, high), known, strict=True)):
        a_min, a_max = (default if k is None else float(k.array.item()) for k, default in zip(known, _ENDS, strict=True))
        if a_min <= a_max:
            return mx.sym.clip(x, a_min=a_min, a_max=a_max, name=node.name)
    if low is not None:
        x = mx.sym.broadcast_maximum(x, walk.value(low))
    return x if high is None else mx.sym.broadcast_minimum(x, walk.value(high))


_ENDS = (lowest("float32"), -lowest("float32"))
