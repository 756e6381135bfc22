"""Reductions over axes."""

from __future__ import annotations

import torch

from portnet_torch.functional import reduction
from portnet_torch.ops.registry import TABLE, op

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


def _reduce(walk, node):
    x, axes = node.required(0), node.input(1)
    known = [] if axes is None else walk.ints(axes)
    keepdims = bool(node["keepdims"])
    if isinstance(known, list) and not known:
        if node["noop_with_empty_axes"]:
            return walk.value(x)
        known = None if x.shape is None else list(range(len(x.shape)))
    if node.op == "ReduceMean" and known and walk.dtype(x).is_floating_point:
        return walk.call(torch.mean, walk.value(x), known, keepdim=keepdims)
    return walk.call(REDUCTIONS[node.op], walk.value(x), known, keepdims)


TABLE.update(dict.fromkeys(REDUCTIONS, _reduce))


@op("ArgMax", "ArgMin")
def _arg(walk, node):
    function = reduction.argmax if node.op == "ArgMax" else reduction.argmin
    options = node["axis"], bool(node["keepdims"]), bool(node["select_last_index"])
    return walk.call(function, walk.value(node.required(0)), *options)


@op("CumSum", "CumProd")
def _cumulative(walk, node):
    function = reduction.cumsum if node.op == "CumSum" else reduction.cumprod
    options = walk.item(node.required(1)), bool(node["exclusive"]), bool(node["reverse"])
    return walk.call(function, walk.value(node.required(0)), *options)


@op("TopK")
def _topk(walk, node):
    options = node["axis"], bool(node["largest"]), bool(node["sorted"])
    result = walk.call(reduction.topk, walk.value(node.required(0)), walk.item(node.required(1)), *options)
    return [result[0], result[1]]
