"""If, Loop and Scan."""

from __future__ import annotations

from functools import partial
from typing import Any

import onnx_ir as ir

from portnet.graph.lowering import NodeView
from portnet_torch.control import If, Loop, Scan
from portnet_torch.dtypes import CARRIERS
from portnet_torch.ops.registry import Walk, op


def _results(result: Any, node: NodeView) -> list[Any]:
    return [result[index] for index in range(len(node.outputs))]


@op("If")
def _if(walk: Walk, node: NodeView) -> Any:
    known = walk.try_host(node.required(0))
    if known is not None and not known.is_symbolic:
        chosen = walk.inline(node["then_branch" if known.array.item() else "else_branch"])
        return chosen
    graphs = {name: node[name] for name in ("then_branch", "else_branch")}
    return _results(walk.control(If, node, graphs, walk.value(node.required(0))), node)


@op("Loop")
def _loop(walk: Walk, node: NodeView) -> Any:
    body = node["body"]
    carried = [walk.value(value) for value in node.inputs[2:]]
    scanned = list(body.outputs)[1 + len(carried) :]
    _describe(list(body.inputs)[2:], node.inputs[2:])
    make = partial(Loop, empty=[_slice_of(value) for value in scanned])
    limits = walk.optional(node.input(0)), walk.optional(node.input(1))
    return _results(walk.control(make, node, {"body": body}, *limits, carried), node)


@op("Scan")
def _scan(walk: Walk, node: NodeView) -> Any:
    body, scans = node["body"], node["num_scan_inputs"]
    values = [walk.value(value) for value in node.inputs]
    carried, inputs = values[: len(values) - scans], values[len(values) - scans :]
    scanned = list(body.outputs)[len(carried) :]
    _describe(body.inputs, node.inputs)
    make = partial(
        Scan,
        input_axes=node.get("scan_input_axes") or [0] * scans,
        input_reversed=[bool(n) for n in node.get("scan_input_directions") or [0] * scans],
        output_axes=node.get("scan_output_axes") or [0] * len(scanned),
        output_reversed=[bool(n) for n in node.get("scan_output_directions") or [0] * len(scanned)],
        empty=[_slice_of(value) for value in scanned],
    )
    return _results(walk.control(make, node, {"body": body}, carried, inputs), node)


def _describe(inner: Any, outer: Any) -> None:
    """Give a body's inputs the element types of what they are fed, where the file leaves them out."""
    for inside, outside in zip(inner, outer, strict=True):
        if inside.dtype is None and outside is not None and isinstance(outside.type, ir.TensorType):
            inside.type = outside.type


def _slice_of(value: Any) -> tuple[list[int], Any]:
    """Return the shape (0 where unknown) and dtype of one slice of a scanned output."""
    shape = [dim if isinstance(dim, int) else 0 for dim in value.shape or ()]
    return shape, CARRIERS.get(value.dtype)
