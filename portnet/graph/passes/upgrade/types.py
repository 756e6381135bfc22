"""Renamed ops, attributes of another type, and what the first versions carried along."""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.passes.rewrite import Site, python_attribute
from portnet.graph.passes.upgrade.registry import upgrade

_SELU = {"alpha": 1.6732, "gamma": 1.0507}


@upgrade("*", since=6, repairs=True)
def consumed_inputs(site: Site, node: ir.Node) -> None:
    """A hint to reuse memory, gone since version 6."""
    node.attributes.pop("consumed_inputs", None)


@upgrade("Cast", since=6, repairs=True)
def cast(site: Site, node: ir.Node) -> None:
    """The type was named by a string."""
    to = python_attribute(node, "to")
    if isinstance(to, str):
        node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType[to.upper()]))


@upgrade("LpPool", "GlobalLpPool", since=2, repairs=True)
def lp_pool(site: Site, node: ir.Node) -> None:
    """The norm's order is a whole number."""
    order = python_attribute(node, "p")
    if isinstance(order, float):
        node.attributes["p"] = ir.AttrInt64("p", int(order))


@upgrade("Selu", since=6)
def selu(site: Site, node: ir.Node) -> None:
    """The constants had four digits."""
    for name, digits in _SELU.items():
        node.attributes.setdefault(name, ir.AttrFloat32(name, digits))


@upgrade("Scatter", since=11, repairs=True)
def scatter(site: Site, node: ir.Node) -> None:
    """Scatter is called ScatterElements."""
    node.op_type = "ScatterElements"
