"""Random tensors."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_torch.dtypes import torch_dtype
from portnet_torch.functional import random
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import Walk, op


def _dtype(walk: Walk, node: NodeView, default: Any) -> Any:
    return torch_dtype(ir.DataType(node["dtype"])) if node.get("dtype") else default


# op -> function and the names of its two numbers
_DRAWS = {
    "RandomUniform": (random.uniform, "low", "high"),
    "RandomNormal": (random.normal, "mean", "scale"),
    "RandomUniformLike": (random.uniform_like, "low", "high"),
    "RandomNormalLike": (random.normal_like, "mean", "scale"),
}


@op("RandomUniform", "RandomNormal")
def _draw(walk: Walk, node: NodeView) -> Any:
    function, *numbers = _DRAWS[node.op]
    dtype = walk.dtype(node.outputs[0])
    numbers = [shortest(node[name]) for name in numbers]
    return walk.call(function, list(node["shape"]), *numbers, dtype, node.get("seed"), walk.shared.device)


@op("RandomUniformLike", "RandomNormalLike")
def _draw_like(walk: Walk, node: NodeView) -> Any:
    function, *numbers = _DRAWS[node.op]
    dtype = walk.dtype(node.outputs[0])
    numbers = [shortest(node[name]) for name in numbers]
    return walk.call(function, walk.value(node.required(0)), *numbers, dtype, node.get("seed"))


@op("Multinomial")
def _multinomial(walk: Walk, node: NodeView) -> Any:
    dtype = _dtype(walk, node, torch_dtype(ir.DataType.INT32))
    return walk.call(random.multinomial, walk.value(node.required(0)), node["sample_size"], dtype, node.get("seed"))


@op("Bernoulli")
def _bernoulli(walk: Walk, node: NodeView) -> Any:
    dtype = _dtype(walk, node, walk.dtype(node.required(0)))
    return walk.call(random.bernoulli, walk.value(node.required(0)), dtype, node.get("seed"))
