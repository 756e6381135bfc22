"""What exporters write for group normalization is the op GroupNormalization, which needs no other shape for a while."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from portnet.graph.parameters import ROLE_MARK, Role
from portnet.graph.passes.rewrite import Editor, Site, constant_array, every_node, python_attribute, rank

__all__ = ["fuse_group_norm"]


@dataclass(frozen=True)
class _Groups:
    """A reshape to (N, groups, -1), an InstanceNormalization by ``scale`` and ``bias``, and the reshape back."""

    x: ir.Value
    scale: np.ndarray
    bias: np.ndarray
    last: ir.Node

    @property
    def channels(self) -> int:
        return int(self.x.shape[1])  # type: ignore[index, arg-type]


def fuse_group_norm(model: ir.Model) -> None:
    """Replace the reshapes around an InstanceNormalization of groups; torch's exporters write them.

    A scale and a bias that are spread over space behind it become the op's own.

    Requires: newest semantics, constants folded, inferred shapes.
    Ensures: what nothing else reads is one GroupNormalization.
    """
    editor = Editor(model)
    for node in list(every_node(model.graph)):
        found = _found(node) if node.op_type == "InstanceNormalization" and node.domain == "" else None
        if found is None:
            continue
        groups, epsilon = found.scale.size, python_attribute(node, "epsilon", 1e-5)
        affine = _affine(found) if not found.bias.any() and (found.scale == 1).all() else None
        last, arrays = affine if affine is not None else (found.last, None)
        site = Site(last, editor)
        site.name = (node.name or "").rpartition("/")[0] or site.name
        repeated = [np.repeat(array, found.channels // groups) for array in (found.scale, found.bias)]
        scale, bias = arrays or (
            site.constant(array, hint) for array, hint in zip(repeated, ("scale", "bias"), strict=True)
        )
        site.replace(site.op("GroupNormalization", found.x, scale, bias, num_groups=groups, epsilon=epsilon))


def _found(node: ir.Node) -> _Groups | None:
    first, last = _producer(node.inputs[0], "Reshape"), _only_reader(node.outputs[0], "Reshape")
    if first is None or last is None or last.inputs[0] is not node.outputs[0]:
        return None
    x, shape = first.inputs[0], constant_array(first.inputs[1])
    scale, bias = (_fixed(value) for value in node.inputs[1:3])
    if x is None or x.shape is None or len(x.shape) < 3 or shape is None or scale is None or bias is None:
        return None
    batch, channels = x.shape[0], x.shape[1]
    if not isinstance(channels, int) or channels % scale.size or shape.size != 3 or shape[1] != scale.size:
        return None
    if shape[0] not in (0, batch if isinstance(batch, int) else 0) or python_attribute(first, "allowzero", 0):
        return None
    return _Groups(x, scale, bias, last) if _same_shape(x, last.outputs[0]) else None


def _same_shape(x: ir.Value, y: ir.Value) -> bool:
    """Whether two tensors are known to have the same sizes, free ones included."""
    if x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
        return False
    sizes = [tuple(n if isinstance(n, int) else n.value for n in value.shape) for value in (x, y)]  # type: ignore[union-attr]
    return sizes[0] == sizes[1] and None not in sizes[0]


def _fixed(value: ir.Value | None) -> np.ndarray | None:
    """Return a vector that is no parameter."""
    is_constant = value is not None and value.metadata_props.get(ROLE_MARK, Role.CONSTANT.name) == Role.CONSTANT.name
    array = constant_array(value) if is_constant else None
    return array if array is not None and array.ndim == 1 and array.dtype.kind == "f" else None


def _affine(found: _Groups) -> tuple[ir.Node, list[ir.Value]] | None:
    """Return the Add behind a Mul, and the vectors that both spread over space; None where it is not so."""
    product = _only_reader(found.last.outputs[0], "Mul")
    total = None if product is None else _only_reader(product.outputs[0], "Add")
    if product is None or total is None:
        return None
    vectors = [_spread(product, found.last.outputs[0], found), _spread(total, product.outputs[0], found)]
    return (total, [v for v in vectors if v is not None]) if None not in vectors else None


def _spread(node: ir.Node, data: ir.Value, found: _Groups) -> ir.Value | None:
    """Return the vector of channels that an Unsqueeze brings to the rank of the data."""
    operand = next((value for value in node.inputs if value is not data), None)
    spread = _producer(operand, "Unsqueeze")
    vector = None if spread is None else spread.inputs[0]
    axes = None if spread is None else constant_array(spread.inputs[1])
    if vector is None or axes is None or rank(vector) != 1 or vector.dtype != found.x.dtype:
        return None
    spatial = list(range(1, len(found.x.shape) - 1))  # type: ignore[arg-type]
    is_whole = vector.shape[0] == found.channels and vector.is_initializer()  # type: ignore[index]
    count = len(spatial) + 1
    return vector if is_whole and sorted(int(axis) % count for axis in axes) == spatial else None


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node, of an op, that computes a value which one node alone reads."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    node = value.producer()
    return node if node is not None and node.op_type == op_type and node.domain == "" else None


def _only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the one node that reads a value, if it is of an op."""
    uses = () if value.is_graph_output() else value.uses()
    reader = next(iter(uses))[0] if len(uses) == 1 else None
    return reader if reader is not None and reader.op_type == op_type and reader.domain == "" else None
