"""Operands of two shapes: explicit ``broadcast`` and ``axis`` before opset 7."""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.rewrite import Site, python_attribute, rank, set_input
from portnet.graph.passes.upgrade.registry import upgrade

_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")


@upgrade(*_BINARY, since=7, repairs=True)
def binary(site: Site, node: ir.Node) -> None:
    """``axis`` says where the second operand's axes lie in the first; now trailing axes align."""
    node.attributes.pop("broadcast", None)
    axis = python_attribute(node, "axis")
    node.attributes.pop("axis", None)
    if axis is None:
        return
    first, second = rank(node.inputs[0]), rank(node.inputs[1])
    if first is None or second is None:
        raise ModelError(f"node {node.name!r}: {node.op_type} with axis={axis} needs operands of known rank")
    missing = first - axis % first - second if first else 0
    _append_axes(site, node, missing)


@upgrade("PRelu", since=7)
def prelu(site: Site, node: ir.Node) -> None:
    """A slope of one axis is one slope a channel; now trailing axes align."""
    data, slope = rank(node.inputs[0]), rank(node.inputs[1])
    if data is None or slope is None:
        raise ModelError(f"node {node.name!r}: PRelu of opset {node.version} needs operands of known rank")
    if slope == 1 and tuple(node.inputs[1].shape) != (1,):  # type: ignore[union-attr, arg-type]
        _append_axes(site, node, data - 2)


def _append_axes(site: Site, node: ir.Node, count: int) -> None:
    """Append ``count`` axes of size 1 to the node's second operand."""
    if count > 0:
        start = rank(node.inputs[1]) or 0
        axes = site.ints(list(range(start, start + count)), "axes")
        set_input(node, 1, site.op("Unsqueeze", node.inputs[1], axes))


@upgrade("Gemm", since=7, repairs=True)
def gemm(site: Site, node: ir.Node) -> None:
    """The third operand always broadcasts."""
    node.attributes.pop("broadcast", None)
