"""What does nothing is removed: identities in all their forms, and what nobody reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx.defs
import onnx_ir as ir

from portnet.graph.passes.rewrite import (
    Editor,
    constant_array,
    drop,
    every_graph,
    every_node,
    python_attribute,
    rank,
    static_dims,
    subgraphs,
)
from portnet.graph.schema import schema

__all__ = ["remove_identities", "remove_unused"]


def remove_identities(model: ir.Model, keep: frozenset[str] = frozenset()) -> bool:
    """Let the readers of a node that changes nothing read its input.

    Requires: newest semantics, inferred types and shapes.
    Ensures: names of graph outputs, and of the tensors in ``keep``, are as they were.

    Returns:
        Whether there was one.
    """
    editor, removed = Editor(model), False
    for node in every_node(model.graph):
        if node.op_type in _IDENTITIES and node.domain == "" and node.outputs and _does_nothing(node):
            _bypass(node, editor, keep)
            removed = True
    return removed


def _does_nothing(node: ir.Node) -> bool:
    source = node.inputs[0] if node.inputs else None
    rule = _IDENTITIES.get(node.op_type)
    unread = all(not output.name or not _is_read(output) for output in node.outputs[1:])
    return rule is not None and source is not None and unread and rule(node, source)


def _bypass(node: ir.Node, editor: Editor, keep: frozenset[str]) -> None:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    if output.name in keep:
        return
    if not output.is_graph_output():
        _move_readers(output, source)
        node.graph.remove(node, safe=True)  # type: ignore[union-attr]
        return
    producer = source.producer()
    movable = producer is not None and producer.graph is node.graph and not source.is_graph_output()
    if movable and source.name not in keep and source.name:
        source.name, output.name = output.name, editor.fresh(f"{output.name}/removed")
        _promote(node, source)


def _promote(node: ir.Node, source: ir.Value) -> None:
    """Make ``source`` the graph output in place of the node's."""
    output = node.outputs[0]
    outputs = node.graph.outputs  # type: ignore[union-attr]
    for index in [i for i, value in enumerate(outputs) if value is output]:
        outputs[index] = source
    _move_readers(output, source)
    node.graph.remove(node, safe=True)  # type: ignore[union-attr]


def _move_readers(old: ir.Value, new: ir.Value) -> None:
    for user, index in tuple(old.uses()):
        user.replace_input_with(index, new)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _same_shape(node: ir.Node, source: ir.Value) -> bool:
    """Whether input and output have the same sizes, numbers or symbols that both bear."""
    before, after = source.shape, node.outputs[0].shape
    if before is None or after is None or len(before) != len(after):
        return False
    return all(_same_size(a, b) for a, b in zip(before, after, strict=True))


def _same_size(a: int | ir.SymbolicDim, b: int | ir.SymbolicDim) -> bool:
    if isinstance(a, int) or isinstance(b, int):
        return isinstance(a, int) and a == b
    return a.value is not None and a.value == b.value


def _same_type(node: ir.Node, source: ir.Value) -> bool:
    return source.dtype is not None and int(source.dtype) == python_attribute(node, "to")


def _keeps_order(node: ir.Node, source: ir.Value) -> bool:
    perm = python_attribute(node, "perm")
    return perm == list(range(len(perm))) if perm is not None else (rank(source) or 2) < 2


def _is_alone(node: ir.Node, source: ir.Value) -> bool:
    return len(node.inputs) == 1


def _has_zero_pads(node: ir.Node, source: ir.Value) -> bool:
    pads = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    return pads is not None and not np.any(pads)


def _scales_by_one(node: ir.Node, source: ir.Value) -> bool:
    scales = constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
    return scales is not None and scales.size > 0 and bool(np.all(scales == 1)) and static_dims(source) is not None


def _takes_all(node: ir.Node, source: ir.Value) -> bool:
    """Whether a Slice begins at 0, in steps of 1, and gives the shape it was given."""
    starts = constant_array(node.inputs[1])
    steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 else np.ones(1)
    dims = static_dims(source)
    if dims is None or None in dims or starts is None or steps is None:
        return False
    return bool(np.all(steps == 1)) and _same_shape(node, source)


_IDENTITIES: dict[str, Callable[[ir.Node, ir.Value], bool]] = {
    "Identity": lambda node, source: True,
    "Cast": _same_type,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Expand": _same_shape,
    "Squeeze": _same_shape,
    "Unsqueeze": _same_shape,
    "Transpose": _keeps_order,
    "Concat": _is_alone,
    "Sum": _is_alone,
    "Max": _is_alone,
    "Min": _is_alone,
    "Mean": _is_alone,
    "Pad": _has_zero_pads,
    "Resize": _scales_by_one,
    "Slice": _takes_all,
}


def remove_unused(model: ir.Model) -> None:
    """Remove nodes, optional outputs and initializers that nobody reads.

    Requires: stamped opset.
    Ensures: every node leads to an output of its graph; an optional output that is not read has no name.
    """
    opset = model.opset_imports.get("", 1)
    _prune(model.graph, opset)
    for graph in every_graph(model):
        unread = [name for name, value in graph.initializers.data.items() if not _is_read(value)]
        for name in unread:
            if not graph.initializers[name].is_graph_input():
                graph.initializers.pop(name)


def _prune(graph: ir.Graph, opset: int) -> None:
    for node in reversed(tuple(graph)):
        if not any(_is_read(output) for output in node.outputs):
            drop(node)
            continue
        for subgraph in subgraphs(node):
            _prune(subgraph, opset)
        _prune_outputs(node, opset)


def _prune_outputs(node: ir.Node, opset: int) -> None:
    known = schema(node.domain, node.op_type, opset) if node.domain == "" and len(node.outputs) > 1 else None
    if known is None:
        return
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    for output, parameter in zip(node.outputs, known.outputs, strict=False):
        if parameter.option == optional and not _is_read(output):
            output.name = ""
    count = len(node.outputs)
    while count > 1 and not node.outputs[count - 1].name:
        count -= 1
    node.resize_outputs(count)
