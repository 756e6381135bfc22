"""Every node is checked against the standard's schema before the standard's own code, which trusts it, reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx.defs
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.rewrite import NEWEST, every_node, python_attribute

__all__ = ["check_signatures"]

MAX_RANK = 64
MAX_INT = 1 << 31
_AXES = frozenset({"axes", "axis", "batch_axis", "perm", "scan_input_axes", "scan_output_axes", "time_axis"})
_POSITIVE = frozenset(
    {
        "block_size",
        "blocksize",
        "chunk_size",
        "dilations",
        "group",
        "hidden_size",
        "kernel_shape",
        "kv_num_heads",
        "num_groups",
        "num_heads",
        "num_outputs",
        "offset_group",
        "q_num_heads",
        "strides",
    }
)
# sizes of data, not of the network: any number is meant
_FREE = frozenset({"end", "ends", "ignore_index", "pool_int64s", "seed", "start", "starts", "value_int", "value_ints"})
_ZERO_IS_UNSET = frozenset({"block_size", "kv_num_heads", "num_heads", "q_num_heads"})
_SINGLE = onnx.defs.OpSchema.FormalParameterOption.Single


def check_signatures(model: ir.Model) -> None:
    """Check count of inputs and outputs, required attributes, their types and bounds, of nodes the standard knows.

    A node with an attribute that its schema lacks is of another opset than the model says; how many inputs it should
    have is known once it is upgraded.

    Requires: pinned versions, or the stamped opset.
    Ensures: what the standard's shape inference and function bodies take for granted.

    Raises:
        ModelError: the first node that is ill-formed, by name.
    """
    opset = model.opset_imports.get("", 1)
    for node in every_node(model.graph):
        version = opset if node.version in (None, NEWEST) else node.version
        if node.domain == "" and onnx.defs.has(node.op_type, version, ""):
            problem = _problem(node, onnx.defs.get_schema(node.op_type, version, ""))
            if problem:
                raise ModelError(f"node {node.name!r}: {node.op_type} (opset {version}) {problem}")


def _problem(node: ir.Node, schema: onnx.defs.OpSchema) -> str:
    for name, attribute in node.attributes.items():
        known = schema.attributes.get(name)
        if known is not None and int(known.type) != int(attribute.type):  # type: ignore[call-overload]
            return f"has attribute {name!r} of type {attribute.type.name}, expected {str(known.type).split('.')[-1]}"
        problem = _bounds_problem(name, python_attribute(node, name), attribute.type)
        if problem:
            return problem
    if not all(name in schema.attributes for name in node.attributes):
        return ""
    return _arity_problem(node, schema) or next(
        (
            f"lacks attribute {name!r}"
            for name, attribute in schema.attributes.items()
            if attribute.required and name not in node.attributes
        ),
        "",
    )


def _arity_problem(node: ir.Node, schema: onnx.defs.OpSchema) -> str:
    if not schema.min_input <= len(node.inputs) <= schema.max_input:
        return f"has {len(node.inputs)} inputs, expected {schema.min_input} to {schema.max_input}"
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        return f"has {len(node.outputs)} outputs, expected {schema.min_output} to {schema.max_output}"
    for value, formal in zip(node.inputs, schema.inputs, strict=False):
        if value is None and formal.option == _SINGLE:
            return f"lacks input {formal.name!r}"
    return ""


def _bounds_problem(name: str, value: Any, kind: ir.AttributeType) -> str:
    if kind not in (ir.AttributeType.INT, ir.AttributeType.INTS) or name in _FREE:
        return ""
    numbers: Sequence[int] = value if isinstance(value, list) else [value]
    if name == "batch_dims":
        low, high = 0, MAX_RANK
    elif name in _AXES:
        low, high = -MAX_RANK, MAX_RANK - 1
    elif name in _POSITIVE:
        low, high = (0 if name in _ZERO_IS_UNSET else 1), MAX_INT
    else:
        low, high = -MAX_INT, MAX_INT
    outside = [number for number in numbers if not low <= number <= high]
    if outside:
        return f"has {name}={outside[0]}, expected {low} to {high}"
    return f"has {len(numbers)} numbers in {name!r}" if name in _AXES and len(numbers) > MAX_RANK else ""
