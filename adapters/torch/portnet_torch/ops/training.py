"""Optimizer steps of ai.onnx.preview.training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portnet.graph.lowering import NodeView
from portnet_torch.functional import training
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import Walk, op

_DOMAIN = "ai.onnx.preview.training"


def _steps(walk: Walk, node: NodeView, kinds: int, function: Callable[..., Any], options: list[Any]) -> list[Any]:
    """Call ``function`` for each tensor; the inputs are rate, step, then one group of tensors for each of ``kinds``."""
    rate, step, *rest = walk.inputs(node)
    count = len(rest) // kinds
    groups = [rest[kind * count : (kind + 1) * count] for kind in range(kinds)]
    results = [walk.call(function, rate, step, *tensors, *options) for tensors in zip(*groups, strict=True)]
    return [result[place] for place in range(kinds - 1) for result in results]


@op(f"{_DOMAIN}.Momentum")
def _momentum(walk: Walk, node: NodeView) -> Any:
    numbers = [shortest(node[name]) for name in ("norm_coefficient", "alpha", "beta")]
    return _steps(walk, node, 3, training.momentum, [*numbers, node["mode"] == "nesterov"])


@op(f"{_DOMAIN}.Adagrad")
def _adagrad(walk: Walk, node: NodeView) -> Any:
    numbers = [shortest(node[name]) for name in ("norm_coefficient", "epsilon", "decay_factor")]
    return _steps(walk, node, 3, training.adagrad, numbers)


@op(f"{_DOMAIN}.Adam")
def _adam(walk: Walk, node: NodeView) -> Any:
    names = ("norm_coefficient", "norm_coefficient_post", "alpha", "beta", "epsilon")
    return _steps(walk, node, 4, training.adam, [shortest(node[name]) for name in names])
