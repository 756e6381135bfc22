"""Model-local functions are inlined: each call becomes the nodes of the function's body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.rewrite import Editor, Site, every_node
from portnet.graph.passes.splice import Copier

__all__ = ["inline_call", "inline_functions"]

# a file of a few hundred bytes can unfold to more nodes than there is memory for
MAX_NODES = 100_000
MAX_DEPTH = 64

Functions = Mapping[Any, ir.Function]


def inline_functions(model: ir.Model) -> None:
    """Replace calls of model-local functions by their bodies, functions that call functions included.

    Requires: pinned versions (a function may import another opset than the model).
    Ensures: no model-local functions.

    Raises:
        ModelError: functions that call each other without end, or more nodes than `MAX_NODES`.
    """
    if not model.functions:
        return
    total = _unfolded(model.graph, model.functions, {}, 0)
    if total > MAX_NODES:
        raise ModelError(f"model-local functions unfold to {total:,} nodes, expected at most {MAX_NODES:,}")
    editor = Editor(model)
    while calls := [node for node in every_node(model.graph) if node.op_identifier() in model.functions]:
        for node in calls:
            inline_call(node, model.functions[node.op_identifier()], editor)
    model.functions.clear()


def _unfolded(graph: ir.Graph, functions: Functions, known: dict[Any, int], depth: int) -> int:
    """Return how many nodes a graph has once every call in it is unfolded."""
    total = 0
    for node in every_node(graph):
        name = node.op_identifier()
        if name in functions and name not in known:
            if depth == MAX_DEPTH:
                raise ModelError(
                    f"model-local function {node.op_type!r} calls itself, or nests deeper than {MAX_DEPTH} levels"
                )
            known[name] = _unfolded(functions[name].graph, functions, known, depth + 1)
        total += known.get(name, 1)
    return total


def inline_call(node: ir.Node, function: ir.Function, editor: Editor) -> list[ir.Node]:
    """Replace one node by the body of a function; names of the body are prefixed by the node's.

    Returns:
        The nodes of the body, now in the node's graph.

    Raises:
        ModelError: the node has more inputs or outputs than the function.
    """
    if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        raise ModelError(
            f"node {node.name!r}: calls {function.name!r} with {len(node.inputs)} inputs and {len(node.outputs)} "
            f"outputs, expected at most {len(function.inputs)} and {len(function.outputs)}"
        )
    given: list[ir.Value | None] = [*node.inputs, *[None] * (len(function.inputs) - len(node.inputs))]
    defaults = {name: attribute for name, attribute in function.attributes.items() if attribute.value is not None}
    copier = Copier(
        dict(zip(function.inputs, given, strict=True)),
        {**defaults, **node.attributes},
        lambda name: editor.fresh(f"{node.name}/{name}"),
    )
    nodes = copier.nodes(function)
    site = Site(node, editor)
    site.insert(nodes)
    site.replace(*[copier.value(output) for output in function.outputs])
    return nodes
