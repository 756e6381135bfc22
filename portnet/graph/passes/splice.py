"""Instantiates a function body or a loop body: copies nodes with other inputs, attributes and names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx_ir as ir

__all__ = ["Copier"]


class Copier:
    """Copies nodes, mapping values and attribute references.

    Args:
        values: value of the body -> value in its place (None where an optional input is left out); grows
            with every node copied. A value that is absent belongs to an outer graph and is kept.
        attributes: attributes that references of the body stand for. A reference to one that is absent is dropped.
        rename: gives a value or node of the copy its name.
    """

    def __init__(
        self,
        values: dict[ir.Value, ir.Value | None],
        attributes: Mapping[str, ir.Attr],
        rename: Callable[[str], str],
    ) -> None:
        self.values, self._attributes, self._rename = values, attributes, rename

    def nodes(self, nodes: Iterable[ir.Node]) -> list[ir.Node]:
        """Return copies of nodes that are given in topological order."""
        return [self._node(node) for node in nodes]

    def value(self, value: ir.Value | None) -> ir.Value | None:
        """Return what stands for a value of the body in the copy."""
        return value if value is None else self.values.get(value, value)

    def _node(self, node: ir.Node) -> ir.Node:
        attributes = [self._attribute(name, attribute) for name, attribute in node.attributes.items()]
        inputs = [self.value(value) for value in node.inputs]
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            [attribute for attribute in attributes if attribute is not None],
            overload=node.overload,
            num_outputs=len(node.outputs),
            version=node.version,
            name=self._rename(node.name or node.op_type),
            metadata_props=dict(node.metadata_props),
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name = self._rename(old.name) if old.name else old.name
            new.type, new.shape = old.type, old.shape
            self.values[old] = new
        return copy

    def _attribute(self, name: str, attribute: ir.Attr) -> ir.Attr | None:
        if attribute.is_ref():
            given = self._attributes.get(attribute.ref_attr_name or "")
            return None if given is None else ir.Attr(name, given.type, given.value)
        if attribute.type == ir.AttributeType.GRAPH:
            return ir.Attr(name, attribute.type, self._graph(attribute.as_graph()))
        if attribute.type == ir.AttributeType.GRAPHS:
            return ir.Attr(name, attribute.type, [self._graph(graph) for graph in attribute.as_graphs()])
        return attribute

    def _graph(self, graph: ir.Graph) -> ir.Graph:
        inputs = [self._formal(value) for value in graph.inputs]
        initializers = [self._formal(value) for value in graph.initializers.values()]
        nodes = self.nodes(graph)
        outputs = [self.value(value) for value in graph.outputs]
        return ir.Graph(
            inputs,
            outputs,  # type: ignore[arg-type]
            nodes=nodes,
            initializers=initializers,
            opset_imports=dict(graph.opset_imports),
            name=graph.name,
        )

    def _formal(self, value: ir.Value) -> ir.Value:
        if value not in self.values:
            self.values[value] = ir.Value(
                name=self._rename(value.name or "value"),
                type=value.type,
                shape=value.shape,
                const_value=value.const_value,
                metadata_props=dict(value.metadata_props),
            )
        return self.values[value]  # type: ignore[return-value]
