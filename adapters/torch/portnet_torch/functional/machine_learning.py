"""Encoders and trees of ai.onnx.ml."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor


def encode_labels(x: Any, table: list[tuple[Any, Any]], default: Any, dtype: torch.dtype | None) -> Any:
    """Look each element up in a table; without a dtype the result is strings."""
    values = {_key(key): value for key, value in table}
    found = [values.get(_key(item), default) for item in (x.flatten().tolist() if isinstance(x, Tensor) else x.ravel())]
    if dtype is None:
        return np.array(found, dtype=object).reshape(tuple(x.shape))
    return torch.tensor(found, dtype=dtype).reshape(x.shape)


def _key(item: Any) -> Any:
    return "nan" if isinstance(item, float) and item != item else item


def binarize(x: Tensor, threshold: float) -> Tensor:
    """Return 1 where x is above the threshold, else 0."""
    return (x > threshold).to(x.dtype)


def scale(x: Tensor, offset: list[float], factor: list[float]) -> Tensor:
    """Return (x − offset)·factor as float32, by feature."""
    x = x.to(torch.float32)
    return (x - torch.tensor(offset, device=x.device)) * torch.tensor(factor, device=x.device)


_COMPARE = [operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne]
_AVERAGE, _SUM, _MIN, _MAX = range(4)


def _leaf(row: list[float], root: int, nodes: dict[str, list[int]], splits: list[float],
          missing: list[int], members: list[list[float]]) -> int:  # fmt: skip
    """Follow one tree down to a leaf."""
    node, is_leaf = root, False
    if nodes["trueleafs"][root] and nodes["falseleafs"][root] and nodes["truenodeids"] == nodes["falsenodeids"]:
        return nodes["truenodeids"][root]
    while not is_leaf:
        value, mode = row[nodes["featureids"][node]], nodes["modes"][node]
        holds = value in members[node] if mode == len(_COMPARE) else _COMPARE[mode](value, splits[node])
        side = "true" if holds or (missing[node] and value != value) else "false"
        is_leaf = bool(nodes[f"{side}leafs"][node])
        node = nodes[f"{side}nodeids"][node]
    return node


def tree_ensemble(
    x: Tensor, nodes: dict[str, list[int]], splits: list[float], missing: list[int], members: list[list[float]],
    targets: list[int], weights: list[float], roots: list[int], count: int, aggregate: int,
) -> Tensor:  # fmt: skip
    """Sum, average or take the extreme of the leaves that the trees reach, by target: (N, targets)."""
    start = {_MIN: torch.finfo(x.dtype).max, _MAX: torch.finfo(x.dtype).min}.get(aggregate, 0.0)
    combine = {_MIN: min, _MAX: max}.get(aggregate, operator.add)
    results = []
    for row in x.tolist():
        result = [start] * count
        for root in roots:
            leaf = _leaf(row, root, nodes, splits, missing, members)
            part = weights[leaf] / len(roots) if aggregate == _AVERAGE else weights[leaf]
            result[targets[leaf]] = combine(result[targets[leaf]], part)
        results.append(result)
    return torch.tensor(results, dtype=x.dtype).reshape(x.size(0), count)
