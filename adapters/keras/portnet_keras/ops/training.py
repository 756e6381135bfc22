"""Optimizer steps as graph nodes (``ai.onnx.preview.training``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_keras.framework import ops
from portnet_keras.ops.registry import op

__all__: list[str] = []


def _optimizer(name: str, states: int, step: Callable[..., tuple[Any, ...]]) -> None:
    """Register an optimizer: ``step(node, rate, count, x, gradient, *states)`` returns what each of them becomes."""

    @op(f"ai.onnx.preview.training.{name}")
    def build(walk: Any, node: NodeView) -> list[Any]:
        rate, count, *arrays = (walk.plain(value) for value in node.inputs)
        size = len(arrays) // (2 + states)
        columns = [arrays[i * size : (i + 1) * size] for i in range(2 + states)]
        results = [step(node, rate, count, *each) for each in zip(*columns, strict=True)]
        return [value for column in zip(*results, strict=True) for value in column]


def _adagrad(node: NodeView, rate: Any, count: Any, x: Any, g: Any, h: Any) -> tuple[Any, ...]:
    rate = ops.divide(rate, ops.cast(count, rate.dtype) * node["decay_factor"] + 1.0)
    g = ops.add(x * node["norm_coefficient"], g)
    h = ops.add(h, ops.square(g))
    return ops.subtract(x, ops.divide(ops.multiply(rate, g), ops.sqrt(h) + node["epsilon"])), h


def _adam(node: NodeView, rate: Any, count: Any, x: Any, g: Any, v: Any, h: Any) -> tuple[Any, ...]:
    alpha, beta, t = node["alpha"], node["beta"], ops.cast(count, rate.dtype)
    corrected = ops.divide(ops.sqrt(1.0 - ops.power(beta, t)), 1.0 - ops.power(alpha, ops.maximum(t, 1.0)))
    rate = ops.where(ops.greater(t, 0.0), ops.multiply(rate, corrected), rate)
    g = ops.add(x * node["norm_coefficient"], g)
    v = ops.add(v * alpha, g * (1 - alpha))
    h = ops.add(h * beta, ops.square(g) * (1 - beta))
    x = ops.subtract(x, ops.divide(ops.multiply(rate, v), ops.sqrt(h) + node["epsilon"]))
    return x * (1 - node["norm_coefficient_post"]), v, h


def _momentum(node: NodeView, rate: Any, count: Any, x: Any, g: Any, v: Any) -> tuple[Any, ...]:
    alpha = node["alpha"]
    g = ops.add(x * node["norm_coefficient"], g)
    beta = ops.where(ops.greater(count, 0), node["beta"], 1.0)
    v = ops.add(v * alpha, ops.multiply(ops.cast(beta, g.dtype), g))
    move = ops.add(g, v * alpha) if node["mode"] == "nesterov" else v
    return ops.subtract(x, ops.multiply(rate, move)), v


_optimizer("Adagrad", 1, _adagrad)
_optimizer("Adam", 2, _adam)
_optimizer("Momentum", 1, _momentum)
