"""Constant nodes become initializers of the main graph, marked so that they never count as parameters."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.rewrite import Editor, Site, every_graph, every_node, subgraphs, tensor_of

__all__ = ["lift_constants", "lift_initializers", "remove_initializers_from_inputs"]

_NUMBERS = {
    "value_int": ir.DataType.INT64,
    "value_ints": ir.DataType.INT64,
    "value_float": ir.DataType.FLOAT,
    "value_floats": ir.DataType.FLOAT,
}


def remove_initializers_from_inputs(model: ir.Model) -> None:
    """Remove initializers from the inputs of every graph (they stood there before IR version 4).

    Requires: nothing.
    Ensures: what is an input has no value of its own.
    """
    for graph in every_graph(model):
        free = [value for value in graph.inputs if not value.is_initializer()]
        if len(free) != len(graph.inputs):
            graph.inputs.clear()
            graph.inputs.extend(free)


def lift_initializers(model: ir.Model) -> None:
    """Move the initializers of subgraphs to the main graph.

    Requires: names unique across graphs.
    Ensures: only the main graph has initializers.
    """
    for node in every_node(model.graph):
        for graph in subgraphs(node):
            for name in tuple(graph.initializers):
                value = graph.initializers[name]
                if not value.is_graph_output():
                    model.graph.register_initializer(graph.initializers.pop(name))


def lift_constants(model: ir.Model, nodes: list[ir.Node] | None = None) -> None:
    """Turn Constant nodes (all, or those in ``nodes``) into initializers of the main graph.

    Requires: names unique across graphs, no attribute references.
    Ensures: no Constant node of numbers or strings is left.

    Raises:
        ModelError: a Constant without a value.
    """
    editor = Editor(model)
    for node in list(every_node(model.graph)) if nodes is None else nodes:
        if node.op_type != "Constant" or node.domain != "":
            continue
        value = editor.register(_tensor(node), f"{node.name}/value")
        Site(node, editor).replace(value)


def _tensor(node: ir.Node) -> ir.TensorProtocol:
    attributes = node.attributes
    if "value" in attributes:
        return attributes["value"].value  # type: ignore[no-any-return]
    for key, dtype in _NUMBERS.items():
        if key in attributes:
            return tensor_of(np.array(attributes[key].value, dtype.numpy()))
    for key in ("value_string", "value_strings"):
        if key in attributes:
            texts = attributes[key].value
            entries = [texts] if isinstance(texts, str) else texts
            array = np.array([text.encode() for text in entries], dtype=object)
            return ir.StringTensor(array.reshape(() if isinstance(texts, str) else (-1,)))
    raise ModelError(f"node {node.name!r}: a Constant with {sorted(attributes) or 'no attribute'}, expected a value")
