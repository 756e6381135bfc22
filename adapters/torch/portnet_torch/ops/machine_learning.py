"""Ops of ai.onnx.ml that stand beside networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from portnet.graph.lowering import NodeView
from portnet_torch.functional import machine_learning
from portnet_torch.naming import shortest
from portnet_torch.ops.registry import Walk, op

_KINDS = {"strings": "default_string", "int64s": "default_int64", "floats": "default_float"}


@op("ai.onnx.ml.LabelEncoder")
def _label_encoder(walk: Walk, node: NodeView) -> Any:
    keys, _ = _side(node, "keys")
    values, default = _side(node, "values")
    table = dict(zip(keys, values, strict=True))
    dtype = None if isinstance(default, str) else walk.dtype(node.outputs[0])
    return walk.call(machine_learning.encode_labels, walk.value(node.required(0)), list(table.items()), default, dtype)


def _side(node: NodeView, side: str) -> tuple[list[Any], Any]:
    """Return the keys or values of a label encoder, and the default that goes with their kind."""
    if node.get(f"{side}_tensor") is not None:
        default = node.get("default_tensor")
        return _plain(node[f"{side}_tensor"]), None if default is None else _plain(default)[0]
    kind = next(kind for kind in _KINDS if node.get(f"{side}_{kind}"))
    return list(node[f"{side}_{kind}"]), node.get(_KINDS[kind])


def _plain(array: Any) -> list[Any]:
    return [item.decode() if isinstance(item, bytes) else item for item in np.asarray(array).reshape(-1).tolist()]


@op("ai.onnx.ml.Binarizer")
def _binarizer(walk: Walk, node: NodeView) -> Any:
    return walk.call(machine_learning.binarize, walk.value(node.required(0)), shortest(node["threshold"]))


@op("ai.onnx.ml.Scaler")
def _scaler(walk: Walk, node: NodeView) -> Any:
    numbers = [shortest(n) for n in node["offset"]], [shortest(n) for n in node["scale"]]
    return walk.call(machine_learning.scale, walk.value(node.required(0)), *numbers)


_NODE_LISTS = ("featureids", "modes", "truenodeids", "falsenodeids", "trueleafs", "falseleafs")


@op("ai.onnx.ml.TreeEnsemble")
def _tree_ensemble(walk: Walk, node: NodeView) -> Any:
    if node["post_transform"] != 0:
        raise walk.unsupported(f"post_transform {node['post_transform']}")
    modes = np.asarray(node["nodes_modes"]).tolist()
    lists = {name: list(np.asarray(node[f"nodes_{name}"]).tolist()) for name in _NODE_LISTS}
    splits = np.asarray(node["nodes_splits"]).tolist()
    missing = list(node.get("nodes_missing_value_tracks_true") or [0] * len(modes))
    members = _members(node, modes)
    leaves = list(node["leaf_targetids"]), np.asarray(node["leaf_weights"]).tolist()
    rest = list(node["tree_roots"]), node["n_targets"], node["aggregate_function"]
    x = walk.value(node.required(0))
    return walk.call(machine_learning.tree_ensemble, x, lists, splits, missing, members, *leaves, *rest)


def _members(node: NodeView, modes: list[int]) -> list[list[float]]:
    """Return the set of each membership node, in order; NaN ends a set."""
    values = node.get("membership_values")
    sets = [[]]
    for number in [] if values is None else np.asarray(values).tolist():
        if number != number:
            sets.append([])
        else:
            sets[-1].append(number)
    pending = iter(sets)
    return [next(pending) if mode == 6 else [] for mode in modes]
