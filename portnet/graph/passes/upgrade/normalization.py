"""Normalisations: BatchNormalization's modes and GroupNormalization's scale."""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import ModelError, UnsupportedError
from portnet.graph.passes.rewrite import Site, python_attribute, rank
from portnet.graph.passes.upgrade.registry import upgrade

_EPSILON = 1e-5


@upgrade("BatchNormalization", since=9)
def batch_normalization_per_activation(site: Site, node: ir.Node) -> None:
    """``spatial=0``: statistics of every activation, not of every channel. Written out in elementwise ops."""
    spatial = python_attribute(node, "spatial", 1)
    node.attributes.pop("spatial", None)
    node.attributes.pop("is_test", None)
    if spatial or rank(node.inputs[0]) == 2:
        return
    data, scale, bias, mean, variance = node.inputs
    epsilon = site.scalar_like(python_attribute(node, "epsilon", _EPSILON), data, "epsilon")
    deviation = site.op("Sqrt", site.op("Add", variance, epsilon))
    centred = site.op("Div", site.op("Sub", data, mean), deviation)
    site.replace(site.op("Add", site.op("Mul", centred, scale), bias))


@upgrade("BatchNormalization", since=14)
def batch_normalization_outputs(site: Site, node: ir.Node) -> None:
    """Five outputs meant training; now ``training_mode`` says so, and there are three."""
    if len(node.outputs) == 1:
        return
    used = [bool(output.uses()) or output.is_graph_output() for output in node.outputs]
    if any(used[3:]):
        raise UnsupportedError(
            f"node {node.name!r}: BatchNormalization (opset {node.version}) gives its saved statistics, "
            "which later opsets have no output for"
        )
    node.resize_outputs(min(len(node.outputs), 3))
    if any(used[1:]):
        node.attributes["training_mode"] = ir.AttrInt64("training_mode", 1)
    else:
        node.resize_outputs(1)


@upgrade("GroupNormalization", since=21)
def group_normalization(site: Site, node: ir.Node) -> None:
    """Scale and bias had one entry a group; now they have one a channel."""
    groups = python_attribute(node, "num_groups")
    if not groups:
        raise ModelError(f"node {node.name!r}: GroupNormalization without num_groups")
    data, *affine = node.inputs
    channels = site.op("Shape", data, start=1, end=2)
    repeats = site.op("Div", channels, site.ints([groups], "groups"))
    shape = site.op("Concat", site.ints([groups], "groups"), repeats, axis=0)
    column = site.ints([groups, 1], "column")
    flat = site.ints([-1], "flat")
    for index, value in enumerate(affine, start=1):
        repeated = site.op("Expand", site.op("Reshape", value, column), shape)
        node.replace_input_with(index, site.op("Reshape", repeated, flat))
