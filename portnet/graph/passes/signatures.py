"""Every node is checked against the standard's schema before the standard's own code, which trusts it, reads it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx.defs
import onnx_ir as ir

from portnet.errors import ModelError
from portnet.graph.passes.rewrite import NEWEST, every_node

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


def check_signatures(model: ir.Model, *, upgraded: bool) -> None:
    """Check count of inputs and outputs, required attributes, their types and bounds, of nodes the standard knows.

    Before the upgrade, a node with an attribute that its schema lacks is of another opset than the model says, and how
    many inputs it should have is not known yet.

    Requires: pinned versions, or the stamped opset.
    Ensures: what the standard's shape inference and function bodies take for granted.

    Raises:
        ModelError: the first node that is ill-formed, by name.
    """
    opset = model.opset_imports.get("", 1)
    for node in every_node(model.graph):
        version = opset if node.version in (None, NEWEST) else node.version
        expected = _expected(node.op_type, version) if node.domain == "" else None  # type: ignore[arg-type]
        problem = "" if expected is None else _problem(node, expected, upgraded)
        if problem:
            raise ModelError(f"node {node.name!r}: {node.op_type} (opset {version}) {problem}")


@dataclass(frozen=True)
class _Expected:
    """What a schema asks for, as plain Python: reading it off the schema itself is slow."""

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    single: tuple[str | None, ...]
    types: dict[str, int]
    required: tuple[str, ...]


@functools.cache
def _expected(op_type: str, version: int) -> _Expected | None:
    if not onnx.defs.has(op_type, version, ""):
        return None
    schema = onnx.defs.get_schema(op_type, version, "")
    attributes = schema.attributes
    return _Expected(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(formal.name if formal.option == _SINGLE else None for formal in schema.inputs),
        {name: int(attribute.type) for name, attribute in attributes.items()},  # type: ignore[call-overload]
        tuple(name for name, attribute in attributes.items() if attribute.required),
    )


def _problem(node: ir.Node, expected: _Expected, upgraded: bool) -> str:
    attributes = node.attributes.data
    for name, attribute in attributes.items():
        kind = attribute.type
        if expected.types.get(name, kind) != kind:
            wanted = ir.AttributeType(expected.types[name])
            return f"has attribute {name!r} of type {kind.name}, expected {wanted.name}"
        if kind is ir.AttributeType.INT or kind is ir.AttributeType.INTS:
            problem = _bounds_problem(name, (attribute.value,) if kind is ir.AttributeType.INT else attribute.value)
            if problem:
                return problem
    if not upgraded and not attributes.keys() <= expected.types.keys():
        return ""
    lacking = [name for name in expected.required if name not in attributes]
    return f"lacks attribute {lacking[0]!r}" if lacking else _arity_problem(node, expected)


def _arity_problem(node: ir.Node, expected: _Expected) -> str:
    for what, values, (low, high) in (
        ("inputs", node.inputs, expected.inputs),
        ("outputs", node.outputs, expected.outputs),
    ):
        if not low <= len(values) <= high:
            return f"has {len(values)} {what}, expected {low} to {high}"
    for value, name in zip(node.inputs, expected.single, strict=False):
        if value is None and name is not None:
            return f"lacks input {name!r}"
    return ""


def _bounds_problem(name: str, numbers: Sequence[int]) -> str:
    low, high = _bounds(name)
    for number in numbers:
        if not low <= number <= high:
            return f"has {name}={number}, expected {low} to {high}"
    return f"has {len(numbers)} numbers in {name!r}" if name in _AXES and len(numbers) > MAX_RANK else ""


@functools.lru_cache(1 << 10)
def _bounds(name: str) -> tuple[float, float]:
    """Return the least and the largest number that an attribute may hold."""
    if name in _FREE:
        return -math.inf, math.inf
    if name == "batch_dims":
        return 0, MAX_RANK
    if name in _AXES:
        return -MAX_RANK, MAX_RANK - 1
    if name in _POSITIVE:
        return (0 if name in _ZERO_IS_UNSET else 1), MAX_INT
    return -MAX_INT, MAX_INT
