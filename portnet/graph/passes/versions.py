"""Opset versions move from the model to its nodes, so that passes may mix them, and back."""

from __future__ import annotations

from collections.abc import Mapping

import onnx.defs
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.rewrite import every_node

__all__ = ["OLDEST_TARGET", "pin_versions", "stamp"]

# the newest semantics are expressible from here on: later opsets add attributes and types, and change no meaning
OLDEST_TARGET = 21
# the file format's version that goes with it
OLDEST_IR = 10


def pin_versions(model: ir.Model) -> None:
    """Write on each node the version of its operator set.

    Requires: opset imports, of the model and of each local function.
    Ensures: ``node.version`` is set for every node of every graph and function.

    Raises:
        ModelError: an operator set that is not imported, or a newer one than the installed onnx knows.
    """
    newest = onnx.defs.onnx_opset_version()
    if model.opset_imports.get("", 0) > newest:
        raise ModelError(f"model: got opset {model.opset_imports['']}, this onnx knows up to {newest}. Upgrade onnx.")
    _pin(model.graph, model.opset_imports)
    for function in model.functions.values():
        _pin(function.graph, {**model.opset_imports, **function.opset_imports})


def _pin(graph: ir.Graph, imports: Mapping[str, int]) -> None:
    for node in every_node(graph):
        if node.version is not None:
            continue
        version = imports.get(node.domain)
        if version is None:
            raise ModelError(
                f"node {node.name!r} ({node.op_type}): the model imports no operator set {node.domain or 'ai.onnx'!r}"
            )
        node.version = version


def stamp(model: ir.Model, at_least: int = OLDEST_TARGET) -> None:
    """Stamp the version of the default operator set that the upgraded nodes are written in.

    Requires: nodes upgraded to the newest semantics.
    Ensures: the stamp is the model's own or ``at_least``, whichever is newer; nodes bear no versions.
    """
    model.graph.opset_imports[""] = max(model.opset_imports.get("", 1), at_least)
    model.ir_version = max(model.ir_version, OLDEST_IR)
    for node in every_node(model.graph):
        node.version = None
