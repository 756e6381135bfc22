"""CastLike becomes Cast: the type it copies is known."""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.passes.rewrite import Editor, Site, every_node, python_attribute

__all__ = ["cast_like_to_cast"]


def cast_like_to_cast(model: ir.Model) -> None:
    """Replace CastLike by Cast.

    Requires: inferred types.
    Ensures: no CastLike of a tensor whose type is known.
    """
    editor = Editor(model)
    for node in every_node(model.graph):
        if node.op_type != "CastLike" or node.domain != "" or node.inputs[1] is None or node.inputs[1].dtype is None:
            continue
        kept = {name: python_attribute(node, name) for name in ("saturate", "round_mode") if name in node.attributes}
        site = Site(node, editor)
        site.replace(site.op("Cast", node.inputs[0], to=int(node.inputs[1].dtype), **kept))
