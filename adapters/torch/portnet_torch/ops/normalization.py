"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from portnet.graph.lowering import NodeView
from portnet_torch.bare import bare, put
from portnet_torch.binding import PLAIN
from portnet_torch.functional import normalization
from portnet_torch.naming import layer_name, shortest
from portnet_torch.ops.registry import Walk, op

_INSTANCE_NORM = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
_BATCH_NORM = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@op("BatchNormalization")
def _batch_normalization(walk: Walk, node: NodeView) -> Any:
    x, *state = (node.required(index) for index in range(5))
    eps, momentum = shortest(node["epsilon"]), round(1.0 - shortest(node["momentum"]), 7)
    if node["training_mode"] and len(node.outputs) > 1:
        results = walk.call(
            normalization.batch_norm_training, walk.value(x), *map(walk.value, state), eps, 1 - momentum
        )
        return [results[0], results[1], results[2]]
    rank, shape = walk.rank(x), walk.static_shape(state[0])
    if rank in _BATCH_NORM and walk.adoptable(*state) and walk.is_exclusive(state[2]) and shape:
        layer = bare(_BATCH_NORM[rank], shape[0], eps, momentum)
        put(layer, "num_batches_tracked", torch.tensor(0))
        names = ("weight", "bias", "running_mean", "running_var")
        weights = {name: (value, PLAIN) for name, value in zip(names, state, strict=True)}
        return walk.adopt(layer, node, weights, walk.value(x))
    return walk.call(normalization.batch_norm, walk.value(x), *map(walk.value, state), eps)


@op("InstanceNormalization")
def _instance_normalization(walk: Walk, node: NodeView) -> Any:
    source, scale, bias = (node.required(index) for index in range(3))
    eps, rank, shape = shortest(node["epsilon"]), walk.rank(source), walk.static_shape(scale)
    if _is_one_place(source):  # refused by ``F.instance_norm``, and by its module
        return walk.call(normalization.instance_norm, *map(walk.value, (source, scale, bias)), eps)
    if rank in _INSTANCE_NORM and shape and shape[0] and walk.adoptable(scale, bias):
        layer = bare(_INSTANCE_NORM[rank], shape[0], eps, affine=True)
        return walk.adopt(layer, node, {"weight": (scale, PLAIN), "bias": (bias, PLAIN)}, walk.value(source))
    return walk.call(F.instance_norm, walk.value(source), weight=walk.value(scale), bias=walk.value(bias), eps=eps)


def _is_one_place(source: Any) -> bool:
    """Whether a channel is known to have one element."""
    return source.shape is not None and all(size == 1 for size in source.shape[2:])


@op("LayerNormalization")
def _layer_normalization(walk: Walk, node: NodeView) -> Any:
    source, scale, bias = node.required(0), node.required(1), node.input(2)
    eps, shape, dims = shortest(node["epsilon"]), walk.static_shape(scale), _normal_dims(walk, node)
    single = len(node.outputs) == 1 and node["stash_type"] == 1
    if single and shape and _covers(walk, source, (scale, bias), dims) and walk.adoptable(scale, bias):
        layer = bare(nn.LayerNorm, shape, eps, bias=bias is not None)
        return walk.adopt(layer, node, {"weight": (scale, PLAIN), "bias": (bias, PLAIN)}, walk.value(source))
    arrays = walk.value(source), walk.value(scale), walk.optional(bias)
    result = walk.call(normalization.layer_norm, *arrays, dims, eps)
    return [result[index] for index in range(len(node.outputs))]


@op("RMSNormalization")
def _rms_normalization(walk: Walk, node: NodeView) -> Any:
    source, scale = node.required(0), node.required(1)
    eps, shape, dims = shortest(node["epsilon"]), walk.static_shape(scale), _normal_dims(walk, node)
    same = source.dtype == scale.dtype and walk.dtype(source) == torch.float32
    if same and shape and _covers(walk, source, (scale,), dims) and walk.adoptable(scale):
        layer = bare(nn.RMSNorm, shape, eps)
        return walk.adopt(layer, node, {"weight": (scale, PLAIN)}, walk.value(source))
    return walk.call(normalization.rms_norm, walk.value(source), walk.value(scale), dims, eps)


def _normal_dims(walk: Walk, node: NodeView) -> Any:
    """Return how many of the last axes are normalised."""
    axis = node["axis"]
    return -axis if axis < 0 else walk.rank(node.required(0)) - axis


def _covers(walk: Walk, source: Any, weights: tuple[Any, ...], dims: int) -> bool:
    """Whether weights have an element for each that is normalised, rather than one for several."""
    whole = list((walk.static_shape(source) or ())[-dims:])
    shapes = [list(walk.static_shape(value) or ()) for value in weights if value is not None]
    return all(len(shape) == dims and None not in shape for shape in shapes) and all(
        shape == shapes[0] and all(n in (None, size) for n, size in zip(whole, shape, strict=True)) for shape in shapes
    )


@op("GroupNormalization")
def _group_normalization(walk: Walk, node: NodeView) -> Any:
    source, scale, bias = (node.required(index) for index in range(3))
    groups, eps, shape = node["num_groups"], shortest(node["epsilon"]), walk.static_shape(scale)
    # torch's backward for channels last dies on the CPU where the input needs no gradient
    x = walk.method("contiguous", walk.value(source)) if walk.rank(source) > 3 else walk.value(source)
    known = [walk.try_host(value) for value in (scale, bias)]
    if shape and shape[0] and None not in known and (known[0].array == 1).all() and not known[1].array.any():
        return walk.layer(nn.GroupNorm(groups, shape[0], eps, affine=False), layer_name(node.name, node.op), x)
    if shape and shape[0] and walk.adoptable(scale, bias) and node["stash_type"] == 1:
        layer = bare(nn.GroupNorm, groups, shape[0], eps)
        return walk.adopt(layer, node, {"weight": (scale, PLAIN), "bias": (bias, PLAIN)}, x)
    return walk.call(F.group_norm, x, groups, walk.value(scale), walk.value(bias), eps)


@op("LRN")
def _lrn(walk: Walk, node: NodeView) -> Any:
    numbers = (shortest(node[name]) for name in ("alpha", "beta", "bias"))
    return walk.call(normalization.local_response_norm, walk.value(node.required(0)), node["size"], *numbers)


@op("LpNormalization")
def _lp_normalization(walk: Walk, node: NodeView) -> Any:
    return walk.call(normalization.lp_normalize, walk.value(node.required(0)), node["p"], node["axis"])
