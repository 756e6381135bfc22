"""Two transposes in a row are one, or none."""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.passes.rewrite import every_node, python_attribute, rank

__all__ = ["merge_transposes"]


def merge_transposes(model: ir.Model) -> None:
    """Let a Transpose of a Transpose read the first one's input; exporters of other layouts write them in pairs.

    Requires: inferred shapes.
    Ensures: no Transpose reads another; one that then changes nothing is an identity, for a later pass to remove.
    """
    for node in every_node(model.graph):
        outer = _order(node)
        source = node.inputs[0] if outer is not None else None
        inner = None if source is None or source.producer() is None else _order(source.producer())  # type: ignore[arg-type]
        if outer is None or inner is None or len(outer) != len(inner):
            continue
        node.replace_input_with(0, source.producer().inputs[0])  # type: ignore[union-attr]
        node.attributes["perm"] = ir.AttrInt64s("perm", [inner[axis] for axis in outer])


def _order(node: ir.Node) -> list[int] | None:
    """Return the order of axes that a Transpose gives, or None for another op or an unknown order."""
    if node.op_type != "Transpose" or node.domain != "" or not node.inputs:
        return None
    axes = rank(node.inputs[0])
    return python_attribute(node, "perm", None if axes is None else list(range(axes))[::-1])
