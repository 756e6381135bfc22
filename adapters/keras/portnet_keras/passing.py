"""Transposes that a converter leaves around ops whose axes can be named anew instead."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from portnet.graph.passes.rewrite import constant_array, python_attribute, static_dims
from portnet.graph.passes.shapes import infer_shapes
from portnet.graph.passes.tidy import remove_identities, remove_unused
from portnet.graph.passes.transposes import merge_transposes

__all__ = ["push_transposes"]


def push_transposes(model: ir.Model) -> None:
    """Remove transposes before reductions, and before what is flattened for a dense layer, whose rows are sorted anew.

    Ensures: outputs are as they were.
    """
    infer_shapes(model)
    merge_transposes(model)
    for node in tuple(model.graph):
        source = node.inputs[0] if node.inputs else None
        transpose = None if source is None else source.producer()
        if node.op_type == "Transpose":
            _reshape(node)
        if transpose is None or transpose.op_type != "Transpose":
            continue
        perm = python_attribute(transpose, "perm")
        if perm is not None and (_reduce(node, transpose, perm) or _flatten(node, transpose, perm)):
            continue
    remove_identities(model)
    remove_unused(model)


def _reshape(node: ir.Node) -> None:
    """Let a transpose that moves axes of 1 alone, behind a reshape, be the reshape to what comes of it."""
    before, perm = node.inputs[0], python_attribute(node, "perm")
    sizes, producer = static_dims(before), None if before is None else before.producer()
    if sizes is None or producer is None or producer.op_type != "Reshape" or sizes.count(None) > 1:
        return
    long = [axis for axis in perm if sizes[axis] != 1]
    if long != sorted(long):
        return
    target = [-1 if sizes[axis] is None else sizes[axis] for axis in perm]
    shape = _whole_numbers(node, f"{node.name}/shape", target)  # type: ignore[arg-type]
    new = ir.node("Reshape", [producer.inputs[0], shape], name=f"{node.name}/reshape", num_outputs=1)
    old, made = node.outputs[0], new.outputs[0]
    assert node.graph is not None
    node.graph.insert_before(node, new)
    if old.is_graph_output():
        node.graph.outputs[list(node.graph.outputs).index(old)] = made
    for user, index in tuple(old.uses()):
        user.replace_input_with(index, made)
    made.shape, made.type, name = old.shape, old.type, old.name
    node.graph.remove(node, safe=True)
    made.name = name


def _whole_numbers(node: ir.Node, name: str, numbers: list[int]) -> ir.Value:
    """Add a constant to a node's graph."""
    value = ir.Value(name=name, shape=ir.Shape([len(numbers)]), type=ir.TensorType(ir.DataType.INT64))
    value.const_value = ir.Tensor(np.array(numbers, np.int64), name=name)
    assert node.graph is not None
    node.graph.register_initializer(value)
    return value


def _reduce(node: ir.Node, transpose: ir.Node, perm: list[int]) -> bool:
    """Let a reduction name the axes as they lay before, if the others stay in their order."""
    if not node.op_type.startswith("Reduce") or python_attribute(node, "keepdims", 1) or len(node.inputs) != 2:
        return False
    array = constant_array(node.inputs[1])
    if array is None or array.size == 0:
        return False
    axes = [perm[int(axis)] for axis in array.reshape(-1)]
    kept = [axis for axis in perm if axis not in axes]
    if kept != sorted(kept):
        return False
    node.replace_input_with(0, transpose.inputs[0])
    node.replace_input_with(1, _whole_numbers(node, f"{node.name}/axes", sorted(axes)))
    return True


def _flatten(node: ir.Node, transpose: ir.Node, perm: list[int]) -> bool:
    """Flatten what was not transposed, and sort the rows of the dense layer that reads it."""
    if node.op_type not in ("Reshape", "Flatten") or perm[0] != 0:
        return False
    before, after = static_dims(transpose.inputs[0]), static_dims(node.outputs[0])
    if before is None or after is None or len(after) != 2 or None in before[1:]:
        return False
    uses = tuple(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return False
    dense, index = uses[0]
    weight = dense.inputs[1] if dense.op_type in ("MatMul", "Gemm") and index == 0 else None
    if weight is None or not weight.is_initializer() or len(tuple(weight.uses())) != 1:
        return False
    assert weight.const_value is not None
    array, turned = weight.const_value.numpy(), bool(python_attribute(dense, "transB", 0))
    rows = array.T if turned else array
    sizes = [int(size) for size in before[1:]]
    places = np.arange(int(np.prod(sizes))).reshape([sizes[axis - 1] for axis in perm[1:]])
    if rows.ndim != 2 or rows.shape[0] != places.size or python_attribute(dense, "transA", 0):
        return False
    # row i of what is flattened now was row places[i]
    order = places.transpose([perm[1:].index(axis) for axis in range(1, len(perm))]).reshape(-1)
    new = rows[order]
    weight.const_value = ir.Tensor(np.ascontiguousarray(new.T if turned else new), name=weight.name)
    node.replace_input_with(0, transpose.inputs[0])
    return True
