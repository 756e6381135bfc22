"""Tools that passes share: walking every node, fresh names, and adding nodes beside the one being rewritten."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from portnet.graph.names import take_name
from portnet.graph.parameters import mark_constant

__all__ = [
    "NEWEST",
    "Editor",
    "Site",
    "constant_array",
    "drop",
    "every_graph",
    "every_node",
    "held_graphs",
    "input_at",
    "is_read",
    "item_bytes",
    "python_attribute",
    "rank",
    "set_input",
    "static_dims",
    "subgraphs",
    "tensor_of",
]

# version of a node that is written in the newest semantics and needs no upgrade
NEWEST = 1 << 30

_GRAPH, _GRAPHS = ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS
_HOLDING = (_GRAPH, _GRAPHS)


def every_node(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield the nodes of a graph in order, the nodes of a node's subgraphs before itself. The graph may change."""
    for node in tuple(graph):
        # every pass comes here for every node: all that a node without subgraphs may cost is a look at its attributes
        for attribute in node.attributes.data.values():
            if attribute.type in _HOLDING:
                for subgraph in subgraphs(node):
                    yield from every_node(subgraph)
                break
        yield node


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs that a control-flow node runs in its own scope (If, Loop, Scan, SequenceMap).

    Graphs that ops of other domains hold may not read outer values, and are left as they are.
    """
    return held_graphs(node) if node.domain == "" else []


def held_graphs(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs among a node's attributes, whatever its op and domain."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.data.values():
        kind = attribute.type
        if kind is _GRAPH and not attribute.is_ref():
            found.append(attribute.as_graph())
        elif kind is _GRAPHS and not attribute.is_ref():
            found.extend(attribute.as_graphs())
    return found


def every_graph(model: ir.Model) -> Iterator[ir.Graph]:
    """Yield the main graph and the graphs that its nodes hold, at any depth; functions are not looked into."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(inner for node in graph for inner in held_graphs(node))


def drop(node: ir.Node) -> None:
    """Remove a node whose outputs nobody reads, and what its subgraphs read."""
    for graph in subgraphs(node):
        graph.outputs.clear()
        for inner in every_node(graph):
            inner.resize_inputs(0)
    node.graph.remove(node, safe=True)  # type: ignore[union-attr]


def python_attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Return an attribute as plain Python (tensors as arrays), or ``default`` where it is absent."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    if attribute.type == ir.AttributeType.STRING:
        return attribute.as_string()
    if attribute.type == ir.AttributeType.TENSOR:
        return attribute.value.numpy()
    value = attribute.value
    return list(value) if isinstance(value, (tuple, list)) else value


def constant_array(value: ir.Value | None) -> np.ndarray | None:
    """Return the array of an initializer, or None when the value is computed or left out."""
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return value.const_value.numpy()


def tensor_of(array: np.ndarray, dtype: ir.DataType | None = None) -> ir.TensorProtocol:
    """Return an array as a tensor, of an element type that numpy may know by another name."""
    # `ir.tensor` finds out first which of its dozen kinds of argument this is
    plain = dtype is None and array.dtype.kind in "iufb"
    return ir.Tensor(array) if plain else ir.tensor(array, dtype=dtype)


def item_bytes(dtype: ir.DataType | None) -> int:
    """Return the bytes of one element; 1 where it takes less, where it is unknown, and for strings."""
    return 1 if dtype is None else _item_bytes(dtype)


@functools.cache
def _item_bytes(dtype: ir.DataType) -> int:
    is_sized = dtype not in (ir.DataType.UNDEFINED, ir.DataType.STRING)
    return max(int(dtype.itemsize), 1) if is_sized else 1


def rank(value: ir.Value | None) -> int | None:
    """Return the number of axes, or None when it is unknown."""
    return None if value is None or value.shape is None else len(value.shape)


def static_dims(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Return the sizes, None for one that is not a number, or None for an unknown rank."""
    if value is None or value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """Return input ``index``, or None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def is_read(node: ir.Node, index: int) -> bool:
    """Whether a node has output ``index`` and something reads it."""
    return index < len(node.outputs) and bool(node.outputs[index].uses() or node.outputs[index].is_graph_output())


def set_input(node: ir.Node, index: int, value: ir.Value | None) -> None:
    """Set input ``index``, growing the list of inputs where it is too short."""
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


class Editor:
    """Adds to one model: fresh names, and constants in its main graph.

    Args:
        model: the model that passes rewrite.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    @functools.cached_property
    def _taken(self) -> set[str]:
        """Names that are taken, gathered when the first fresh one is asked for: most passes ask for none."""
        taken: set[str] = set()
        for graph in every_graph(self.model):
            taken.update(value.name or "" for value in graph.inputs)
            taken.update(graph.initializers)
            taken.update(output.name or "" for node in graph for output in node.outputs)
        return taken

    def fresh(self, base: str) -> str:
        """Return ``base``, or ``base_2``, ``base_3``, ... where it is taken, and take it."""
        return take_name(base, self._taken)

    def constant(self, array: Any, base: str, dtype: ir.DataType | None = None) -> ir.Value:
        """Add an initializer to the main graph that is no parameter, and return it."""
        return self.register(tensor_of(np.asarray(array), dtype), base)

    def register(self, tensor: ir.TensorProtocol, base: str) -> ir.Value:
        """Add a tensor to the main graph as an initializer that is no parameter, and return it."""
        value = ir.Value(
            name=self.fresh(base),
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        mark_constant(value)
        self.model.graph.register_initializer(value)
        return value


class Site:
    """The place of one node: adds nodes before it, in the newest semantics, and replaces it.

    Args:
        node: the node to rewrite.
        editor: the editor of its model.

    Attributes:
        added: the nodes added so far, in order.
    """

    def __init__(self, node: ir.Node, editor: Editor) -> None:
        self.node, self.editor = node, editor
        self.name = node.name or node.op_type
        self.added: list[ir.Node] = []
        self._unnamed: set[ir.Value] = set()

    @property
    def graph(self) -> ir.Graph:
        """The graph that the node is in."""
        assert self.node.graph is not None
        return self.node.graph  # type: ignore[return-value]

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Add a node of one output before the node and return its output."""
        return self.ops(op_type, *inputs, count=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: ir.Value | None, count: int, **attributes: Any) -> Sequence[ir.Value]:
        """Add a node of ``count`` outputs before the node and return its outputs."""
        new = self._node(op_type, inputs, attributes, count)
        self.insert([new])
        return new.outputs

    def insert(self, nodes: Sequence[ir.Node]) -> None:
        """Add nodes before the node; their outputs may take the names of the node's."""
        self.graph.insert_before(self.node, nodes)
        self.added.extend(nodes)
        self._unnamed.update(output for node in nodes for output in node.outputs)

    def constant(self, array: Any, hint: str) -> ir.Value:
        """Add a constant, see `Editor.constant`."""
        return self.editor.constant(array, f"{self.name}/{hint}")

    def ints(self, numbers: Any, hint: str) -> ir.Value:
        """Add a constant of int64."""
        return self.constant(np.asarray(numbers, dtype=np.int64), hint)

    def scalar_like(self, number: float, like: ir.Value | None, hint: str) -> ir.Value:
        """Add a constant scalar of the element type of ``like``, float32 where that is unknown."""
        dtype = np.dtype(np.float32) if like is None or like.dtype is None else like.dtype.numpy()
        return self.constant(np.asarray(number).astype(dtype), hint)

    def after(self, output: ir.Value, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> None:
        """Let every reader of ``output`` read ``op_type(output, *inputs)`` instead, under the old name."""
        new = self._node(op_type, (output, *inputs), attributes, 1)
        self.graph.insert_after(self.node, new)
        self._unnamed.add(new.outputs[0])
        self._take_place(output, new.outputs[0], but=new)

    def replace(self, *values: ir.Value | None) -> None:
        """Let ``values`` take the place of the node's outputs, names included, and remove the node.

        None stands for an output that nobody reads.
        """
        for old, new in zip(self.node.outputs, values, strict=False):
            if new is not None:
                fits = new in self._unnamed or not old.is_graph_output()
                self._take_place(old, new if fits else self.op("Identity", new))
        drop(self.node)

    def _node(self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], count: int) -> ir.Node:
        base = f"{self.name}/{op_type}"
        new = ir.node(op_type, inputs, attributes, num_outputs=count, name=base, version=NEWEST)
        for output in new.outputs:
            output.name = self.editor.fresh(base)
        return new

    def _take_place(self, old: ir.Value, new: ir.Value, but: ir.Node | None = None) -> None:
        if new in self._unnamed and old.name:
            self._unnamed.remove(new)
            new.name, old.name = old.name, self.editor.fresh(f"{old.name}/replaced")
        new.type, new.shape = new.type or old.type, new.shape if new.shape is not None else old.shape
        if old.is_graph_output():
            outputs = old.graph.outputs  # type: ignore[union-attr]
            for index in [i for i, output in enumerate(outputs) if output is old]:
                outputs[index] = new
        for user, index in tuple(old.uses()):
            if user is not but:
                user.replace_input_with(index, new)
