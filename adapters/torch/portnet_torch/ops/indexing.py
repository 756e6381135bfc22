"""Gathering and scattering by index."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from portnet.graph.lowering import NodeView
from portnet_torch.bare import bare
from portnet_torch.binding import PLAIN
from portnet_torch.functional import indexing
from portnet_torch.ops.registry import Walk, op


@op("Gather")
def _gather(walk: Walk, node: NodeView) -> Any:
    data, indices, axis = node.required(0), node.required(1), node["axis"]
    shape = walk.static_shape(data)
    if axis == 0 and shape is not None and len(shape) == 2 and walk.try_host(data) is None and walk.adoptable(data):
        layer = bare(nn.Embedding, *shape)
        places = walk.call(indexing.from_end, walk.value(indices), shape[0])
        return walk.adopt(layer, node, {"weight": (data, PLAIN)}, places)
    known = walk.try_host(indices)
    if known is not None and not known.is_symbolic and known.array.ndim == 0:
        return walk.method("select", walk.value(data), axis, int(known.array))
    return walk.call(indexing.gather, walk.value(data), walk.value(indices), axis)


@op("GatherElements")
def _gather_elements(walk: Walk, node: NodeView) -> Any:
    return walk.call(indexing.gather_elements, *walk.inputs(node), node["axis"])


@op("GatherND")
def _gather_nd(walk: Walk, node: NodeView) -> Any:
    return walk.call(indexing.gather_nd, *walk.inputs(node), node["batch_dims"])


@op("ScatterElements", "Scatter")
def _scatter_elements(walk: Walk, node: NodeView) -> Any:
    return walk.call(indexing.scatter_elements, *walk.inputs(node), node["axis"], node.get("reduction", "none"))


@op("ScatterND")
def _scatter_nd(walk: Walk, node: NodeView) -> Any:
    return walk.call(indexing.scatter_nd, *walk.inputs(node), node["reduction"])


@op("OneHot")
def _one_hot(walk: Walk, node: NodeView) -> Any:
    depth = walk.item(node.required(1))
    return walk.call(indexing.one_hot, walk.value(node.required(0)), depth, walk.value(node.required(2)), node["axis"])


@op("NonZero")
def _non_zero(walk: Walk, node: NodeView) -> Any:
    return walk.method("t", walk.call(torch.nonzero, walk.value(node.required(0))))


@op("Compress")
def _compress(walk: Walk, node: NodeView) -> Any:
    return walk.call(indexing.compress, *walk.inputs(node), node.get("axis"))


@op("Unique")
def _unique(walk: Walk, node: NodeView) -> Any:
    results = walk.call(indexing.unique, walk.value(node.required(0)), node.get("axis"), bool(node["sorted"]))
    return [results[index] for index in range(len(node.outputs))]


@op("TensorScatter")
def _tensor_scatter(walk: Walk, node: NodeView) -> Any:
    cache, update, start = walk.value(node.required(0)), walk.value(node.required(1)), walk.optional(node.input(2))
    return walk.call(indexing.tensor_scatter, cache, update, start, node["axis"], node["mode"] == "circular")


@op("ai.onnx.ml.ArrayFeatureExtractor")
def _array_feature_extractor(walk: Walk, node: NodeView) -> Any:
    return walk.call(indexing.gather, walk.value(node.required(0)), walk.value(node.required(1)), -1)
