"""Weights that an exporter wrote as Constant nodes become initializers.

Paddle's exporter and spox keep every weight of a network in a Constant node. An initializer that feeds a weight's place
is a weight; a Constant beside such initializers is what its name says.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from portnet.graph.parameters import FLOATS, roles
from portnet.graph.passes.rewrite import every_graph

__all__ = ["adopt_constants"]


def adopt_constants(model: ir.Model) -> None:
    """Make Constant nodes of floating-point arrays initializers, in a model none of whose initializers trains.

    Requires: nothing.
    Ensures: outputs are as they were; each initializer lies in the main graph, under the name of the node's output.
    """
    graphs = list(every_graph(model))
    constants = [node for graph in graphs for node in graph if _is_array(node)]
    if not constants or any(role.trainable for role in roles(model).values()):
        return
    names = Counter(output.name for graph in graphs for node in graph for output in node.outputs)
    names.update(value.name for graph in graphs for value in (*graph.inputs, *graph.initializers.values()))
    for node in constants:
        old = node.outputs[0]
        if old.name and names[old.name] == 1 and not old.is_graph_output() and node.graph is not None:
            initializer = _initializer(old.name, node.attributes["value"].value)
            model.graph.register_initializer(initializer)
            for user, index in tuple(old.uses()):
                user.replace_input_with(index, initializer)
            node.graph.remove(node, safe=True)


def _is_array(node: ir.Node) -> bool:
    """Whether a node is a Constant of more than one float."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return False
    value = node.attributes.get("value")
    if value is None or value.is_ref():
        return False
    return value.type == ir.AttributeType.TENSOR and value.value.size > 1 and value.value.dtype in FLOATS


def _initializer(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    shape, dtype = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
    return ir.Value(name=name, shape=shape, type=dtype, const_value=tensor)
