"""Every node has a name, and every value a name of its own across subgraphs."""

from __future__ import annotations

import onnx_ir as ir

from portnet.graph.names import take_name
from portnet.graph.passes.rewrite import Editor, every_node, subgraphs

__all__ = ["name_nodes", "name_values"]


def name_nodes(model: ir.Model) -> None:
    """Give every node a name of its own.

    Requires: nothing.
    Ensures: names are unique and not empty; a name that was unique is kept.
    """
    taken: set[str] = set()
    for node in every_node(model.graph):
        base = node.name or (node.outputs[0].name if node.outputs else "") or node.op_type
        node.name = take_name(base, taken)


def name_values(model: ir.Model) -> None:
    """Give every value a name that no other value of the model has.

    Sibling subgraphs may use one name twice, which forbids moving their nodes into the main graph.

    Requires: nothing.
    Ensures: names are unique over all graphs; names in the main graph are kept; an output left out stays "".
    """
    main = model.graph
    taken = {value.name for value in main.inputs} | set(main.initializers)
    taken |= {output.name for node in main for output in node.outputs}
    editor = Editor(model)
    for node in every_node(main):
        for graph in subgraphs(node):
            for value in _values(graph):
                if value.name in taken:
                    value.name = editor.fresh(value.name or "value")
                taken.add(value.name)


def _values(graph: ir.Graph) -> list[ir.Value]:
    initializers = set(graph.initializers.values())
    inputs = [value for value in graph.inputs if value not in initializers]
    outputs = [output for node in graph for output in node.outputs if output.name]
    return [*inputs, *initializers, *outputs]
