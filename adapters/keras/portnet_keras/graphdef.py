"""A function of TensorFlow's as one graph whose variables are inputs of it, so that nothing folds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Graph", "Variable", "grow"]


# what keeps a function that XLA would compile from being taken into the graph that calls it
_APART = ("_XlaMustCompile", "_noinline")


@dataclass(frozen=True)
class Variable:
    """What a network learned, or counted.

    Attributes:
        name: its name in the network.
        array: its value.
        trainable: whether TensorFlow says that it trains.
    """

    name: str
    array: np.ndarray
    trainable: bool


class Graph:
    """TensorFlow's GraphDef, its nodes by name.

    Args:
        proto: the GraphDef, which is changed in place.
        variables: by the names of the nodes that stand for them.
    """

    def __init__(self, proto: Any, variables: Mapping[str, Variable]) -> None:
        self.proto, self.variables = proto, dict(variables)
        self.nodes: dict[str, Any] = {node.name: node for node in proto.node}

    def source(self, name: str, *passed: str) -> tuple[str, int]:
        """Return the node and the output that an input's name means, Identity and ``passed`` ops passed over."""
        while True:
            node, _, output = name.partition(":")
            found = self.nodes.get(node)
            if found is None or found.op not in ("Identity", *passed):
                return node, int(output or 0)
            name = found.input[0]

    def node(self, name: str) -> Any:
        """Return the node that gives an input, Identity passed over; None for a later output of several."""
        found, output = self.source(name)
        return self.nodes.get(found) if output == 0 else None

    def number(self, name: str) -> float | None:
        """Return a constant of one element, or None."""
        array = self.constant(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def constant(self, name: str) -> np.ndarray | None:
        """Return a constant's array, or None."""
        import tensorflow as tf

        found = self.node(name)
        return tf.make_ndarray(found.attr["value"].tensor) if found is not None and found.op == "Const" else None

    def shape(self, name: str) -> list[int | None] | None:
        """Return the sizes of the tensor that an input's name means, or None for an unknown rank."""
        node, output = self.source(name)
        found = self.nodes[node].attr["_output_shapes"].list.shape
        if output >= len(found) or found[output].unknown_rank:
            return None
        return [dim.size if dim.size >= 0 else None for dim in found[output].dim]

    def add_constant(self, name: str, array: np.ndarray) -> str:
        """Add a constant and return its name."""
        import tensorflow as tf

        node = self.proto.node.add(name=name, op="Const")
        self.nodes[name] = node
        set_constant(node, array, tf)
        return name

    def prune(self, outputs: Sequence[str]) -> None:
        """Leave what the outputs depend on; shapes are not known any more."""
        pending, alive = [name.partition(":")[0] for name in outputs], set[str]()
        while pending:
            name = pending.pop()
            if name not in alive and name in self.nodes:
                alive.add(name)
                pending += [each.partition(":")[0] for each in self.nodes[name].input]
        kept = [node for node in self.proto.node if node.name in alive or node.op == "Placeholder"]
        kept = [node for node in kept if node.name in alive or node.name not in self.variables]
        nodes = [type(node).FromString(node.SerializeToString()) for node in kept]
        for node in nodes:
            node.attr.pop("_output_shapes", None)
        del self.proto.node[:]
        self.proto.node.extend(nodes)
        self.nodes = {node.name: node for node in self.proto.node}
        self.variables = {name: found for name, found in self.variables.items() if name in self.nodes}


def set_constant(node: Any, array: np.ndarray, tf: Any) -> None:
    """Make a node a constant."""
    node.op = "Const"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array, shape=array.shape))


def grow(concrete: Any, names: Mapping[int, str]) -> Graph:
    """Return a concrete function as one graph without calls; variables are Placeholders.

    Args:
        concrete: TensorFlow's concrete function.
        names: of variables by the identity of their handles; others are called as TensorFlow calls them.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    proto = frozen.graph.as_graph_def(add_shapes=True)
    for node in proto.node:
        kept = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(kept)
    for part in (*proto.node, *proto.library.function):
        for mark in _APART:
            part.attr.pop(mark, None)
    graph = Graph(proto, {})
    _write_out_erfc(graph)
    for placeholder, variable in _captured(concrete):
        node = graph.nodes.get(placeholder)
        if node is None or node.op != "Const":
            continue
        name = names.get(id(variable.handle)) or variable.name.partition(":")[0]
        graph.variables[placeholder] = Variable(name, variable.numpy(), bool(variable.trainable))
        shape, dtype = node.attr["value"].tensor.tensor_shape, node.attr["dtype"].type
        node.op = "Placeholder"
        del node.attr["value"]
        node.attr["shape"].shape.CopyFrom(shape)
        node.attr["dtype"].type = dtype
    return graph


def _write_out_erfc(graph: Graph) -> None:
    """Let erfc(x), in which Keras 3 writes GELU and which ONNX lacks, be 1 − erf(x)."""
    import tensorflow as tf

    for node in [node for node in graph.proto.node if node.op == "Erfc"]:
        erf = graph.proto.node.add(name=f"{node.name}/erf")
        erf.CopyFrom(node)
        erf.name, erf.op = f"{node.name}/erf", "Erf"
        one = graph.add_constant(f"{node.name}/one", np.ones((), tf.as_dtype(node.attr["T"].type).as_numpy_dtype))
        graph.nodes[erf.name], node.op = erf, "Sub"
        del node.input[:]
        node.input.extend([one, erf.name])


def _captured(concrete: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name of the node that stands for each variable, and the variable."""
    by_handle = {id(variable.handle): variable for variable in concrete.graph.variables}
    for handle, placeholder in concrete.graph.captures:
        if id(handle) in by_handle:
            yield placeholder.name.partition(":")[0], by_handle[id(handle)]
