"""Random tensors."""

from __future__ import annotations

import onnx_ir as ir

from portnet_torch.dtypes import torch_dtype
from portnet_torch.functional import random
from portnet_torch.ops.registry import op


def _dtype(walk, node, default):
    return torch_dtype(ir.DataType(node["dtype"])) if node.get("dtype") else default


@op("RandomUniform", "RandomUniformLike")
def _uniform(walk, node):
    return _draw(walk, node, random.uniform, node["low"], node["high"])


@op("RandomNormal", "RandomNormalLike")
def _normal(walk, node):
    return _draw(walk, node, random.normal, node["mean"], node["scale"])


def _draw(walk, node, function, *numbers):
    dtype, seed = walk.dtype(node.outputs[0]), node.get("seed")
    if node.op.endswith("Like"):
        return walk.call(random.like, walk.value(node.required(0)), function, *numbers, dtype, seed)
    return walk.call(function, list(node["shape"]), *numbers, dtype, seed, walk.shared.device)


@op("Multinomial")
def _multinomial(walk, node):
    dtype = _dtype(walk, node, torch_dtype(ir.DataType.INT32))
    return walk.call(random.multinomial, walk.value(node.required(0)), node["sample_size"], dtype, node.get("seed"))


@op("Bernoulli")
def _bernoulli(walk, node):
    dtype = _dtype(walk, node, walk.dtype(node.required(0)))
    return walk.call(random.bernoulli, walk.value(node.required(0)), dtype, node.get("seed"))
