"""Recurrent ops and Scan."""

from __future__ import annotations

import onnx_ir as ir

from portnet.errors import UnsupportedError
from portnet.graph.passes.rewrite import NEWEST, Site, python_attribute
from portnet.graph.passes.upgrade.registry import upgrade


@upgrade("RNN", "GRU", "LSTM", since=7, repairs=True)
def output_sequence(site: Site, node: ir.Node) -> None:
    """Whether Y is given is told by the outputs alone."""
    node.attributes.pop("output_sequence", None)


@upgrade("RNN", "GRU", "LSTM", since=NEWEST)
def time_first(site: Site, node: ir.Node) -> None:
    """Batch first (``layout=1``) is written as time first between transposes, so that engines meet one layout."""
    if not python_attribute(node, "layout", 0):
        return
    node.attributes.pop("layout")
    for index in (0, 5, 6):
        if index < len(node.inputs) and node.inputs[index] is not None:
            node.replace_input_with(index, site.op("Transpose", node.inputs[index], perm=[1, 0, 2]))
    for output, perm in zip(node.outputs, ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2]), strict=False):
        if output.name:
            site.after(output, "Transpose", perm=perm)


@upgrade("Scan", since=9)
def scan(site: Site, node: ir.Node) -> None:
    """Version 8 scanned axis 1 for each entry of a batch axis 0: a Scan over time inside a Scan over the batch."""
    lengths, *data = node.inputs
    if lengths is not None:
        raise UnsupportedError(f"node {node.name!r}: Scan (opset 8) with sequence lengths")
    body, count = node.attributes["body"].as_graph(), python_attribute(node, "num_scan_inputs")
    formals = [ir.Value(name=site.editor.fresh(f"{site.name}/entry")) for _ in data]
    directions = python_attribute(node, "directions")
    inner = ir.node("Scan", formals, num_outputs=len(node.outputs), name=f"{site.name}/entry", version=NEWEST)
    inner.attributes["body"] = ir.AttrGraph("body", body)
    inner.attributes["num_scan_inputs"] = ir.AttrInt64("num_scan_inputs", count)
    if directions is not None:
        inner.attributes["scan_input_directions"] = ir.AttrInt64s("scan_input_directions", directions)
    for output in inner.outputs:
        output.name = site.editor.fresh(f"{site.name}/entry")
    batch = ir.Graph(formals, inner.outputs, nodes=[inner], name=f"{site.name}/batch")
    node.attributes.clear()
    results = site.ops("Scan", *data, count=len(node.outputs), body=batch, num_scan_inputs=len(data))
    site.replace(*results)
