"""Axes: attributes that became inputs, and the softmax family's change of meaning."""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.passes.rewrite import Site, python_attribute, static_dims
from portnet.graph.passes.upgrade.arguments import ints_to_input
from portnet.graph.passes.upgrade.registry import upgrade


@upgrade("Squeeze", "Unsqueeze", "ReduceSum", since=13, repairs=True)
@upgrade(
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
    since=18,
    repairs=True,
)
def axes_to_input(site: Site, node: ir.Node) -> None:
    """Axes are an input."""
    ints_to_input(site, node, "axes", 1)


@upgrade("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax(site: Site, node: ir.Node) -> None:
    """The op worked on the tensor flattened to 2-D at ``axis``, by default 1; it works along ``axis`` now."""
    data = node.inputs[0]
    axis, dims = python_attribute(node, "axis", 1), static_dims(data)
    if dims is not None:
        start = axis % len(dims) if dims else 0
        if all(size == 1 for size in dims[start + 1 :]):
            node.attributes["axis"] = ir.AttrInt64("axis", start if dims else -1)
            return
    flat = site.op("Flatten", data, axis=axis)
    result = site.op(node.op_type, flat, axis=-1)
    site.replace(site.op("Reshape", result, site.op("Shape", data)))


@upgrade("Concat", since=4)
def concat(site: Site, node: ir.Node) -> None:
    """The axis was 1 by default."""
    node.attributes.setdefault("axis", ir.AttrInt64("axis", 1))
