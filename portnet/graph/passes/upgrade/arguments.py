"""Attributes that became inputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import Site, python_attribute, set_input
from portnet.graph.passes.upgrade.registry import upgrade

_LOWEST = float(np.finfo(np.float32).min)


def ints_to_input(site: Site, node: ir.Node, attribute: str, index: int) -> None:
    """Move an attribute of ints, where the node has it, to input ``index``."""
    attr = node.attributes.pop(attribute, None)
    if attr is not None:
        set_input(node, index, site.ints(attr.value, attribute))


@upgrade("Clip", since=11, repairs=True)
def clip(site: Site, node: ir.Node) -> None:
    """Bounds are inputs."""
    for index, name in ((1, "min"), (2, "max")):
        bound = python_attribute(node, name)
        node.attributes.pop(name, None)
        if bound is not None and abs(bound) < -_LOWEST:
            set_input(node, index, site.scalar_like(bound, node.inputs[0], name))


@upgrade("Dropout", since=12, repairs=True)
def dropout(site: Site, node: ir.Node) -> None:
    """The ratio is an input; ``is_test`` (before 7) is gone: inference is the default."""
    node.attributes.pop("is_test", None)
    ratio = python_attribute(node, "ratio")
    if node.attributes.pop("ratio", None) is not None:
        set_input(node, 1, site.constant(np.float32(ratio), "ratio"))


@upgrade("Dropout", since=10)
def dropout_mask(site: Site, node: ir.Node) -> None:
    """The mask had the type of the data."""
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        dtype = node.inputs[0].dtype or ir.DataType.FLOAT  # type: ignore[union-attr]
        node.outputs[1].type = ir.TensorType(ir.DataType.BOOL)
        site.after(node.outputs[1], "Cast", to=int(dtype))


@upgrade("Pad", since=2)
def pad_name(site: Site, node: ir.Node) -> None:
    """``paddings`` is called ``pads``."""
    old = node.attributes.pop("paddings", None)
    if old is not None:
        node.attributes["pads"] = ir.AttrInt64s("pads", list(old.value))


@upgrade("Pad", since=11, repairs=True)
def pad(site: Site, node: ir.Node) -> None:
    """Pads and value are inputs."""
    value = python_attribute(node, "value", 0.0)
    if "pads" not in node.attributes:
        return
    ints_to_input(site, node, "pads", 1)
    if node.attributes.pop("value", None) is not None and value:
        set_input(node, 2, site.scalar_like(value, node.inputs[0], "value"))


@upgrade("Reshape", since=5, repairs=True)
def reshape(site: Site, node: ir.Node) -> None:
    """The shape is an input."""
    ints_to_input(site, node, "shape", 1)


@upgrade("Slice", since=10, repairs=True)
def slice_(site: Site, node: ir.Node) -> None:
    """Starts, ends and axes are inputs."""
    for index, name in ((1, "starts"), (2, "ends"), (3, "axes")):
        ints_to_input(site, node, name, index)


@upgrade("TopK", since=10, repairs=True)
def top_k(site: Site, node: ir.Node) -> None:
    """K is an input."""
    k = node.attributes.pop("k", None)
    if k is not None:
        set_input(node, 1, site.ints([k.value], "k"))


@upgrade("Split", since=13, repairs=True)
def split(site: Site, node: ir.Node) -> None:
    """Sizes are an input (as in version 1)."""
    ints_to_input(site, node, "split", 1)


@upgrade("Split", since=18)
def split_evenly(site: Site, node: ir.Node) -> None:
    """Without sizes, the number of parts is said."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


@upgrade("Tile", since=6)
def tile(site: Site, node: ir.Node) -> None:
    """One count an axis, instead of one axis and its count."""
    if len(node.inputs) < 3:
        return
    data, tiles, axis = node.inputs
    one = site.ints([1], "one")
    ones = site.op("ConstantOfShape", site.op("Shape", site.op("Shape", data)), value=ir.tensor(np.array([1])))
    counts = (site.op("Reshape", site.op("Cast", v, to=int(ir.DataType.INT64)), one) for v in (axis, tiles))
    site.replace(site.op("Tile", data, site.op("ScatterElements", ones, *counts)))


@upgrade("DFT", since=20)
def dft(site: Site, node: ir.Node) -> None:
    """The axis is an input, and counts from the end by default."""
    axis = python_attribute(node, "axis", 1)
    node.attributes.pop("axis", None)
    set_input(node, 2, site.constant(np.int64(axis), "axis"))
