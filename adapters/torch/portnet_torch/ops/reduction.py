"""Reductions over axes."""

from __future__ import annotations

from typing import Any

import torch

from portnet.graph.lowering import NodeView
from portnet_torch.functional import reduction
from portnet_torch.ops.registry import TABLE, Walk, op

REDUCTIONS = {
    "ReduceL1": reduction.l1,
    "ReduceL2": reduction.l2,
    "ReduceLogSum": reduction.log_sum,
    "ReduceLogSumExp": reduction.log_sum_exp,
    "ReduceMax": reduction.maximum,
    "ReduceMean": reduction.mean,
    "ReduceMin": reduction.minimum,
    "ReduceProd": reduction.product,
    "ReduceSum": reduction.total,
    "ReduceSumSquare": reduction.sum_square,
}


def _reduce(walk: Walk, node: NodeView) -> Any:
    x, axes, keepdims = node.required(0), _axes(walk, node), bool(node["keepdims"])
    if node.op == "ReduceMean" and isinstance(axes, list) and axes and walk.dtype(x).is_floating_point:
        return walk.call(torch.mean, walk.value(x), axes, keepdim=keepdims)
    return walk.call(REDUCTIONS[node.op], walk.value(x), axes, keepdims)


def _axes(walk: Walk, node: NodeView) -> Any:
    """Return axes as functions take them: None for all, [] for none, or a list made while running."""
    axes = [] if node.input(1) is None else walk.ints(node.input(1))
    if node["noop_with_empty_axes"]:
        return axes
    return axes or None if isinstance(axes, list) else walk.call(reduction.all_if_empty, axes)


TABLE.update(dict.fromkeys(REDUCTIONS, _reduce))


@op("ArgMax", "ArgMin")
def _arg(walk: Walk, node: NodeView) -> Any:
    function = reduction.argmax if node.op == "ArgMax" else reduction.argmin
    options = node["axis"], bool(node["keepdims"]), bool(node["select_last_index"])
    return walk.call(function, walk.value(node.required(0)), *options)


@op("CumSum", "CumProd")
def _cumulative(walk: Walk, node: NodeView) -> Any:
    function = reduction.cumsum if node.op == "CumSum" else reduction.cumprod
    options = walk.item(node.required(1)), bool(node["exclusive"]), bool(node["reverse"])
    return walk.call(function, walk.value(node.required(0)), *options)


@op("TopK")
def _topk(walk: Walk, node: NodeView) -> Any:
    options = node["axis"], bool(node["largest"]), bool(node["sorted"])
    result = walk.call(reduction.topk, walk.value(node.required(0)), walk.item(node.required(1)), *options)
    return [result[0], result[1]]
