"""Shapes that the exporter computes node by node, though they are known: numbers, and at most one free size."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.graph.parameters import mark_constant

__all__ = ["simplify_sizes"]


def simplify_sizes(graph: ir.Graph) -> None:
    """Write shapes that Reshape and Expand read as constants where the traced sizes say them; unread nodes stay."""
    for node in list(graph):
        if node.domain != "" or node.op_type not in ("Reshape", "Expand", "Squeeze", "Unsqueeze"):
            continue
        if node.op_type == "Reshape":
            _solve_reshape(graph, node)
        elif node.op_type == "Expand":
            _solve_expand(graph, node)
        _join_sizes(node)


def _solve_reshape(graph: ir.Graph, node: ir.Node) -> None:
    before, after = _sizes(node.inputs[0]), _sizes(node.outputs[0])
    if after is None or _is_constant(node.inputs[1]):
        return
    target: list[int | None] = [size if isinstance(size, int) else None for size in after]
    for axis, size in enumerate(after):
        if target.count(None) > 1 and target[axis] is None and before is not None and axis < len(before):
            target[axis] = 0 if size is not None and before[axis] == size else None
    # 0 copies a size of the input, so a size that is 0 cannot be told from it
    if target.count(None) <= 1 and 0 not in after:
        node.attributes.pop("allowzero", None)
        node.replace_input_with(1, _constant(graph, [-1 if size is None else size for size in target], node))


def _solve_expand(graph: ir.Graph, node: ir.Node) -> None:
    before, after = _sizes(node.inputs[0]), _sizes(node.outputs[0])
    if before is None or after is None or _is_constant(node.inputs[1]):
        return
    padded = [1] * (len(after) - len(before)) + before
    target = [
        size if isinstance(size, int) else (1 if size is not None and size == old else None)
        for size, old in zip(after, padded, strict=True)
    ]
    if None not in target:
        node.replace_input_with(1, _constant(graph, target, node))


def _join_sizes(node: ir.Node) -> None:
    """Let readers of a size that was made a scalar and a vector again read the vector."""
    source = node.inputs[0]
    scalar = source.producer() if source is not None else None
    if node.op_type not in ("Reshape", "Unsqueeze") or scalar is None or scalar.op_type != "Squeeze":
        return
    vector = scalar.inputs[0]
    shape = vector.producer() if vector is not None else None
    if shape is None or shape.op_type != "Shape" or not _is_one(node.inputs[1], node.op_type):
        return
    start, end = shape.attributes.get_int("start", 0), shape.attributes.get_int("end", 1 << 30)
    if end - start == 1 and not node.outputs[0].is_graph_output():
        node.outputs[0].replace_all_uses_with(vector)


def _is_one(value: ir.Value | None, op_type: str) -> bool:
    """Whether a Reshape's shape is [-1] or [1], or an Unsqueeze's axes [0]."""
    array = _array(value)
    return array is not None and array.tolist() in ([[-1], [1]] if op_type == "Reshape" else [[0]])


def _sizes(value: ir.Value | None) -> list[int | str | None] | None:
    if value is None or value.shape is None:
        return None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def _array(value: ir.Value | None) -> np.ndarray | None:
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    attribute = node.attributes.get("value") or node.attributes.get("value_ints")
    if attribute is None:
        return None
    return attribute.as_tensor().numpy() if attribute.name == "value" else np.array(attribute.value, np.int64)


def _is_constant(value: ir.Value | None) -> bool:
    return _array(value) is not None


def _constant(graph: ir.Graph, numbers: list[int | None], node: ir.Node) -> ir.Value:
    name = f"{node.name}/shape"
    count = 1
    while name in graph.initializers:
        count += 1
        name = f"{node.name}/shape_{count}"
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    mark_constant(value)
    graph.register_initializer(value)
    return value
