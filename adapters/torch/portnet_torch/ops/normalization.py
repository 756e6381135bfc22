"""Normalisation layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from portnet_torch.binding import PLAIN
from portnet_torch.functional import normalization
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import op

_BATCH_NORM = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@op("BatchNormalization")
def _batch_normalization(walk, node):
    x, *state = (node.required(index) for index in range(5))
    eps, momentum = shortest(node["epsilon"]), round(1.0 - shortest(node["momentum"]), 7)
    if node["training_mode"] and len(node.outputs) > 1:
        results = walk.call(
            normalization.batch_norm_training, walk.value(x), *map(walk.value, state), eps, 1 - momentum
        )
        return [results[0], results[1], results[2]]
    rank, shape = walk.rank(x), walk.static_shape(state[0])
    if rank in _BATCH_NORM and walk.adoptable(*state) and shape and shape[0]:
        layer = _BATCH_NORM[rank](shape[0], eps, momentum, device="meta")
        layer.num_batches_tracked = layer.num_batches_tracked.new_zeros((), device="cpu")
        names = ("weight", "bias", "running_mean", "running_var")
        weights = {name: (value, PLAIN) for name, value in zip(names, state, strict=True)}
        return walk.adopt(layer, node, weights, walk.value(x))
    return walk.call(normalization.batch_norm, walk.value(x), *map(walk.value, state), eps)


@op("InstanceNormalization")
def _instance_normalization(walk, node):
    x, scale, bias = (walk.value(node.required(index)) for index in range(3))
    return walk.call(F.instance_norm, x, weight=scale, bias=bias, eps=shortest(node["epsilon"]))


@op("LRN")
def _lrn(walk, node):
    numbers = (shortest(node[name]) for name in ("alpha", "beta", "bias"))
    return walk.call(normalization.local_response_norm, walk.value(node.required(0)), node["size"], *numbers)


@op("LpNormalization")
def _lp_normalization(walk, node):
    return walk.call(normalization.lp_normalize, walk.value(node.required(0)), node["p"], node["axis"])
